"""Where the time of a step goes on the device, by kind of work; JAX only.

    python -m benchmarks.kernels training --batch_size 8 --precision bfloat16 --out profile.json

Steps run under `jax.profiler`, whose trace has an event for each kernel and names the HLO instruction behind it. XLA's
dump of the compiled program says for each instruction which line of which file, and which layer, it came from; the
gradient of a line bears that line too. The kind of a fusion is that of its root.
"""

import argparse
import collections
import gzip
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import contestant

# The first that fits. What is sought in: source files of the instruction, its operation and layer names, its opcode.
SOURCES = (
    ("RoIAlign", "ops/roi_align.py"),
    ("NMS", "ops/nms.py"),
    ("matching and sampling", "ops/matching.py"),
    ("matching and sampling", "ops/sampling.py"),
    ("mask targets", "ops/masks.py"),
    ("losses", "model/losses.py"),
    ("optimizer", "optimizers/"),
)
CONVOLUTIONS = re.compile(r"conv|cudnn|gemm|dot|cublas", re.IGNORECASE)
COPIES = re.compile(r"^(memcpy|memset|copy|transpose|bitcast|convert)|_copy|_transpose", re.IGNORECASE)


class Instruction:
    """What the compiled program says of one instruction."""

    def __init__(self, opcode: str, operation: str, sources: tuple[str, ...]) -> None:
        self.opcode, self.operation, self.sources = opcode, operation, sources

    def kind(self, kernel: str) -> str:
        """The row of the table that a kernel of this instruction belongs to."""
        backward = ", backward" if "transpose(" in self.operation else ""
        for kind, source in SOURCES:
            if any(source in place for place in self.sources):
                return kind + (backward if kind == "RoIAlign" else "")
        text = f"{self.operation.rpartition('/')[2]} {self.opcode} {kernel}"
        if "sort" in text or "top_k" in text.lower() or "topk" in text.lower():
            return "top-k"
        if CONVOLUTIONS.search(text):
            return "convolutions and dense" + backward
        return "copies" if COPIES.search(self.opcode) or COPIES.search(kernel) else "elementwise and other"


UNKNOWN = Instruction("", "", ())


def read_program(text: str) -> dict[str, Instruction]:
    """Instructions of a dumped HLO module by name."""
    stacks = _read_stacks(text)
    found = {}
    pattern = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = .*?\s([\w\-]+)\(.*metadata=\{(.*?)\}", re.MULTILINE)
    for name, opcode, metadata in pattern.findall(text):
        operation = re.search(r'op_name="([^"]*)"', metadata)
        source = re.search(r'source_file="([^"]*)"', metadata)
        frame = re.search(r"stack_frame_id=(\d+)", metadata)
        sources = stacks.get(int(frame[1]), ()) if frame else (source[1],) if source else ()
        found[name] = Instruction(opcode, operation[1] if operation else "", sources)
    return found


def _read_stacks(text: str) -> dict[int, tuple[str, ...]]:
    """Files of each stack frame and its callers, from the tables that head a newer dump."""

    def table(title: str) -> dict[int, str]:
        start = re.search(rf"^{title}\n((?:\d+ .*\n)+)", text, re.MULTILINE)
        lines = start[1].splitlines() if start else []
        return {int(line.split(" ", 1)[0]): line.split(" ", 1)[1] for line in lines}

    def number(line: str, key: str) -> int:
        value = re.search(rf"{key}=(\d+)", line)
        return int(value[1]) if value else 0

    files, locations, frames = table("FileNames"), table("FileLocations"), table("StackFrames")
    stacks: dict[int, tuple[str, ...]] = {}
    for index in frames:
        found, current, seen = [], index, set()
        while current in frames and current not in seen:
            seen.add(current)
            location = locations.get(number(frames[current], "file_location_id"), "")
            found.append(files.get(number(location, "file_name_id"), "").strip('"'))
            current = number(frames[current], "parent_frame_id")
        stacks[index] = tuple(found)
    return stacks


def read_events(path: Path) -> Iterator[tuple[str, str, float, float, int]]:
    """Kernels of a trace: instruction, kernel name, begin and length (microseconds), line of the trace."""
    content = json.loads(gzip.decompress(path.read_bytes()))
    for event in content["traceEvents"]:
        arguments = event.get("args", {})
        is_copy = event.get("name", "").lower().startswith(("memcpy", "memset"))
        if event.get("ph") == "X" and ("hlo_op" in arguments or is_copy):
            line = hash((event["pid"], event["tid"]))
            yield arguments.get("hlo_op", ""), event["name"], event["ts"], event["dur"], line


def tabulate(events: Iterable[tuple[str, str, float, float, int]], program: dict[str, Instruction]) -> dict[str, float]:
    """Microseconds of each kind, largest first, and those in which nothing ran.

    An event that holds others (a loop, a call) counts only what is left between them.
    """
    kinds: collections.Counter[str] = collections.Counter()
    busy: list[tuple[float, float]] = []
    by_line = collections.defaultdict(list)
    for event in events:
        by_line[event[4]].append(event)
    for line in by_line.values():
        open_events: list[tuple[float, str]] = []
        for name, kernel, begin, length, _ in sorted(line, key=lambda event: (event[2], -event[3])):
            while open_events and open_events[-1][0] <= begin:
                open_events.pop()
            kind = program.get(name, UNKNOWN).kind(kernel)
            kinds[kind] += length
            if open_events:
                kinds[open_events[-1][1]] -= length
            open_events.append((begin + length, kind))
            busy.append((begin, begin + length))
    kinds["idle"] = _idle(busy)
    return dict(sorted(kinds.items(), key=lambda item: -item[1]))


def _idle(busy: list[tuple[float, float]]) -> float:
    idle, last = 0.0, None
    for begin, end in sorted(busy):
        if last is not None and begin > last:
            idle += begin - last
        last = end if last is None else max(last, end)
    return idle


def prepare(options: argparse.Namespace) -> Callable[[int], None]:
    """A function that runs so many steps."""
    if options.what == "training":
        model, batch = contestant.compiled_model(options), contestant.make_batch(options)

        def train(steps: int) -> None:
            contestant.fit(model, batch, steps=steps, warmup_steps=0)

        return train
    step = contestant.prepare_inference(options)

    def infer(steps: int) -> None:
        for _ in range(steps):
            step()

    return infer


def measure(options: argparse.Namespace, dump: Path, trace: Path) -> dict[str, float]:
    """Runs the steps and returns microseconds by kind, of all of them together."""
    import jax

    run = prepare(options)
    run(2)  # compiled in the first, and in the second too where the state's layout changes
    with jax.profiler.trace(str(trace)):
        run(options.steps)
    (path,) = trace.rglob("*.trace.json.gz")
    dumps = sorted(dump.glob("*after_optimizations.txt"), key=lambda file: file.stat().st_size)
    program: dict[str, Instruction] = {}
    for file in dumps:  # the largest is the step; it has the last word on names that several have
        program |= read_program(file.read_text(encoding="utf-8"))
    return tabulate(read_events(path), program)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("training", "inference"))
    contestant.add_flags(parser)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", type=Path, metavar="FILE")
    options = parser.parse_args()
    options.xla = True
    os.environ["KERAS_BACKEND"] = "jax"
    with tempfile.TemporaryDirectory() as folder:
        dump, trace = Path(folder) / "dump", Path(folder) / "trace"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={dump} --xla_dump_hlo_as_text"
        from maskrcnn.runtime import backend, hardware

        backend.select_backend("jax")
        backend.set_precision(options.precision)
        times = measure(options, dump, trace)
        device = hardware.device_name()
    milliseconds = {kind: value / 1000 / options.steps for kind, value in times.items()}
    print(format_table(milliseconds))
    if options.out:
        record: dict[str, Any] = {
            "what": options.what,
            "device": device,
            "batch_size": options.batch_size,
            "precision": options.precision,
            "steps": options.steps,
            "milliseconds_a_step": milliseconds,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def format_table(milliseconds: dict[str, float]) -> str:
    """Markdown; the sum is that of all lines of the trace, which may overlap."""
    total = sum(milliseconds.values())
    lines = ["| kind | ms a step | share |", "|---|---|---|"]
    lines += [f"| {kind} | {value:.3f} | {value / total:.1%} |" for kind, value in milliseconds.items()]
    return "\n".join([*lines, f"| sum | {total:.3f} | |"])


if __name__ == "__main__":
    sys.exit(main())
