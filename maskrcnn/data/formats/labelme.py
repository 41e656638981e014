"""labelme's files, one JSON an image.

An image whose file is missing is read from its JSON if it is embedded there (``imageData``). An image without a JSON
counts as not annotated yet; it is left out and noted too. A dataset of rectangles only is one of boxes.
"""

import base64
import functools
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.data.coco.segmentation import Segmentation, bounding_box, encode_rle, is_number
from maskrcnn.data.formats.content import (
    Content,
    Size,
    clip_points,
    ellipse_points,
    encode_mask,
    map_in_threads,
    mask_utils,
    place_mask,
    read_sizes,
)
from maskrcnn.data.formats.folders import by_split, walk
from maskrcnn.data.formats.found_dataset import UNSPLIT, FoundDataset, FoundSplit, RawSplit
from maskrcnn.data.formats.image_files import ImageFinder
from maskrcnn.errors import UserError
from maskrcnn.imaging.read import SUFFIXES, open_image
from maskrcnn.input_files import read_head, read_json

PEEK_FILES, PEEK_BYTES = 5, 1 << 26
MAX_BYTES = 1 << 28  # of a file, which may hold its image
NOT_CLASSES = frozenset({"_background_", "__ignore__"})


@dataclass(frozen=True)
class Document:
    """A parsed JSON of labelme, without the embedded image."""

    path: Path
    image_path: str
    size: Size | None  # of the image, as the file states it
    shapes: list[dict[str, Any]]
    has_image: bool  # embedded


def find(folder: Path) -> FoundDataset | None:
    """A dataset of labelme, in one folder or in folders named after splits."""
    groups = by_split(walk(folder, {".json"}), folder, UNSPLIT)
    if not any(_is_labelme(path) for paths in groups.values() for path in paths[:PEEK_FILES]):
        return None
    finder = ImageFinder(folder)

    @functools.cache
    def documents() -> dict[str, list[Document | Path]]:
        return {name: map_in_threads(_parse, paths, "reading labelme's files") for name, paths in groups.items()}

    def found(name: str) -> FoundSplit:
        origin = groups[name][0].parent if name != UNSPLIT else folder
        return FoundSplit(name, origin, lambda: _read(folder, finder, documents(), name), lambda: groups[name])

    return FoundDataset("labelme", tuple(map(found, groups)))


def _is_labelme(path: Path) -> bool:
    """Whether a JSON has labelme's keys; the embedded image may come before them."""
    start = read_head(path, PEEK_BYTES)
    return b'"shapes"' in start and (b'"imagePath"' in start or b'"imageData"' in start)


def _parse(path: Path) -> Document | Path:
    """A file's document, or its path if it is not labelme's."""
    try:
        content = read_json(path, "annotations of labelme", MAX_BYTES)
        shapes = [shape for shape in content["shapes"] if isinstance(shape, dict)]
    except (UserError, KeyError, TypeError):
        return path
    sides = content.get("imageHeight"), content.get("imageWidth")
    size = (int(sides[0]), int(sides[1])) if all(is_number(side) and side > 0 for side in sides) else None
    reference = content.get("imagePath")
    reference = reference if isinstance(reference, str) and reference else f"{path.stem}.jpg"
    return Document(path, reference, size, shapes, bool(content.get("imageData")))


def _read(folder: Path, finder: ImageFinder, documents: dict[str, list[Document | Path]], split: str) -> RawSplit:
    shapes = [
        shape for group in documents.values() for file in group if isinstance(file, Document) for shape in file.shapes
    ]
    labels = sorted({str(shape.get("label")) for shape in shapes if _skipped(shape) is None})
    rectangles = all(shape.get("shape_type") == "rectangle" for shape in shapes if _skipped(shape) is None)
    content = Content(folder, labels)
    images = {}  # of each document
    for file in documents[split]:
        if not isinstance(file, Document):
            content.notes.add("JSON files skipped that are not labelme's", file)
        elif image := finder.find(file.image_path, file.path.parent) or finder.find(file.path.stem, file.path.parent):
            images[image] = file
        elif file.has_image:
            images[file.path] = file
        else:
            content.notes.add("missing images skipped", file.path)
    for (image, document), size in zip(images.items(), read_sizes(list(images)), strict=True):
        _add_image(content, image, document, (size, rectangles))
    labeled = {image.stem for image in images} | {path.stem for path in _paths(documents)}
    for path in (path for parent in sorted({image.parent for image in images}) for path in sorted(parent.iterdir())):
        if path.suffix.lower() in SUFFIXES and path.stem not in labeled:
            content.notes.add("images left out that have no JSON", path)
    return content.split()


def _paths(documents: dict[str, list[Document | Path]]) -> list[Path]:
    return [file if isinstance(file, Path) else file.path for group in documents.values() for file in group]


def _skipped(shape: dict[str, Any]) -> str | None:
    """Why a shape is no object; None if it is one."""
    kind, label = shape.get("shape_type") or "polygon", shape.get("label")
    if not isinstance(label, str) or not label:
        return "shapes without a label skipped"
    if not isinstance(kind, str):
        return "shapes skipped whose shape_type is no text"
    if label in NOT_CLASSES:
        return f"shapes skipped that are labeled {label}"
    if kind not in _OUTLINES and kind != "mask":
        return f"shapes of type {kind} skipped, which have no area"
    return None


def _add_image(content: Content, image: Path, document: Document, context: tuple[Size | None, bool]) -> None:
    """Adds an image, if it can be used, with its shapes."""
    size, rectangles = context
    if size is None:
        content.notes.add("unreadable images skipped", image)
    elif document.size and document.size != size:
        stated = f"{document.path}: {document.size[1]} x {document.size[0]}, the image is {size[1]} x {size[0]}"
        content.notes.add("images skipped whose JSON states another size", stated)
    else:
        if image == document.path:
            content.notes.add("images read from their JSON (imageData), since they have no file", image)
        _add_objects(content, content.add_image(image, size), document, (size, rectangles))


def _add_objects(content: Content, image_id: int, document: Document, context: tuple[Size, bool]) -> None:
    """Adds the shapes of an image; those with the same label and group_id are one object."""
    size, rectangles = context
    objects: dict[tuple[Any, ...], list[Segmentation]] = defaultdict(list)
    examples: dict[tuple[Any, ...], str] = {}
    for number, shape in enumerate(document.shapes, start=1):
        example = f"{document.path}, shape {number}"
        if problem := _skipped(shape):
            content.notes.add(problem, example)
            continue
        try:
            part: Segmentation = _mask(shape, size) if shape.get("shape_type") == "mask" else _outline(shape, size)
        except ValueError as error:
            content.notes.add(f"shapes skipped: {error}", example)
            continue
        group = shape.get("group_id")
        key = (shape["label"], str(group)) if group is not None else (shape["label"], None, number)
        objects[key].append(part)
        examples.setdefault(key, example)
    for key, parts in objects.items():
        segmentation = _join(parts, size)
        box = bounding_box(segmentation) if rectangles else None
        content.add_object(image_id, key[0], None if rectangles else segmentation, box=box, example=examples[key])


def _outline(shape: dict[str, Any], size: Size) -> list[list[float]]:
    points = shape.get("points")
    if not isinstance(points, list) or not all(_is_point(point) for point in points):
        raise ValueError("their points are not pairs of numbers")
    polygon = clip_points(_OUTLINES[shape.get("shape_type") or "polygon"](points), size)
    if len(polygon) < 6:
        raise ValueError("polygons of fewer than 3 points")
    return [polygon]


def _is_point(point: Any) -> bool:
    return isinstance(point, list) and len(point) == 2 and all(map(is_number, point))


def _rectangle(points: list[list[float]]) -> list[list[float]]:
    """Two opposite corners, or four in turn (of newer files, also rotated)."""
    if len(points) != 2:
        return points
    (x1, y1), (x2, y2) = points
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


def _circle(points: list[list[float]]) -> list[tuple[float, float]]:
    """The center and a point on the circle."""
    if len(points) != 2:
        raise ValueError("circles that are not a center and a point")
    radius = math.dist(*points)
    return ellipse_points(points[0], (radius, radius))


_OUTLINES = {
    "polygon": lambda points: points,
    "rectangle": _rectangle,
    "rotation": lambda points: points,
    "circle": _circle,
}


def _mask(shape: dict[str, Any], size: Size) -> dict[str, Any]:
    """A mask shape, which is a PNG of the part of the image that begins at its first point."""
    try:
        with open_image(Path("mask"), base64.b64decode(shape["mask"])) as image:
            part = np.asarray(image.convert("L")) > 0
        left, top = (round(value) for value in shape["points"][0] if is_number(value))
    except (UserError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError("their mask cannot be read") from error
    return encode_mask(place_mask(part, left, top, size))


def _join(parts: list[Segmentation], size: Size) -> Segmentation:
    """One segmentation of the parts of an object: polygons, or an RLE if one of them is a mask."""
    polygons = [polygon for part in parts if isinstance(part, list) for polygon in part]
    if all(isinstance(part, list) for part in parts):
        return polygons
    if len(parts) == 1:
        return parts[0]
    rle = mask_utils.merge([encode_rle(part, *size) for part in parts])
    return {"size": list(size), "counts": rle["counts"].decode()}
