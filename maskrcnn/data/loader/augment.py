"""Augmentations beyond the mirror, all off by default, each ``example -> example`` (see ``transforms``).

A mask is relative to its mask region, so a crop moves the region, which may then reach beyond the image, and cuts the
box to what is still visible. A seed [2] alone decides each step; steps of one example draw from their own (`fold_in`).
"""

from typing import Any

import tensorflow as tf

from maskrcnn.data.loader.transforms import Example
from maskrcnn.data.records.rasterize import MASK_SIZE

OBJECT_KEYS = ("boxes", "mask_regions", "classes", "masks")
MIN_SIDE = 1.0  # px of a box that is left by a crop or by what covers it; a thinner one is dropped
HUE_FRACTION = 0.25  # of the strength, as a part of the color circle; a full turn would change what things are


def scale_jitter(example: Example, canvas: tf.Tensor, scale: tf.Tensor, seed: tf.Tensor) -> tuple[Example, tf.Tensor]:
    """Large-scale jitter (arXiv:2012.07177, Sec. 3): the image at ``scale`` times the size that fits the canvas, cut at
    random to what the canvas holds.

    The cut comes before the resizing, in whole pixels of the image, so that nothing larger than the canvas is made.

    Returns:
        The cropped example, and the size (height, width) that `resize_to_canvas` is to give it.
    """
    size = tf.cast(tf.shape(example["image"])[:2], tf.float32)
    room = tf.cast(canvas, tf.float32)
    factor = scale * tf.reduce_min(room / size)
    kept = tf.clip_by_value(tf.floor(room / factor + 1e-3), 1.0, size)  # a whole number may come out a little less
    offset = tf.floor(tf.random.stateless_uniform([2], seed) * (size - kept + 1))
    example = crop(example, tf.cast(offset, tf.int32), tf.cast(kept, tf.int32))
    return example, tf.cast(tf.clip_by_value(tf.round(kept * factor), 1.0, room), tf.int32)


def crop(example: Example, offset: tf.Tensor, size: tf.Tensor) -> Example:
    """The part of ``size`` (height, width, whole px) at ``offset`` (top, left), and the objects seen in it."""
    moved = dict(example)
    moved["image"] = tf.slice(example["image"], [offset[0], offset[1], 0], [size[0], size[1], 3])
    shift = tf.cast(tf.gather(offset, [1, 0, 1, 0]), tf.float32)
    for key in ("boxes", "mask_regions"):
        moved[key] = example[key] - shift
    return cut_objects(moved, tf.cast(size, tf.float32))


def cut_objects(example: Example, size: tf.Tensor) -> Example:
    """Cuts boxes to an image of ``size`` (height, width) and to what is left of their masks; drops objects that vanish.

    A box that lies inside is not touched.
    """
    limit = tf.gather(size, [1, 0, 1, 0])
    inside = tf.reduce_all((example["boxes"] >= 0) & (example["boxes"] <= limit), axis=-1)
    cut = tf.minimum(tf.maximum(example["boxes"], 0.0), limit)
    seen = (example["masks"] > 0) & _pixels_inside(example["mask_regions"], size)
    boxes = tf.where(inside[:, None], example["boxes"], _tighten(cut, example["mask_regions"], seen))
    return _keep(example | {"boxes": boxes}, tf.reduce_any(seen, axis=[1, 2]) | inside)


def hide(example: Example, cover: tf.Tensor, size: tf.Tensor) -> Example:
    """Takes the pixels under ``cover`` (bool [H, W]) from all masks; boxes shrink to what is left, empty objects go.

    The image fills the upper left ``size`` (height, width) of the canvas that ``cover`` is of.
    """
    x, y = _pixel_centers(example["mask_regions"])
    height, width = tf.unstack(tf.shape(cover))
    row = tf.clip_by_value(tf.cast(tf.floor(y), tf.int32), 0, height - 1)  # [N, M]
    column = tf.clip_by_value(tf.cast(tf.floor(x), tf.int32), 0, width - 1)
    places = row[:, :, None] * width + column[:, None, :]  # [N, M, M]
    covered = tf.gather(tf.reshape(cover, [-1]), places)
    left = (example["masks"] > 0) & ~covered
    touched = tf.reduce_any((example["masks"] > 0) & covered, axis=[1, 2])
    seen = left & _pixels_inside(example["mask_regions"], size)
    boxes = tf.where(touched[:, None], _tighten(example["boxes"], example["mask_regions"], seen), example["boxes"])
    kept = tf.reduce_any(seen, axis=[1, 2]) | ~touched
    return _keep(example | {"boxes": boxes, "masks": tf.cast(left, tf.uint8)}, kept)


def draw_masks(example: Example, size: tf.Tensor) -> tf.Tensor:
    """The union of all masks in an image of ``size`` (height, width): bool [H, W]."""
    rows, columns = tf.range(size[0]), tf.range(size[1])

    def add(union: tf.Tensor, item: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        mask, region = item
        framed = tf.pad(mask > 0, [[0, 1], [0, 1]])  # pixels beside the region take the empty last entry
        row, column = _mask_pixels(rows, region[1], region[3]), _mask_pixels(columns, region[0], region[2])
        return union | tf.gather(tf.gather(framed, row), column, axis=1)

    return tf.foldl(add, (example["masks"], example["mask_regions"]), initializer=tf.zeros(size, tf.bool))


def copy_paste(example: Example, source: Example, seed: tf.Tensor) -> Example:
    """Copies objects of ``source`` over ``example`` (arXiv:2012.07177, Sec. 3): each with probability 1/2.

    Both are on canvases of one size. What comes to lie beside the image is cut off; what the copies hide of other
    objects is taken from their masks. The edges are not blended: the paper found no gain in it.
    """
    taken = tf.random.stateless_uniform(tf.shape(source["classes"]), seed) < 0.5
    size = tf.minimum(example["image_sizes"], source["image_sizes"])
    pasted = cut_objects(_keep(source, taken), size)
    canvas, filled = tf.shape(example["image"])[:2], tf.cast(size, tf.int32)
    cover = draw_masks(pasted, canvas)
    cover = cover & (tf.range(canvas[0]) < filled[0])[:, None] & (tf.range(canvas[1]) < filled[1])
    result = hide(example, cover, example["image_sizes"])
    result["image"] = tf.where(cover[..., None], source["image"], example["image"])
    for key in OBJECT_KEYS:
        result[key] = tf.concat([result[key], pasted[key]], axis=0)
    return result


def limit_instances(example: Example, most: int) -> Example:
    """The last ``most`` objects: copies come last, and hide others."""
    return example | {key: example[key][-most:] for key in OBJECT_KEYS}


def color_jitter(example: Example, strength: float, seed: tf.Tensor) -> Example:
    """Brightness, contrast and saturation times a factor of 1 - strength to 1 + strength each, hue turned by up to a
    quarter of strength times half the circle: torchvision's ColorJitter, in this order."""
    image = tf.image.convert_image_dtype(example["image"], tf.float32)
    low, high = max(0.0, 1 - strength), 1 + strength
    brightness, contrast, saturation = tf.unstack(tf.random.stateless_uniform([3], seed, low, high))
    image = tf.clip_by_value(image * brightness, 0, 1)
    mean = tf.reduce_mean(tf.image.rgb_to_grayscale(image))
    image = tf.clip_by_value(mean + (image - mean) * contrast, 0, 1)
    image = tf.clip_by_value(tf.image.adjust_saturation(image, saturation), 0, 1)
    turn = HUE_FRACTION * strength / 2
    image = tf.image.adjust_hue(image, tf.random.stateless_uniform([], fold_in(seed, 1), -turn, turn))
    return example | {"image": tf.cast(tf.round(tf.clip_by_value(image, 0, 1) * 255), tf.uint8)}


def fold_in(seed: tf.Tensor, number: int) -> tf.Tensor:
    """A seed [2] of its own for one more decision."""
    folded: Any = tf.random.fold_in(seed, number)  # typed as an int
    return folded


def _keep(example: Example, kept: tf.Tensor) -> Example:
    """The objects of bool [N] whose boxes have an extent."""
    sides = example["boxes"][:, 2:] - example["boxes"][:, :2]
    kept = tf.where(kept & tf.reduce_all(sides >= MIN_SIDE, axis=-1))[:, 0]
    return example | {key: tf.gather(example[key], kept) for key in OBJECT_KEYS}


def _pixel_centers(regions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """x and y [N, M] of the centers of the mask pixels, px of the image."""
    part = (tf.range(MASK_SIZE, dtype=tf.float32) + 0.5) / MASK_SIZE
    x1, y1, x2, y2 = (side[:, None] for side in tf.unstack(regions, axis=-1))
    return x1 + part * (x2 - x1), y1 + part * (y2 - y1)


def _pixels_inside(regions: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Which mask pixels have their center in an image of ``size`` (height, width): bool [N, M, M]."""
    x, y = _pixel_centers(regions)
    return ((y >= 0) & (y < size[0]))[:, :, None] & ((x >= 0) & (x < size[1]))[:, None, :]


def _mask_pixels(pixels: tf.Tensor, start: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
    """The mask pixel along a region's side that each image pixel's center lies in; MASK_SIZE where in none."""
    index = tf.floor((tf.cast(pixels, tf.float32) + 0.5 - start) / (stop - start) * MASK_SIZE)
    return tf.cast(tf.where((index >= 0) & (index < MASK_SIZE), index, MASK_SIZE), tf.int32)


def _tighten(boxes: tf.Tensor, regions: tf.Tensor, seen: tf.Tensor) -> tf.Tensor:
    """Boxes cut to the extent of the mask pixels ``seen`` (bool [N, M, M]); of no extent where there are none."""
    edges = []
    for axis, (first, last) in ((2, (1, 3)), (1, (0, 2))):  # rows, then columns
        present = tf.reduce_any(seen, axis=axis)  # [N, M]
        low = tf.cast(tf.argmax(present, axis=1), tf.float32)
        high = MASK_SIZE - tf.cast(tf.argmax(present[:, ::-1], axis=1), tf.float32)
        side = (regions[:, last] - regions[:, first]) / MASK_SIZE
        edges.append(
            (
                tf.maximum(boxes[:, first], regions[:, first] + low * side),
                tf.minimum(boxes[:, last], regions[:, first] + high * side),
            )
        )
    (y1, y2), (x1, x2) = edges
    return tf.stack([x1, y1, x2, y2], axis=-1)
