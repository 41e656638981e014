"""The classes of a dataset, of all its splits together.

Only with all splits at hand can be said which categories have no objects: Roboflow writes one more for the project,
which is the supercategory of the others.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn.config import Category
from maskrcnn.data.coco.ids import MAX_SHOWN, Key, integer_ids, is_set, key_of, name_of
from maskrcnn.data.coco.problems import EntryError, Problem, Severity
from maskrcnn.errors import one_line

BACKGROUND_NAMES = {"background", "bg", "ignore"}  # without underscores
MOSTLY_CROWDS = "mostly crowds"
Content = Mapping[str, list[Any]]


@dataclass(frozen=True)
class SplitClasses:
    """The classes of the dataset, and the ids by which one split calls them."""

    categories: tuple[Category, ...]
    ids: dict[Key, int]  # the file's id -> the category's id
    problems: list[Problem]


@dataclass(frozen=True)
class _Listed:
    """A category as a split lists it."""

    split: str
    key: Key
    name: str
    supercategory: str | None
    is_folder: bool


def index_categories(names: dict[int, str]) -> tuple[Category, ...]:
    """Categories in the order of their ids, indexed from 1 (0 is the background)."""
    return tuple(Category(position, id, names[id]) for position, id in enumerate(sorted(names), start=1))


def unify_classes(contents: Mapping[str, Content], files: Mapping[str, Path]) -> dict[str, SplitClasses]:
    """The classes of all splits, for each split with its ids: those of equal name are one; categories without objects
    that are another's supercategory, called background, or folders of masks (``is_folder``) are dropped."""
    problems: dict[str, list[Problem]] = {split: [] for split in contents}

    def report(split: str, item: str, kind: str, text: str, severity: Severity = Severity.REPAIRED) -> None:
        problems[split].append(Problem(kind, files[split], item, text, severity))

    listed = []
    for split, content in contents.items():
        listed += _read_categories(split, content["categories"], report)
    objects = Counter(
        (split, key_of(entry.get("category_id")), is_set(entry.get("iscrowd")))
        for split, content in contents.items()
        for entry in content["annotations"]
        if isinstance(entry, dict)
    )
    dropped = _droppable(listed, objects)
    said: set[Key] = set()
    for category, reason in dropped.items():
        if category.key not in said:
            said.add(category.key)
            text = f"{category.name!r} {reason}"
            report(category.split, f"category {category.key}", "class dropped", text, Severity.NOTED)
    kept = [category for category in listed if category not in dropped]
    numbers = _number_names(kept)
    categories = index_categories({number: name for name, number in numbers.items()})
    classes = {}
    for split in contents:
        own = [category for category in kept if category.split == split]
        _report_merged(own, numbers, report)
        _report_crowds(own, objects, report)
        ids = {category.key: numbers[category.name] for category in own}
        classes[split] = SplitClasses(categories, ids, problems[split])
    return classes


def _read_categories(split: str, entries: list[Any], report: Any) -> Iterator[_Listed]:
    """The usable categories of a split; others are reported."""
    names: dict[Key, str] = {}
    for position, entry in enumerate(entries):
        try:
            category = _read_category(split, entry)
            if names.setdefault(category.key, category.name) != category.name:
                text = f"has the id of {names[category.key]!r} too ({category.name!r})"
                raise EntryError("equal category ids", text)
            yield category
        except EntryError as error:
            report(split, f"category {name_of(entry, position)}", error.kind, str(error), Severity.SUSPECT)


def _read_category(split: str, entry: Any) -> _Listed:
    if not isinstance(entry, dict):
        raise EntryError("not an object", "is not an object")
    name, parent = entry.get("name"), entry.get("supercategory")
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if not isinstance(name, str) or not name.strip():
        raise EntryError("class without name", "has no name")
    key = key_of(entry.get("id"))
    name = name.strip() if name.isprintable() and len(name) < MAX_SHOWN else one_line(name)
    parent = parent if isinstance(parent, str) else None
    return _Listed(split, name if key is None else key, name, parent, entry.get("is_folder") is True)


def _droppable(listed: list[_Listed], objects: Counter) -> dict[_Listed, str]:
    """Categories that are no classes, each with the reason."""
    counts: Counter = Counter()
    for category in dict.fromkeys(listed):
        of_split = (objects[category.split, category.key, crowd] for crowd in (False, True))
        counts[category.key, category.name] += sum(of_split)
    parents = {(other.supercategory, other.key) for other in listed}
    dropped = {}
    for category in listed:
        if counts[category.key, category.name]:
            continue
        if any(parent == category.name and key != category.key for parent, key in parents):
            dropped[category] = "is only the supercategory of others and has no objects; dropped"
        elif category.name.strip("_ ").lower() in BACKGROUND_NAMES:
            dropped[category] = "stands for the background and has no objects; dropped"
        elif category.is_folder:
            dropped[category] = "is a folder whose masks are empty; its images have no objects, and it is no class"
    return dropped


def _number_names(kept: list[_Listed]) -> dict[str, int]:
    """An id for each class: the one it is first listed with, or a free one where another class has that."""
    first: dict[str, Key] = {}
    taken: set[Key] = set()
    for category in kept:
        if category.name not in first:
            key = category.key if category.key not in taken else f"{category.name} ({category.key})"
            first[category.name] = key
            taken.add(key)
    ids = integer_ids(first.values())
    return {name: ids[key] for name, key in first.items()}


def _report_merged(kept: list[_Listed], numbers: dict[str, int], report: Any) -> None:
    seen: dict[str, Key] = {}
    for category in kept:
        first, item = seen.setdefault(category.name, category.key), f"category {category.key}"
        if category.key != first:
            report(category.split, item, "classes of one name", f"has the name of category {first}; merged")
        elif numbers[category.name] != category.key:
            report(category.split, item, "category id", f"{category.name!r} gets the id {numbers[category.name]}")


def _report_crowds(kept: list[_Listed], objects: Counter, report: Any) -> None:
    """Says where most objects of a class are crowds, which training ignores; and where a background has objects."""
    for category in kept:
        crowds, others = (objects[category.split, category.key, crowd] for crowd in (True, False))
        if crowds > others:
            text = (
                f"{crowds} of the {crowds + others} objects of {category.name!r} are crowds (iscrowd 1, as CVAT writes "
                "brush masks), which training ignores; --crowds_as_objects trains on them"
            )
            report(category.split, f"category {category.key}", MOSTLY_CROWDS, text, Severity.NOTED)
        if others and category.name.strip("_ ").lower() in BACKGROUND_NAMES:
            text = f"{category.name!r} has {others} objects and is trained like any class; remove it if it is none"
            report(category.split, f"category {category.key}", "background class", text, Severity.NOTED)
