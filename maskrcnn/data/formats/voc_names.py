"""Names of VOC's classes: by index of the palette, and by color."""

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskrcnn.data.formats.content import COLOR, pack_color
from maskrcnn.input_files import read_lines

BACKGROUND, VOID = 0, 255  # indices that are no classes; void is the border of objects
NAME_FILES = ("class_names.txt", "classes.txt", "labels.txt")
NOT_CLASSES = ("_background_", "background", "__ignore__")
VOC_NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def listed_names(root: Path) -> dict[int, str] | None:
    """Names by index, without the background: of a file of names or of CVAT's labelmap.txt; None without either."""
    for name in NAME_FILES:
        if (root / name).is_file():
            names = read_lines(root / name)
            names = names[1:] if names[:1] == ["__ignore__"] else names
            first = 0 if names and names[0].strip("_").lower() == "background" else 1
            return {index: name for index, name in enumerate(names, start=first) if name not in NOT_CLASSES}
    if (root / "labelmap.txt").is_file():
        labels = [name for name, _ in _labelmap(root)]
        return {index: name for index, name in enumerate(labels) if name not in NOT_CLASSES}
    return None


def class_indices(kinds: NDArray[np.int64], root: Path) -> NDArray[np.int64]:
    """The indices of `listed_names` of a class map [H, W] whose values are indices or packed colors."""
    if kinds.max() < COLOR:
        return kinds
    indices = _color_indices(root)
    unique, inverse = np.unique(kinds, return_inverse=True)
    return np.array([indices.get(color, VOID) for color in unique.tolist()])[inverse].reshape(kinds.shape)


@functools.lru_cache(maxsize=8)
def _color_indices(root: Path) -> dict[int, int]:
    """Class indices by packed color: of labelmap.txt, else of VOC's palette."""
    if (root / "labelmap.txt").is_file():
        return {color: index for index, (_, color) in enumerate(_labelmap(root))}
    return {palette_color(index): index for index in range(256)}


def palette_color(index: int) -> int:
    """The packed color of an index in VOC's palette: the index's bits, in turn, are the channels' highest bits."""
    channels = [0, 0, 0]
    for bit in range(8):
        channels[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return pack_color(*channels)


def _labelmap(root: Path) -> list[tuple[str, int]]:
    """Names and packed colors of the lines ``name:R,G,B:parts:actions``; the background is moved to the front."""
    labels = []
    for line in read_lines(root / "labelmap.txt"):
        fields = line.split(":")
        channels = fields[1].split(",") if len(fields) > 1 and not line.startswith("#") else []
        if len(channels) == 3 and all(channel.strip().isdecimal() for channel in channels):
            labels.append((fields[0].strip(), pack_color(*map(int, channels))))
    return sorted(labels, key=lambda label: label[0] != "background")
