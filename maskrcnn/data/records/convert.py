"""COCO to TFRecords, once: shards, an index that makes them valid, and the checked annotations for the evaluation."""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from maskrcnn.data.coco.annotations import CocoDataset, warn
from maskrcnn.data.coco.images import ImageEntry
from maskrcnn.data.coco.problems import Problem, is_tolerable, refuse
from maskrcnn.data.coco.segmentation import encode_rle
from maskrcnn.data.records.existing import VERSION
from maskrcnn.data.records.origin import Origin, skipped_files
from maskrcnn.data.records.prepare import PreparedImage, prepare_images
from maskrcnn.data.records.rasterize import MASK_SIZE
from maskrcnn.data.records.shards import Part, PartialConversion, Record
from maskrcnn.data.records.tfrecord import object_area, serialize
from maskrcnn.errors import UserError
from maskrcnn.runtime.files import claimed, replacing

SHARD_IMAGES = 1024  # about 150 MB of JPEGs


def write_records(
    dataset: CocoDataset, out_dir: Path, name: str, *, origin: Origin, facts: dict[str, Any], progress: bool = True
) -> None:
    """Writes ``NAME-00000-of-0000N.tfrecord``, ``NAME.json`` and ``NAME_annotations.json``.

    Shard after shard goes to a hidden folder, where an earlier start may have left some; at the end all are renamed to
    their places, and the index comes last.

    Raises:
        UserError: too many images or masks cannot be decoded, or the folder cannot be written.
    """
    groups = [dataset.images[start : start + SHARD_IMAGES] for start in range(0, len(dataset.images), SHARD_IMAGES)]
    files = [out_dir / f"{name}-{shard:05d}-of-{len(groups):05d}.tfrecord" for shard in range(len(groups))]
    key = {"version": VERSION, "mask_size": MASK_SIZE, "image_dir": str(dataset.image_dir.resolve()), **origin.key()}
    partial = PartialConversion(out_dir / f".{name}.partial", json.loads(json.dumps(key)), dataset)
    try:
        with claimed(partial.folder):
            parts = list(_make_parts(partial, files, groups, skip_bad=origin.skip_bad, progress=progress))
            problems = [problem for part in parts for problem in part.problems]
            if not any(part.images for part in parts):
                raise UserError(f"{dataset.path}: no image could be read, the first: {problems[0]}")
            _publish(partial, files, parts, (origin, facts), name)
        partial.remove()
    except (OSError, tf.errors.OpError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.message
        raise UserError(
            f"{out_dir}: records cannot be written ({reason}); free disk space or choose a folder"
        ) from error
    warn(problems)


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

                def records(problems: list[Problem], images: tuple[ImageEntry, ...] = images) -> Iterator[Record]:
                    prepared = prepare_images(dataset, images, finish=lambda image: _record(image, names))
                    for found, record in prepared:
                        bar.update()
                        problems += found
                        if found:
                            refuse([*dataset.problems, *problems], dataset.totals, skip_bad=skip_bad)
                        if record is not None:
                            yield record

                part = partial.write(file, images, records)
            yield part


def _record(image: PreparedImage, names: dict[int, str]) -> Record:
    return serialize(image, names), image, coco_entries(image)


def _publish(
    partial: PartialConversion, files: list[Path], parts: list[Part], about: tuple[Origin, dict[str, Any]], name: str
) -> None:
    """Replaces an earlier conversion by the finished shards; the index, which makes them count, comes last."""
    dataset, out_dir, (origin, facts) = partial.dataset, files[0].parent, about
    images = [image for part in parts for image in part.images]
    annotations = [entry for part in parts for entry in part.annotations]
    categories = [dataclasses.asdict(category) for category in dataset.categories]
    problems = [*dataset.problems, *(problem for part in parts for problem in part.problems)]
    objects = Counter(entry["image_id"] for entry in annotations if not entry["iscrowd"])
    index = {
        "version": VERSION,
        "mask_size": MASK_SIZE,
        "origin": origin.describe(),
        "facts": facts,
        "too_many_skipped": not is_tolerable(problems, dataset.totals),
        "skipped_files": skipped_files(dataset, problems),
        "files": [file.name for file in files],
        "categories": categories,
        "image_ids": [image["id"] for image in images],
        "sizes": [(image["height"], image["width"]) for image in images],
        "objects": [objects[image["id"]] for image in images],
        "checksums": [checksum for part in parts for checksum in part.checksums],
        "sources": {
            "folder": os.path.relpath(dataset.image_dir, origin.root),
            "names": [image["file_name"] for image in images],
            "states": [state for part in parts for state in part.sources],
        },
    }
    with (
        replacing(out_dir / f"{name}.json") as index_file,
        replacing(out_dir / f"{name}_annotations.json") as annotation_file,
    ):
        _write_json(annotation_file, coco_content(images, annotations, categories))
        _write_json(index_file, index)
        _remove_earlier(out_dir, name)
        for file in files:
            os.replace(partial.folder / file.name, file)


def _remove_earlier(out_dir: Path, name: str) -> None:
    """Removes an earlier conversion, the index first: without it the rest counts for nothing."""
    (out_dir / f"{name}.json").unlink(missing_ok=True)
    for file in out_dir.glob(f"{name}-?????-of-?????.tfrecord"):
        file.unlink()


def coco_entries(image: PreparedImage) -> list[dict[str, Any]]:
    """The image's annotations as COCO's."""
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


def coco_content(images: list[Any], annotations: list[dict[str, Any]], categories: list[Any]) -> dict[str, Any]:
    """COCO JSON. Annotations are numbered anew from 1: COCOeval takes id 0 for "not matched"."""
    return {
        "images": images,
        "annotations": [{**entry, "id": number} for number, entry in enumerate(annotations, start=1)],
        "categories": [{"id": category["id"], "name": category["name"]} for category in categories],
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
