"""The images that a split lists, checked."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn.data.coco.ids import Key, image_key, integer_ids, name_of
from maskrcnn.data.coco.problems import EntryError, Problem, Repaired, Severity
from maskrcnn.data.coco.segmentation import number
from maskrcnn.errors import UserError
from maskrcnn.imaging.read import read_size
from maskrcnn.input_files import is_unicode

MAX_SIDE = 100_000  # px


@dataclass(frozen=True)
class ImageEntry:
    """An image of a dataset."""

    id: int
    file_name: str
    height: int
    width: int


class ListedImages:
    """The usable images of a split, checked one by one, and how annotations call them.

    Args:
        image_dir: where their files are; None: files are not looked at.
        names: the file names of each id.
    """

    def __init__(self, image_dir: Path | None, names: dict[Key, set[str]]) -> None:
        self.image_dir, self.names, self.ids = image_dir, names, integer_ids(names)
        self.images: list[ImageEntry] = []
        self.by_key: dict[Key, ImageEntry | None] = {}  # None: listed, but cannot be used
        self._by_name: dict[str, ImageEntry] = {}

    def add(self, key: Key | None, entry: Any, repaired: Repaired) -> None:
        """Takes in an entry of the list.

        Raises:
            EntryError: it cannot be used.
        """
        if not isinstance(entry, dict):
            raise EntryError("not an object", "is not an object")
        if key is None:
            raise EntryError("image without id", "has no id that an annotation could refer to")
        if len(self.names[key]) > 1:
            self.by_key[key] = None
            raise EntryError("equal image ids", f"{len(self.names[key])} images have this id", Severity.SUSPECT)
        if key in self.by_key:
            repaired("image listed twice", "is listed twice")
            return
        self.by_key[key] = None
        image = self._check(entry, self.ids[key], repaired)
        if self.image_dir is not None and image.file_name in self._by_name:
            self.by_key[key] = self._by_name[image.file_name]
            repaired("image listed twice", f"is the file of image {self._by_name[image.file_name].id} too; joined")
            return
        if key != image.id:
            repaired("image id", f"gets the id {image.id}")
        self.by_key[key] = self._by_name[image.file_name] = image
        self.images.append(image)

    def _check(self, entry: dict[str, Any], image_id: int, repaired: Repaired) -> ImageEntry:
        file_name, path = entry.get("file_name"), None
        if self.image_dir is None:
            file_name = str(file_name or "")
        elif not isinstance(file_name, str) or not file_name:
            raise EntryError("image without file name", "has no file_name")
        elif not is_unicode(file_name):  # records and reports are UTF-8
            raise EntryError("image whose name is not UTF-8", "has a name that is not UTF-8; rename the file")
        else:
            path = self.image_dir / file_name
            if not os.path.isfile(path):  # which takes any text for a name
                raise EntryError("missing image", "the file is missing")
        height, width = number(entry.get("height")), number(entry.get("width"))
        if height and width and min(height, width) >= 1 and max(height, width) <= MAX_SIDE:
            return ImageEntry(image_id, file_name, int(height), int(width))
        if path is None:
            raise EntryError("image without size", "has no height and width that an image can have")
        try:
            rows, columns = read_size(path)
        except UserError as error:
            text = f"has no height and width, and its file cannot be read ({error})"
            raise EntryError("damaged image", text) from error
        repaired("image without size", f"has no height and width; taken from its file, {columns} x {rows} px")
        return ImageEntry(image_id, file_name, rows, columns)


def check_images(
    entries: list[Any], image_dir: Path | None, report: Callable[[Problem], None], file: Path
) -> ListedImages:
    """The usable images; files are looked at unless ``image_dir`` is None."""
    keys = [image_key(entry) if isinstance(entry, dict) else None for entry in entries]
    names: dict[Key, set[str]] = {}
    for key, entry in zip(keys, entries, strict=True):
        if key is not None:
            names.setdefault(key, set()).add(str(entry.get("file_name")))
    listed = ListedImages(image_dir, names)
    for position, (key, entry) in enumerate(zip(keys, entries, strict=True)):
        item = f"image {name_of(entry, position)}"

        def repaired(kind: str, text: str, item: str = item) -> None:
            report(Problem(kind, file, item, text, Severity.REPAIRED))

        try:
            listed.add(key, entry, repaired)
        except EntryError as error:
            named = image_dir is not None and isinstance(entry, dict) and isinstance(entry.get("file_name"), str)
            place = image_dir / entry["file_name"] if image_dir is not None and named else file
            report(Problem(error.kind, place, item, str(error), error.severity))
    return listed
