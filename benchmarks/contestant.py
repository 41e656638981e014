"""Our side of `benchmarks.side_by_side`: one measurement on the backend at hand, printed as a line of JSON.

KERAS_BACKEND=jax python -m benchmarks.contestant inference --batch_size 1 --steps 3
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "peers"))
import problem


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Which step: what `make_config` and `make_batch` read, but for ``what`` and ``xla``."""
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--size", type=int, nargs=2, default=(832, 1344), metavar=("H", "W"))
    parser.add_argument("--set", action="append", default=[], dest="assignments", metavar="NAME=VALUE")


def make_config(options: argparse.Namespace) -> Any:
    from maskrcnn.config import Category, Config

    height, width = options.size
    settings = {
        "image.min_side": min(height, width),
        "image.max_side": max(height, width),
        "box_head.score_threshold": problem.SCORE_THRESHOLD,
        "train.l2_weight_decay": problem.WEIGHT_DECAY,
        "train.precision": options.precision,
        "train.xla": options.xla,
        "train.batch_size": options.batch_size,
        "train.eval_batch_size": options.batch_size,
        **dict(setting.split("=", 1) for setting in options.assignments),
    }
    categories = tuple(Category(index, index, str(index)) for index in range(1, problem.CLASSES))
    return Config(categories=categories).override(settings)


def make_batch(options: argparse.Namespace) -> dict[str, np.ndarray]:
    """The images, and for training their objects with masks of 112x112 in their boxes."""
    height, width = options.size
    images = problem.make_images(options.batch_size, height, width)
    sizes = np.tile(np.array([height, width], np.float32), (options.batch_size, 1))
    batch = {"images": images, "image_sizes": sizes}
    if options.what == "inference":
        return batch
    from maskrcnn.config import Config
    from maskrcnn.data.loader.synthetic import synthetic_batch

    rng = np.random.default_rng(0)
    config = Config().override({"image.min_side": min(height, width), "image.max_side": max(height, width)})
    given = synthetic_batch(config, options.batch_size, rng)  # for its layout, and its masks, which are ellipses
    boxes, classes = problem.make_objects(options.batch_size, height, width)
    filled = problem.OBJECTS
    given["valid"][:] = np.arange(given["valid"].shape[1]) < filled
    given["boxes"][:], given["classes"][:] = 0, 0
    given["boxes"][:, :filled], given["classes"][:, :filled] = boxes, classes
    given["masks"][:] = 0
    given["masks"][:, :filled] = _ellipse(given["masks"].shape[2:])
    return {**given, **batch, "mask_regions": given["boxes"]}


def _ellipse(shape: tuple[int, ...]) -> np.ndarray:
    offset = (np.arange(shape[0]) + 0.5) / shape[0] * 2 - 1
    return offset[:, None] ** 2 + offset**2 <= 1


def build_model(config: Any) -> Any:
    from benchmarks.parity.goldens import make_state, set_state
    from maskrcnn.model import MaskRCNN

    model = MaskRCNN(config)
    set_state(model, make_state("v1"))
    return model


def prepare_inference(options: argparse.Namespace) -> Callable[[], dict[str, np.ndarray]]:
    """A function that gives the results of the batch, on the host."""
    from maskrcnn.runtime import compiler

    forward, batch = compiler.compile_inference(build_model(make_config(options)), xla=options.xla), make_batch(options)
    return lambda: {name: np.asarray(value) for name, value in forward(batch).items()}


def measure_inference(options: argparse.Namespace) -> dict[str, Any]:
    """Each step ends with the results on the host."""
    step, valid = prepare_inference(options), []
    times = problem.time_steps(
        lambda: valid.append(step()["valid"].sum(1).mean()), steps=options.steps, warmup_steps=options.warmup_steps
    )
    return {**times, "detections": int(valid[-1])}


def compiled_model(options: argparse.Namespace) -> Any:
    """The model ready for `fit`."""
    import keras

    from maskrcnn.runtime import compiler

    model = build_model(make_config(options))
    optimizer = keras.optimizers.SGD(problem.LEARNING_RATE, momentum=problem.MOMENTUM)
    model.compile(optimizer, **compiler.compile_options(xla=options.xla))
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model: Any, batch: dict[str, np.ndarray], *, steps: int, warmup_steps: int) -> dict[str, Any]:
    """Trains on the same batch again and again; as `problem.time_steps`, and the mean losses."""
    from tqdm import tqdm

    from maskrcnn.benchmark.step_clock import StepClock

    total = warmup_steps + steps
    data = (one for one in itertools.repeat((batch,)))  # of all iterators, Keras takes a generator
    processor = [0.0]

    def begin() -> None:
        problem.reset_peak_memory()
        processor[0] = time.process_time()

    with tqdm(total=total, disable=True) as progress:
        clock = StepClock(model, warmup_steps, begin, progress)
        history = model.fit(data, epochs=1, steps_per_epoch=total, callbacks=clock, shuffle=False, verbose=0)
    return {
        "seconds": clock.seconds,
        "first_step_seconds": clock.first_step,
        "processor_seconds": time.process_time() - processor[0],
        "losses": {name: float(values[0]) for name, values in history.history.items()},
    }


def measure_training(options: argparse.Namespace) -> dict[str, Any]:
    """Keras' `fit`; see `maskrcnn.benchmark.step_clock.StepClock`."""
    model, batch = compiled_model(options), make_batch(options)
    return fit(model, batch, steps=options.steps, warmup_steps=options.warmup_steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("training", "inference"))
    add_flags(parser)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--warmup_steps", type=int, default=1)
    parser.add_argument("--xla", action="store_true")
    parser.add_argument("--compile_cache", metavar="DIR")
    options = parser.parse_args()
    from maskrcnn.runtime import backend, compiler, hardware

    backend.select_backend()
    backend.set_precision(options.precision)
    if options.compile_cache:
        compiler.cache_compilations(options.compile_cache)
    record = measure_training(options) if options.what == "training" else measure_inference(options)
    memory = problem.peak_memory()
    name = backend.active_backend()
    extra = {
        "host_bytes": memory,
        "device_bytes": hardware.peak_memory().device,
        "device": hardware.device_name(),
        "versions": {package: importlib.metadata.version(package) for package in ("keras", name)},
        "threads": len(os.sched_getaffinity(0)),
    }
    print(json.dumps({**record, **extra}))


if __name__ == "__main__":
    main()
