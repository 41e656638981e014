"""Steps of the loader, each ``example -> example`` in TensorFlow ops.

An example is a dict: ``image`` uint8 [H, W, 3]; ``boxes`` and ``mask_regions`` float32 [N, 4], xyxy in px of the image;
``classes`` int32 [N]; ``masks`` uint8 [N, M, M] of 0 and 1, relative to their mask regions; N objects.
``pad_instances`` adds ``valid``, ``resize_to_canvas`` adds ``image_sizes``.
"""

from typing import Any

import tensorflow as tf

from maskrcnn.data.records.rasterize import MASK_BYTES, MASK_SIZE

Example = dict[str, Any]

IMAGE_FEATURES = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
BOX_FEATURES = tuple(f"image/object/bbox/{side}" for side in ("xmin", "ymin", "xmax", "ymax"))
OBJECT_FEATURES = {
    **dict.fromkeys(BOX_FEATURES, tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True)),
    "image/object/class/label": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
    "image/object/is_crowd": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
    "image/object/mask_bits": tf.io.FixedLenFeature([], tf.string, default_value=""),
    "image/object/mask": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
}


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """RGB of a JPEG, as Pillow decodes it, or of any other format that TensorFlow reads: uint8 [H, W, 3]."""
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, [None, None, 3])


def decode(
    serialized: tf.Tensor | bytes, *, category_ids: list[int], class_indices: list[int], max_instances: int
) -> Example:
    """A serialized record as an example: its first ``max_instances`` objects that are neither crowds nor degenerate."""
    features = tf.io.parse_single_example(serialized, {**IMAGE_FEATURES, **OBJECT_FEATURES})
    image = decode_image(features["image/encoded"])
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    relative = tf.stack([features[name] for name in BOX_FEATURES], axis=-1)
    relative = tf.clip_by_value(relative, 0.0, 1.0)  # [N, 4]
    kept = tf.reduce_all(relative[:, 2:] > relative[:, :2], axis=-1)
    crowd = features["image/object/is_crowd"]
    crowd = tf.cond(tf.size(crowd) > 0, lambda: crowd > 0, lambda: tf.zeros_like(kept))  # absent in some records
    kept = tf.where(kept & ~crowd)[:max_instances, 0]
    boxes = tf.gather(relative, kept) * tf.stack([width, height, width, height])
    masks = tf.cond(
        tf.size(features["image/object/mask"]) > 0,
        lambda: decode_png_masks(tf.gather(features["image/object/mask"], kept), boxes),
        lambda: tf.gather(unpack_masks(features["image/object/mask_bits"]), kept),
    )
    labels = tf.gather(features["image/object/class/label"], kept)
    matches = labels[:, None] == tf.constant(category_ids, tf.int64)  # [N, C]
    classes = tf.reduce_sum(tf.where(matches, tf.constant(class_indices, tf.int32), 0), axis=-1)
    return {"image": image, "boxes": boxes, "classes": classes, "masks": masks, "mask_regions": boxes}


def unpack_masks(bits: tf.Tensor) -> tf.Tensor:
    """Bits of ``rasterize.pack_masks`` as uint8 [N, MASK_SIZE, MASK_SIZE]."""
    packed = tf.reshape(tf.io.decode_raw(bits, tf.uint8), [-1, MASK_BYTES, 1])
    places = tf.constant([7, 6, 5, 4, 3, 2, 1, 0], tf.uint8)
    unpacked = tf.bitwise.bitwise_and(tf.bitwise.right_shift(packed, places), tf.constant(1, tf.uint8))
    return tf.reshape(unpacked, [-1, MASK_SIZE, MASK_SIZE])


def decode_png_masks(encoded: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """PNGs [N] of the image's size, cut to ``boxes`` [N, 4] px: uint8 [N, MASK_SIZE, MASK_SIZE].

    Each mask pixel is the bilinear value at its center, thresholded at one half.
    """

    def cut(item: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        mask = tf.io.decode_png(item[0], channels=1)
        mask = tf.pad(tf.cast(mask > 0, tf.float32), [[1, 1], [1, 1], [0, 0]], "SYMMETRIC")  # shifts pixels by 1
        last = tf.cast(tf.shape(mask)[:2], tf.float32) - 1
        x1, y1, x2, y2 = tf.unstack(item[1] + 0.5)  # pixel i has its center at i + 0.5, and at i + 1 when padded
        half_x, half_y = (x2 - x1) / MASK_SIZE / 2, (y2 - y1) / MASK_SIZE / 2
        window = tf.stack(
            [(y1 + half_y) / last[0], (x1 + half_x) / last[1], (y2 - half_y) / last[0], (x2 - half_x) / last[1]]
        )
        values = tf.image.crop_and_resize(mask[None], window[None], [0], [MASK_SIZE, MASK_SIZE])
        return tf.cast(values[0, :, :, 0] >= 0.5, tf.uint8)

    return tf.map_fn(cut, (encoded, boxes), fn_output_signature=tf.TensorSpec([MASK_SIZE, MASK_SIZE], tf.uint8))


def flip_horizontal(example: Example, seed: tf.Tensor) -> Example:
    """Mirrors image, boxes and masks with probability 1/2, decided by ``seed`` [2] alone."""
    flip = tf.random.stateless_uniform([], seed) < 0.5
    return tf.cond(flip, lambda: mirror(example), lambda: dict(example))


def mirror(example: Example) -> Example:
    """Left becomes right."""
    width = tf.cast(tf.shape(example["image"])[1], tf.float32)
    mirrored = dict(example)
    mirrored["image"] = tf.reverse(example["image"], [1])
    mirrored["masks"] = tf.reverse(example["masks"], [2])
    for key in ("boxes", "mask_regions"):
        x1, y1, x2, y2 = tf.unstack(example[key], axis=-1)
        mirrored[key] = tf.stack([width - x2, y1, width - x1, y2], axis=-1)
    return mirrored


def resize_to_canvas(example: Example, size: tf.Tensor, canvas: tf.Tensor) -> Example:
    """Resizes the image to ``size`` and pads it to ``canvas`` (both height, width); boxes follow.

    Bilinear, half-pixel centers, no antialiasing; boxes scale by the ratio of the sizes, axis by axis (torchvision).
    """
    image = example["image"]
    old = tf.cast(tf.shape(image)[:2], tf.float32)
    resized = tf.image.resize(tf.cast(image, tf.float32), size)  # of uint8 it is slower: it converts at every sample
    resized = tf.cast(tf.round(resized), tf.uint8)
    new = tf.cast(size, tf.float32)
    ratio = tf.gather(new / old, [1, 0, 1, 0])
    scaled = {key: example[key] * ratio for key in ("boxes", "mask_regions") if key in example}
    return {**example, **scaled, "image": pad_image(resized, canvas), "image_sizes": new}


def pad_image(image: tf.Tensor, canvas: tf.Tensor) -> tf.Tensor:
    """Zeros on the right and below, up to ``canvas`` (height, width); by copying rows, far faster than ``tf.pad``."""
    height, width = tf.unstack(tf.shape(image)[:2])
    image = tf.concat([image, tf.zeros([height, canvas[1] - width, 3], image.dtype)], axis=1)
    return tf.concat([image, tf.zeros([canvas[0] - height, canvas[1], 3], image.dtype)], axis=0)


def pad_instances(example: Example, max_instances: int) -> Example:
    """Pads the objects to ``max_instances`` and says in ``valid`` which are real; there must not be more."""
    count = tf.shape(example["classes"])[0]
    padded = dict(example)
    for key in ("boxes", "classes", "masks", "mask_regions"):
        value = example[key]
        padding: Any = [[0, max_instances - count]] + [[0, 0]] * (value.shape.rank - 1)
        padded[key] = tf.pad(value, padding)
        padded[key] = tf.ensure_shape(padded[key], [max_instances, *value.shape[1:]])
    padded["valid"] = tf.range(max_instances) < count
    return padded
