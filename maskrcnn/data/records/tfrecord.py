"""TFRecords with the feature names of the TF Object Detection API.

Our own records hold masks as ``image/object/mask_bits`` (see ``rasterize``); those of others hold full-size PNGs in
``image/object/mask``. Boxes are stored relative to the image's size.
"""

import os
import struct
import threading
import weakref
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from maskrcnn.data.coco.annotations import Annotation
from maskrcnn.data.records.prepare import PreparedImage
from maskrcnn.data.records.rasterize import pack_masks
from maskrcnn.errors import UserError
from maskrcnn.input_files import READ_FLAGS, open_regular

HEADER = struct.Struct("<QI")  # length of the data, its checksum
FOOTER_BYTES = 4  # checksum of the data
NO_CHECKSUM = -1  # in the span of a record of which none is known


@dataclass(frozen=True)
class RecordIndex:
    """Where records lie and what must be known of them before they are read."""

    files: tuple[Path, ...]
    spans: np.ndarray  # int64 [N, 4]: position in ``files``, offset and length of the data in bytes, its CRC-32 or -1
    sizes: np.ndarray  # int32 [N, 2]: height and width of the image
    image_ids: np.ndarray  # int64 [N]
    objects: np.ndarray  # int32 [N]: of each image, crowds not counted

    def __len__(self) -> int:
        return len(self.spans)


class RecordReader:
    """Reads single records; safe to call from many threads."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self._files, self._descriptors = files, [os.open(path, READ_FLAGS) for path in files]
        self._lock = threading.Lock()
        weakref.finalize(self, lambda descriptors: [os.close(number) for number in descriptors], self._descriptors)

    def read(self, span: np.ndarray) -> bytes:
        """The serialized example at ``span`` [4], see `RecordIndex`.

        Raises:
            UserError: it is not the one that the index was made of.
        """
        file, offset, length, checksum = (int(value) for value in span)
        data = self._read(file, offset, length)
        if len(data) != length or checksum not in (NO_CHECKSUM, zlib.crc32(data)):
            raise UserError(
                f"{self._files[file]}: the record at byte {offset} is damaged (its checksum differs); delete "
                "the folder and convert or copy it again"
            )
        return data

    def _read(self, file: int, offset: int, length: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptors[file], length, offset)
        with self._lock:  # on Windows, where a file has one position for all threads
            os.lseek(self._descriptors[file], offset, os.SEEK_SET)
            return os.read(self._descriptors[file], length)


def serialize(image: PreparedImage, names: dict[int, str]) -> bytes:
    """An image as a serialized ``tf.train.Example``."""
    stored, annotations = image.stored, image.annotations
    boxes = np.array([annotation.box for annotation in annotations], np.float64).reshape(-1, 4)
    boxes = boxes / [stored.width, stored.height, stored.width, stored.height]
    texts = [names[annotation.category_id].encode() for annotation in annotations]
    area = [object_area(annotation, mask) for annotation, mask in zip(annotations, image.masks, strict=True)]
    features = {
        "image/encoded": _feature(bytes_list=[stored.data]),
        "image/format": _feature(bytes_list=[stored.format.encode()]),
        "image/filename": _feature(bytes_list=[image.entry.file_name.encode()]),
        "image/source_id": _feature(bytes_list=[str(image.entry.id).encode()]),
        "image/height": _feature(int64_list=[stored.height]),
        "image/width": _feature(int64_list=[stored.width]),
        "image/object/bbox/xmin": _feature(float_list=boxes[:, 0]),
        "image/object/bbox/ymin": _feature(float_list=boxes[:, 1]),
        "image/object/bbox/xmax": _feature(float_list=boxes[:, 2]),
        "image/object/bbox/ymax": _feature(float_list=boxes[:, 3]),
        "image/object/class/label": _feature(int64_list=[annotation.category_id for annotation in annotations]),
        "image/object/class/text": _feature(bytes_list=texts),
        "image/object/is_crowd": _feature(int64_list=[int(annotation.is_crowd) for annotation in annotations]),
        "image/object/area": _feature(float_list=area),
        "image/object/mask_bits": _feature(bytes_list=[pack_masks(image.masks)]),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def _feature(**lists: Iterable[Any]) -> tf.train.Feature:
    """Values under the name of their kind: ``bytes_list``, ``int64_list`` or ``float_list``."""
    return tf.train.Feature(**{kind: {"value": values} for kind, values in lists.items()})


def object_area(annotation: Annotation, mask: np.ndarray) -> float:
    """Area in px as annotated, or else of the mask in its box."""
    if annotation.area is not None:
        return annotation.area
    x1, y1, x2, y2 = annotation.box
    return float(mask.mean()) * (x2 - x1) * (y2 - y1)


def record_spans(files: tuple[Path, ...]) -> np.ndarray:
    """Spans of all records, found by hopping from header to header, without checksums: int64 [N, 4].

    Raises:
        UserError: a file that cannot be read or ends within a record.
    """
    return np.concatenate([_file_spans(number, path) for number, path in enumerate(files)])


def _file_spans(number: int, path: Path) -> np.ndarray:
    spans, offset = [], 0
    try:
        with open_regular(path) as file:
            end = os.fstat(file.fileno()).st_size
            while offset < end:
                file.seek(offset)
                header = file.read(HEADER.size)
                length = HEADER.unpack(header)[0] if len(header) == HEADER.size else end
                start, offset = offset + HEADER.size, offset + HEADER.size + length + FOOTER_BYTES
                if offset > end or length == 0:  # a hole in the file, or what is none of records
                    raise UserError(
                        f"{path}: record {len(spans)}: the file is truncated or not a TFRecord; delete it and convert "
                        "or copy it again"
                    )
                spans.append((number, start, length, NO_CHECKSUM))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions") from error
    return np.array(spans, np.int64).reshape(-1, 4)


def verified_records(path: Path) -> Iterator[bytes]:
    """The serialized examples of a file, each compared with the checksums in it.

    Raises:
        UserError: one differs.
    """
    count = 0
    try:
        records: Any = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        for data in records:
            yield data
            count += 1
    except tf.errors.OpError as error:
        problem = f"record {count} is damaged (its checksum differs, or it cannot be read)"
        raise UserError(f"{path}: {problem}; delete the file and convert or copy it again") from error
