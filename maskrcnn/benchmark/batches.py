"""Batches to measure with: random ones from memory, or real ones from the loader."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from maskrcnn.benchmark.record import BenchmarkOptions
from maskrcnn.config import Config
from maskrcnn.data.loader.synthetic import DISTINCT_BATCHES, SYNTHETIC_CATEGORIES, synthetic_batch
from maskrcnn.inference.predictor import image_batches
from maskrcnn.runtime import backend

if TYPE_CHECKING:
    from maskrcnn.data.splits import Split

ORIGINAL_SIZE = (480, 640)  # height and width of most COCO images, px


def open_split(config: Config, options: BenchmarkOptions, name: Any) -> "Split | None":
    """The train or val split of the data; None where images are synthetic."""
    if options.data_dir is None:
        return None
    from maskrcnn.data import splits  # imports TensorFlow

    return splits.open_split(options.data_dir, name, cache_dir=options.model_dir, skip_bad=config.data.skip_bad)


def with_categories(config: Config, split: "Split | None") -> Config:
    """The config with the categories of the data, its own, or as many as COCO has."""
    categories = split.categories if split else config.categories or SYNTHETIC_CATEGORIES
    return dataclasses.replace(config, categories=categories)


def training_batches(config: Config, split: "Split | None") -> tuple[Any, Callable[[], float]]:
    """Endless batches for `fit`, and a function that returns the seconds waited for them so far.

    Under JAX and without a split they come from NumPy, so that TensorFlow is not needed.
    """
    if split is not None or backend.active_backend() == "tensorflow":
        from maskrcnn.training.batches import TrainingData  # imports TensorFlow

        data = TrainingData(split, config, seed=0)
        return data.batches(0), data.waited
    rng = np.random.default_rng(0)
    distinct = [(synthetic_batch(config, config.train.batch_size, rng),) for _ in range(DISTINCT_BATCHES)]
    return (batch for batch in itertools.cycle(distinct)), lambda: 0.0  # Keras takes no iterator but a generator


def inference_batches(config: Config, split: "Split | None") -> Iterator[dict[str, Any]]:
    """Endless batches of ``config.train.eval_batch_size`` images: the val split, or random images that are resized."""
    if split:
        yield from _stored_batches(config, split)
    rng, size = np.random.default_rng(0), config.train.eval_batch_size
    images = [rng.integers(0, 256, (*ORIGINAL_SIZE, 3), np.uint8) for _ in range(size)]
    while True:
        yield from image_batches(enumerate(images), config.model.image, size)


def _stored_batches(config: Config, split: "Split") -> Iterator[dict[str, Any]]:
    """The val split, again and again."""
    from maskrcnn.data.loader.pipeline import eval_dataset

    train = config.train
    while True:
        for batch in eval_dataset(split, config, batch_size=train.eval_batch_size, num_samples=train.eval_samples):
            yield {name: np.asarray(batch[name]) for name in ("images", "image_sizes", "original_sizes")}
