"""Third-party TFRecords: what our own index would say is found by reading them once."""

import contextlib
import dataclasses
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from maskrcnn.config import Category
from maskrcnn.data.coco.annotations import coco_content
from maskrcnn.data.coco.classes import index_categories
from maskrcnn.data.coco.ids import LARGEST
from maskrcnn.data.coco.images import MAX_SIDE
from maskrcnn.data.coco.segmentation import mask_fields
from maskrcnn.data.records.rasterize import MASK_BYTES
from maskrcnn.data.records.tfrecord import RecordIndex, RecordReader, record_spans, verified_records
from maskrcnn.errors import UserError, one_line
from maskrcnn.imaging.read import open_image
from maskrcnn.input_files import MAX_ANNOTATION_BYTES, read_json
from maskrcnn.runtime.files import write_text

VERSION = 3  # of the index file
BOX_SIDES = ("xmin", "ymin", "xmax", "ymax")
DECODED = ("JPEG", "MPO", "PNG", "GIF", "BMP")  # formats of images that TensorFlow decodes
MAX_DIGITS = 16  # of an id
KINDS = {
    **dict.fromkeys(("image/encoded", "image/source_id", "image/filename", "image/object/class/text"), "bytes_list"),
    **dict.fromkeys(("image/object/mask", "image/object/mask_bits"), "bytes_list"),
    **dict.fromkeys(("image/height", "image/width"), "int64_list"),
    **dict.fromkeys(("image/object/class/label", "image/object/is_crowd"), "int64_list"),
    **dict.fromkeys((f"image/object/bbox/{side}" for side in BOX_SIDES), "float_list"),
}


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
    states = [file.stat() for file in files]
    source = [[file.name, state.st_size, state.st_mtime_ns] for file, state in zip(files, states, strict=True)]
    if cache_file is not None and cache_file.is_file():
        with contextlib.suppress(UserError, OverflowError, ValueError, LookupError, TypeError, AttributeError):
            content = read_json(cache_file, "an index of records", MAX_ANNOTATION_BYTES)
            if content["version"] == VERSION and content["source"] == source:
                return _scanned(content, files, spans)
    content = {"version": VERSION, "source": source, **_scan(files)}
    scanned = _scanned(content, files, spans)
    if cache_file is not None:
        write_text(cache_file, json.dumps(content))
    return scanned


def _scanned(content: dict[str, Any], files: tuple[Path, ...], spans: np.ndarray) -> Scanned:
    sizes, image_ids = np.array(content["sizes"], np.int32).reshape(-1, 2), np.array(content["image_ids"], np.int64)
    objects, checksums = np.array(content["objects"], np.int32), np.array(content["checksums"], np.int64)
    if not len(spans) == len(sizes) == len(image_ids) == len(objects):
        raise ValueError("of other records")
    names = {int(id): str(name) for id, name in content["names"].items()}
    index = RecordIndex(files, np.column_stack([spans[:, :3], checksums]), sizes, image_ids, objects)
    return Scanned(index, index_categories(names), bool(content["has_masks"]))


def _scan(files: tuple[Path, ...]) -> dict[str, Any]:
    sizes, image_ids, objects, checksums, names, has_masks = [], [], [], [], {}, False
    records = ((path, number, data) for path in files for number, data in enumerate(verified_records(path)))
    for path, number, serialized in tqdm(records, desc="reading records", unit=" records"):
        if problem := check_record(serialized):
            raise UserError(f"{path}: record {number}: {problem}; write or copy the file again")
        features = parse(serialized)
        sizes.append([features[f"image/{side}"].int64_list.value[0] for side in ("height", "width")])
        image_ids.append(int(features["image/source_id"].bytes_list.value[0]))
        checksums.append(zlib.crc32(serialized))
        labels, crowds = count_objects(features)
        objects.append(labels - crowds)
        texts = class_texts(features)
        for position, label in enumerate(features["image/object/class/label"].int64_list.value):
            names[label] = texts[position] if position < len(texts) else names.get(label, str(label))
        has_masks = has_masks or bool(features["image/object/mask"].bytes_list.value)
    found = {"sizes": sizes, "image_ids": image_ids, "objects": objects, "checksums": checksums}
    return {**found, "names": {str(label): name for label, name in names.items()}, "has_masks": has_masks}


def class_texts(features: Any) -> list[str]:
    """The names of a record's objects, in one readable line each."""
    return [one_line(text.decode(errors="replace")) for text in features["image/object/class/text"].bytes_list.value]


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
    for name, kind in KINDS.items():
        if features[name].WhichOneof("kind") not in (None, kind):
            return f"{name} is no {kind}"
    height, width = (list(features[f"image/{side}"].int64_list.value) for side in ("height", "width"))
    if not all(len(side) == 1 and 1 <= side[0] <= MAX_SIDE for side in (height, width)):
        return f"image/height {height} and image/width {width} are no size of an image"
    source_id = b"".join(features["image/source_id"].bytes_list.value)
    if not source_id.isdigit() or len(source_id) > MAX_DIGITS or int(source_id) >= LARGEST:
        return "image/source_id is not a whole number below 2**53"
    images = features["image/encoded"].bytes_list.value
    if len(images) != 1:
        return f"{len(images)} values of image/encoded instead of one"
    return _check_objects(features) or _check_pixels(features, images[0], (width[0], height[0]))


def _check_objects(features: Any) -> str | None:
    labels = features["image/object/class/label"].int64_list.value
    objects, crowds = len(labels), len(features["image/object/is_crowd"].int64_list.value)
    if not all(0 <= label < LARGEST for label in labels):
        return "image/object/class/label is no number from 0 below 2**53"
    boxes = [features[f"image/object/bbox/{side}"].float_list.value for side in BOX_SIDES]
    if any(len(side) != objects for side in boxes):
        return f"other than {objects} boxes for {objects} classes"
    if not all(math.isfinite(value) for side in boxes for value in side):
        return "a box is not finite"
    if crowds not in (0, objects):
        return f"{crowds} flags image/object/is_crowd for {objects} objects"
    masks = len(features["image/object/mask"].bytes_list.value)
    bits = sum(map(len, features["image/object/mask_bits"].bytes_list.value))
    if masks != objects and bits != objects * MASK_BYTES:
        return f"{masks or bits // MASK_BYTES} masks for {objects} objects"
    return None


def _check_pixels(features: Any, encoded: bytes, size: tuple[int, int]) -> str | None:
    """What hinders decoding the image or a mask: TensorFlow would decode whatever size a header states."""
    try:
        with open_image(Path("image/encoded"), encoded) as image:
            if image.size != size:
                return f"the image is {image.size[0]} x {image.size[1]} px, image/width x image/height say otherwise"
            if image.format not in DECODED:
                return f"a {image.format} image, which TensorFlow cannot decode"
            image.draft("RGB", (1, 1))  # damage shows at an eighth of the size too
            image.load()
        for mask in features["image/object/mask"].bytes_list.value:
            with open_image(Path("image/object/mask"), mask) as image:
                if image.size != size or image.format != "PNG":
                    return f"a mask is a {image.format} of {image.size[0]} x {image.size[1]} px, not a PNG as the image"
                image.verify()
    except UserError as error:
        return str(error).partition("; ")[0]
    return None


def write_annotations(scanned: Scanned, path: Path) -> None:
    """COCO annotations for the evaluation, made of the records' full-size masks."""
    reader = RecordReader(scanned.index.files)
    images, annotations = [], []
    for position, span in enumerate(tqdm(scanned.index.spans, desc=f"writing {path.name}", unit=" images")):
        features = parse(reader.read(span))
        image_id = int(scanned.index.image_ids[position])
        height, width = (int(side) for side in scanned.index.sizes[position])
        file_name = b"".join(features["image/filename"].bytes_list.value).decode(errors="replace")
        images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        labels = features["image/object/class/label"].int64_list.value
        crowds = list(features["image/object/is_crowd"].int64_list.value) or [0] * len(labels)
        for label, flag, encoded in zip(labels, crowds, features["image/object/mask"].bytes_list.value, strict=True):
            with open_image(scanned.index.files[span[0]], encoded) as image:
                fields = mask_fields(np.asarray(image.convert("L")) > 0)
            annotations.append({"image_id": image_id, "category_id": label, "iscrowd": int(flag), **fields})
    write_text(path, json.dumps(coco_content(images, annotations, scanned.categories)))
