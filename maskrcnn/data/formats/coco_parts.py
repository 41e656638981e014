"""A split whose annotations lie in several COCO files: one for each task, batch or image."""

import filecmp
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from maskrcnn.data.coco.ids import Key, key_of
from maskrcnn.data.formats.found_dataset import RawSplit

Entries = list[dict[str, Any]]


def shared_image(parts: Sequence[RawSplit]) -> str | None:
    """An image that two parts list, or copies of it: these are versions of a split, not parts of it."""
    seen: dict[tuple[str, int], Path] = {}
    for part in parts:
        own = {(path.name, path.stat().st_size): path for path in _files(part)}
        for key in sorted(own.keys() & seen.keys()):
            if filecmp.cmp(own[key], seen[key], shallow=False):
                return key[0]
        seen |= own
    return None


def join(parts: Sequence[RawSplit], root: Path, notes: list[str]) -> RawSplit:
    """The parts as one, with names relative to ``root``.

    Images and annotations are numbered anew, and classes of one name are one class.
    """
    joined: dict[str, Entries] = {"images": [], "annotations": [], "categories": []}
    class_ids: dict[Any, Key] = {}
    for part in parts:
        images: dict[Key | None, int] = {}
        for entry in _named(part):
            images[_key(entry)] = number = len(joined["images"]) + 1
            name = os.path.relpath(part.image_dir / entry["file_name"], root).replace(os.sep, "/")
            joined["images"].append({**entry, "id": number, "file_name": name})
        classes: dict[Key | None, Key] = {}
        for entry in filter(_is_dict, part.content["categories"]):
            name, key = str(entry.get("name")), key_of(entry.get("id"))
            if name not in class_ids:
                taken = set(class_ids.values())
                class_ids[name] = next(
                    id for id in (key, *range(1, len(taken) + 2)) if id is not None and id not in taken
                )
                joined["categories"].append({**entry, "id": class_ids[name]})
            classes[key] = class_ids[name]
        for entry in filter(_is_dict, part.content["annotations"]):
            image_id, category_id = key_of(entry.get("image_id")), key_of(entry.get("category_id"))
            own = {"image_id": images.get(image_id), "category_id": classes.get(category_id)}
            joined["annotations"].append({**entry, **own, "id": len(joined["annotations"]) + 1})
    return RawSplit(joined, root, [*notes, *(note for part in parts for note in part.notes)])


def _files(part: RawSplit) -> Iterator[Path]:
    return (path for entry in _named(part) if (path := part.image_dir / entry["file_name"]).is_file())


def _named(part: RawSplit) -> Iterator[dict[str, Any]]:
    return (entry for entry in part.content["images"] if _is_dict(entry) and isinstance(entry.get("file_name"), str))


def _key(entry: dict[str, Any]) -> Key | None:
    return key_of(entry.get("file_name") if entry.get("id") is None else entry["id"])


def _is_dict(entry: Any) -> bool:
    return isinstance(entry, dict)
