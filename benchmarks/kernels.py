"""Time of a step on the device by kind of work; JAX only.

    python -m benchmarks.kernels training --batch_size 8 --precision bfloat16 --out profile.json

Steps run under `jax.profiler`, whose trace has an event for each kernel and names its HLO instruction. XLA's dump of
the compiled program gives each instruction's source line and layer; a gradient has the line of the forward operation.
The kind of a fusion is that of its root.
"""

import argparse
import collections
import gzip
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.result import format_table, save_result
from benchmarks.side_by_side import maskrcnn_side

# (kind, part of a path): the first whose path is among an instruction's source files decides.
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


class Instruction(NamedTuple):
    """An instruction of the compiled program."""

    opcode: str
    operation: str
    sources: tuple[str, ...]

    def kind(self, kernel: str) -> str:
        """The kind of work of a kernel of this instruction."""
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
    """Instructions of a dumped HLO module, by name."""
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
    """Files of each stack frame and its callers, from the tables at the top of a dump."""

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
    """Kernels of a trace: instruction, kernel name, start and duration (microseconds), line of the trace."""
    content = json.loads(gzip.decompress(path.read_bytes()))
    for event in content["traceEvents"]:
        arguments = event.get("args", {})
        is_copy = event.get("name", "").lower().startswith(("memcpy", "memset"))
        if event.get("ph") == "X" and ("hlo_op" in arguments or is_copy):
            line = hash((event["pid"], event["tid"]))
            yield arguments.get("hlo_op", ""), event["name"], event["ts"], event["dur"], line


def tabulate(events: Iterable[tuple[str, str, float, float, int]], program: dict[str, Instruction]) -> dict[str, float]:
    """Microseconds of each kind and of idle time, in descending order.

    An event that contains others (a loop, a call) counts only the time outside them.
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
    """A function that runs N steps."""
    if options.what == "training":
        fit = maskrcnn_side.prepare_training(options)
        return lambda steps: fit(0, steps) and None
    step = maskrcnn_side.prepare_inference(options)

    def infer(steps: int) -> None:
        for _ in range(steps):
            step()

    return infer


def measure(options: argparse.Namespace, dump: Path, trace: Path) -> dict[str, float]:
    """Milliseconds of a step by kind."""
    import jax

    run = prepare(options)
    run(2)  # the first compiles, and so does the second where the layout of the state changes
    with jax.profiler.trace(str(trace)):
        run(options.steps)
    (path,) = trace.rglob("*.trace.json.gz")
    dumps = sorted(dump.glob("*after_optimizations.txt"), key=lambda file: file.stat().st_size)
    program: dict[str, Instruction] = {}
    for file in dumps:  # the largest is the step; it decides on names that occur in several
        program |= read_program(file.read_text(encoding="utf-8"))
    times = tabulate(read_events(path), program)
    return {kind: microseconds / 1000 / options.steps for kind, microseconds in times.items()}


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    maskrcnn_side.add_flags(parser)
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
        times, device = measure(options, dump, trace), hardware.device_name()
    total = sum(times.values())  # of all lines of the trace, which may overlap
    rows = [{"kind": kind, "ms/step": value, "fraction": value / total} for kind, value in times.items()]
    rows.append({"kind": "sum", "ms/step": total})
    print(format_table(rows))
    if options.out:
        title = f"Kernels on {device}: {options.what}, batch {options.batch_size}, {options.precision}"
        save_result(options.out, title, rows, settings={"size": list(options.size), "steps": options.steps})


if __name__ == "__main__":
    main()
