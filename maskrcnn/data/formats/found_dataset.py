"""What every format module returns: a dataset found in a folder, read on demand into COCO's terms.

A format module has one public function, ``find(folder) -> FoundDataset | None``. It looks at names and at the first few
files only, since every start of a run calls it; annotations are read when a split's ``read`` is called.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SPLIT_NAMES = ("train", "val", "test")
UNSPLIT = "all"  # the name of the split of a dataset that has no splits


@dataclass(frozen=True)
class RawSplit:
    """The annotations of a split, unchecked, as the three lists of COCO JSON.

    Entries of ``images`` have ``id``, ``file_name`` (relative to ``image_dir``) and, where known, ``height`` and
    ``width``; those of ``annotations`` have ``id``, ``image_id``, ``category_id``, ``segmentation`` (polygons or RLE;
    absent where the dataset has boxes only), ``bbox`` (xywh, px) and ``iscrowd``; those of ``categories`` have ``id``
    and ``name``, and ``is_folder`` where they are no classes unless they have objects.
    """

    content: dict[str, list[dict[str, Any]]]
    image_dir: Path
    notes: list[str] = field(default_factory=list)  # what was skipped or repaired while reading, with counts


@dataclass(frozen=True)
class FoundSplit:
    """A split that is there, not read yet."""

    name: str  # "train", "val", "test", or `UNSPLIT`
    origin: Path  # the annotation file or folder that messages name
    read: Callable[[], RawSplit]
    list_files: Callable[[], list[Path]]  # annotations, whose names, sizes and mtimes tell whether records are current


@dataclass(frozen=True)
class FoundDataset:
    """A dataset in a format that is understood."""

    format: str  # as the user calls it: "Roboflow COCO", "YOLO segmentation"
    splits: tuple[FoundSplit, ...]


def found_dataset(
    format: str,
    groups: Mapping[str, Any],
    read: Callable[[str], RawSplit],
    *,
    origin: Callable[[str], Path] | None = None,
    list_files: Callable[[str], list[Path]] | None = None,
) -> FoundDataset:
    """The dataset of the splits in ``groups``, in the order train, val, test, `UNSPLIT`.

    Each is a list of annotation files, the first of which is its origin, unless ``list_files`` and ``origin`` say
    otherwise.
    """

    def found(name: str) -> FoundSplit:
        place = origin(name) if origin else groups[name][0]
        return FoundSplit(name, place, lambda: read(name), lambda: list_files(name) if list_files else [*groups[name]])

    return FoundDataset(format, tuple(found(name) for name in (*SPLIT_NAMES, UNSPLIT) if name in groups))
