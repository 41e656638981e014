"""Finds the train or val split in a data folder, whatever form it has there."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Literal

from maskrcnn.config import Category
from maskrcnn.data.coco.annotations import read_coco_json
from maskrcnn.data.records.convert import convert_coco, read_converted
from maskrcnn.data.records.tfrecord import RecordIndex
from maskrcnn.data.records.third_party import Scanned, scan_records, write_annotations
from maskrcnn.errors import UserError

SplitName = Literal["train", "val", "test"]
ANNOTATION_PATTERNS = (
    "annotations/instances_{name}*.json",
    "annotations/{name}*.json",
    "instances_{name}*.json",
    "{name}.json",
    "{name}/_annotations.coco.json",  # Roboflow
)
IMAGE_FOLDERS = ("{stem}", "{name}", "images/{stem}", "images/{name}", "images", ".")
RECORD_PATTERNS = ("{name}*.tfrecord", "{name}*.tfrecord-*-of-*", "{name}*.record-*-of-*")
ALIASES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
SHARD = re.compile(r"-(\d+)-of-(\d+)(?:\.\w+)?$")


class NoSplitError(UserError):
    """The folder has no such split at all."""


@dataclasses.dataclass(frozen=True)
class Split:
    """A split ready to be read."""

    name: str
    index: RecordIndex
    categories: tuple[Category, ...]
    annotation_file: Path | None  # COCO JSON with the ground truth for COCOeval

    @property
    def records(self) -> list[Path]:
        return list(self.index.files)

    @property
    def num_examples(self) -> int:
        return len(self.index)


def open_split(
    data_dir: str | Path,
    name: SplitName,
    *,
    cache_dir: str | Path | None = None,
    eval_file: str | Path | None = None,
    skip_bad: bool = False,
) -> Split:
    """Opens a folder of COCO data, converting it first where that was not done, or of TFRecords.

    What is made goes to ``data_dir/tfrecords``, or to ``cache_dir/tfrecords`` where that cannot be written.
    ``eval_file`` replaces the annotations that an evaluation compares with.

    Raises:
        UserError: nothing there, nothing in it, or faults.
    """
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        problem = "is not a folder" if data_dir.exists() else "no such folder"
        raise UserError(f"{data_dir}: {problem}; give a folder of COCO data or TFRecords with --data_dir")
    if eval_file is not None:
        read_coco_json(Path(eval_file))
    cache = Path(cache_dir) if cache_dir is not None else None
    files = find_records(data_dir, name)
    if files:
        split = _open_records(data_dir, name, files, cache, eval_file)
    else:
        annotation_file, image_dir = find_coco(data_dir, name)
        out_dir = writable_folder(data_dir, cache)
        if out_dir is None:
            raise UserError(f"{data_dir}: cannot be written, so its records need another place; give one (--model_dir)")
        converted = convert_coco(annotation_file, image_dir, out_dir, name, skip_bad=skip_bad)
        split = Split(name, converted.index, converted.categories, converted.annotation_file)
    if split.num_examples == 0:
        raise UserError(f"{data_dir}: the {name} split is empty; add images or convert again")
    return dataclasses.replace(split, annotation_file=Path(eval_file)) if eval_file is not None else split


def find_records(data_dir: Path, name: str) -> tuple[Path, ...]:
    """The split's TFRecord files, sorted.

    Raises:
        UserError: shards are missing.
    """
    files = sorted({file for pattern in RECORD_PATTERNS for file in data_dir.glob(pattern.format(name=name))})
    shards = [match for file in files if (match := SHARD.search(file.name))]
    for match in shards:
        stem, total = match.string[: match.start()], int(match[2])
        present = {int(other[1]) for other in shards if other.string.startswith(f"{stem}-") and int(other[2]) == total}
        if missing := set(range(total)) - present:
            listed = ", ".join(map(str, sorted(missing)[:5]))
            raise UserError(f"{data_dir}: shards {listed} of {total} of {stem!r} are missing; copy or convert again")
    return tuple(files)


def find_coco(data_dir: Path, name: str) -> tuple[Path, Path]:
    """The split's annotation file and image folder.

    Raises:
        UserError: none or several annotation files, or no folder with the images.
    """
    patterns = [pattern.format(name=alias) for alias in ALIASES[name] for pattern in ANNOTATION_PATTERNS]
    for pattern in patterns:
        found = sorted(data_dir.glob(pattern))
        if len(found) > 1:
            listed = ", ".join(file.name for file in found)
            raise UserError(f"{data_dir}: several annotation files for {name} ({listed}); leave one of them there")
        if found:
            return found[0], _find_images(data_dir, name, found[0])
    looked = ", ".join([*patterns[: len(ANNOTATION_PATTERNS)], f"{name}*.tfrecord"])
    raise NoSplitError(f"{data_dir}: no {name} split found; looked for {looked}")


def _find_images(data_dir: Path, name: str, annotation_file: Path) -> Path:
    if annotation_file.name == "_annotations.coco.json":
        return annotation_file.parent
    stem = annotation_file.stem.removeprefix("instances_")
    names = [image.get("file_name") for image in read_coco_json(annotation_file)["images"] if isinstance(image, dict)]
    candidates = [pattern.format(stem=stem, name=alias) for alias in ALIASES[name] for pattern in IMAGE_FOLDERS]
    folders = [data_dir / folder for folder in dict.fromkeys(candidates) if (data_dir / folder).is_dir()]
    for folder in folders:  # a few names: the very first file may be the one that is missing
        if any((folder / file_name).is_file() for file_name in names[:20] if isinstance(file_name, str)):
            return folder
    if not names:
        raise UserError(f"{annotation_file}: lists no images; the {name} split needs at least one")
    looked = ", ".join(dict.fromkeys(candidates))
    raise UserError(
        f"{data_dir}: images of {annotation_file.name} not found (the first: {names[0]}); looked in {looked}"
    )


def _open_records(
    data_dir: Path, name: str, files: tuple[Path, ...], cache: Path | None, eval_file: str | Path | None
) -> Split:
    converted = read_converted(data_dir, name, source=None, skip_bad=True)
    if converted is not None and converted.index.files == files:
        return Split(name, converted.index, converted.categories, converted.annotation_file)
    out_dir = writable_folder(data_dir, cache)
    scanned = scan_records(files, out_dir / f"{name}_scan.json" if out_dir else None)
    annotation_file = None
    if name != "train" and eval_file is None:
        annotation_file = _annotations_of_records(data_dir, name, scanned, out_dir)
    return Split(name, scanned.index, scanned.categories, annotation_file)


def _annotations_of_records(data_dir: Path, name: str, scanned: Scanned, out_dir: Path | None) -> Path | None:
    """A COCO file that lies with the records, or one made of their masks; None if neither can be had."""
    for pattern in ANNOTATION_PATTERNS:
        found = sorted(data_dir.glob(pattern.format(name=name)))
        if len(found) == 1:
            return found[0]
    if out_dir is None or not scanned.has_masks:
        return None
    path, made_from = out_dir / f"{name}_annotations.json", out_dir / f"{name}_scan.json"
    if not path.is_file() or path.stat().st_mtime_ns < made_from.stat().st_mtime_ns:
        write_annotations(scanned, path)
    return path


def writable_folder(data_dir: Path, cache_dir: Path | None) -> Path | None:
    """The folder for what is made of the data; it exists afterwards."""
    for parent in (data_dir, cache_dir):
        if parent is None:
            continue
        folder = parent / "tfrecords"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None
