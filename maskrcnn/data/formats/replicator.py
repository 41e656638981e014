"""Omniverse Replicator's BasicWriter: ``instance_segmentation_0001.png`` has a color or number for each object of
``rgb_0001.png``, and ``instance_segmentation_semantics_mapping_0001.json`` the class of each."""

import functools
import re
from pathlib import Path

from maskrcnn.data.formats.content import (
    Content,
    MaskedImage,
    encode_ids,
    map_in_threads,
    pack_color,
    read_ids,
    read_size,
)
from maskrcnn.data.formats.folders import by_split, walk
from maskrcnn.data.formats.found_dataset import FoundDataset, RawSplit, found_dataset
from maskrcnn.data.formats.image_files import ImageFinder
from maskrcnn.errors import UserError
from maskrcnn.input_files import read_json

PREFIX = "instance_segmentation_semantics_mapping_"  # of the files of classes
STUFF = ("BACKGROUND", "UNLABELLED")
SKIPPED = "frames skipped whose rgb_, instance_segmentation_ or mapping file is missing or does not fit"


def find(folder: Path) -> FoundDataset | None:
    """A dataset of BasicWriter, in one folder or in one for each camera, split or not."""
    files = [path for path in walk(folder, {".json"}) if path.name.startswith(PREFIX)]
    if not files:
        return None
    finder, groups = ImageFinder(folder), by_split(files, folder)

    @functools.cache
    def frames() -> dict[Path, MaskedImage]:
        found = map_in_threads(lambda path: _read_frame(path, finder), files, "reading masks")
        return dict(zip(files, found, strict=True))

    def read(name: str) -> RawSplit:
        content = Content(folder, sorted({name for frame in frames().values() for name, _, _ in frame.objects}))
        for path in groups[name]:
            content.add_masked(frames()[path])
        return content.split()

    def list_files(name: str) -> list[Path]:
        return [*groups[name], *(path for file in groups[name] if (path := _map_of(file)).is_file())]

    return found_dataset("Omniverse Replicator", groups, read, origin=lambda name: folder, list_files=list_files)


def _map_of(path: Path) -> Path:
    return path.with_name(f"instance_segmentation_{path.stem.removeprefix(PREFIX)}.png")


def _read_frame(path: Path, finder: ImageFinder) -> MaskedImage:
    image, ids = finder.find(f"rgb_{path.stem.removeprefix(PREFIX)}.png", path.parent), read_ids(_map_of(path))
    size, names = read_size(image) if image else None, _names(path)
    if image is None or size is None or ids is None or ids.shape != size or names is None:
        return MaskedImage(path, None, [], [(SKIPPED, path)])
    rles = encode_ids(ids)
    objects = [(name, rle, False) for value, rle in rles.items() if (name := names.get(value)) and name not in STUFF]
    notes = [("objects skipped whose class is not named", path) for value in rles if value not in names]
    return MaskedImage(image, size, objects, notes)


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
