"""COCO to TFRecords, once: shards, an index that makes them valid, and the checked annotations for the evaluation."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from maskrcnn.config import Category
from maskrcnn.data.coco.annotations import CocoDataset, Fault, ImageEntry, load_coco, warn_skipped
from maskrcnn.data.coco.segmentation import encode_rle
from maskrcnn.data.records.prepare import PreparedImage, prepare_images
from maskrcnn.data.records.rasterize import MASK_SIZE
from maskrcnn.data.records.shards import Part, PartialConversion, Record
from maskrcnn.data.records.tfrecord import RecordIndex, object_area, record_spans, serialize
from maskrcnn.errors import UserError
from maskrcnn.runtime.files import claimed, replacing

VERSION = 1  # of the index and of what the records hold
SHARD_IMAGES = 1024  # about 150 MB of photographs


@dataclasses.dataclass(frozen=True)
class Converted:
    """Records made from a COCO dataset."""

    index: RecordIndex
    categories: tuple[Category, ...]
    annotation_file: Path


def convert_coco(
    annotation_file: str | Path,
    image_dir: str | Path,
    out_dir: str | Path,
    name: str,
    *,
    skip_bad: bool = False,
    progress: bool = True,
) -> Converted:
    """Writes ``NAME-00000-of-0000N.tfrecord``, ``NAME.json`` and ``NAME_annotations.json``, or finds them up to date.

    Raises:
        UserError: a fault in the dataset (unless ``skip_bad``), nothing left to write, or an unwritable folder.
    """
    source, out_dir = Path(annotation_file), Path(out_dir)
    found = read_converted(out_dir, name, source=source, skip_bad=skip_bad)
    if found is not None:
        return found
    dataset = load_coco(source, image_dir, skip_bad=skip_bad)
    if not dataset.images:
        raise UserError(f"{source}: lists no images{' that could be used' if dataset.skipped else ''}; add some")
    try:
        write_records(dataset, out_dir, name, skip_bad=skip_bad, progress=progress)
    except (OSError, tf.errors.OpError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.message
        raise UserError(f"{out_dir}: records cannot be written ({reason}); make room or choose a folder") from error
    found = read_converted(out_dir, name, source=source, skip_bad=skip_bad)
    assert found is not None
    return found


def read_converted(out_dir: Path, name: str, *, source: Path | None, skip_bad: bool) -> Converted | None:
    """Records converted earlier, or None if there are none or ``source`` has changed since.

    Raises:
        UserError: the records are there and damaged.
    """
    try:
        content = json.loads((out_dir / f"{name}.json").read_bytes())
        if content["version"] != VERSION or (content["skipped"] and not skip_bad and source is not None):
            return None
        if source is not None and not _is_same_source(content["source"], source):
            return None
        files = tuple(out_dir / file for file in content["files"])
        image_ids, sizes = np.array(content["image_ids"], np.int64), np.array(content["sizes"], np.int32)
        categories = tuple(Category(**category) for category in content["categories"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    annotation_file = out_dir / f"{name}_annotations.json"
    if not annotation_file.is_file() or not all(file.is_file() for file in files):
        return None
    spans = record_spans(files)
    if len(spans) != len(image_ids):
        raise UserError(
            f"{out_dir}: holds {len(spans)} records of {name}, expected {len(image_ids)}; delete the folder"
        )
    return Converted(RecordIndex(files, spans, sizes, image_ids), categories, annotation_file)


def fingerprint(source: Path) -> dict[str, Any]:
    """What tells a changed annotation file: see ``_is_same_source``."""
    status = source.stat()
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file": source.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns, "sha256": digest}


def _is_same_source(recorded: dict[str, Any], source: Path) -> bool:
    """By size and time, or else (a copied file) by content."""
    status = source.stat()
    if (status.st_size, status.st_mtime_ns) == (recorded["bytes"], recorded["modified_ns"]):
        return True
    return status.st_size == recorded["bytes"] and fingerprint(source)["sha256"] == recorded["sha256"]


def write_records(dataset: CocoDataset, out_dir: Path, name: str, *, skip_bad: bool, progress: bool) -> None:
    """Writes shard after shard into a hidden folder, where an earlier start may have left some; at the end all are
    renamed to their places, and the index comes last."""
    groups = [dataset.images[start : start + SHARD_IMAGES] for start in range(0, len(dataset.images), SHARD_IMAGES)]
    files = [out_dir / f"{name}-{shard:05d}-of-{len(groups):05d}.tfrecord" for shard in range(len(groups))]
    source = fingerprint(dataset.path)
    key = {"version": VERSION, "mask_size": MASK_SIZE, "sha256": source["sha256"], "skip_bad": skip_bad}
    partial = PartialConversion(
        out_dir / f".{name}.partial", {**key, "image_dir": str(dataset.image_dir.resolve())}, dataset
    )
    with claimed(partial.folder):
        parts = list(_make_parts(partial, files, groups, skip_bad=skip_bad, progress=progress))
        faults = [fault for part in parts for fault in part.faults]
        if not any(part.images for part in parts):
            raise UserError(f"{dataset.path}: no image could be read, the first: {faults[0]}")
        _publish(partial, files, parts, source, name)
    partial.remove()
    if faults:
        warn_skipped(dataset.path, faults)


def _make_parts(
    partial: PartialConversion,
    files: list[Path],
    groups: list[tuple[ImageEntry, ...]],
    *,
    skip_bad: bool,
    progress: bool,
) -> Iterator[Part]:
    """Every shard, in order: those of an earlier start, the others written now."""
    dataset = partial.dataset
    names = {category.id: category.name for category in dataset.categories}
    with tqdm(total=len(dataset.images), desc="converting", unit=" images", disable=not progress) as bar:
        for file, images in zip(files, groups, strict=True):
            part = partial.finished(file, images)
            if part is not None:
                bar.update(len(images))
            else:

                def records(faults: list[Fault], images: tuple[ImageEntry, ...] = images) -> Iterator[Record]:
                    prepared = prepare_images(dataset, images, finish=lambda image: _record(image, names))
                    for found, record in prepared:
                        bar.update()
                        if found and not skip_bad:
                            raise UserError(str(found[0]))
                        faults += found
                        if record is not None:
                            yield record

                part = partial.write(file, images, records)
            yield part


def _record(image: PreparedImage, names: dict[int, str]) -> Record:
    return serialize(image, names), image.entry, _annotation_entries(image)


def _publish(
    partial: PartialConversion, files: list[Path], parts: list[Part], source: dict[str, Any], name: str
) -> None:
    """Replaces an earlier conversion by the finished shards; the index, which makes them count, comes last."""
    dataset, out_dir = partial.dataset, files[0].parent
    images = [image for part in parts for image in part.images]
    annotations = [entry for part in parts for entry in part.annotations]
    categories = [dataclasses.asdict(category) for category in dataset.categories]
    index = {
        "version": VERSION,
        "mask_size": MASK_SIZE,
        "source": source,
        "skipped": dataset.skipped + sum(len(part.faults) for part in parts),
        "files": [file.name for file in files],
        "categories": categories,
        "image_ids": [image["id"] for image in images],
        "sizes": [(image["height"], image["width"]) for image in images],
    }
    with (
        replacing(out_dir / f"{name}.json") as index_file,
        replacing(out_dir / f"{name}_annotations.json") as annotation_file,
    ):
        _write_json(annotation_file, _coco_content(images, annotations, categories))
        _write_json(index_file, index)
        _remove_earlier(out_dir, name)
        for file in files:
            os.replace(partial.folder / file.name, file)


def _remove_earlier(out_dir: Path, name: str) -> None:
    """Removes an earlier conversion, the index first: without it the rest counts for nothing."""
    (out_dir / f"{name}.json").unlink(missing_ok=True)
    for file in out_dir.glob(f"{name}-?????-of-?????.tfrecord"):
        file.unlink()


def _annotation_entries(image: PreparedImage) -> list[dict[str, Any]]:
    entries = []
    for annotation, mask in zip(image.annotations, image.masks, strict=True):
        segmentation = annotation.segmentation
        if isinstance(segmentation, dict):
            rle = encode_rle(segmentation, *segmentation["size"])
            segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
        x1, y1, x2, y2 = annotation.box
        entries.append(
            {
                "id": annotation.id,
                "image_id": annotation.image_id,
                "category_id": annotation.category_id,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "segmentation": segmentation,
                "area": object_area(annotation, mask),
                "iscrowd": int(annotation.is_crowd),
            }
        )
    return entries


def _coco_content(images: list[Any], annotations: list[dict[str, Any]], categories: list[Any]) -> dict[str, Any]:
    """COCO JSON. Annotations are numbered anew from 1: COCOeval takes id 0 for "not matched"."""
    return {
        "images": images,
        "annotations": [{**entry, "id": number} for number, entry in enumerate(annotations, start=1)],
        "categories": [{"id": category["id"], "name": category["name"]} for category in categories],
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
