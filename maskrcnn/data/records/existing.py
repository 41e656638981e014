"""Records of an earlier conversion: whether they are there, whole and current."""

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.config import Category, Config
from maskrcnn.data.coco.ids import LARGEST
from maskrcnn.data.records.origin import Origin
from maskrcnn.data.records.stored_images import SourceState, first_replaced
from maskrcnn.data.records.tfrecord import NO_CHECKSUM, RecordIndex, record_spans
from maskrcnn.errors import UserError
from maskrcnn.input_files import MAX_ANNOTATION_BYTES, read_json

VERSION = 2  # of the index and of what the records hold
logger = logging.getLogger("maskrcnn")


@dataclasses.dataclass(frozen=True)
class Converted:
    """Records made of a split."""

    index: RecordIndex
    categories: tuple[Category, ...]
    annotation_file: Path
    facts: dict[str, Any]  # what the caller of `write_records` wants to know again without reading the annotations


def read_converted(out_dir: Path, name: str, origin: Origin | None) -> Converted | None:
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
        facts = {"images": {name: int(count) for name, count in content["facts"]["images"].items()}}
        replaced = _replaced_image(content, origin) if origin is not None else None
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
    return Converted(RecordIndex(files, spans, sizes, image_ids, objects), categories, annotation_file, facts)


def _replaced_image(content: dict[str, Any], origin: Origin) -> Path | None:
    """An image file that has been replaced since; None for records of earlier versions, which do not know."""
    listed = content.get("sources")
    if not listed:
        return None
    folder = origin.root / listed["folder"]
    name = first_replaced(folder, listed["names"], [SourceState(*state) for state in listed["states"]])
    return None if name is None else folder / name
