"""A split that is ready to be read: where its records lie, and what a run must know of them before it reads them."""

import dataclasses
import logging
import re
from pathlib import Path

from maskrcnn.config import Config, DataConfig
from maskrcnn.data.formats.found_dataset import SPLIT_NAMES
from maskrcnn.data.records.existing import Split, read_converted
from maskrcnn.data.records.third_party import Scanned, scan_records, write_annotations
from maskrcnn.errors import UserError

logger = logging.getLogger("maskrcnn")

ANNOTATION_PATTERNS = ("annotations/instances_{name}*.json", "annotations/{name}*.json", "instances_{name}*.json")
PATTERNS = ("{name}*.tfrecord", "{name}*.tfrecord-*-of-*", "{name}*.record-*-of-*")  # "val" begins "valid" too
SHARD = re.compile(r"-(\d+)-of-(\d+)(?:\.\w+)?$")
STEP = 20  # `max_instances` is a multiple of it, so that datasets that differ little have the same shapes
MOST_INSTANCES = 300  # each costs memory in every batch


def max_instances(config: DataConfig, split: Split) -> int:
    """``max_instances`` of the config, or as many as the fullest image of the split needs."""
    most = int(split.index.objects.max(initial=0)) * (2 if config.copy_paste else 1)
    return config.max_instances or min(max(-(-most // STEP) * STEP, STEP), MOST_INSTANCES)


def fit_config(config: Config, split: Split) -> Config:
    """The config with the classes of a training split, and with ``data.max_instances`` that fits it unless it is set.

    Says how many objects are beyond it.
    """
    limit = max_instances(config.data, split)
    beyond = (split.index.objects - limit).clip(min=0)
    if beyond.any():
        logger.warning(
            "%d objects in %d images are beyond --max_instances %d and are not trained on; the fullest image has %d",
            beyond.sum(),
            (beyond > 0).sum(),
            limit,
            split.index.objects.max(),
        )
    return dataclasses.replace(
        config, categories=split.categories, data=dataclasses.replace(config.data, max_instances=limit)
    )


def open_records(data_dir: Path, name: str, files: tuple[Path, ...], cache_folder: Path | None) -> Split:
    """A split of TFRecords: our own with their index, or third-party ones, which are read once.

    Raises:
        UserError: damaged files, or records without what training needs.
    """
    converted = read_converted(data_dir, name, None)
    if converted is not None and converted.index.files == files:
        return converted
    scanned = scan_records(files, cache_folder / f"{name}_scan.json" if cache_folder else None)
    annotation_file = None if name == "train" else _annotations_of_records(data_dir, name, scanned, cache_folder)
    return Split(name, scanned.index, scanned.categories, annotation_file)


def _annotations_of_records(data_dir: Path, name: str, scanned: Scanned, cache_folder: Path | None) -> Path | None:
    """A COCO file that lies with the records, or one made of their masks; None if neither can be had."""
    for pattern in ANNOTATION_PATTERNS:
        found = sorted(data_dir.glob(pattern.format(name=name)))
        if len(found) == 1:
            return found[0]
    if cache_folder is None or not scanned.has_masks:
        return None
    path, made_from = cache_folder / f"{name}_annotations.json", cache_folder / f"{name}_scan.json"
    if not path.is_file() or path.stat().st_mtime_ns < made_from.stat().st_mtime_ns:
        write_annotations(scanned, path)
    return path


def find_record_files(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The TFRecord files of each split that has any, sorted.

    Raises:
        UserError: shards are missing.
    """
    found = {}
    for name in SPLIT_NAMES:
        files = sorted({file for pattern in PATTERNS for file in folder.glob(pattern.format(name=name))})
        _check_shards(folder, files)
        if files:
            found[name] = tuple(files)
    return found


def _check_shards(folder: Path, files: list[Path]) -> None:
    shards = [match for file in files if (match := SHARD.search(file.name))]
    for match in shards:
        stem, total = match.string[: match.start()], int(match[2])
        present = {int(other[1]) for other in shards if other.string.startswith(f"{stem}-") and int(other[2]) == total}
        if missing := set(range(total)) - present:
            listed = ", ".join(map(str, sorted(missing)[:5]))
            raise UserError(f"{folder}: shards {listed} of {total} of {stem!r} are missing; copy or convert again")
