"""What a step consists of before any compiler has seen it: operations and bytes by kind, against the device's floor.

    python -m benchmarks.program                                   # both programs, batch 8, bfloat16; takes no GPU
    python -m benchmarks.program --batch_size 1 --precision float32

Traces the training step and the inference of the default model under JAX, without compiling or running them, and adds
up the operations of all convolutions and products and the bytes that everything reads and writes, by the part of Mask
R-CNN from which it comes. Loops count once; a compiler that fuses operations moves fewer bytes. It also counts what
would spoil a program for a GPU: calls back to the host, convolutions in the wrong precision or layout, 64-bit numbers,
buffers of the state that are not given back. Writes benchmarks/results/program_PRECISION.json.
"""

import argparse
import collections
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import contestant

RESULTS = Path(__file__).parent / "results"
# NVIDIA's data sheet of the H100 SXM: dense bfloat16 or float16, TF32, float32 outside tensor cores; HBM3.
FLOPS = {"bfloat16": 989e12, "float16": 989e12, "tf32": 494e12, "float32": 67e12}
BYTES = 3.35e12
CONTRACTIONS = ("conv_general_dilated", "dot_general")
# Compilers put these into the operation that reads or writes them, or do them without touching memory.
FREE = ("reshape", "broadcast_in_dim", "squeeze", "expand_dims", "iota", "stop_gradient", "copy", "slice", "split")
PARTS = (  # what is sought in the files that an operation was traced from, innermost first -> row of the table
    ("ops/roi_align.py", "RoIAlign"),
    ("ops/nms.py", "suppression"),
    ("ops/matching.py", "matching and sampling"),
    ("ops/sampling.py", "matching and sampling"),
    ("ops/masks.py", "mask targets"),
    ("model/losses.py", "losses"),
    ("optimizers/", "optimizer"),
    ("model/rpn.py", "RPN"),
    ("model/box_head.py", "box head"),
    ("model/mask_head.py", "mask head"),
    ("model/fpn.py", "FPN"),
    ("models/functional.py", "ResNet"),
)


class Work(NamedTuple):
    """One operation of the program."""

    primitive: str
    part: str
    flops: int  # of convolutions and products
    bytes: int  # read and written
    dtype: str
    channels_last: bool  # of a convolution; true for the others


def operations(jaxpr: Any, outer: str = "other") -> Iterator[Work]:
    """All operations of a traced program, those within its loops and branches too; of branches, the costliest."""
    for equation in jaxpr.eqns:
        part = part_of(equation, outer)
        inner = [sub for value in equation.params.values() for sub in _programs(value)]
        if equation.primitive.name == "cond":
            branches = [list(operations(branch, part)) for branch in inner]
            yield from max(branches, key=lambda works: sum(work.flops + work.bytes for work in works))
        elif inner:
            for sub in inner * equation.params.get("length", 1):  # of a loop whose turns are known
                yield from operations(sub, part)
        else:
            yield describe(equation, part)


def _programs(value: Any) -> Iterator[Any]:
    """The programs in a parameter of an operation."""
    for one in value if isinstance(value, tuple | list) else (value,):
        one = getattr(one, "jaxpr", one)  # closed ones have it inside
        if hasattr(one, "eqns"):
            yield one


def part_of(equation: Any, outer: str) -> str:
    """The row of the table; ``outer``, the one of the surrounding operation, where no file of ours tells."""
    from jax._src import source_info_util

    for frame in source_info_util.user_frames(equation.source_info.traceback):
        for place, part in PARTS:
            if place in frame.file_name:
                return part
    return outer


def describe(equation: Any, part: str) -> Work:
    name = equation.primitive.name
    inputs = [variable.aval for variable in equation.invars]
    outputs = [variable.aval for variable in equation.outvars]
    flops, channels_last = 0, True
    if name == "conv_general_dilated":
        numbers = equation.params["dimension_numbers"]
        kernel = inputs[1].shape
        per_output = 2 * math.prod(kernel) // kernel[numbers.rhs_spec[0]]
        dilation = math.prod(equation.params["lhs_dilation"])  # zeros between the inputs, of a strided one's gradient
        flops = math.prod(outputs[0].shape) * per_output // dilation
        channels_last = len(kernel) - 1 in numbers.lhs_spec[:2]  # the kernel's gradient takes the batch for channels
    elif name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        flops = 2 * math.prod(outputs[0].shape) * math.prod(inputs[0].shape[axis] for axis in contracted)
    moved = 0 if name in FREE else sum(_bytes(aval) for aval in (*inputs, *outputs))
    if name == "gather":  # of a table only the rows that are used, and their indices
        moved = _bytes(inputs[1]) + 2 * _bytes(outputs[0])
    elif name.startswith("scatter"):  # in place: rows of the table are read and written
        moved = _bytes(inputs[1]) + 3 * _bytes(inputs[2])
    elif name == "dynamic_slice":
        moved = 2 * _bytes(outputs[0])
    dtype = str(getattr(inputs[0], "dtype", "")) if inputs else ""
    return Work(name, part, flops, moved, dtype, channels_last)


def trace(what: str, options: argparse.Namespace) -> tuple[Any, str]:
    """The traced program, and the text of what XLA gets for a GPU."""
    import jax

    given = argparse.Namespace(**{**vars(options), "what": what, "xla": True})
    model, batch = contestant.compiled_model(given), contestant.make_batch(given)
    parts = ("trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables")
    if what == "training":
        state = model._get_jax_state(**dict.fromkeys(parts, True))
        traced = jax.jit(model.train_step, donate_argnums=0).trace(state, (batch,))
    else:
        state = model._get_jax_state(**dict.fromkeys(parts[:2], True))
        traced = jax.jit(lambda state, batch: model.stateless_call(*state, batch)[0]).trace(state, batch)
    return traced.jaxpr.jaxpr, traced.lower(lowering_platforms=("cuda",)).as_text()


def summarize(works: list[Work], text: str, precision: str, variables: int) -> dict[str, Any]:
    """Totals by part, the floors they set, and the counts of what should not be there."""
    parts: dict[str, dict[str, float]] = collections.defaultdict(lambda: {"GFLOP": 0.0, "GB": 0.0, "operations": 0})
    for work in works:
        part = parts[work.part]
        part["GFLOP"] += work.flops / 1e9
        part["GB"] += work.bytes / 1e9
        part["operations"] += 1
    convolutions = [work for work in works if work.primitive == "conv_general_dilated"]
    flops, moved = sum(work.flops for work in works), sum(work.bytes for work in works)
    dtypes: collections.Counter[str] = collections.Counter()
    for work in works:
        if work.primitive in CONTRACTIONS:
            dtypes[work.dtype] += work.flops
    return {
        "parts": {name: parts[name] for name in sorted(parts, key=lambda name: -parts[name]["GFLOP"])},
        "GFLOP": flops / 1e9,
        "GB, unfused": moved / 1e9,
        "ms, arithmetic alone on an H100": 1e3 * flops / FLOPS[precision],
        "ms, unfused memory traffic alone on an H100": 1e3 * moved / BYTES,
        "share of the arithmetic by dtype": {name: value / flops for name, value in dtypes.items()},
        "convolutions": len(convolutions),
        "convolutions not channels-last": sum(not work.channels_last for work in convolutions),
        "callbacks to the host": len(re.findall(r"callback|infeed|outfeed", text)),
        "operations on 64-bit numbers": sum(work.dtype.endswith("64") for work in works),
        "custom calls": dict(collections.Counter(re.findall(r"custom_call @([\w$.]+)", text))),
        "buffers given back": text.count("tf.aliasing_output") + text.count("jax.buffer_donor"),
        "variables": variables,
    }


def format_table(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| part | GFLOP | GB, unfused | operations |", "|---|---|---|---|"]
    for name, part in result["parts"].items():
        lines.append(f"| {name} | {part['GFLOP']:.1f} | {part['GB']:.2f} | {part['operations']:.0f} |")
    return "\n".join([*lines, f"| sum | {result['GFLOP']:.1f} | {result['GB, unfused']:.2f} | |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    contestant.add_flags(parser)
    parser.set_defaults(batch_size=8, precision="bfloat16")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: results/program_PRECISION.json")
    options = parser.parse_args()
    from maskrcnn.runtime import backend
    from maskrcnn.runtime.hardware import describe_machine

    backend.select_backend("jax")
    backend.set_precision(options.precision)
    results = {}
    for what in ("inference", "training"):
        jaxpr, text = trace(what, options)
        results[what] = summarize(list(operations(jaxpr)), text, options.precision, len(jaxpr.invars))
        print(f"\n{what}, batch {options.batch_size}, {options.precision}\n\n{format_table(results[what])}")
        print(json.dumps({name: value for name, value in results[what].items() if name != "parts"}, indent=1))
    record = {
        "command": f"python -m benchmarks.program --batch_size {options.batch_size} --precision {options.precision}",
        "size": list(options.size),
        "batch_size": options.batch_size,
        "precision": options.precision,
        "machine": describe_machine(),
        "results": results,
    }
    out = options.out or RESULTS / f"program_{options.precision}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _bytes(aval: Any) -> int:
    dtype = getattr(aval, "dtype", None)
    return math.prod(aval.shape) * getattr(dtype, "itemsize", 4) if dtype is not None else 0


if __name__ == "__main__":
    main()
