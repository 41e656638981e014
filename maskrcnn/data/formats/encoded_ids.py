"""Mask values that tell more than the number of an object: of Cityscapes, KITTI, Mapillary Vistas, ADE20K, BBBC039.

Cityscapes: ``*_gtFine_instanceIds.png`` holds class * 1000 + number, and the bare class for stuff and for groups of
objects, which become crowds. KITTI: ``training/instance`` holds class * 256 + number, 0 for groups, with the classes of
Cityscapes. KITTI MOTS: class * 1000 + number, 10000 where nothing is annotated. Mapillary Vistas: class * 256 + number,
with the classes of its config.json. ADE20K's ``annotations_instance``: the class is red, the number green. BBBC039: the
red channel has a number that objects which do not touch share. Roboflow's semantic masks: the class, named in
_classes.csv. CVAT writes the forms of Cityscapes and KITTI with classes of its own, listed in label_colors.txt, and
that of KITTI MOTS with those in labels.txt.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskrcnn.data.formats.content import COLOR, connected_parts
from maskrcnn.errors import UserError
from maskrcnn.input_files import read_json, read_text

CITY_NAMES = {
    **{24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 29: "caravan", 30: "trailer", 31: "train"},
    **{32: "motorcycle", 33: "bicycle"},
}
MOTS_NAMES = {1: "car", 2: "pedestrian"}
MOTS_IGNORED = 10_000
RED = 1 << 16  # the factor of red in the number of a color
ADE20K_CLASSES = 100


@dataclass(frozen=True)
class Encoding:
    """How values are made of a class and a number."""

    format: str  # as the user calls it
    factor: int  # value = class * factor + number
    names: dict[int, str]
    bare_groups: bool = False  # groups are written as the bare class
    zero_groups: bool = False  # groups have number 0
    parts: bool = False  # values are of a class alone, each connected part of which is an object
    shift: int = 0  # of the bits that tell the class
    note: str | None = None  # for the user, of each file

    def number(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """A map of values [H, W] as one in which each object has a value of its own."""
        if not self.parts:
            return ids
        numbered, kinds = np.zeros_like(ids), ids >> self.shift
        for kind in np.unique(kinds[kinds > 0]):
            parts = connected_parts(kinds == kind)
            numbered += np.where(parts > 0, parts + kind * self.factor, 0)
        return numbered

    def is_unknown(self, value: int) -> bool:
        """Whether a value numbers an object of a class that has no name."""
        return self.decode(value) is None and value > self.factor and value % self.factor > 0

    def decode(self, value: int) -> tuple[str, bool] | None:
        """The class of a value, and whether it is a crowd; None for what is no object."""
        if self.bare_groups and value in self.names:
            return self.names[value], True
        kind, number = divmod(value, self.factor)
        return (self.names[kind], self.zero_groups and number == 0) if kind in self.names else None


CITYSCAPES = Encoding("Cityscapes", 1000, CITY_NAMES, bare_groups=True)
KITTI = Encoding("KITTI", 256, CITY_NAMES, zero_groups=True)
MOTS = Encoding("KITTI MOTS", 1000, MOTS_NAMES)
BBBC039 = Encoding("BBBC039", 1 << 32, dict.fromkeys(range(1 << 9), "object"), parts=True, shift=16)
CLASS_MAPS = "masks of classes, of which each connected part is read as an object (number objects that touch)"


def encoding_of(paths: Iterable[Path], maps: Iterable[NDArray[np.int64]]) -> Encoding | None:
    """How a dataset's mask files are encoded, by name or the values of the first; None if not."""
    path = next(iter(paths), None)
    if path is None:
        return None
    folder = path.parent
    if path.stem.endswith("_instanceIds"):
        return replace(CITYSCAPES, names=_listed_names(path) or CITY_NAMES)
    if folder.name == "instance" and (folder.parent / "semantic").is_dir():
        return replace(KITTI, names=_listed_names(path) or CITY_NAMES)
    if names := _roboflow_names(path):
        return Encoding("Roboflow semantic masks", 1 << 32, names, parts=True, note=CLASS_MAPS)
    if folder.name == "instances" and (folder / "labels.txt").is_file():
        lines = enumerate(read_text(folder / "labels.txt").splitlines(), start=1)  # as CVAT writes them
        return replace(MOTS, names={number: line.strip() for number, line in lines if line.strip()})
    if folder.name == "instances" and (names := _mapillary_names(path)):
        return Encoding("Mapillary Vistas", 256, names)
    values = set(np.unique(np.concatenate([np.unique(ids) for ids in maps] or [np.zeros(1, np.int64)])).tolist())
    if values - {0} and all(value == 0 or value >= COLOR for value in values):
        if "annotations_instance" in path.parts:
            return Encoding("ADE20K", RED, _ade20k_names(path))
        if all(value % RED == 0 for value in values) and (folder.parent / "metadata" / "training.txt").is_file():
            return BBBC039
    known = all(value in (0, MOTS_IGNORED) or MOTS.decode(value) for value in values)
    return MOTS if known and MOTS_IGNORED in values else None


def _listed_names(path: Path) -> dict[int, str]:
    """The classes of the label_colors.txt above a mask file, by line; none if there is no such file."""
    file = next((file for folder in path.parents[1:5] if (file := folder / "label_colors.txt").is_file()), None)
    lines = (line.split(maxsplit=3) for line in read_text(file).splitlines()) if file else ()
    names = (line[3].strip() for line in lines if len(line) == 4)
    return {index: name for index, name in enumerate(names) if name.lower() != "background"}


def _roboflow_names(path: Path) -> dict[int, str]:
    """The classes of the _classes.csv beside a mask file: ``Pixel Value, Class``; none if there is no such file."""
    file = path.parent / "_classes.csv"
    lines = [line.partition(",") for line in read_text(file).splitlines()] if file.is_file() else []
    numbered = {int(value): name.strip() for value, _, name in lines if value.strip().isdecimal() and name.strip()}
    return {value: name for value, name in numbered.items() if value > 0}


def _mapillary_names(path: Path) -> dict[int, str]:
    """The classes that have objects, of the config.json above a mask file; none if there is no such file."""
    for folder in path.parents[1:4]:
        files = sorted(folder.glob("config*.json"), key=lambda file: not any(part in file.name for part in path.parts))
        for file in files:  # config_v2.0.json for v2.0/instances
            with contextlib.suppress(UserError, LookupError, TypeError):
                labels = read_json(file, "the classes of Mapillary Vistas")["labels"]
                return {index: str(label["readable"]) for index, label in enumerate(labels) if label["instances"]}
    return {}


def _ade20k_names(path: Path) -> dict[int, str]:
    """The classes by their red; of categoryMapping.txt above a mask file, if it is there: ``1<tab>8<tab>bed``."""
    names = {COLOR // RED + number: f"class {number}" for number in range(1, ADE20K_CLASSES + 1)}
    for file in (folder / "categoryMapping.txt" for folder in path.parents[1:4]):
        if file.is_file():
            rows = (line.split("\t") for line in read_text(file).splitlines())
            names |= {COLOR // RED + int(row[0]): row[2] for row in rows if len(row) == 3 and row[0].isdecimal()}
    return names
