"""Records of an earlier conversion: whether they are there, whole, and made from the files and options of today."""

import dataclasses
import hashlib
import logging
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.config import Category, Config
from maskrcnn.data.coco.annotations import CocoDataset
from maskrcnn.data.coco.ids import LARGEST
from maskrcnn.data.coco.problems import Problem
from maskrcnn.data.records.stored_images import SourceState, first_replaced
from maskrcnn.data.records.tfrecord import NO_CHECKSUM, RecordIndex, record_spans
from maskrcnn.errors import UserError
from maskrcnn.input_files import MAX_ANNOTATION_BYTES, as_text, is_unicode, open_regular, read_json

VERSION = 2  # of the index and of what the records hold
logger = logging.getLogger("maskrcnn")


@dataclasses.dataclass(frozen=True)
class Origin:
    """The annotation files of a dataset and the options that say how they are read."""

    root: Path  # of the dataset
    files: tuple[Path, ...]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
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


@dataclasses.dataclass(frozen=True)
class Split:
    """A split ready to be read."""

    name: str
    index: RecordIndex
    categories: tuple[Category, ...]
    annotation_file: Path | None  # COCO JSON with the ground truth for COCOeval
    images: dict[str, int] = dataclasses.field(default_factory=dict)  # how many each split of the dataset has

    @property
    def records(self) -> list[Path]:
        """The record files."""
        return list(self.index.files)

    @property
    def num_examples(self) -> int:
        """How many images there are."""
        return len(self.index)


def read_converted(out_dir: Path, name: str, origin: Origin | None) -> Split | None:
    """Records converted earlier, or None if there are none, or none of this ``origin``.

    Raises:
        UserError: the records are there and damaged.
    """
    try:
        content = read_json(out_dir / f"{name}.json", "an index of records", MAX_ANNOTATION_BYTES)
        if content["version"] != VERSION or (origin is not None and not origin.made(content)):
            return None
        files = tuple(out_dir / Path(file).name for file in content["files"])
        objects, sizes = np.array(content["objects"], np.int32), np.array(content["sizes"], np.int32)
        image_ids = np.array(content["image_ids"], np.int64)
        checksums = np.array(content.get("checksums") or [NO_CHECKSUM] * len(image_ids), np.int64)
        shapes = sizes.shape, image_ids.shape, objects.shape, checksums.shape
        categories = Config.from_dict({"categories": content["categories"]}).categories
        if shapes != ((len(sizes), 2), *[(len(sizes),)] * 3) or min(sizes.min(), objects.min() + 1) < 1:
            return None
        if not files or not all(0 <= category.id < LARGEST for category in categories):
            return None
        images = {split: int(count) for split, count in content["facts"]["images"].items()}
        replaced = None
        if origin is not None and (listed := content.get("sources")):  # records of earlier versions have none
            folder, states = origin.root / listed["folder"], [SourceState(*state) for state in listed["states"]]
            first = first_replaced(folder, listed["names"], states)
            replaced = folder / first if first else None
    except (OSError, UserError, OverflowError, ValueError, LookupError, TypeError, AttributeError):
        return None
    if replaced is not None:
        logger.info("%s: replaced since its conversion; the %s split is converted again", replaced, name)
        return None
    annotation_file = out_dir / f"{name}_annotations.json"
    if not annotation_file.is_file() or not all(map(os.path.isfile, files)):
        return None
    spans = record_spans(files)
    if len(spans) != len(image_ids):
        raise UserError(
            f"{out_dir}: holds {len(spans)} records of {name}, expected {len(image_ids)}; delete the folder"
        )
    spans[:, 3] = checksums
    return Split(name, RecordIndex(files, spans, sizes, image_ids, objects), categories, annotation_file, images)
