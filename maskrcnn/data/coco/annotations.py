"""Annotations in COCO's terms, as any format's reader gives them, checked once: the only validator.

Boxes of the file are ``xywh``; what leaves this module is ``xyxy`` in pixels, clipped to the image. The mask is what
counts: a box that does not fit it is taken from it.
"""

import functools
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from maskrcnn.config import Category
from maskrcnn.data.coco.boxes import Box, box_alone, clip, fit_box, numbers, text_of
from maskrcnn.data.coco.classes import MOSTLY_CROWDS, SplitClasses, unify_classes
from maskrcnn.data.coco.ids import Key, is_set, key_of, name_of, shown
from maskrcnn.data.coco.images import ImageEntry, ListedImages, check_images
from maskrcnn.data.coco.problems import WHILE_READING, EntryError, Problem, Repaired, Severity, refuse, summarize
from maskrcnn.data.coco.segmentation import Segmentation, bounding_box, is_number, normalize_segmentation, rectangle
from maskrcnn.data.formats.found_dataset import RawSplit
from maskrcnn.errors import UserError, one_line
from maskrcnn.input_files import MAX_ANNOTATION_BYTES, no_collection, read_json

logger = logging.getLogger("maskrcnn")

Listed = TypeVar("Listed")
LISTS = ("images", "annotations", "categories")


@dataclass(frozen=True, slots=True)  # of which COCO has 860,000
class Annotation:
    """An object of an image."""

    id: int
    image_id: int
    category_id: int
    box: Box
    segmentation: Segmentation
    area: float | None
    is_crowd: bool

    def to_coco(self, segmentation: Segmentation, area: float) -> dict[str, Any]:
        """COCO's entry for the object."""
        x1, y1, x2, y2 = self.box
        return {
            "id": self.id,
            "image_id": self.image_id,
            "category_id": self.category_id,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "segmentation": segmentation,
            "area": area,
            "iscrowd": int(self.is_crowd),
        }


@dataclass(frozen=True)
class CocoDataset:
    """A checked split: every annotation belongs to a listed image and category."""

    path: Path  # the annotation file or folder that messages name
    image_dir: Path
    images: tuple[ImageEntry, ...]
    annotations: dict[int, tuple[Annotation, ...]]  # by image id; images without objects are absent
    categories: tuple[Category, ...]
    problems: list[Problem] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)  # how many entries of each sort, and crowds, are listed
    class_totals: Counter[int] = field(default_factory=Counter)  # objects listed by category id, crowds not counted


@dataclass(frozen=True)
class Rules:
    """How annotations are to be read."""

    masks_from_boxes: bool = False  # rectangles for objects without masks
    crowds_as_objects: bool = False


def load_coco(annotation_file: str | Path, image_dir: str | Path | None, *, skip_bad: bool = False) -> CocoDataset:
    """Reads a COCO file by itself; image files are looked at unless ``image_dir`` is None.

    Raises:
        UserError: the file is not COCO JSON, or has more problems than are tolerated without ``skip_bad``.
    """
    path = Path(annotation_file)
    content = read_coco_json(path)
    classes = unify_classes({"": content}, {"": path})[""]
    raw = RawSplit(content, Path(image_dir or "."))
    dataset = check_split(raw, path, classes, Rules(), need_files=image_dir is not None)
    refuse(dataset.problems, dataset.totals, skip_bad=skip_bad)
    return dataset


def read_coco_json(path: Path) -> dict[str, Any]:
    """The parsed file, with its three lists present.

    Raises:
        UserError: unreadable, not JSON, or not COCO.
    """
    content = read_json(path, "COCO annotations", MAX_ANNOTATION_BYTES)
    classes = content.get("categories") if isinstance(content, dict) else None
    if isinstance(classes, dict) and all(isinstance(name, str) for name in classes.values()):  # names by id
        content["categories"] = [{"id": id, "name": name} for id, name in classes.items()]
    for name in LISTS if isinstance(content, dict) else ():
        if isinstance(content.get(name), dict):  # by id, as LIVECell has its annotations
            content[name] = list(content[name].values())
    missing = [name for name in LISTS if not isinstance(content, dict) or not isinstance(content.get(name), list)]
    if missing:
        raise UserError(f"{path}: not COCO annotations (no list {', '.join(map(repr, missing))}); export it as COCO")
    return content


def coco_content(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], categories: Iterable[Category]
) -> dict[str, list[dict[str, Any]]]:
    """COCO JSON. Annotations are numbered anew from 1: COCOeval takes 0 for "not matched", and two that are equal for
    one object."""
    return {
        "images": images,
        "annotations": [{**entry, "id": number} for number, entry in enumerate(annotations, start=1)],
        "categories": [{"id": category.id, "name": category.name} for category in categories],
    }


@no_collection()
def check_split(
    raw: RawSplit, path: Path, classes: SplitClasses, rules: Rules, *, need_files: bool = True
) -> CocoDataset:
    """The usable part of a split, and all problems of its annotations (pixels are not looked at)."""
    notes = [Problem(WHILE_READING, path, "file", note, Severity.REPAIRED) for note in raw.notes]
    of_crowds = MOSTLY_CROWDS if rules.crowds_as_objects else None  # which are no problem then
    problems = notes + [problem for problem in classes.problems if problem.kind != of_crowds]
    listed = check_images(raw.content["images"], raw.image_dir if need_files else None, problems.append, path)
    checker = _AnnotationChecker(listed, classes.ids, rules)
    annotations: dict[int, list[Annotation]] = {}

    def report(entry: Any, position: int, kind: str, text: str, severity: Severity = Severity.REPAIRED) -> None:
        problems.append(Problem(kind, path, f"annotation {name_of(entry, position)}", text, severity))

    for position, entry in enumerate(raw.content["annotations"]):
        try:
            annotation = checker.check(entry, functools.partial(report, entry, position))
        except EntryError as error:
            report(entry, position, error.kind, str(error), error.severity)
            continue
        if annotation is not None:
            annotations.setdefault(annotation.image_id, []).append(annotation)
    return CocoDataset(
        path=path,
        image_dir=raw.image_dir,
        images=tuple(listed.images),
        annotations={image_id: tuple(group) for image_id, group in annotations.items()},
        categories=classes.categories,
        problems=problems,
        **_count(raw, classes, rules),
    )


def _count(raw: RawSplit, classes: SplitClasses, rules: Rules) -> dict[str, Any]:
    """What is listed, usable or not."""
    entries = [entry for entry in raw.content["annotations"] if isinstance(entry, dict)]
    objects = [entry for entry in entries if rules.crowds_as_objects or not is_set(entry.get("iscrowd"))]
    categories = (classes.ids.get(key) for entry in objects if (key := key_of(entry.get("category_id"))) is not None)
    totals = {name: len(raw.content[key]) for name, key in zip(("image", "annotation", "category"), LISTS, strict=True)}
    return {
        "totals": {**totals, "crowd": len(entries) - len(objects)},
        "class_totals": Counter(category for category in categories if category is not None),
    }


def warn(problems: list[Problem]) -> None:
    """Logs one line for each kind of problem."""
    for line in summarize(problems):
        logger.warning("%s", one_line(line))


class _AnnotationChecker:
    """Checks annotations one by one."""

    def __init__(self, images: ListedImages, category_ids: dict[Key, int], rules: Rules) -> None:
        self.images, self.category_ids, self.rules = images, category_ids, rules
        self._seen: set[int] = set()

    def check(self, entry: Any, repaired: Repaired) -> Annotation | None:
        """The annotation, or None if its image cannot be used, which is reported once, with the image.

        Raises:
            EntryError: it cannot be used.
        """
        if not isinstance(entry, dict):
            raise EntryError("not an object", "is not an object")
        identity = self._identity(entry, repaired)
        image = _listed(entry, "image", self.images.by_key, "has no image_id")
        category_id = _listed(entry, "category", self.category_ids, "category_id is missing")
        if image is None:
            return None
        segmentation, bounds = self._mask(entry, image, repaired)
        area: Any = entry.get("area")
        return Annotation(
            id=identity,
            image_id=image.id,
            category_id=category_id,
            box=fit_box(entry.get("bbox"), bounds, image, repaired),
            segmentation=segmentation,
            area=float(area) if is_number(area) and area > 0 else None,
            is_crowd=is_set(entry.get("iscrowd")) and not self.rules.crowds_as_objects,
        )

    def _identity(self, entry: dict[str, Any], repaired: Repaired) -> int:
        """The annotation's id if it is an integer of its own, else a new one: nothing refers to it."""
        identity = key_of(entry.get("id"))
        if not isinstance(identity, int) or identity in self._seen:
            repaired("annotation id", "has no integer id of its own; numbered anew")
            identity = -1 - len(self._seen)
        self._seen.add(identity)
        return identity

    def _mask(self, entry: dict[str, Any], image: ImageEntry, repaired: Repaired) -> tuple[Segmentation, Box]:
        """The mask, and the box around it within the image."""
        segmentation = entry.get("segmentation")
        if not segmentation and self.rules.masks_from_boxes:
            segmentation = rectangle(box_alone(numbers(entry.get("bbox")), entry.get("bbox"), image))
        usable = normalize_segmentation(segmentation, (image.height, image.width), repaired)
        x, y, width, height = bounding_box(usable)
        bounds = float(x), float(y), float(x + width), float(y + height)
        if bounds[0] >= bounds[2] or bounds[1] >= bounds[3]:
            raise EntryError("mask without area", f"mask has no area (its box is {text_of(bounds)})")
        if max(bounds) <= 1.0 and min(image.width, image.height) > 2:
            text = f"polygon lies in {text_of(bounds)}, in fractions of the image; COCO's coordinates are pixels"
            raise EntryError("normalized polygon", text, Severity.SUSPECT)
        return usable, clip(bounds, image)


def _listed(entry: dict[str, Any], kind: str, known: dict[Key, Listed], missing: str) -> Listed:
    """What the entry's ``image_id`` or ``category_id`` stands for; the text ``missing`` says that it has none."""
    value = entry.get(f"{kind}_id")
    key = key_of(value)
    if key is None or key not in known:
        text = missing if value is None else f"belongs to {kind} {shown(value)}, which is not listed"
        raise EntryError(f"unlisted {kind}", text, Severity.SUSPECT)
    return known[key]
