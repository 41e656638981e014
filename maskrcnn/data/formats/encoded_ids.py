"""Mask values that tell class and number of an object: of Cityscapes, KITTI and KITTI MOTS.

Cityscapes: ``*_gtFine_instanceIds.png`` holds class * 1000 + number, and the bare class for stuff and for groups of
objects, which become crowds. KITTI: ``training/instance`` holds class * 256 + number, 0 for groups, with the classes of
Cityscapes. KITTI MOTS: class * 1000 + number, 10000 where nothing is annotated.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CITY_NAMES = {
    **{24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 29: "caravan", 30: "trailer", 31: "train"},
    **{32: "motorcycle", 33: "bicycle"},
}
MOTS_NAMES = {1: "car", 2: "pedestrian"}
MOTS_IGNORED = 10_000


@dataclass(frozen=True)
class Encoding:
    """How values are made of a class and a number."""

    format: str  # as the user calls it
    factor: int  # value = class * factor + number
    names: dict[int, str]
    bare_groups: bool = False  # groups are written as the bare class
    zero_groups: bool = False  # groups have number 0

    def decode(self, value: int) -> tuple[str, bool] | None:
        """The class of a value, and whether it is a crowd; None for what is no object."""
        if self.bare_groups and value in self.names:
            return self.names[value], True
        kind, number = divmod(value, self.factor)
        return (self.names[kind], self.zero_groups and number == 0) if kind in self.names else None


CITYSCAPES = Encoding("Cityscapes", 1000, CITY_NAMES, bare_groups=True)
KITTI = Encoding("KITTI", 256, CITY_NAMES, zero_groups=True)
MOTS = Encoding("KITTI MOTS", 1000, MOTS_NAMES)


def encoding_of(paths: Iterable[Path], maps: Iterable[NDArray[np.int64]]) -> Encoding | None:
    """How a dataset's mask files are encoded, by name or the values of the first; None if not."""
    path = next(iter(paths), None)
    if path is not None and path.stem.endswith("_instanceIds"):
        return CITYSCAPES
    if path is not None and path.parent.name == "instance" and (path.parent.parent / "semantic").is_dir():
        return KITTI
    values = set(np.unique(np.concatenate([np.unique(ids) for ids in maps] or [np.zeros(1, np.int64)])).tolist())
    known = all(value in (0, MOTS_IGNORED) or MOTS.decode(value) for value in values)
    return MOTS if known and MOTS_IGNORED in values else None
