"""Times the model's operations one by one, compiled, at the sizes of the 832x1344 model.

    python -m benchmarks.ops                                  # all backends; writes benchmarks/results/ops.json
    python -m benchmarks.ops --backend jax --only roi_align   # one backend, operations whose name has "roi_align"

Each backend runs in a process of its own. A time is the median of at least five runs after two of warm-up, the device
synchronized after each; `tensorflow` is a `tf.function`, `tensorflow-xla` the same with `jit_compile`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.imaging.mask_paste import paste_and_encode
from maskrcnn.runtime.hardware import describe_machine

BACKENDS = ("tensorflow", "tensorflow-xla", "jax")
RESULTS = Path(__file__).parent / "results" / "ops.json"
MIN_RUNS, MIN_SECONDS = 5, 1.0  # of each operation, after the warm-up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=BACKENDS, help="run only this one, in this process, and write nothing")
    parser.add_argument("--only", default="", metavar="TEXT", help="operations whose name contains this")
    parser.add_argument("--batch_size", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--precision", default="float32", help="of features: float32 (default), bfloat16 or float16")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="default: %(default)s")
    options = parser.parse_args()
    if options.backend:
        os.environ["KERAS_BACKEND"] = options.backend.removesuffix("-xla")
        rows = measure(options.backend, options.only, options.batch_size, options.precision, small=options.small)
        print(json.dumps(rows), file=sys.stderr if sys.stdout.isatty() else sys.stdout)
        return
    columns = {backend: _in_a_process(backend, options) for backend in BACKENDS}
    print(format_table(columns))
    host = {"paste 100 masks into 640x480, encode": 1000 * time_call(*paste_case())}
    print("\n".join(f"{name:45}{value:16.2f}  NumPy" for name, value in host.items()))
    if not options.only:
        record = {
            "machine": describe_machine(),
            "batch_size": options.batch_size,
            "precision": options.precision,
            "milliseconds": columns,
            "host_milliseconds": host,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _in_a_process(backend: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.ops", "--backend", backend, "--only", options.only]
    command += ["--batch_size", str(options.batch_size), "--precision", options.precision]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command += ["--small"] * options.small
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout)


def measure(backend: str, only: str, batch: int, precision: str, *, small: bool = False) -> dict[str, float]:
    """Milliseconds of each operation whose name contains ``only``; prints them as they come."""
    from benchmarks.op_cases import CASES, Sizes

    sizes = Sizes(batch, precision, *((128, 192, 8, 10) if small else ()))
    times = {}
    for name, case in CASES.items():
        if only in name:
            function, arguments = case(sizes)
            times[name] = 1000 * time_call(compile_function(function, backend), arguments)
            print(f"{backend:15} {name:45} {times[name]:10.2f} ms", file=sys.stderr)
    return times


def time_call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """Median seconds of a call; the function must wait for the device."""
    for _ in range(2):
        function(*arguments)
    seconds: list[float] = []
    while len(seconds) < MIN_RUNS or sum(seconds) < MIN_SECONDS:
        began = time.perf_counter()
        function(*arguments)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def compile_function(function: Callable[..., Any], backend: str) -> Callable[..., Any]:
    """The function compiled as a whole, its arguments put on the device, and its results waited for."""
    if backend == "jax":
        import jax

        compiled = jax.jit(function)
        return lambda *arguments: jax.block_until_ready(compiled(*arguments))
    import tensorflow as tf

    graph = tf.function(function, jit_compile=backend == "tensorflow-xla")

    def run(*arguments: Any) -> Any:
        results = graph(*arguments)
        tf.nest.map_structure(lambda value: value.numpy(), results)  # the way to wait for one result in TensorFlow 2
        return results

    return run


def paste_case() -> tuple[Callable[[], Any], tuple[()]]:
    """100 masks into an image of COCO's usual size, run-length codes included: NumPy, on one core."""
    rng = np.random.default_rng(0)
    masks = rng.uniform(size=(100, 28, 28)).astype(np.float32)
    sides = np.exp(rng.uniform(np.log(16), np.log(480), (100, 2)))
    corners = rng.uniform(0, 1, (100, 2)) * ([640, 480] - sides)
    boxes = np.concatenate([corners, corners + sides], -1).astype(np.float32)
    return lambda: paste_and_encode(masks, boxes, 480, 640), ()


def format_table(columns: dict[str, dict[str, float]]) -> str:
    """Operations down, backends across, milliseconds."""
    names = list(next(iter(columns.values())))
    lines = [f"{'ms':45}" + "".join(f"{backend:>16}" for backend in columns)]
    lines += [f"{name:45}" + "".join(f"{column[name]:16.2f}" for column in columns.values()) for name in names]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
