"""A dataset in a folder: found, converted to records where that was not done, and its splits opened.

Three steps, so that no start reads annotations that it has records of: `find_dataset` looks at names, `convert` reads
the annotations and writes records unless they are current, and `open` reads the index of the records.
"""

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from maskrcnn.config import DataConfig
from maskrcnn.data.coco.annotations import Rules, read_coco_json, warn
from maskrcnn.data.coco.problems import Problem, refuse
from maskrcnn.data.formats.found_dataset import SPLIT_NAMES, UNSPLIT, FoundSplit
from maskrcnn.data.formats.recognize import recognize_named
from maskrcnn.data.reading import CheckedSplits, read_splits, require_objects
from maskrcnn.data.records.convert import write_records
from maskrcnn.data.records.existing import Origin, read_converted
from maskrcnn.data.records.split import Split, find_record_files, open_records
from maskrcnn.errors import UserError
from maskrcnn.input_files import dataset_folder

logger = logging.getLogger("maskrcnn")

SplitName = Literal["train", "val", "test"]


class NoSplitError(UserError):
    """The dataset has no such split."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The dataset that a folder holds."""

    data_dir: Path
    format: str  # as users call it
    sources: Mapping[str, FoundSplit]  # by split; empty for TFRecords
    records: Mapping[str, tuple[Path, ...]]  # TFRecord files by split; empty for annotations
    options: DataConfig
    held_out: float | None = None  # the fraction of train that makes val; None: val is a split of its own
    cache_dir: Path | None = None  # gets what is made of the data if the folder cannot be written
    _read: dict[tuple[str, Path | None], Split] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The splits that there are."""
        known = {*self.sources, *self.records} | ({"val"} if self.held_out else set())
        return tuple(name for name in SPLIT_NAMES if name in known)

    def read(self, names: tuple[str, ...]) -> CheckedSplits:
        """The splits in memory, checked.

        Raises:
            UserError: there is no such split, or a file is not what it should be.
        """
        self._require(names)
        rules = Rules(self.options.masks_from_boxes, self.options.crowds_as_objects)
        return read_splits(self.sources, names, rules, self.held_out)

    def convert(self, *names: str, out_dir: Path | None = None, progress: bool = True, announce: bool = False) -> None:
        """Makes sure that there are current records of the splits.

        Args:
            names: of the splits.
            out_dir: gets the records; None: the folder of the dataset or of the cache.
            progress: whether to show a bar.
            announce: whether to log what dataset this is, before what is wrong with it.

        Raises:
            UserError: there is no such split, more problems than are tolerated, or nowhere to write.
        """
        self._require(names)
        stale = tuple(name for name in names if not self.records and self._converted(name, out_dir) is None)
        problems = self._write(stale, out_dir or self._writable_folder(), progress) if stale else []
        for line in self.describe(*names) if announce else ():
            logger.info("%s", line)
        for of_split in problems:
            warn(of_split)

    def _write(self, names: tuple[str, ...], target: Path, progress: bool) -> list[list[Problem]]:
        """Writes records of splits and returns the problems of each."""
        checked = self.read(names)
        for name, split in checked.splits.items():
            refuse(split.problems, split.totals, skip_bad=self.options.skip_bad)
            if name == "train":
                require_objects(split)
            if not split.images:
                raise UserError(_empty(self.data_dir, name))
        problems = []
        for name, split in checked.splits.items():
            if not (name == "val" and self.held_out and "train" in checked.splits):  # whose problems are train's
                problems.append(split.problems)
            origin = self._origin(name)
            write_records(split, target, name, origin=origin, num_images=checked.images, progress=progress)
        return problems

    def open(self, name: str, *, eval_file: str | Path | None = None, out_dir: Path | None = None) -> Split:
        """A split whose records are there.

        Args:
            name: of the split.
            eval_file: COCO annotations that replace those that an evaluation compares with.
            out_dir: where the records are; None: where `convert` puts them by default.

        Raises:
            UserError: there is no such split, or its records are damaged.
        """
        self._require((name,))
        if self.records:
            split = open_records(self.data_dir, name, self.records[name], self._writable_folder(required=False))
        else:
            split = self._converted(name, out_dir)
            if split is None:
                problem = f"the {name} split is not converted"
                raise UserError(f"{self.data_dir}: {problem}; run `maskrcnn data convert` first")
        if split.num_examples == 0:
            raise UserError(_empty(self.data_dir, name))
        if eval_file is None:
            return split
        read_coco_json(Path(eval_file))
        return dataclasses.replace(split, annotation_file=Path(eval_file))

    def describe(self, *names: str) -> list[str]:
        """What the dataset is, ``Roboflow COCO, 407 + 108 images, 10 classes``, and how val was made."""
        splits = {name: self.open(name) for name in names}
        counts = {name: split.num_examples for name, split in splits.items()}
        if (converted := self._converted(names[0])) is not None:
            counts = {**converted.images, **counts}
        listed = " + ".join(str(counts[name]) for name in self.names if name in counts)
        classes = len(next(iter(splits.values())).categories)
        lines = [f"{self.format}, {listed} images, {classes} class{'es' if classes != 1 else ''}"]
        if self.held_out and "val" in counts:
            lines.append(
                f"no val split there: {counts['val']} of {counts['train'] + counts['val']} images held out for it, "
                f"chosen by the hash of their file names (--val_fraction {self.held_out:g})"
            )
        return lines

    def _require(self, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in self.names:
                there = ", ".join(self.names) or "none"
                hint = " or hold out a part of train with --val_fraction 0.1" if name == "val" else ""
                hint = f"name its annotations with --{name}_file{hint}"
                raise NoSplitError(f"{self.data_dir}: no {name} split found (there: {there}); {hint}")

    def _origin(self, name: str) -> Origin:
        source = self.sources["train" if name == "val" and self.held_out else name]
        options = {
            "masks_from_boxes": self.options.masks_from_boxes,
            "crowds_as_objects": self.options.crowds_as_objects,
            "image_dir": self.options.image_dir,
            "source": os.path.relpath(source.origin, self.data_dir),
            "held_out": self.held_out if name in ("train", "val") else None,
        }
        files = tuple(file for found in self.sources.values() for file in found.list_files())
        return Origin(self.data_dir, files, options, self.options.skip_bad)

    def _converted(self, name: str, out_dir: Path | None = None) -> Split | None:
        """The current records of a split, read once; None if there are none."""
        if (name, out_dir) not in self._read and not self.records:
            origin = self._origin(name)
            for folder in [out_dir] if out_dir else self._folders():
                if (converted := read_converted(folder, name, origin)) is not None:
                    self._read[name, out_dir] = converted
                    break
        return self._read.get((name, out_dir))

    def _folders(self) -> list[Path]:
        return [parent / "tfrecords" for parent in (self.data_dir, self.cache_dir) if parent is not None]

    def _writable_folder(self, *, required: bool = True) -> Any:
        """The folder for records, which exists afterwards; None if there is none and it is not ``required``."""
        for folder in self._folders():
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError:
                continue
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
        if not required:
            return None
        problem = "cannot be written, so its records need another place"
        raise UserError(f"{self.data_dir}: {problem}; choose one with --out_dir (data convert) or --model_dir")


def find_dataset(data_dir: str | Path, options: DataConfig, *, cache_dir: str | Path | None = None) -> Dataset:
    """The dataset in a folder; names are looked at, annotations are not read.

    Raises:
        UserError: no such folder, or nothing in it that is understood.
    """
    folder = dataset_folder(data_dir)
    if not 0 <= options.val_fraction < 1:
        raise UserError(f"--val_fraction {options.val_fraction}: the fraction must be at least 0 and less than 1")
    cache = Path(cache_dir) if cache_dir is not None else None
    files = {name: getattr(options, f"{name}_file") for name in SPLIT_NAMES}
    named = {name: [_path(folder, file, f"{name}_file")] for name, file in files.items() if file}
    if "train" not in named and (records := find_record_files(folder)):
        if not named:
            return Dataset(folder, "TFRecords", {}, records, options, cache_dir=cache)
        raise UserError(f"{folder}: holds TFRecords, which --{next(iter(named))}_file cannot join; use --eval_file")
    image_dir = _path(folder, options.image_dir, "image_dir") if options.image_dir else None
    if image_dir and not image_dir.is_dir():
        raise UserError(f"--image_dir {image_dir}: not a folder; give the folder of the images")
    found = recognize_named(folder, named, image_dir)
    sources = {split.name: split for split in found.splits}
    if (unsplit := sources.pop(UNSPLIT, None)) and sources.setdefault("train", unsplit) is not unsplit:
        logger.warning("%s: some annotations belong to none of the splits there; they are left out", unsplit.origin)
    made = "train" in sources and "val" not in sources and options.val_fraction > 0
    return Dataset(folder, found.format, sources, {}, options, options.val_fraction if made else None, cache)


def _path(folder: Path, name: str, option: str) -> Path:
    """A path relative to the dataset's folder or to the current one."""
    for path in (folder / name, Path(name)):
        if os.path.exists(path):
            return path
    raise UserError(f"--{option} {name}: no such path, neither in {folder} nor from here; check it")


def _empty(data_dir: Path, name: str) -> str:
    hint = "name one with --val_file, or train without evaluation (--no_eval)" if name == "val" else "add images"
    return f"{data_dir}: the {name} split is empty; {hint}"


def open_split(
    data_dir: str | Path,
    name: SplitName,
    *,
    cache_dir: str | Path | None = None,
    eval_file: str | Path | None = None,
    skip_bad: bool = False,
) -> Split:
    """A split of the dataset in a folder, converted first where that was not done; see `Dataset`.

    ``eval_file`` replaces the annotations that an evaluation compares with.
    """
    dataset = find_dataset(data_dir, DataConfig(skip_bad=skip_bad), cache_dir=cache_dir)
    dataset.convert(name)
    return dataset.open(name, eval_file=eval_file)
