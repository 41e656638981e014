"""Reads COCO JSON and finds its faults.

Boxes of the file are ``xywh``; what leaves this module is ``xyxy`` in pixels, clipped to the image.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn.config import Category
from maskrcnn.data.coco.segmentation import Segmentation, bounding_box, check_segmentation, is_number
from maskrcnn.errors import UserError

logger = logging.getLogger("maskrcnn")

REMEDY = "repair it, or leave it out with --skip_bad"


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a dataset."""

    file: Path
    item: str
    problem: str
    remedy: str = REMEDY

    def __str__(self) -> str:
        return f"{self.file}: {self.item}: {self.problem}; {self.remedy}"


@dataclass(frozen=True)
class ImageEntry:
    id: int
    file_name: str
    height: int
    width: int


@dataclass(frozen=True)
class Annotation:
    id: int
    image_id: int
    category_id: int
    box: tuple[float, float, float, float]
    segmentation: Segmentation
    area: float | None
    is_crowd: bool


@dataclass(frozen=True)
class CocoDataset:
    """A checked dataset: every annotation belongs to a listed image and category."""

    path: Path
    image_dir: Path
    images: tuple[ImageEntry, ...]
    annotations: dict[int, tuple[Annotation, ...]]  # by image id; images without objects are absent
    categories: tuple[Category, ...]
    skipped: int = 0  # faulty entries left out


def load_coco(annotation_file: str | Path, image_dir: str | Path, *, skip_bad: bool = False) -> CocoDataset:
    """Reads a COCO dataset.

    Raises:
        UserError: the file is not COCO JSON, or holds a fault and ``skip_bad`` is not set (it then is left out).
    """
    dataset, faults = scan_coco(annotation_file, image_dir)
    if faults and not skip_bad:
        more = f" ({len(faults) - 1} more: `maskrcnn data check` lists them)" if len(faults) > 1 else ""
        raise UserError(f"{faults[0]}{more}")
    if faults:
        warn_skipped(dataset.path, faults)
    return dataset


def warn_skipped(path: Path, faults: list[Fault]) -> None:
    """Says in one line how many faulty entries were left out."""
    kinds = Counter(fault.item.split(" ")[0] for fault in faults)
    counts = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items())
    first = f"{faults[0].item}: {faults[0].problem}"
    logger.warning("warning: %s: %d faulty entries left out (%s), the first: %s", path, len(faults), counts, first)


def scan_coco(annotation_file: str | Path, image_dir: str | Path) -> tuple[CocoDataset, list[Fault]]:
    """The sound part of a dataset and all faults of its JSON (pixels are not looked at).

    Raises:
        UserError: the file is not COCO JSON.
    """
    path, image_dir = Path(annotation_file), Path(image_dir)
    content = read_coco_json(path)
    faults: list[Fault] = []
    categories = _collect(content["categories"], "category", path, faults, _category_checker())
    images = _collect(content["images"], "image", path, faults, _image_checker(image_dir))
    known_images = {image.id: image for image in images}
    listed = {entry.get("id") for entry in content["images"] if isinstance(entry, dict)}
    check = _annotation_checker(known_images, listed, {category.id for category in categories})
    annotations: dict[int, list[Annotation]] = {}
    for annotation in _collect(content["annotations"], "annotation", path, faults, check):
        if annotation.image_id in known_images:  # the image may be listed and faulty: told once, with the image
            annotations.setdefault(annotation.image_id, []).append(annotation)
    dataset = CocoDataset(
        path=path,
        image_dir=image_dir,
        images=tuple(images),
        annotations={image_id: tuple(group) for image_id, group in annotations.items()},
        categories=index_categories({category.id: category.name for category in categories}),
        skipped=len(faults),
    )
    return dataset, faults


def index_categories(names: dict[int, str]) -> tuple[Category, ...]:
    """Categories in the order of their ids, indexed from 1 (0 is the background)."""
    return tuple(Category(position, id, names[id]) for position, id in enumerate(sorted(names), start=1))


def read_coco_json(path: Path) -> dict[str, Any]:
    """The parsed file, with its three lists present.

    Raises:
        UserError: unreadable, not JSON, or not COCO.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected COCO annotations") from error
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); expected COCO annotations") from error
    lists = ("images", "annotations", "categories")
    missing = [name for name in lists if not isinstance(content, dict) or not isinstance(content.get(name), list)]
    if missing:
        raise UserError(f"{path}: not COCO annotations (no list {', '.join(map(repr, missing))}); export it as COCO")
    return content


def _collect(
    entries: list[Any], kind: str, path: Path, faults: list[Fault], check: Callable[[dict[str, Any]], Any]
) -> list[Any]:
    """What ``check`` makes of the sound entries; a ``ValueError`` of it becomes a fault."""
    sound = []
    for position, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict):
                raise ValueError("is not an object")
            sound.append(check(entry))
        except ValueError as error:
            name = entry.get("id", f"at position {position}") if isinstance(entry, dict) else f"at position {position}"
            faults.append(Fault(path, f"{kind} {name}", str(error)))
    return sound


def _new_id(entry: dict[str, Any], seen: set[int]) -> int:
    identity = _integer(entry, "id")
    if identity in seen:
        raise ValueError("duplicate id")
    seen.add(identity)
    return identity


def _integer(entry: dict[str, Any], key: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{key} is {'missing' if value is None else f'{value!r}, not an integer'}")
    return value


def _category_checker() -> Callable[[dict[str, Any]], Category]:
    seen: set[int] = set()
    names: set[str] = set()

    def check(entry: dict[str, Any]) -> Category:
        identity, name = _new_id(entry, seen), entry.get("name")
        if not isinstance(name, str) or not name:
            raise ValueError("has no name")
        if name in names:
            raise ValueError(f"duplicate name {name!r}")
        names.add(name)
        return Category(0, identity, name)

    return check


def _image_checker(image_dir: Path) -> Callable[[dict[str, Any]], ImageEntry]:
    seen: set[int] = set()

    def check(entry: dict[str, Any]) -> ImageEntry:
        identity, file_name = _new_id(entry, seen), entry.get("file_name")
        if not isinstance(file_name, str) or not file_name:
            raise ValueError("has no file_name")
        height, width = _integer(entry, "height"), _integer(entry, "width")
        if height <= 0 or width <= 0:
            raise ValueError(f"size {width} x {height} is empty")
        if not (image_dir / file_name).is_file():
            raise ValueError(f"file {image_dir / file_name} is missing")
        return ImageEntry(identity, file_name, height, width)

    return check


def _annotation_checker(
    images: dict[int, ImageEntry], listed: set[Any], category_ids: set[int]
) -> Callable[[dict[str, Any]], Annotation]:
    seen: set[int] = set()

    def check(entry: dict[str, Any]) -> Annotation:
        identity = _new_id(entry, seen)
        image_id, category_id = _integer(entry, "image_id"), _integer(entry, "category_id")
        if image_id not in listed:
            raise ValueError(f"belongs to image {image_id}, which is not listed")
        if category_id not in category_ids:
            raise ValueError(f"belongs to category {category_id}, which is not listed")
        image = images.get(image_id)
        segmentation: Any = entry.get("segmentation")
        check_segmentation(segmentation, (image.height, image.width) if image else None)
        bbox = entry["bbox"] if entry.get("bbox") else bounding_box(segmentation)
        area: Any = entry.get("area")
        return Annotation(
            id=identity,
            image_id=image_id,
            category_id=category_id,
            box=clipped_box(bbox, image),
            segmentation=segmentation,
            area=float(area) if is_number(area) else None,
            is_crowd=bool(entry.get("iscrowd", 0)),
        )

    return check


def clipped_box(bbox: Any, image: ImageEntry | None) -> tuple[float, float, float, float]:
    """COCO's ``xywh`` as ``xyxy`` inside the image.

    Raises:
        ValueError: not four finite numbers, degenerate, or outside the image.
    """
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_number, bbox)):
        raise ValueError(f"bbox {bbox} is not four finite numbers")
    x, y, width, height = map(float, bbox)
    if width <= 0 or height <= 0:
        raise ValueError(f"degenerate box {bbox} (width and height must be positive)")
    if image is None:
        return x, y, x + width, y + height
    box = max(x, 0.0), max(y, 0.0), min(x + width, float(image.width)), min(y + height, float(image.height))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError(f"box {bbox} lies outside the image of {image.width} x {image.height}")
    return box
