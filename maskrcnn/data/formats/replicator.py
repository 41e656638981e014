"""Omniverse Replicator's BasicWriter: ``instance_segmentation_0001.png`` has a color or number for each object of
``rgb_0001.png``, and ``instance_segmentation_semantics_mapping_0001.json`` the class of each."""

import functools
import re
from pathlib import Path
from typing import Any, NamedTuple

from maskrcnn.data.formats.content import Content, Size, encode_ids, map_in_threads, pack_color, read_ids, read_size
from maskrcnn.data.formats.folders import by_split, walk
from maskrcnn.data.formats.found_dataset import UNSPLIT, FoundDataset, FoundSplit, RawSplit
from maskrcnn.data.formats.image_files import ImageFinder
from maskrcnn.errors import UserError
from maskrcnn.input_files import read_json

PREFIX = "instance_segmentation_semantics_mapping_"  # of the files of classes
STUFF = ("BACKGROUND", "UNLABELLED")
SKIPPED = "frames skipped whose rgb_, instance_segmentation_ or mapping file is missing or does not fit"


class Frame(NamedTuple):
    """An image and its objects."""

    image: Path
    size: Size
    masks: list[tuple[str, dict[str, Any]]]  # the name of the class, and an RLE
    unnamed: int  # objects


def find(folder: Path) -> FoundDataset | None:
    """A dataset of BasicWriter, in one folder or in one for each camera, split or not."""
    files = [path for path in walk(folder, {".json"}) if path.name.startswith(PREFIX)]
    if not files:
        return None
    finder, groups = ImageFinder(folder), by_split(files, folder, UNSPLIT)

    @functools.cache
    def frames() -> dict[Path, Frame | None]:
        found = map_in_threads(lambda path: _read_frame(path, finder), files, "reading masks")
        return dict(zip(files, found, strict=True))

    def found(name: str) -> FoundSplit:
        maps = [path for file in groups[name] if (path := _map_of(file)).is_file()]
        return FoundSplit(name, folder, lambda: _read(folder, frames(), groups[name]), lambda: [*groups[name], *maps])

    return FoundDataset("Omniverse Replicator", tuple(map(found, groups)))


def _read(folder: Path, frames: dict[Path, Frame | None], files: list[Path]) -> RawSplit:
    content = Content(folder, sorted({name for frame in frames.values() if frame for name, _ in frame.masks}))
    for path in files:
        if (frame := frames[path]) is None:
            content.notes.add(SKIPPED, path)
            continue
        image_id = content.add_image(frame.image, frame.size)
        for name, rle in frame.masks:
            content.add_object(image_id, name, rle, example=path)
        for _ in range(frame.unnamed):
            content.notes.add("objects skipped whose class is not named", path)
    return content.split()


def _map_of(path: Path) -> Path:
    return path.with_name(f"instance_segmentation_{path.stem.removeprefix(PREFIX)}.png")


def _read_frame(path: Path, finder: ImageFinder) -> Frame | None:
    """The frame of a file of classes; None where something is missing or does not fit."""
    image, ids = finder.find(f"rgb_{path.stem.removeprefix(PREFIX)}.png", path.parent), read_ids(_map_of(path))
    size, names = read_size(image) if image else None, _names(path)
    if image is None or size is None or ids is None or ids.shape != size or names is None:
        return None
    rles = encode_ids(ids)
    masks = [(name, rle) for value, rle in rles.items() if (name := names.get(value)) and name not in STUFF]
    return Frame(image, size, masks, sum(value not in names for value in rles))


def _names(path: Path) -> dict[int, str] | None:
    """The class of each value: ``{"(140, 25, 143, 255)": {"class": "cat"}}`` or ``{"2": {"class": "cat"}}``."""
    names = {}
    try:
        for key, kinds in read_json(path, "the classes of Replicator").items():
            numbers = [int(number) for number in re.findall(r"\d{1,10}", key)]
            name = kinds.get("class", next(iter(kinds.values()), None))
            if isinstance(name, str) and len(numbers) in (1, 4):
                names[numbers[0] if len(numbers) == 1 else int(pack_color(*numbers[:3]))] = name.strip()
    except (UserError, AttributeError):
        return None
    return names
