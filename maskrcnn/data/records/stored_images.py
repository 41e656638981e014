"""Image files as they go into records: encoded, 8-bit RGB, on the grid that the annotations were drawn on."""

import io
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from maskrcnn.errors import UserError
from maskrcnn.imaging.read import (
    MAX_IMAGE_BYTES,
    open_image,
    orientation,
    read_image_bytes,
    to_rgb,
    turn_upright,
    upright_size,
)
from maskrcnn.input_files import read_bytes

THREADS = 16  # that look at files, which may lie on a slow network
SAMPLE = 64  # files whose contents are compared where very many have another mtime, as in a copied dataset


class SourceState(NamedTuple):
    """The facts by which a replaced image file is noticed."""

    size: int  # bytes
    mtime_ns: int
    checksum: int  # CRC-32 of the contents


@dataclass(frozen=True)
class StoredImage:
    """An encoded RGB image whose pixels agree with the annotations' grid."""

    data: bytes
    format: str  # "jpeg" or "png"
    height: int
    width: int
    source: SourceState


def store_image(path: Path, height: int, width: int) -> StoredImage:
    """The file's own bytes where a decoder that knows nothing of EXIF reads them as 8-bit RGB; else the pixels as PNG.

    ``height`` and ``width`` are those of the annotations: they tell whether these were drawn on the upright image or on
    the pixels as stored.

    Raises:
        UserError: unreadable, truncated, or (`WrongSizeError`) of another size than annotated.
    """
    mtime_ns = os.stat(path).st_mtime_ns if os.path.exists(path) else 0
    contents, data = read_image_bytes(path)
    source = SourceState(len(contents), mtime_ns, zlib.crc32(contents))
    with open_image(path, data) as image:
        turn = _must_turn(image, path, height, width)
        if image.format in ("JPEG", "MPO") and image.mode == "RGB" and not turn:
            image.draft("RGB", (1, 1))  # truncation shows in the entropy decoder; an eighth of the size will do
            image.load()
            return StoredImage(data, "jpeg", height, width, source)
        pixels = to_rgb(turn_upright(image) if turn else image, path)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return StoredImage(buffer.getvalue(), "png", height, width, source)


class WrongSizeError(UserError):
    """The image and its annotations disagree."""


def _must_turn(image: Image.Image, path: Path, height: int, width: int) -> bool:
    upright = upright_size(image)
    if (width, height) == upright:
        return orientation(image) != 1
    if (width, height) == image.size:
        return False
    raise WrongSizeError(f"{path}: is {upright[0]} x {upright[1]} px, annotated as {width} x {height}; correct one")


def first_replaced(folder: Path, names: Sequence[str], states: Sequence[SourceState]) -> str | None:
    """The name of an image file that is not the one that was stored; files that are gone do not count.

    Sizes and mtimes of all are looked at, and the contents of up to `SAMPLE` whose mtime alone differs.
    """

    def look(start: int) -> list[tuple[int, bool]]:
        """Position and "the size differs" of every ``THREADS``-th file that is not as it was."""
        found = []
        for position in range(start, len(names), THREADS):
            try:
                status = os.stat(folder / names[position])
            except (OSError, ValueError):
                continue
            size, mtime_ns, _ = states[position]
            if (status.st_size, status.st_mtime_ns) != (size, mtime_ns):
                found.append((position, status.st_size != size))
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        differing = sorted(entry for found in pool.map(look, range(THREADS)) for entry in found)
    for position, resized in differing:
        if resized:
            return names[position]
    for position, _ in differing[:: max(len(differing) // SAMPLE, 1)]:
        if zlib.crc32(read_bytes(folder / names[position], MAX_IMAGE_BYTES)) != states[position].checksum:
            return names[position]
    return None
