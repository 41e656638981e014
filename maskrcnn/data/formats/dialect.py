"""A way of writing annotations, and what several of them share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maskrcnn.data.coco.segmentation import Segmentation, encode_mask, encode_rle, normalize_segmentation
from maskrcnn.data.formats.content import Size, mask_utils

NO_AREA = "shapes that have no area"


class Image(NamedTuple):
    """An image in an annotation file."""

    reference: str
    size: Size | None  # as the file states it
    objects: list[tuple[Any, Any]]  # name of the class, None where none is written, and what `Dialect.shape` takes


class Shape(NamedTuple):
    """An object: a mask or, without one, a box (xywh); px."""

    segmentation: Segmentation | None
    box: list[float] | None = None


class Dialect(NamedTuple):
    """A tool's way of writing annotations."""

    format: str  # as the user calls it
    marks: tuple[bytes, ...]  # all of which are in the beginning of a file
    images: Callable[[Any, Path], Iterator[Image]]
    shape: Callable[[Any, Size], Shape]  # of one of an image's objects, and the size of the image


def named(objects: list[Any], key: str) -> list[tuple[Any, Any]]:
    """Objects with the names that they have under a key."""
    return [(entry.get(key), entry) for entry in objects]


def points_of(points: Any) -> list[float]:
    """A flat list of coordinates, of pairs or of points {x, y}."""
    return [value for point in points for value in ((point["x"], point["y"]) if isinstance(point, dict) else point)]


def with_holes(outer: list[float], holes: list[list[float]], size: Size) -> Segmentation:
    """A polygon, or the mask of one with holes."""
    if not holes:
        return [outer]
    checked = [normalize_segmentation([polygon], size, lambda kind, text: None) for polygon in (outer, *holes)]
    rles: list[Any] = [encode_rle(segmentation, *size) for segmentation in checked]
    whole, *cut = (mask_utils.decode(rle).astype(bool) for rle in rles)
    return encode_mask(whole & ~np.any(cut, axis=0))


def size_of(content: Any) -> Size | None:
    """The size that a file states, if it does."""
    sides = content.get("height"), content.get("width")
    return (int(sides[0]), int(sides[1])) if all(sides) else None
