"""TFRecords that others wrote: what our own index would say is found by reading them once."""

import dataclasses
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from pycocotools import mask as mask_utils
from tqdm import tqdm

from maskrcnn.config import Category
from maskrcnn.data.coco import index_categories
from maskrcnn.data.tfrecord import RecordIndex, RecordReader, record_spans
from maskrcnn.errors import UserError

VERSION = 1  # of the index file


@dataclasses.dataclass(frozen=True)
class Scanned:
    index: RecordIndex
    categories: tuple[Category, ...]
    has_masks: bool  # full-size masks, of which COCO annotations can be made


def scan_records(files: tuple[Path, ...], cache_file: Path | None) -> Scanned:
    """Sizes, image ids and categories of records; kept in ``cache_file`` for the next time.

    Raises:
        UserError: damaged files, or records without what training needs.
    """
    spans = record_spans(files)
    source = [[file.name, file.stat().st_size] for file in files]
    content = _read_cache(cache_file, source)
    if content is None:
        content = {"version": VERSION, "source": source, **_scan(files, spans)}
        if cache_file is not None:
            write_json(cache_file, content)
    sizes, image_ids = np.array(content["sizes"], np.int32), np.array(content["image_ids"], np.int64)
    names = {int(id): name for id, name in content["names"].items()}
    return Scanned(RecordIndex(files, spans, sizes, image_ids), index_categories(names), content["has_masks"])


def _read_cache(cache_file: Path | None, source: list[Any]) -> dict[str, Any] | None:
    if cache_file is None or not cache_file.is_file():
        return None
    try:
        content = json.loads(cache_file.read_bytes())
    except ValueError:
        return None
    return content if content.get("version") == VERSION and content.get("source") == source else None


def _scan(files: tuple[Path, ...], spans: np.ndarray) -> dict[str, Any]:
    reader = RecordReader(files)
    sizes, image_ids, names, has_masks = [], [], {}, False
    for span in tqdm(spans, desc="reading records", unit=" records"):
        record = f"{files[span[0]]}: record at byte {span[1]}"
        features = _parse(reader.read(span), record)
        sizes.append((_first(features, "image/height", record), _first(features, "image/width", record)))
        image_ids.append(_image_id(features, record))
        labels = features["image/object/class/label"].int64_list.value
        texts = features["image/object/class/text"].bytes_list.value
        for position, label in enumerate(labels):
            names[label] = texts[position].decode() if position < len(texts) else names.get(label, str(label))
        masks = features["image/object/mask"].bytes_list.value
        has_masks = has_masks or len(masks) > 0
        if len(labels) != len(masks) and not features["image/object/mask_bits"].bytes_list.value:
            raise UserError(f"{record}: {len(masks)} masks for {len(labels)} objects; write the records with masks")
    return {"sizes": sizes, "image_ids": image_ids, "names": names, "has_masks": has_masks}


def _parse(serialized: bytes, record: str) -> Any:
    try:
        return tf.train.Example.FromString(serialized).features.feature
    except Exception as error:  # the exception's class is protobuf's, whose module differs from version to version
        raise UserError(f"{record}: not a tf.train.Example; delete the file and convert or copy it again") from error


def _first(features: Any, key: str, record: str) -> int:
    values = features[key].int64_list.value
    if not values or values[0] <= 0:
        raise UserError(f"{record}: no {key}; write the records with the TF Object Detection API's feature names")
    return values[0]


def _image_id(features: Any, record: str) -> int:
    values = features["image/source_id"].bytes_list.value
    try:
        return int(values[0])
    except (IndexError, ValueError) as error:
        raise UserError(f"{record}: image/source_id is not a whole number; write the image's id there") from error


def write_annotations(scanned: Scanned, path: Path) -> None:
    """COCO annotations for the evaluation, made of the records' full-size masks."""
    reader = RecordReader(scanned.index.files)
    images, annotations = [], []
    for position, span in enumerate(tqdm(scanned.index.spans, desc=f"writing {path.name}", unit=" images")):
        features = _parse(reader.read(span), f"{path}: record {position}")
        image_id = int(scanned.index.image_ids[position])
        height, width = (int(side) for side in scanned.index.sizes[position])
        file_name = b"".join(features["image/filename"].bytes_list.value).decode()
        images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        for entry in _annotation_entries(features):
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **entry})
    categories = [{"id": category.id, "name": category.name} for category in scanned.categories]
    write_json(path, {"images": images, "annotations": annotations, "categories": categories})


def _annotation_entries(features: Any) -> list[dict[str, Any]]:
    labels = features["image/object/class/label"].int64_list.value
    crowd = list(features["image/object/is_crowd"].int64_list.value) or [0] * len(labels)
    entries = []
    for label, is_crowd, encoded in zip(labels, crowd, features["image/object/mask"].bytes_list.value, strict=True):
        mask = np.asarray(Image.open(io.BytesIO(encoded)).convert("L")) > 0
        rle: Any = mask_utils.encode(np.asfortranarray(mask, np.uint8))
        entries.append(
            {
                "category_id": label,
                "iscrowd": int(is_crowd),
                "area": float(mask_utils.area(rle)),
                "bbox": [float(side) for side in mask_utils.toBbox(rle)],
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            }
        )
    return entries


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes under a temporary name first."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_text(json.dumps(content), encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
