"""COCO's segmentations: polygons [[x1, y1, x2, y2, ...], ...] in px, or an RLE {size: [height, width], counts}."""

import ast
import math
from itertools import chain
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from maskrcnn.data.coco.ids import shown
from maskrcnn.data.coco.problems import NO_MASK, EntryError, Repaired
from maskrcnn.input_files import parse_json

MAX_OUTSIDE = 10_000.0  # px outside its image, beyond which a polygon is cut
MAX_OUTLINE = 4e6  # px; rasterizing takes 40 bytes for each
NUMBERS = frozenset((int, float))
LARGEST = 1e15  # of coordinates and areas; whatever is larger is an error, and NaN is not smaller
MOST_BRACKETS = 8  # of an RLE written as Python does
Size = tuple[int, int]  # height, width, px
Segmentation = list[list[float]] | dict[str, Any]


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that a float can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def extremes(values: Any) -> tuple[float, float] | None:
    """The least and the largest of a list in which `is_number` holds for all values, else None.

    COCO has 60 million coordinates, so each pass counts: types are compared in C, and NaN, which no comparison finds,
    makes the sum NaN.
    """
    if not isinstance(values, list) or not (NUMBERS.issuperset(map(type, values)) or all(map(is_number, values))):
        return None
    low, high = min(values, default=0.0), max(values, default=0.0)
    return (low, high) if low > -LARGEST and high < LARGEST and math.isfinite(sum(values)) else None


def number(value: Any) -> float | None:
    """A finite number, or a text that says one, as a float; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if is_number(value) else None


def normalize_segmentation(segmentation: Any, image_size: Size | None, repaired: Repaired) -> Segmentation:
    """Polygons of 3 points or more, or an RLE of the image's (height, width), of whatever form exporters write.

    ``repaired(kind, text)`` is called for each repair.

    Raises:
        EntryError: nothing that can be used.
    """
    segmentation = _only(segmentation)
    if isinstance(segmentation, str) and segmentation.strip():
        segmentation = _only(_parse_text(segmentation.strip(), image_size))
        repaired("segmentation as text", "segmentation is text, read as what is written there")
    if not segmentation or (isinstance(segmentation, list) and not any(segmentation)):
        raise EntryError(NO_MASK, "has no segmentation; Mask R-CNN learns from masks")
    if isinstance(segmentation, dict):
        check_rle(segmentation, image_size)
        return {"size": segmentation["size"], "counts": segmentation["counts"]}
    if not isinstance(segmentation, list):
        raise EntryError("bad mask", f"segmentation is a {type(segmentation).__name__}; expected polygons or an RLE")
    return _check_polygons(segmentation, image_size, repaired)


def _parse_text(text: str, image_size: Size | None) -> Any:
    """What a text says: JSON, an RLE as Python writes it, or the coordinates of one polygon.

    Numbers that would lie outside the image are not taken for coordinates: they may be runs.
    """
    try:
        if text[0] == "[":
            return parse_json(text)
        if text[0] == "{":
            is_python = "'" in text and sum(map(text.count, "[{(")) <= MOST_BRACKETS
            rle = ast.literal_eval(text) if is_python and '"counts"' not in text else parse_json(text)
            counts = rle.get("counts")
            return {**rle, "counts": counts.decode("ascii")} if isinstance(counts, bytes) else rle
        values = [float(value) for value in text.replace(",", " ").split()]
    except (ValueError, TypeError, AttributeError, SyntaxError, MemoryError, RecursionError):
        values = []
    height, width = image_size or (math.inf, math.inf)
    xs, ys = values[0::2], values[1::2]
    if not ys or not all(-1 <= x <= width + 1 for x in xs) or not all(-1 <= y <= height + 1 for y in ys):
        read = "expected JSON of polygons or of an RLE, or a polygon's coordinates within the image"
        raise EntryError("bad mask", f"segmentation is the text {shown(text)}; {read}")
    return [values]


def _only(segmentation: Any) -> Any:
    """A segmentation without the list that a text or an RLE may be in alone."""
    alone = isinstance(segmentation, list) and len(segmentation) == 1
    first = segmentation[0] if alone else None
    return first if isinstance(first, str) or (isinstance(first, dict) and "counts" in first) else segmentation


def _check_polygons(segmentation: list[Any], image_size: Size | None, repaired: Repaired) -> list[list[float]]:
    polygons, ranges = segmentation, [extremes(part) for part in segmentation]
    if None in ranges or min(map(len, polygons)) < 3:  # a flat list, points, text, or no polygons at all
        polygons = _as_polygons(segmentation, repaired)
        ranges = [extremes(polygon) for polygon in polygons]
    usable, limit = [], math.inf if image_size is None else MAX_OUTSIDE + max(image_size)
    for polygon, found in zip(polygons, ranges, strict=True):
        if found is None:
            raise EntryError("bad polygon", "polygon is not a list of finite numbers")
        if len(polygon) % 2:
            raise EntryError("bad polygon", f"polygon has an odd number of coordinates ({len(polygon)})")
        if len(polygon) >= 6:
            near = -limit <= found[0] and found[1] <= limit
            usable.append(polygon if near else _cut_far(polygon, limit, repaired))
    if not usable:
        raise EntryError("bad polygon", f"polygon of {len(polygons[0]) // 2} points (3 are needed)")
    if len(usable) < len(polygons):
        repaired("polygon of fewer than 3 points", "a part of fewer than 3 points is dropped")
    if image_size is not None:
        _check_outline(usable, image_size)
    return usable


def _as_polygons(segmentation: list[Any], repaired: Repaired) -> list[list[float]]:
    """A list of flat lists of coordinates, made of one flat list, pairs, points {x, y}, or numbers as text."""
    if all(not isinstance(part, list | dict) for part in segmentation):  # x1, y1, x2, y2, ...
        repaired("flat polygon", "segmentation is one flat list of coordinates, read as one polygon")
        segmentation = [segmentation]
    elif len(segmentation) >= 3 and all(map(_is_point, segmentation)):
        segmentation = [segmentation]
    polygons = []
    for part in segmentation:
        if isinstance(part, list) and part and all(map(_is_point, part)):
            repaired("polygon of points", "segmentation lists points instead of coordinates, read as polygons")
            part = [value for point in part for value in (point.values() if isinstance(point, dict) else point)]
        if isinstance(part, list) and any(isinstance(value, str) for value in part):
            part = [number(value) if isinstance(value, str) else value for value in part]
            repaired("number as text", "coordinates are text, read as numbers")
        polygons.append(part)
    return polygons


def _is_point(value: Any) -> bool:
    if isinstance(value, dict):
        return list(value) == ["x", "y"]
    return isinstance(value, list) and len(value) == 2


def _cut_far(polygon: list[float], limit: float, repaired: Repaired) -> list[float]:
    """The polygon with coordinates that are far outside the image moved nearer: pycocotools walks every pixel."""
    farthest = max(polygon, key=abs)
    repaired("polygon far outside", f"polygon reaches {farthest:g}, far outside the image; cut there")
    return [min(max(value, -limit), limit) for value in polygon]


def _check_outline(polygons: list[list[float]], image_size: Size) -> None:
    """Refuses outlines that no object has, and whose rasterizing would take gigabytes."""
    if sum(map(len, polygons)) * (MAX_OUTSIDE + max(image_size)) <= MAX_OUTLINE:
        return
    length = 0.0
    for polygon in polygons:
        points = np.asarray(polygon, np.float64).reshape(-1, 2)
        length += np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
    if length > MAX_OUTLINE:
        raise EntryError("endless outline", f"polygons have an outline of {length:.3g} px; draw the object's own")


def check_rle(rle: dict[str, Any], image_size: Size | None) -> None:
    """Checks a run-length code, of an image of this height and width where it is known.

    Raises:
        EntryError: it describes no mask.
    """
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(counts, list | str) or not counts:
        raise EntryError("bad RLE", "RLE has no counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise EntryError("bad RLE", f"RLE size is {shown(size)}; expected [height, width]")
    if image_size is not None and size != list(image_size):
        fits = f"RLE of {size[1]} x {size[0]} does not fit the image of {image_size[1]} x {image_size[0]}"
        raise EntryError("bad RLE", fits)
    # pycocotools would fill what an RLE leaves out with whatever lies in memory
    pixels, lengths = size[0] * size[1], counts if isinstance(counts, list) else run_lengths(counts)
    if not all(isinstance(length, int) and length >= 0 for length in lengths) or sum(lengths) != pixels:
        raise EntryError("bad RLE", f"RLE counts do not add up to {pixels} pixels")


def run_lengths(counts: str) -> list[int]:
    """The numbers in the text of a compressed RLE: five bits a character, the sixth says that more follow; each number
    but the first three is a difference to the one before the last."""
    codes = np.frombuffer(counts.encode(), np.uint8).astype(np.int64) - 48
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise EntryError("bad RLE", "RLE counts are not those of a compressed RLE")
    starts = np.flatnonzero(np.r_[True, (codes[:-1] & 32) == 0])
    places = np.arange(len(codes)) - np.repeat(starts, np.diff(np.r_[starts, len(codes)]))
    if places.max() > 6:
        raise EntryError("bad RLE", "RLE counts are too large")
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


def json_rle(rle: Any) -> dict[str, Any]:
    """A compressed RLE of pycocotools in the form that JSON can hold."""
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """A mask [H, W] as a compressed RLE that JSON can hold."""
    return json_rle(mask_utils.encode(np.asfortranarray(mask, np.uint8)))


def mask_fields(mask: np.ndarray) -> dict[str, Any]:
    """A mask [H, W] as COCO's annotations tell it: ``bbox``, ``segmentation`` and ``area``."""
    rle: Any = encode_mask(mask)
    return {"bbox": bounding_box(rle), "segmentation": rle, "area": float(mask_utils.area(rle))}


def bounding_box(segmentation: Segmentation) -> list[float]:
    """``xywh`` of a normalized segmentation; of no extent if the mask is empty."""
    if isinstance(segmentation, dict):
        rle: Any = encode_rle(segmentation, *segmentation["size"])
        return [float(side) for side in mask_utils.toBbox(rle)]
    values = segmentation[0] if len(segmentation) == 1 else [*chain.from_iterable(segmentation)]
    xs, ys = values[0::2], values[1::2]
    left, top = min(xs), min(ys)
    return [left, top, max(xs) - left, max(ys) - top]


def rectangle(box: tuple[float, float, float, float]) -> list[list[float]]:
    """The polygon that fills a box (xyxy)."""
    x1, y1, x2, y2 = box
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]
