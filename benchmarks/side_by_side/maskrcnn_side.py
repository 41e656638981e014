"""Our side of `benchmarks.side_by_side`: one measurement on one backend, printed as a line of JSON.

KERAS_BACKEND=jax python -m benchmarks.side_by_side.maskrcnn_side inference --batch_size 1 --steps 3
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.side_by_side import problem


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that describe a step."""
    parser.add_argument("what", choices=("training", "inference"))
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--size", type=int, nargs=2, default=(832, 1344), metavar=("H", "W"))
    parser.add_argument("--set", action="append", default=[], dest="assignments", metavar="NAME=VALUE")
    parser.add_argument("--steps", type=int, default=3)


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
        "train.batch_size": options.batch_size,
        "train.eval_batch_size": options.batch_size,
        **dict(setting.split("=", 1) for setting in options.assignments),
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

    given, padding = problem.OBJECTS, MAX_INSTANCES - problem.OBJECTS
    objects = dict(zip(("boxes", "classes"), problem.make_objects(batch_size, *size), strict=True))
    offset = (np.arange(112) + 0.5) / 112 * 2 - 1
    ellipse = (offset[:, None] ** 2 + offset**2 <= 1).astype(np.uint8)
    objects["masks"] = np.broadcast_to(ellipse, (batch_size, given, 112, 112))
    objects["valid"] = np.ones((batch_size, given), bool)
    objects["classes"] = objects["classes"].astype(np.int32)
    padded = {
        name: np.pad(value, [(0, 0), (0, padding), *[(0, 0)] * (value.ndim - 2)]) for name, value in objects.items()
    }
    return {**batch, **padded, "mask_regions": padded["boxes"]}


def build_model(config: Any) -> Any:
    """The model with the weights of the problem."""
    from maskrcnn.model import MaskRCNN
    from tests.parity.goldens import make_state, set_state

    model = MaskRCNN(config)
    set_state(model, make_state("v1"))
    return model


def prepare_inference(options: argparse.Namespace) -> Callable[[], dict[str, np.ndarray]]:
    """A function that runs the batch and returns the results on the host."""
    from maskrcnn.runtime import compiler

    forward = compiler.compile_inference(build_model(make_config(options)), xla=options.xla)
    batch = make_batch("inference", options.batch_size, options.size)
    return lambda: {name: np.asarray(value) for name, value in forward(batch).items()}


def measure_inference(options: argparse.Namespace) -> dict[str, Any]:
    """Times of inferences; each ends with the results on the host."""
    step, valid = prepare_inference(options), []
    times = problem.time_steps(
        lambda: valid.append(step()["valid"].sum(1).mean()), steps=options.steps, warmup_steps=options.warmup_steps
    )
    return {**times, "detections": int(valid[-1])}


def prepare_training(options: argparse.Namespace) -> Callable[[int, int], dict[str, Any]]:
    """A function that runs (warm-up steps, measured steps) under `fit` and returns their times and mean losses."""
    import keras
    from tqdm import tqdm

    from maskrcnn.benchmark.step_clock import StepClock
    from maskrcnn.runtime import compiler

    model = build_model(make_config(options))
    optimizer = keras.optimizers.SGD(problem.LEARNING_RATE, momentum=problem.MOMENTUM)
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
    add_flags(parser)
    parser.add_argument("--warmup_steps", type=int, default=1)
    parser.add_argument("--xla", action="store_true")
    parser.add_argument("--compile_cache", metavar="DIR")
    options = parser.parse_args()
    from maskrcnn.runtime import backend, compiler, hardware

    backend.select_backend()
    backend.set_precision(options.precision)
    if options.compile_cache:
        compiler.cache_compilations(options.compile_cache)
    if options.what == "training":
        record = prepare_training(options)(options.warmup_steps, options.steps)
    else:
        record = measure_inference(options)
    record |= {
        "host_bytes": problem.peak_memory(),
        "device_bytes": hardware.peak_memory().device,
        "device": hardware.device_name(),
        "versions": {name: importlib.metadata.version(name) for name in ("keras", backend.active_backend())},
        "threads": len(os.sched_getaffinity(0)),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
