"""labelme's files, one JSON an image.

An image whose file is missing is read from its JSON if it is embedded there (``imageData``). An image without a JSON
counts as not annotated yet; it is left out and noted too. A dataset of rectangles only is one of boxes.
"""

import base64
import functools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.data.coco.segmentation import Segmentation, encode_mask, encode_rle, is_number, json_rle
from maskrcnn.data.formats.content import (
    Content,
    Size,
    clip_points,
    ellipse_points,
    map_in_threads,
    mask_utils,
    place_mask,
)
from maskrcnn.data.formats.folders import by_split, walk
from maskrcnn.data.formats.found_dataset import UNSPLIT, FoundDataset, RawSplit, found_dataset
from maskrcnn.data.formats.image_files import ImageFinder
from maskrcnn.errors import UserError
from maskrcnn.imaging.read import SUFFIXES, open_image
from maskrcnn.input_files import read_head, read_json

PEEK_FILES, PEEK_BYTES = 5, 1 << 26  # the embedded image may come before the other keys
MAX_BYTES = 1 << 28  # of a file, which may hold its image
NOT_CLASSES = frozenset({"_background_", "__ignore__"})


@dataclass(frozen=True)
class Document:
    """A parsed JSON of labelme, without the embedded image."""

    path: Path
    image_path: str = ""  # none if the file is not labelme's
    size: Size | None = None  # of the image, as the file states it
    shapes: list[dict[str, Any]] = field(default_factory=list)
    has_image: bool = False  # embedded


def find(folder: Path) -> FoundDataset | None:
    """A dataset of labelme, in one folder or in folders named after splits."""
    groups = by_split(walk(folder, {".json"}), folder)
    heads = (read_head(path, PEEK_BYTES) for paths in groups.values() for path in paths[:PEEK_FILES])
    if not any(b'"shapes"' in head and (b'"imagePath"' in head or b'"imageData"' in head) for head in heads):
        return None
    finder = ImageFinder(folder)

    @functools.cache
    def documents() -> dict[str, list[Document]]:
        return {name: map_in_threads(_parse, paths, "reading labelme's files") for name, paths in groups.items()}

    def origin(name: str) -> Path:
        return folder if name == UNSPLIT else groups[name][0].parent

    return found_dataset("labelme", groups, lambda name: _read(finder, documents(), name), origin=origin)


def _parse(path: Path) -> Document:
    try:
        content = read_json(path, "annotations of labelme", MAX_BYTES)
        shapes = [shape for shape in content["shapes"] if isinstance(shape, dict)]
    except (UserError, KeyError, TypeError):
        return Document(path)
    sides = content.get("imageHeight"), content.get("imageWidth")
    size = (int(sides[0]), int(sides[1])) if all(is_number(side) and side > 0 for side in sides) else None
    reference = content.get("imagePath")
    reference = reference if isinstance(reference, str) and reference else f"{path.stem}.jpg"
    return Document(path, reference, size, shapes, bool(content.get("imageData")))


def _read(finder: ImageFinder, documents: dict[str, list[Document]], split: str) -> RawSplit:
    files = [file for group in documents.values() for file in group]
    shapes = [shape for file in files for shape in file.shapes if not _skipped(shape)]
    rectangles = all(shape.get("shape_type") == "rectangle" for shape in shapes)
    content = Content(finder.folder, sorted({shape["label"] for shape in shapes}), boxes_only=rectangles)
    images = {}  # of each document
    for file in documents[split]:
        if not file.image_path:
            content.note("JSON files skipped that are not labelme's", file.path)
        elif image := finder.find(file.image_path, file.path.parent) or finder.find(file.path.stem, file.path.parent):
            images[image] = file
        elif file.has_image:
            images[file.path] = file
        else:
            content.note("missing images skipped", file.path)
    for image, size, document in content.readable(images.items()):
        if document.size and document.size != size:
            stated = f"{document.path}: {document.size[1]} x {document.size[0]}, the image is {size[1]} x {size[0]}"
            content.note("images skipped whose JSON states another size", stated)
            continue
        if image == document.path:
            content.note("images read from their JSON (imageData), since they have no file", image)
        _add_objects(content, content.add_image(image, size), document, size)
    labeled = {image.stem for image in images} | {file.path.stem for file in files}
    for path in (path for parent in sorted({image.parent for image in images}) for path in sorted(parent.iterdir())):
        if path.suffix.lower() in SUFFIXES and path.stem not in labeled:
            content.note("images left out that have no JSON", path)
    return content.split()


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


def _add_objects(content: Content, image_id: int, document: Document, size: Size) -> None:
    """Adds the shapes of an image; those with the same label and group_id are one object."""
    objects: dict[tuple[Any, ...], tuple[str, list[Segmentation]]] = {}  # the first shape, as messages name it, and all
    for number, shape in enumerate(document.shapes, start=1):
        example = f"{document.path}, shape {number}"
        if problem := _skipped(shape):
            content.note(problem, example)
            continue
        try:
            part: Segmentation = _mask(shape, size) if shape.get("shape_type") == "mask" else _outline(shape, size)
        except ValueError as error:
            content.note(f"shapes skipped: {error}", example)
            continue
        group = shape.get("group_id")
        key = (shape["label"], str(group)) if group is not None else (shape["label"], None, number)
        objects.setdefault(key, (example, []))[1].append(part)
    for key, (example, parts) in objects.items():
        content.add_object(image_id, key[0], _join(parts, size), example=example)


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
    return json_rle(mask_utils.merge([encode_rle(part, *size) for part in parts]))
