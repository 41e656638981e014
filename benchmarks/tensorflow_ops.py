"""Which of TensorFlow's operations take the time of a step on a CPU, from TensorFlow's profiler.

    python -m benchmarks.tensorflow_ops training      # writes benchmarks/results/tensorflow_ops_training.json
    python -m benchmarks.tensorflow_ops inference

Operations that run side by side share the cores, so that their seconds add up to more than a step takes: what counts is
their share, that of the convolutions above all, and the largest amount of memory that tensors took at once.
"""

import argparse
import collections
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import contestant

RESULTS = Path(__file__).parent / "results"
KINDS = (  # what the name of an operation begins with -> row of the table
    ("convolutions", ("_MklNativeConv", "_MklNativeFusedConv", "_MklNativePadWithFusedConv", "Conv2D", "_FusedConv")),
    ("dense layers and other products", ("_MklMatMul", "_MklNativeFusedMatMul", "_MklBatchMatMul", "MatMul", "Batch")),
    ("gathers, scatters and sums of rows", ("Gather", "UnsortedSegment", "Scatter", "TensorScatter")),
)
CONTAINERS = ("Process", "Run", "__inference", "_wrapped", "StatefulPartitionedCall", "PartitionedCall")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a step, seconds of all threads by operation, and the tensors' peak in bytes."""
    import tensorflow as tf

    if options.what == "training":
        model, batch = contestant.compiled_model(options), contestant.make_batch(options)

        def step() -> None:
            model.train_on_batch(batch)
    else:
        step = contestant.prepare_inference(options)
    for _ in range(2):
        step()
    tf.config.experimental.reset_memory_stats("CPU:0")
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            began = time.perf_counter()
            for _ in range(options.steps):
                step()
            seconds = (time.perf_counter() - began) / options.steps
        (trace,) = Path(folder).rglob("*.xplane.pb")
        operations = read_operations(trace)
    return {
        "seconds a step": seconds,
        "thread seconds a step": {name: value / options.steps for name, value in operations.most_common()},
        "bytes of tensors at the peak": tf.config.experimental.get_memory_info("CPU:0")["peak"],
    }


def read_operations(trace: Path) -> collections.Counter[str]:
    """Seconds of each operation of a TensorFlow trace, without those that only hold others."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(trace.read_bytes())
    seconds: collections.Counter[str] = collections.Counter()
    for plane in space.planes:
        names = {key: value.name for key, value in plane.event_metadata.items()}
        for event in (event for line in plane.lines for event in line.events):
            _, colon, operation = names[event.metadata_id].rpartition(":")  # "layer/name:Operation"
            operation = operation.strip()
            if colon and operation and not operation.startswith(CONTAINERS):
                seconds[operation] += event.duration_ps / 1e12
    return seconds


def by_kind(operations: dict[str, float]) -> dict[str, float]:
    kinds: collections.Counter[str] = collections.Counter()
    for name, value in operations.items():
        kinds[next((kind for kind, starts in KINDS if name.startswith(starts)), "everything else")] += value
    return dict(kinds.most_common())


def format_table(kinds: dict[str, float]) -> str:
    """Markdown."""
    total = sum(kinds.values())
    lines = ["| kind | thread seconds a step | share |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {kind} | {value:.2f} | {value / total:.0%} |" for kind, value in kinds.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("training", "inference"))
    contestant.add_flags(parser)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: results/tensorflow_ops_WHAT.json")
    options = parser.parse_args()
    options.xla = False
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    from maskrcnn.runtime import backend
    from maskrcnn.runtime.hardware import describe_machine

    backend.select_backend("tensorflow")
    backend.set_precision(options.precision)
    result = measure(options)
    kinds = by_kind(result["thread seconds a step"])
    print(format_table(kinds))
    print(f"{result['seconds a step']:.2f} s a step, {result['bytes of tensors at the peak'] / 1e9:.2f} GB of tensors")
    record = {
        "command": f"python -m benchmarks.tensorflow_ops {options.what}",
        "batch_size": options.batch_size,
        "precision": options.precision,
        "size": list(options.size),
        "machine": describe_machine(),
        "by_kind": kinds,
        **result,
    }
    out = options.out or RESULTS / f"tensorflow_ops_{options.what}.json"
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
