"""Image files to RGB arrays."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from maskrcnn.errors import UserError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# what Pillow's decoders raise for a damaged file, seen in its plugins
DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, zlib.error)


def load_image(path: str | Path) -> NDArray[np.uint8]:
    """Reads a picture as RGB, [H, W, 3], turned upright as its EXIF data say.

    Gray, palette, CMYK, 16-bit and transparent pictures are converted; of an animation the first frame is taken.

    Raises:
        UserError: the file is missing, damaged, not an image, or of a kind with no 8-bit meaning.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # odd EXIF blocks do not harm the pixels
            with Image.open(path) as file:
                image = ImageOps.exif_transpose(file)
                return to_rgb(image, path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; give the path of an image") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: is a folder; give the path of an image") from error
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read (permission denied); change its permissions") from error
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{path}: not an image that can be read; replace or remove it") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: the image is too large ({error}); make it smaller") from error
    except DAMAGED as error:
        raise UserError(f"{path}: the image is damaged or cut short ({error}); replace or remove it") from error


def to_rgb(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    """Pixels of any kind as 8-bit RGB [H, W, 3]; ``path`` is for the message of the UserError."""
    if image.mode == "F":
        raise UserError(f"{path}: floating-point pixels have no fixed range; save the image with 8 bits a channel")
    if image.mode.startswith("I"):  # 16 bits a pixel, whatever the byte order
        values = np.asarray(image).astype(np.int64)
        gray = np.clip(values >> (_bit_depth(values) - 8), 0, 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette may hold transparent colors, which are dropped below
    return np.array(image.convert("RGB"))


def _bit_depth(values: NDArray[np.int64]) -> int:
    """The bits that a sensor gave: files of 16 bits a pixel often hold 10, 12 or 14, and would be read as black."""
    return next((bits for bits in (8, 10, 12, 14) if values.max(initial=0) < 1 << bits), 16)


def list_images(folder: Path) -> list[Path]:
    """Image files in a folder and the folders in it, sorted; hidden ones left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
