"""COCO's segmentations: polygons [[x1, y1, x2, y2, ...], ...] in px, or an RLE {size: [height, width], counts}."""

import math
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

Segmentation = list[list[float]] | dict[str, Any]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_segmentation(segmentation: Any, image_size: tuple[int, int] | None) -> None:
    """Raises ``ValueError`` unless it is polygons of 3 points or more, or an RLE of the image's (height, width)."""
    if not segmentation:
        raise ValueError("has no segmentation; Mask R-CNN learns from masks")
    if isinstance(segmentation, dict):
        _check_rle(segmentation, image_size)
    elif isinstance(segmentation, list):
        for polygon in segmentation:
            _check_polygon(polygon)
    else:
        raise ValueError(f"segmentation is a {type(segmentation).__name__}; expected polygons or an RLE")


def _check_polygon(polygon: Any) -> None:
    if not isinstance(polygon, list) or not all(map(is_number, polygon)):
        raise ValueError("polygon is not a list of finite numbers")
    if len(polygon) % 2:
        raise ValueError(f"polygon has an odd number of coordinates ({len(polygon)})")
    if len(polygon) < 6:
        raise ValueError(f"polygon of {len(polygon) // 2} points (3 are needed)")


def _check_rle(rle: dict[str, Any], image_size: tuple[int, int] | None) -> None:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(counts, list | str) or not counts:
        raise ValueError("RLE has no counts")
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"RLE size is {size}; expected [height, width]")
    if image_size is not None and size != list(image_size):
        raise ValueError(f"RLE of {size[1]} x {size[0]} does not fit the image of {image_size[1]} x {image_size[0]}")
    # pycocotools would fill what an RLE leaves out with whatever lies in memory
    pixels, lengths = size[0] * size[1], counts if isinstance(counts, list) else run_lengths(counts)
    if not all(isinstance(length, int) and length >= 0 for length in lengths) or sum(lengths) != pixels:
        raise ValueError(f"RLE counts do not add up to {pixels} pixels")


def run_lengths(counts: str) -> list[int]:
    """The numbers in the text of a compressed RLE: five bits a character, the sixth says that more follow; each number
    but the first three is a difference to the one before the last."""
    codes = np.frombuffer(counts.encode(), np.uint8).astype(np.int64) - 48
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("RLE counts are not those of a compressed RLE")
    starts = np.flatnonzero(np.r_[True, (codes[:-1] & 32) == 0])
    places = np.arange(len(codes)) - np.repeat(starts, np.diff(np.r_[starts, len(codes)]))
    if places.max() > 6:
        raise ValueError("RLE counts are too large")
    values = np.add.reduceat((codes & 31) << (5 * places), starts)
    last = np.r_[starts[1:], len(codes)] - 1
    values -= np.where(codes[last] & 16, np.int64(32) << (5 * places[last]), 0)  # the sign
    values[1::2], values[2::2] = values[1::2].cumsum(), values[2::2].cumsum()
    return values.tolist()


def encode_rle(segmentation: Segmentation, height: int, width: int) -> dict[str, Any]:
    """A checked segmentation as one compressed RLE of an image of that size; its counts are bytes."""
    objects: Any = segmentation  # pycocotools' annotations do not cover what it takes
    if isinstance(segmentation, list):
        return mask_utils.merge(mask_utils.frPyObjects(objects, height, width))  # type: ignore[return-value]
    if isinstance(segmentation["counts"], list):
        return mask_utils.frPyObjects(objects, height, width)  # type: ignore[return-value]
    return {"size": segmentation["size"], "counts": segmentation["counts"].encode()}


def bounding_box(segmentation: Segmentation) -> list[float]:
    """``xywh`` of a checked segmentation."""
    if isinstance(segmentation, dict):
        rle: Any = encode_rle(segmentation, *segmentation["size"])
        return [float(side) for side in mask_utils.toBbox(rle)]
    xs = [x for polygon in segmentation for x in polygon[0::2]]
    ys = [y for polygon in segmentation for y in polygon[1::2]]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
