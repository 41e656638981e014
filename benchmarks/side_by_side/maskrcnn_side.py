"""Our side of `benchmarks.side_by_side`: one measurement on one backend, printed as a line of JSON.

    KERAS_BACKEND=jax python -m benchmarks.side_by_side.maskrcnn_side inference --batch_size 1 --steps 3

With `--trace DIR` JAX profiles as many steps again; XProf and Perfetto show where on the device their time goes.
"""

import argparse
import importlib.metadata
import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.side_by_side import problem

Measure = Callable[[int, int], dict[str, Any]]  # runs (warm-up steps, measured steps) and returns the latter's times


def make_config(options: argparse.Namespace) -> Any:
    """The config of the problem."""
    from maskrcnn.config import Category, Config

    height, width = options.size
    settings = {
        "image.min_side": min(height, width),
        "image.max_side": max(height, width),
        "box_head.score_threshold": problem.SCORE_THRESHOLD,
        "train.l2_weight_decay": problem.WEIGHT_DECAY,
        "train.precision": options.precision,
        "train.xla": options.xla,
        **dict(setting.split("=", 1) for setting in options.set),
    }
    categories = tuple(Category(index, index, str(index)) for index in range(1, problem.CLASSES))
    return Config(categories=categories).override(settings)


def make_batch(what: str, batch_size: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """The images; for training also their objects, with masks of 112 x 112 in their boxes."""
    sizes = np.tile(np.array(size, np.float32), (batch_size, 1))
    batch = {"images": problem.make_images(batch_size, *size), "image_sizes": sizes}
    if what == "inference":
        return batch
    from maskrcnn.data.loader.synthetic import MAX_INSTANCES

    boxes, classes = problem.make_objects(batch_size, *size)
    offset = (np.arange(112) + 0.5) / 112 * 2 - 1
    ellipse = (offset[:, None] ** 2 + offset**2 <= 1).astype(np.uint8)
    objects = {
        "boxes": boxes,
        "classes": classes.astype(np.int32),
        "masks": np.broadcast_to(ellipse, (*classes.shape, *ellipse.shape)),
        "mask_regions": boxes,
        "valid": np.ones(classes.shape, bool),
    }
    padding = MAX_INSTANCES - problem.OBJECTS
    return batch | {
        name: np.pad(value, [(0, 0), (0, padding), *[(0, 0)] * (value.ndim - 2)]) for name, value in objects.items()
    }


def build_model(options: argparse.Namespace) -> Any:
    """The model with the weights of the problem."""
    from tests.parity import goldens

    return goldens.build_model(make_config(options), goldens.make_state("v1"))


def prepare_inference(options: argparse.Namespace) -> Measure:
    """Inferences, each of which ends with the results on the host."""
    from maskrcnn.runtime import compiler

    forward = compiler.compile_inference(build_model(options), xla=options.xla)
    batch, results = make_batch("inference", options.batch_size, options.size), {}

    def step() -> None:
        results.update({name: np.asarray(value) for name, value in forward(batch).items()})

    def infer(warmup_steps: int, steps: int) -> dict[str, Any]:
        times = problem.time_steps(step, steps=steps, warmup_steps=warmup_steps)
        return {**times, "detections": int(results["valid"].sum(1).mean())}

    return infer


def prepare_training(options: argparse.Namespace) -> Measure:
    """Steps under `fit`."""
    from tqdm import tqdm

    from maskrcnn.benchmark.step_clock import StepClock
    from maskrcnn.runtime import compiler
    from maskrcnn.training.optimizer import LeanSGD

    model = build_model(options)
    optimizer = LeanSGD(problem.LEARNING_RATE, momentum=problem.MOMENTUM)
    model.compile(optimizer, **compiler.compile_options(xla=options.xla))
    model.optimizer.build(model.trainable_variables)
    batch, processor = make_batch("training", options.batch_size, options.size), [0.0]

    def begin() -> None:
        problem.reset_peak_memory()
        processor[0] = time.process_time()

    def fit(warmup_steps: int, steps: int) -> dict[str, Any]:
        total = warmup_steps + steps
        data = (one for one in itertools.repeat((batch,)))  # Keras takes no iterator but a generator
        with tqdm(total=total, disable=True) as progress:
            clock = StepClock(model, warmup_steps, begin, progress)
            history = model.fit(data, epochs=1, steps_per_epoch=total, callbacks=clock, shuffle=False, verbose=0)
        return {
            "seconds": clock.seconds,
            "first_step_seconds": clock.first_step,
            "processor_seconds": time.process_time() - processor[0],
            "losses": {name: float(values[0]) for name, values in history.history.items()},
        }

    return fit


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    problem.add_flags(parser)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--xla", action="store_true")
    parser.add_argument("--compile_cache", metavar="DIR")
    parser.add_argument("--trace", metavar="DIR")
    options = parser.parse_args()
    from maskrcnn.runtime import backend, compiler, hardware

    backend.select_backend()
    backend.set_precision(options.precision)
    if options.compile_cache:
        compiler.cache_compilations(options.compile_cache)
    measure = (prepare_training if options.what == "training" else prepare_inference)(options)
    record = measure(options.warmup_steps, options.steps) | {
        "host_bytes": problem.peak_memory(),
        "device_bytes": hardware.peak_memory().device,
        "device": hardware.device_name(),
        "versions": {name: importlib.metadata.version(name) for name in ("keras", backend.active_backend())},
        "threads": hardware.available_cores(),
    }
    if options.trace:
        import jax

        with jax.profiler.trace(options.trace):
            measure(0, options.steps)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
