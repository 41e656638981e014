"""Times the model's operations one by one, compiled, at the sizes of the 832x1344 model.

    python -m benchmarks.ops                                  # all backends; writes benchmarks/results/ops.json
    python -m benchmarks.ops --backend jax --only roi_align   # one backend, operations whose name has "roi_align"

Each backend runs in its own process. A time is the median of at least five runs after two of warm-up, with the device
synchronized after each; `tensorflow` is a `tf.function`, `tensorflow-xla` the same with `jit_compile`.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.result import RESULTS, make_parser, report, run_process

BACKENDS = ("tensorflow", "tensorflow-xla", "jax")
MIN_RUNS, MIN_SECONDS = 5, 1.0  # of each operation, after the warm-up


def main() -> None:
    """Runs the command line."""
    parser = make_parser(__doc__, RESULTS / "ops.json")
    parser.add_argument("--backend", choices=BACKENDS, help="run only this one and save nothing")
    parser.add_argument("--only", default="", metavar="TEXT", help="operations whose name contains this; saves nothing")
    parser.add_argument("--batch_size", type=int, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--precision", default="float32", help="of features: float32 (default), bfloat16 or float16")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script")
    options = parser.parse_args()
    if options.backend:
        os.environ["KERAS_BACKEND"] = options.backend.removesuffix("-xla")
        print(json.dumps(measure(options)))
        return
    command = ["-m", "benchmarks.ops", *sys.argv[1:], "--backend"]
    columns = {backend: run_process([*command, backend]) for backend in BACKENDS}
    names = columns[BACKENDS[0]]
    rows = [{"milliseconds": name, **{backend: columns[backend][name] for backend in BACKENDS}} for name in names]
    paste = 1000 * time_call(*_paste())
    rows.append({"milliseconds": "paste 100 masks into 640x480, encode", "NumPy, one core": paste})
    title = f"Single operations: batch {options.batch_size}, {options.precision}"
    report(None if options.only else options.out, title, rows)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of each chosen operation; prints them one by one."""
    from benchmarks.op_cases import CASES, Sizes

    small = {"height": 128, "width": 192, "channels": 8, "divisor": 10} if options.small else {}
    sizes = Sizes(options.batch_size, options.precision, **small)
    times = {}
    for name, case in CASES.items():
        if options.only in name:
            function, arguments = case(sizes)
            times[name] = 1000 * time_call(compile_function(function, options.backend), arguments)
            print(f"{options.backend:15} {name:45} {times[name]:10.2f} ms", file=sys.stderr)
    return times


def time_call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """Median seconds of a call; the function returns when the device is done."""
    for _ in range(2):
        function(*arguments)
    seconds: list[float] = []
    while len(seconds) < MIN_RUNS or sum(seconds) < MIN_SECONDS:
        began = time.perf_counter()
        function(*arguments)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def compile_function(function: Callable[..., Any], backend: str) -> Callable[..., Any]:
    """The function compiled as a whole; a call waits for its results."""
    if backend == "jax":
        import jax

        compiled = jax.jit(function)
        return lambda *arguments: jax.block_until_ready(compiled(*arguments))
    import tensorflow as tf

    graph = tf.function(function, jit_compile=backend == "tensorflow-xla")

    def run(*arguments: Any) -> Any:
        results = graph(*arguments)
        tf.nest.map_structure(lambda value: value.numpy(), results)  # TensorFlow 2 has no other way to wait for one
        return results

    return run


def _paste() -> tuple[Callable[[], Any], tuple[()]]:
    """100 masks into an image of COCO's usual size, run-length codes included."""
    from maskrcnn.imaging.mask_paste import paste_and_encode

    rng = np.random.default_rng(0)
    masks = rng.uniform(size=(100, 28, 28)).astype(np.float32)
    sides = np.exp(rng.uniform(np.log(16), np.log(480), (100, 2)))
    corners = rng.uniform(0, 1, (100, 2)) * ([640, 480] - sides)
    boxes = np.concatenate([corners, corners + sides], -1).astype(np.float32)
    return lambda: paste_and_encode(masks, boxes, 480, 640), ()


if __name__ == "__main__":
    main()
