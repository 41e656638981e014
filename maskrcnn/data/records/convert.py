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

from maskrcnn.data.coco.annotations import CocoDataset, coco_content, warn
from maskrcnn.data.coco.images import ImageEntry
from maskrcnn.data.coco.problems import is_tolerable
from maskrcnn.data.coco.segmentation import encode_rle, json_rle
from maskrcnn.data.records.existing import VERSION, Origin, skipped_files
from maskrcnn.data.records.prepare import PreparedImage, prepare_images
from maskrcnn.data.records.rasterize import MASK_SIZE
from maskrcnn.data.records.shards import Part, PartialConversion, Prepared, Record
from maskrcnn.data.records.tfrecord import object_area, serialize
from maskrcnn.errors import UserError
from maskrcnn.runtime.files import claimed, replacing

SHARD_IMAGES = 1024  # about 150 MB of JPEGs


def write_records(
    dataset: CocoDataset, out_dir: Path, name: str, *, origin: Origin, num_images: dict[str, int], progress: bool = True
) -> None:
    """Writes ``NAME-00000-of-0000N.tfrecord``, ``NAME.json`` and ``NAME_annotations.json``.

    Shard after shard goes to a hidden folder, where an earlier start may have left some; at the end all are renamed to
    their places, and the index comes last. It tells ``num_images`` too: how many each split of the dataset has.

    Raises:
        UserError: too many images or masks cannot be decoded, or the folder cannot be written.
    """
    groups = [dataset.images[start : start + SHARD_IMAGES] for start in range(0, len(dataset.images), SHARD_IMAGES)]
    files = [out_dir / f"{name}-{shard:05d}-of-{len(groups):05d}.tfrecord" for shard in range(len(groups))]
    key = {"version": VERSION, "mask_size": MASK_SIZE, "image_dir": str(dataset.image_dir.resolve()), **origin.key()}
    key = json.loads(json.dumps(key))  # as it is read again
    partial = PartialConversion(out_dir / f".{name}.partial", key, dataset, skip_bad=origin.skip_bad)
    try:
        with claimed(partial.folder):
            parts = list(_make_parts(partial, files, groups, progress=progress))
            problems = [problem for part in parts for problem in part.problems]
            if not any(part.images for part in parts):
                raise UserError(f"{dataset.path}: no image could be read, the first: {problems[0]}")
            _publish(partial, files, parts, (origin, num_images), name)
        partial.remove()
    except (OSError, tf.errors.OpError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.message
        raise UserError(
            f"{out_dir}: records cannot be written ({reason}); free disk space or choose a folder"
        ) from error
    warn(problems)


def _make_parts(
    partial: PartialConversion, files: list[Path], groups: list[tuple[ImageEntry, ...]], *, progress: bool
) -> Iterator[Part]:
    """Every shard, in order: those of an earlier start, the others written now."""
    dataset = partial.dataset
    names = {category.id: category.name for category in dataset.categories}

    def finish(image: PreparedImage) -> Record:
        return serialize(image, names), image, coco_entries(image)

    with tqdm(total=len(dataset.images), desc="converting", unit=" images", disable=not progress) as bar:

        def counted(prepared: Iterator[Prepared]) -> Iterator[Prepared]:
            for item in prepared:
                bar.update()
                yield item

        for file, images in zip(files, groups, strict=True):
            if part := partial.finished(file, images):
                bar.update(len(images))
                yield part
            else:
                yield partial.write(file, images, counted(prepare_images(dataset, images, finish=finish)))


def _publish(
    partial: PartialConversion, files: list[Path], parts: list[Part], about: tuple[Origin, dict[str, int]], name: str
) -> None:
    """Replaces an earlier conversion by the finished shards; the index, which makes them count, comes last."""
    dataset, out_dir, (origin, num_images) = partial.dataset, files[0].parent, about
    images = [image for part in parts for image in part.images]
    annotations = [entry for part in parts for entry in part.annotations]
    problems = [*dataset.problems, *(problem for part in parts for problem in part.problems)]
    objects = Counter(entry["image_id"] for entry in annotations if not entry["iscrowd"])
    index = {
        "version": VERSION,
        "mask_size": MASK_SIZE,
        "origin": origin.describe(),
        "facts": {"images": num_images},
        "too_many_skipped": not is_tolerable(problems, dataset.totals),
        "skipped_files": skipped_files(dataset, problems),
        "files": [file.name for file in files],
        "categories": [dataclasses.asdict(category) for category in dataset.categories],
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
        content = coco_content(images, annotations, dataset.categories)
        annotation_file.write_text(json.dumps(content), encoding="utf-8")
        index_file.write_text(json.dumps(index), encoding="utf-8")
        (out_dir / f"{name}.json").unlink(missing_ok=True)  # first: without the index the rest counts for nothing
        for earlier in out_dir.glob(f"{name}-?????-of-?????.tfrecord"):
            earlier.unlink()
        for file in files:
            os.replace(partial.folder / file.name, file)


def coco_entries(image: PreparedImage) -> list[dict[str, Any]]:
    """The image's annotations as COCO's."""
    entries = []
    for annotation, mask in zip(image.annotations, image.masks, strict=True):
        segmentation = annotation.segmentation
        if isinstance(segmentation, dict):
            segmentation = json_rle(encode_rle(segmentation, *segmentation["size"]))
        entries.append(annotation.to_coco(segmentation, object_area(annotation, mask)))
    return entries
