"""Files of a dataset: walking it, splits by folder names, images by the names that annotations give."""

import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from maskrcnn.errors import UserError
from maskrcnn.imaging.read import SUFFIXES
from maskrcnn.input_files import open_regular, read_bytes

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
SPLIT_NAMES = ("train", "val", "test")
IGNORED_FOLDERS = frozenset({"tfrecords", "__MACOSX"})  # our own output, and what macOS adds to archives


def split_of(name: str) -> str | None:
    """The split in a folder's or file's name: ``valid`` is val, ``train2017`` is train, ``trainval`` is neither."""
    splits = {SPLIT_WORDS[word] for word in re.findall("[a-z]+", name.lower()) if word in SPLIT_WORDS}
    return splits.pop() if len(splits) == 1 else None


def split_of_path(path: Path, folder: Path) -> str | None:
    """The split of the first folder on the way from ``folder`` to ``path`` whose name tells one."""
    return next((split for part in path.relative_to(folder).parts[:-1] if (split := split_of(part))), None)


def by_split(files: Iterable[Path], folder: Path, unsplit: str) -> dict[str, list[Path]]:
    """Files grouped by the split that their folders tell, in the order train, val, test, ``unsplit``."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        groups[split_of_path(file, folder) or unsplit].append(file)
    return {name: groups[name] for name in (*SPLIT_NAMES, unsplit) if name in groups}


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


def head(path: Path, size: int = 1 << 16) -> bytes:
    """The first bytes of a file, or none if it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(size)
    except (UserError, OSError):
        return b""


def read_text(path: Path) -> str:
    """The text of a small file, in UTF-8 with or without a byte order mark; other bytes are replaced.

    Raises:
        UserError: it cannot be read, or is too large.
    """
    return read_bytes(path).decode("utf-8-sig", errors="replace")


class ImageFinder:
    """Finds images of a folder by the paths that annotations give, which are often those of another machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._index: tuple[dict[str, list[Path]], dict[str, list[Path]]] | None = None  # by name and by stem

    def find(self, reference: str, near: Path) -> Path | None:
        """The image that ``reference`` means in an annotation file of the folder ``near``; None if there is none.

        Tried in turn: the path itself, the base name beside the annotations, the base name anywhere in the folder (in
        any letter case), the stem with another suffix. Of several, the one whose path agrees most with the reference;
        none if two agree as much.
        """
        reference = reference.strip().replace("\\", "/").split("?")[0]
        if not reference or "\0" in reference:
            return None
        for candidate in (near / reference, near / Path(reference).name):
            if candidate.suffix.lower() in SUFFIXES and os.path.isfile(candidate):
                return Path(os.path.normpath(candidate))
        by_name, by_stem = self._indices()
        name = Path(reference).name.lower()
        candidates = by_name.get(name) or by_stem.get(Path(name).stem) or by_stem.get(name, [])
        parts = [part.lower() for part in reference.split("/")]
        ranks = [(_common(parts, path), _proximity(path, near)) for path in candidates]
        best = [path for path, rank in zip(candidates, ranks, strict=True) if rank == max(ranks)]
        return best[0] if len(best) == 1 else None

    def _indices(self) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
        with self._lock:
            if self._index is None:
                self._index = defaultdict(list), defaultdict(list)
                for path in walk(self.folder, SUFFIXES):
                    self._index[0][path.name.lower()].append(path)
                    self._index[1][path.stem.lower()].append(path)
            return self._index


def _common(parts: list[str], path: Path) -> int:
    """The number of folders, counted from the file upward, that agree."""
    own = [part.lower() for part in path.parts[:-1]]
    count = 0
    while count < min(len(own), len(parts) - 1) and own[-1 - count] == parts[-2 - count]:
        count += 1
    return count


def _proximity(path: Path, near: Path) -> int:
    return len(os.path.commonpath([path, near]))
