"""Third-party TFRecords: what our own index would say is found by reading them once."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from pycocotools import mask as mask_utils
from tqdm import tqdm

from maskrcnn.config import Category
from maskrcnn.data.coco.classes import index_categories
from maskrcnn.data.records.rasterize import MASK_BYTES
from maskrcnn.data.records.tfrecord import RecordIndex, RecordReader, record_spans
from maskrcnn.errors import UserError
from maskrcnn.runtime.files import replacing

VERSION = 2  # of the index file
BOX_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclasses.dataclass(frozen=True)
class Scanned:
    """Facts about third-party records, from reading all of them once."""

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
    index = RecordIndex(files, spans, sizes, image_ids, np.array(content["objects"], np.int32))
    names = {int(id): name for id, name in content["names"].items()}
    return Scanned(index, index_categories(names), content["has_masks"])


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
    sizes, image_ids, objects, names, has_masks = [], [], [], {}, False
    for span in tqdm(spans, desc="reading records", unit=" records"):
        serialized = reader.read(span)
        if problem := check_record(serialized):
            raise UserError(f"{files[span[0]]}: record at byte {span[1]}: {problem}; write or copy the file again")
        features = parse(serialized)
        sizes.append([features[f"image/{side}"].int64_list.value[0] for side in ("height", "width")])
        image_ids.append(int(features["image/source_id"].bytes_list.value[0]))
        labels, crowds = count_objects(features)
        objects.append(labels - crowds)
        texts = features["image/object/class/text"].bytes_list.value
        for position, label in enumerate(features["image/object/class/label"].int64_list.value):
            names[label] = texts[position].decode() if position < len(texts) else names.get(label, str(label))
        has_masks = has_masks or bool(features["image/object/mask"].bytes_list.value)
    return {"sizes": sizes, "image_ids": image_ids, "objects": objects, "names": names, "has_masks": has_masks}


def count_objects(features: Any) -> tuple[int, int]:
    """How many objects a record has, and how many of them are crowds."""
    crowds = features["image/object/is_crowd"].int64_list.value
    return len(features["image/object/class/label"].int64_list.value), sum(flag > 0 for flag in crowds)


def parse(serialized: bytes) -> Any:
    """The features of a serialized example, by name."""
    return tf.train.Example.FromString(serialized).features.feature


def check_record(serialized: bytes) -> str | None:
    """What is wrong with a record, or None."""
    try:
        features = parse(serialized)
    except Exception:  # protobuf's own class, whose module differs from version to version
        return "not a tf.train.Example"
    for side in ("height", "width"):
        if not any(value > 0 for value in features[f"image/{side}"].int64_list.value[:1]):
            return f"no image/{side}"
    if not b"".join(features["image/source_id"].bytes_list.value).isdigit():
        return "image/source_id is not a whole number"
    if not features["image/encoded"].bytes_list.value:
        return "no image/encoded"
    objects = len(features["image/object/class/label"].int64_list.value)
    masks = len(features["image/object/mask"].bytes_list.value)
    bits = b"".join(features["image/object/mask_bits"].bytes_list.value)
    if any(len(features[f"image/object/bbox/{side}"].float_list.value) != objects for side in BOX_SIDES):
        return f"other than {objects} boxes for {objects} classes"
    if masks != objects and len(bits) != objects * MASK_BYTES:
        return f"{masks or len(bits) // MASK_BYTES} masks for {objects} objects"
    return None


def write_annotations(scanned: Scanned, path: Path) -> None:
    """COCO annotations for the evaluation, made of the records' full-size masks."""
    reader = RecordReader(scanned.index.files)
    images, annotations = [], []
    for position, span in enumerate(tqdm(scanned.index.spans, desc=f"writing {path.name}", unit=" images")):
        features = parse(reader.read(span))
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
    """Writes JSON under a temporary name, then renames it."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
