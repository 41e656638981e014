"""The shards of a conversion that is under way.

Finished ones lie in a hidden folder, each with a manifest of what went into it, until all are there: an interrupted
conversion resumes where it stopped.
"""

import dataclasses
import json
import shutil
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf

from maskrcnn.data.coco.annotations import CocoDataset
from maskrcnn.data.coco.images import ImageEntry
from maskrcnn.data.coco.problems import Problem, Severity, refuse
from maskrcnn.data.records.prepare import PreparedImage
from maskrcnn.data.records.stored_images import SourceState
from maskrcnn.errors import UserError
from maskrcnn.input_files import MAX_ANNOTATION_BYTES, read_json
from maskrcnn.runtime.files import replacing, write_text


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
