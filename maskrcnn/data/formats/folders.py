"""A dataset's folders: walked, and read for the splits that their names tell."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from maskrcnn.data.formats.found_dataset import SPLIT_NAMES, UNSPLIT

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
GLUED = "set|split|data|crop|img|imgs|images?|masks?|labels?|annotations?"  # as in traindata and valmasks
SPLIT_WORD = re.compile(rf"(?<![a-z])({'|'.join(SPLIT_WORDS)})(?:{GLUED})?(?![a-z])")
IGNORED_FOLDERS = frozenset({"tfrecords", "__MACOSX"})  # our own output, and what macOS adds to archives


def split_of(name: str) -> str | None:
    """The split in a folder's or file's name: ``valid`` is val, ``train2017`` is train, ``trainval`` is neither."""
    splits = {SPLIT_WORDS[word] for word in SPLIT_WORD.findall(name.lower())}
    return splits.pop() if len(splits) == 1 else None


def split_of_path(path: Path, folder: Path) -> str | None:
    """The split of the first folder on the way from ``folder`` to ``path`` whose name tells one."""
    return next((split for part in path.relative_to(folder).parts[:-1] if (split := split_of(part))), None)


def by_split(files: Iterable[Path], folder: Path) -> dict[str, list[Path]]:
    """Files grouped by the split that their folders tell, in the order train, val, test, `UNSPLIT`."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        groups[split_of_path(file, folder) or UNSPLIT].append(file)
    return {name: groups[name] for name in (*SPLIT_NAMES, UNSPLIT) if name in groups}


def walk(folder: Path, suffixes: Iterable[str]) -> Iterator[Path]:
    """Files with one of these suffixes (lower case) in a folder and below, in a stable order; hidden ones are skipped.

    Links to folders are followed once.
    """
    suffixes, seen = frozenset(suffixes), set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in IGNORED_FOLDERS)
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes:
                yield Path(parent, name)


def child(folder: Path, *names: str) -> Path | None:
    """The first folder in ``folder`` with one of these names (lower case), whatever its letter case."""
    if not folder.is_dir():
        return None
    present = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    return next((present[name] for name in names if name in present), None)


def unwrap(folder: Path) -> Path:
    """The folder that an archive's outermost folder holds alone, where it is none of images or of a split."""
    entries = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in IGNORED_FOLDERS]
    wrapped = len(entries) == 1 and entries[0].is_dir() and not split_of(entries[0].name)
    if wrapped and any(path.is_dir() for path in entries[0].iterdir()):
        return unwrap(entries[0])
    return folder
