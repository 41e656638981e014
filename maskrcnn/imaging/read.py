"""Reads image files as RGB arrays."""

import contextlib
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from maskrcnn.errors import UserError

# The only decoders that are ever run, whatever a file is called: Pillow would start Ghostscript for EPS.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
FORMAT_NAMES = "JPEG, PNG, BMP, GIF, TIFF or WebP"
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# what Pillow's decoders raise for a damaged file, as seen in its plugins
DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, zlib.error)


def load_image(path: str | Path) -> NDArray[np.uint8]:
    """Reads an image file as upright RGB, [H, W, 3].

    Gray, palette, CMYK, 16-bit and transparent images are converted; of an animation the first frame is read.

    Raises:
        UserError: the file is missing, damaged, not a regular file, not an image of a known format, or has pixels
            without an 8-bit meaning.
    """
    path = Path(path)
    with opening_image(path) as file:
        return to_rgb(ImageOps.exif_transpose(file), path)


@contextlib.contextmanager
def opening_image(path: Path) -> Iterator[Image.Image]:
    """Opens an image file to be decoded within the context.

    Raises:
        UserError: see `load_image`.
    """
    try:
        _check_regular(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # malformed EXIF blocks and large sizes do not harm the pixels
            with Image.open(path, formats=FORMATS) as file:
                yield file
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; give the path of an image") from error
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read (permission denied); change its permissions") from error
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{path}: not a {FORMAT_NAMES} image; convert or remove it") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: the image is too large ({error}); make it smaller") from error
    except DAMAGED as error:
        raise UserError(f"{path}: the image is damaged or truncated ({reason(error)}); replace or remove it") from error


def _check_regular(path: Path) -> None:
    """Refuses what would block or never end when read: pipes, sockets and devices."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise UserError(f"{path}: is a folder; give the path of an image")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: not a regular file but a pipe, socket or device; give the path of an image")


def reason(error: Exception) -> str:
    """The message of a decoder's error, without the Python objects that Pillow names in it."""
    return re.sub(r" ?<_?\w+\.[^>]*>", "", str(error))


def to_rgb(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    """Converts an image of any mode to 8-bit RGB [H, W, 3].

    Args:
        image: as Pillow opened it.
        path: names the image in errors.

    Raises:
        UserError: floating-point pixels.
    """
    if image.mode == "F":
        raise UserError(f"{path}: floating-point pixels have no fixed range; save the image with 8 bits per channel")
    if image.mode.startswith("I"):  # 16 bits per pixel, in either byte order
        values = np.asarray(image).astype(np.int64)
        gray = np.clip(values >> (_bit_depth(values) - 8), 0, 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette may hold transparent colors; the alpha channel is dropped below
    return np.array(image.convert("RGB"))


def _bit_depth(values: NDArray[np.int64]) -> int:
    """The bit depth of the sensor: 16-bit files often hold 10, 12 or 14 bits, and would be read as black."""
    return next((bits for bits in (8, 10, 12, 14) if values.max(initial=0) < 1 << bits), 16)


def list_images(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, sorted; hidden ones are skipped."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
