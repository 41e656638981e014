"""Batches from records: order, decode, flip, resize, pad, batch.

The order of the records is drawn in NumPy, whole epochs at a time, before anything is read: a run
resumes at any batch at no cost, with the batches that it would have had.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import tensorflow as tf

from maskrcnn.config import Config, DataConfig
from maskrcnn.data.loader.augment import color_jitter, copy_paste, fold_in, limit_instances, scale_jitter
from maskrcnn.data.loader.transforms import (
    IMAGE_FEATURES,
    Example,
    decode,
    decode_image,
    flip_horizontal,
    pad_instances,
    resize_to_canvas,
)
from maskrcnn.data.records.split import Split, max_instances
from maskrcnn.data.records.tfrecord import RecordReader
from maskrcnn.errors import UserError
from maskrcnn.imaging.canvas import canvas_size, resized_size

Requests = dict[str, np.ndarray]  # what is to be read for a batch
SPECS = {
    **dict.fromkeys(("span", "source_span"), tf.TensorSpec([None, 4], tf.int64)),
    **dict.fromkeys(("size", "canvas", "source_size", "original_sizes"), tf.TensorSpec([None, 2], tf.int32)),
    "seed": tf.TensorSpec([None, 2], tf.int64),
    "image_ids": tf.TensorSpec([None], tf.int64),
    "image_valid": tf.TensorSpec([None], tf.bool),
}

COLOR, SCALE, PLACE, SOURCE = range(1, 5)  # folded into an example's seed, which by itself decides on the mirror


@dataclass(frozen=True)
class Shard:
    """One process's part of the data, where several processes train or evaluate together."""

    index: int = 0  # of this process
    count: int = 1  # of processes
    pieces: int = 1  # replicas of the process, each of which gets a batch of its own


def train_dataset(
    split: Split, config: Config, *, batch_size: int, seed: int, skip_batches: int = 0, shard: Shard | None = None
) -> tf.data.Dataset:
    """Training batches without end, each of one orientation; ``skip_batches`` are left out before anything is read.

    Of each batch of ``batch_size`` images, this process's ``shard`` is read: the same images as without shards.

    Raises:
        UserError: the data have categories that ``config`` does not know, or an augmentation cannot be.
    """
    check_augmentation(config.data)
    shard = shard or Shard()
    size = batch_size // shard.count
    ours = slice(shard.index * size, (shard.index + 1) * size)

    def order() -> Iterator[Requests]:
        batches = enumerate(_training_order(_portrait(split, config), batch_size, seed))
        for position, records in islice(batches, skip_batches, None):
            seeds = np.stack([np.full(batch_size, seed), position * batch_size + np.arange(batch_size)], axis=1)
            requests = {**_requests(split, config, records[ours]), "seed": seeds[ours].astype(np.int64)}
            if config.data.copy_paste:
                requests |= _source_requests(split, config, records, (seed, position), ours)
            yield requests

    keys = ("seed", "source_span", "source_size") if config.data.copy_paste else ("seed",)
    return _batches(split, config, order, _training_loader(split, config), size // shard.pieces, keys)


def _training_loader(split: Split, config: Config) -> Any:
    """The function that makes a training example of a request: decoded, augmented, its objects padded."""
    indices, limit = _class_indices(split, config), max_instances(config.data, split)

    def prepare(request: Example, prefix: str, seed: tf.Tensor, read: Any) -> Example:
        ids, classes = list(indices), list(indices.values())
        example = decode(read(request[f"{prefix}span"]), category_ids=ids, class_indices=classes, max_instances=limit)
        return augment(example, request[f"{prefix}size"], request["canvas"], seed, config.data)

    def load(request: Example, read: Any) -> Example:
        example = prepare(request, "", request["seed"], read)
        if config.data.copy_paste:
            seed = fold_in(request["seed"], SOURCE)
            example = tf.cond(
                tf.random.stateless_uniform([], seed) < config.data.copy_paste,
                lambda: copy_paste(example, prepare(request, "source_", seed, read), fold_in(seed, SOURCE)),
                lambda: dict(example),
            )
            example = limit_instances(example, limit)
        example = pad_instances(example, limit)
        return {"images": example.pop("image"), **example}

    return load


def check_augmentation(config: DataConfig) -> None:
    """Raises a ``UserError`` for numbers without a meaning."""
    low, high = config.scale_jitter or (1.0, 1.0)
    if not 0 < low <= high:
        raise UserError(f"--scale_jitter {low} {high}: give the least and the largest scale, such as 0.1 2.0")
    for name, what in (("color_jitter", "strength"), ("copy_paste", "fraction of images")):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(f"--{name} {getattr(config, name)}: the {what} must lie between 0 and 1")


def augment(example: Example, size: tf.Tensor, canvas: tf.Tensor, seed: tf.Tensor, config: DataConfig) -> Example:
    """A decoded example mirrored, recolored, scaled and cropped as the config says, on its canvas."""
    if config.horizontal_flip:
        example = flip_horizontal(example, seed)
    if config.color_jitter:
        example = color_jitter(example, config.color_jitter, fold_in(seed, COLOR))
    if config.scale_jitter:
        scale = tf.random.stateless_uniform([], fold_in(seed, SCALE), *config.scale_jitter)
        example, size = scale_jitter(example, canvas, scale, fold_in(seed, PLACE))
    return resize_to_canvas(example, size, canvas)


def _source_requests(
    split: Split, config: Config, records: np.ndarray, seeds: tuple[int, int], ours: slice
) -> Requests:
    """For each image of a batch another of its orientation to copy objects from; ``seeds`` alone decide."""
    portrait = _portrait(split, config)
    alike = np.flatnonzero(portrait == portrait[records[0]])
    chosen = np.random.default_rng([*seeds, SOURCE]).choice(alike, len(records))
    requests = _requests(split, config, chosen[ours])
    return {"source_span": requests["span"], "source_size": requests["size"]}


def training_image_ids(split: Split, config: Config, *, batch_size: int, seed: int, batch: int) -> list[int]:
    """The ids of the images in one batch of `train_dataset`; batches count from 0."""
    records = next(islice(_training_order(_portrait(split, config), batch_size, seed), batch, None))
    return split.index.image_ids[records].tolist()


def eval_dataset(
    split: Split, config: Config, *, batch_size: int, num_samples: int | None = None, shard: Shard | None = None
) -> tf.data.Dataset:
    """Every image once, or the first ``num_samples``, landscape before portrait; those of this process's ``shard``.

    The last batch is filled up with its last image, ``image_valid`` False.
    """
    shard = shard or Shard()

    def order() -> Iterator[Requests]:
        portrait = _portrait(split, config)[:num_samples]
        for side in (False, True):
            records = np.flatnonzero(portrait == side)[shard.index :: shard.count]
            for start in range(0, len(records), batch_size):
                positions = np.arange(start, start + batch_size)
                batch = records[positions.clip(max=len(records) - 1)]
                yield {
                    **_requests(split, config, batch),
                    "image_ids": split.index.image_ids[batch],
                    "original_sizes": split.index.sizes[batch],
                    "image_valid": positions < len(records),
                }

    def load(request: Example, read: Any) -> Example:
        encoded = tf.io.parse_single_example(read(request["span"]), IMAGE_FEATURES)["image/encoded"]
        example = resize_to_canvas({"image": decode_image(encoded)}, request["size"], request["canvas"])
        kept = {key: request[key] for key in keys}
        return {"images": example["image"], "image_sizes": example["image_sizes"], **kept}

    keys = ("image_ids", "original_sizes", "image_valid")
    return _batches(split, config, order, load, batch_size, keys)


def _class_indices(split: Split, config: Config) -> dict[int, int]:
    """Category id -> class index of the model."""
    known = {category.id: category.index for category in config.categories or split.categories}
    unknown = [f"{category.id} ({category.name})" for category in split.categories if category.id not in known]
    if unknown:
        listed = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        raise UserError(
            f"{split.name} split: categories {listed} are unknown to the model, which has {len(known)}; "
            "train a new model in another --model_dir"
        )
    return known


def _portrait(split: Split, config: Config) -> np.ndarray:
    """Bool [N]: which images go on the portrait canvas; none where both canvases are the same."""
    sizes = split.index.sizes
    return (sizes[:, 0] > sizes[:, 1]) & (
        canvas_size(1, 2, config.model.image) != canvas_size(2, 1, config.model.image)
    )


def _training_order(portrait: np.ndarray, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Record numbers [B] of one orientation each, epoch after epoch; those that fill no batch wait for the next."""
    waiting: dict[bool, list[int]] = {False: [], True: []}
    epoch = 0
    while True:
        for record in np.random.default_rng([seed, epoch]).permutation(len(portrait)):
            group = waiting[bool(portrait[record])]
            group.append(record)
            if len(group) == batch_size:
                yield np.array(group)
                group.clear()
        epoch += 1


def _requests(split: Split, config: Config, records: np.ndarray) -> Requests:
    """Where a batch of records lies, and the sizes that its images get."""
    sizes = split.index.sizes[records].tolist()
    return {
        "span": split.index.spans[records],
        "size": np.array([resized_size(height, width, config.model.image) for height, width in sizes], np.int32),
        "canvas": np.array([canvas_size(height, width, config.model.image) for height, width in sizes], np.int32),
    }


def _batches(split: Split, config: Config, order: Any, load: Any, batch_size: int, keys: Any) -> tf.data.Dataset:
    """Runs ``load(request, read)`` over the requests of ``order``, in parallel, in order, and batches the results.

    A request has ``span``, ``size`` and ``canvas``, and what ``keys`` names.
    """
    reader = RecordReader(split.index.files)

    def read(span: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(reader.read, [span], tf.string, stateful=False), [])

    signature = {key: SPECS[key] for key in ("span", "size", "canvas", *keys)}
    dataset = tf.data.Dataset.from_generator(order, output_signature=signature).unbatch()

    @tf.autograph.experimental.do_not_convert  # `tf.cond` stands wherever a tensor decides; converting takes seconds
    def load_request(request: Example) -> Example:
        return load(request, read)

    dataset = dataset.map(load_request, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    landscape, portrait = canvas_size(1, 2, config.model.image), canvas_size(2, 1, config.model.image)
    shape = [batch_size, *(landscape if landscape == portrait else (None, None)), 3]

    @tf.autograph.experimental.do_not_convert
    def with_shape(batch: Example) -> Example:
        return {**batch, "images": tf.ensure_shape(batch["images"], shape)}

    dataset = dataset.map(with_shape)
    return dataset.prefetch(tf.data.AUTOTUNE)
