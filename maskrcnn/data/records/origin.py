"""The files and options that records were made from, by which a start knows whether the records are current."""

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskrcnn.data.coco.annotations import CocoDataset
from maskrcnn.data.coco.problems import Problem
from maskrcnn.errors import UserError
from maskrcnn.input_files import MAX_ANNOTATION_BYTES, as_text, is_unicode, open_regular


@dataclass(frozen=True)
class Origin:
    """The annotation files of a dataset and the options that say how they are read."""

    root: Path  # of the dataset
    files: tuple[Path, ...]
    options: dict[str, Any] = field(default_factory=dict)
    skip_bad: bool = False

    def describe(self) -> dict[str, Any]:
        """The origin for the records' index: names, sizes and mtimes of the files, and their contents' SHA-256."""
        return {"files": self._states(), "sha256": self._digest(), "options": self.options}

    def key(self) -> dict[str, Any]:
        """The origin for finished parts of a conversion."""
        return {"files": self._states(), "options": self.options, "skip_bad": self.skip_bad}

    def made(self, index: dict[str, Any]) -> bool:
        """Whether records with this index are current: by sizes and mtimes, or else (a copied dataset) by content."""
        recorded = index["origin"]
        if recorded["options"] != self.options or (index["too_many_skipped"] and not self.skip_bad):
            return False
        if any(_state(Path(path)) != state for path, *state in index["skipped_files"]):  # one was fixed since
            return False
        states = self._states()
        if recorded["files"] == states:
            return True
        sizes, recorded_sizes = ([state[:2] for state in listed] for listed in (states, recorded["files"]))
        return sizes == recorded_sizes and self._digest() == recorded["sha256"]

    def _states(self) -> list[list[Any]]:
        states = [[as_text(os.path.relpath(path, self.root)), *_state(path)] for path in sorted(set(self.files))]
        for name, size, _ in states:
            if size is None:
                raise UserError(f"{self.root / name}: not a file that can be read; put it back or remove it")
            if size > MAX_ANNOTATION_BYTES:
                raise UserError(f"{self.root / name}: {size / 1e6:.0f} MB are too large for annotations; remove it")
        return states

    def _digest(self) -> str:
        total = hashlib.sha256()
        for path in sorted(set(self.files)):
            with open_regular(path) as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()


def skipped_files(dataset: CocoDataset, problems: list[Problem]) -> list[list[Any]]:
    """Image files that cannot be used, each with size and mtime: records are stale once one of them changes."""
    paths = {problem.file for problem in problems if problem.entry == "image" and problem.is_loss}
    paths = {path for path in paths if path != dataset.path and is_unicode(str(path))}  # as the index is
    return [[str(path), *_state(path)] for path in sorted(paths)]


def _state(path: Path) -> list[int | None]:
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: not a path
        return [None, None]
    return [status.st_size, status.st_mtime_ns] if stat.S_ISREG(status.st_mode) else [None, None]
