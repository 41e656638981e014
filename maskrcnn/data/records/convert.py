"""COCO to TFRecords, once: shards, an index that makes them valid, and the checked annotations for the evaluation.

Finished shards lie in a hidden folder, each with a manifest of what went into it, until all are there: an interrupted
conversion resumes where it stopped.
"""

import dataclasses
import json
import os
import shutil
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from maskrcnn.data.coco.annotations import CocoDataset, coco_content, warn
from maskrcnn.data.coco.images import ImageEntry
from maskrcnn.data.coco.problems import Problem, Severity, is_tolerable, refuse
from maskrcnn.data.coco.segmentation import encode_rle, json_rle
from maskrcnn.data.records.existing import VERSION, Origin, skipped_files
from maskrcnn.data.records.prepare import PreparedImage, prepare_images
from maskrcnn.data.records.rasterize import MASK_SIZE
from maskrcnn.data.records.stored_images import SourceState
from maskrcnn.data.records.tfrecord import object_area, serialize
from maskrcnn.errors import UserError
from maskrcnn.input_files import MAX_ANNOTATION_BYTES, read_json
from maskrcnn.runtime.files import claimed, replacing, write_text

SHARD_IMAGES = 1024  # about 150 MB of JPEGs


@dataclasses.dataclass(frozen=True)
class Part:
    """The contents of one shard."""

    images: list[dict[str, Any]]  # fields of `ImageEntry`
    annotations: list[dict[str, Any]]  # COCO's
    problems: list[Problem]  # of what was skipped
    sources: list[SourceState]  # of the images
    checksums: list[int]  # CRC-32 of the serialized records


Record = tuple[bytes, PreparedImage, list[dict[str, Any]]]  # serialized; annotations as COCO's
Prepared = tuple[list[Problem], Record | None]  # what is wrong with an image; None if it cannot be used


class PartialConversion:
    """The hidden folder of a dataset's finished shards; those of a conversion with another ``key`` do not count."""

    def __init__(self, folder: Path, key: dict[str, Any], dataset: CocoDataset, *, skip_bad: bool) -> None:
        self.folder, self.key, self.dataset, self.skip_bad = folder, key, dataset, skip_bad

    def finished(self, shard: Path, images: tuple[ImageEntry, ...]) -> Part | None:
        """The shard if it was written by an earlier start from the same annotations and the same image files."""
        try:
            manifest = read_json(self._manifest(shard), "a manifest", MAX_ANNOTATION_BYTES)
            if manifest["key"] != self.key or manifest["source"] != self._state(images):
                return None
            if (self.folder / shard.name).stat().st_size != manifest["bytes"]:
                return None
            problems = [
                Problem(kind, Path(file), item, text, Severity(severity))
                for kind, file, item, text, severity in manifest["problems"]
            ]
            sources = [SourceState(*state) for state in manifest["sources"]]
            return Part(manifest["images"], manifest["annotations"], problems, sources, manifest["checksums"])
        except (OSError, UserError, ValueError, KeyError, TypeError):
            return None

    def write(self, shard: Path, images: tuple[ImageEntry, ...], prepared: Iterable[Prepared]) -> Part:
        """Writes a shard, then its manifest, which makes the shard count."""
        state, part = self._state(images), Part([], [], [], [], [])
        with replacing(self.folder / shard.name) as temporary:
            with tf.io.TFRecordWriter(str(temporary)) as writer:
                for problems, record in prepared:
                    part.problems.extend(problems)
                    if problems:
                        known = [*self.dataset.problems, *part.problems]
                        refuse(known, self.dataset.totals, skip_bad=self.skip_bad)
                    if record is not None:
                        serialized, image, annotations = record
                        writer.write(serialized)
                        part.images.append(dataclasses.asdict(image.entry))
                        part.annotations.extend(annotations)
                        part.sources.append(image.stored.source)
                        part.checksums.append(zlib.crc32(serialized))
            size = temporary.stat().st_size
        problems = [[p.kind, str(p.file), p.item, p.text, p.severity.value] for p in part.problems]
        content = {**vars(part), "problems": problems}
        write_text(self._manifest(shard), json.dumps({"key": self.key, "source": state, "bytes": size, **content}))
        return part

    def remove(self) -> None:
        """Deletes the folder of the partial conversion."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _manifest(self, shard: Path) -> Path:
        return self.folder / f"{shard.name}.json"

    def _state(self, images: tuple[ImageEntry, ...]) -> list[list[int]]:
        """Id, size and mtime of each image file."""
        state = []
        for image in images:
            path = self.dataset.image_dir / image.file_name
            try:
                status = path.stat()
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror}); put it back") from error
            state.append([image.id, status.st_size, status.st_mtime_ns])
        return state


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
