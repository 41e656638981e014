"""Image files to RGB arrays, and arrays onto the model's canvas.

A canvas has its image in the upper left corner and zeros elsewhere; sizes are torchvision's, and so is the resizing:
bilinear, half-pixel centres, no antialiasing.
"""

import struct
import warnings
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from maskrcnn.config import CANVAS_STRIDE, ImageConfig
from maskrcnn.errors import UserError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})

# what Pillow's decoders raise for a damaged file, seen in its plugins
DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, zlib.error)


class Prepared(NamedTuple):
    """An image as the model takes it."""

    canvas: NDArray[np.uint8]  # [H, W, 3]
    image_size: tuple[int, int]  # height and width of the part of the canvas that the image fills, px
    original_size: tuple[int, int]  # height and width of the image itself, px


def load_image(path: str | Path) -> NDArray[np.uint8]:
    """Reads a picture as RGB, [H, W, 3], turned upright as its EXIF data say.

    Grey, palette, CMYK, 16-bit and transparent pictures are converted; of an animation the first frame is taken.

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
    if image.mode.startswith("I"):  # 16 bits a pixel, whatever the byte order; the high byte is the picture
        values = np.asarray(image).astype(np.int64)
        grey = np.clip(values >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette may hold transparent colours, which are dropped below
    return np.array(image.convert("RGB"))


def list_images(folder: Path) -> list[Path]:
    """Image files in a folder and the folders in it, sorted; hidden ones left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def resized_size(height: int, width: int, config: ImageConfig) -> tuple[int, int]:
    """Height and width after resizing.

    The shorter side becomes ``min_side``, unless that takes the longer one beyond ``max_side``, which it then becomes:
    torchvision's floor(size * scale), in exact arithmetic.
    """
    short, long = min(height, width), max(height, width)
    if config.min_side * long <= config.max_side * short:
        numerator, denominator = config.min_side, short
    else:
        numerator, denominator = config.max_side, long
    return max(height * numerator // denominator, 1), max(width * numerator // denominator, 1)


def canvas_size(height: int, width: int, config: ImageConfig) -> tuple[int, int]:
    """Height and width of the canvas of an image: landscape if it is at least as wide as high, else portrait."""
    short, long = _round_up(config.min_side), _round_up(config.max_side)
    return (short, long) if width >= height else (long, short)


def _round_up(side: int) -> int:
    return -(-side // CANVAS_STRIDE) * CANVAS_STRIDE


def prepare(image: NDArray[np.uint8], config: ImageConfig) -> Prepared:
    """Resizes an RGB image [H, W, 3] and puts it on its canvas."""
    height, width = image.shape[:2]
    size = resized_size(height, width, config)
    canvas = np.zeros((*canvas_size(height, width, config), 3), np.uint8)
    canvas[: size[0], : size[1]] = resize(image, size)
    return Prepared(canvas, size, (height, width))


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bilinear with half-pixel centres and no antialiasing, rounded to whole values: [H, W, 3] to [*size, 3]."""
    row, next_row, along_y = _sample_points(image.shape[0], size[0])
    column, next_column, along_x = _sample_points(image.shape[1], size[1])
    above, below = image[row], image[next_row]  # [h, W, 3]
    across = along_x[:, None]
    upper = above[:, column] * (1 - across) + above[:, next_column] * across  # [h, w, 3]
    lower = below[:, column] * (1 - across) + below[:, next_column] * across
    return np.rint(upper + (lower - upper) * along_y[:, None, None]).astype(np.uint8)


def _sample_points(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each of ``new`` pixels both of its neighbours among ``old`` ones, and the second one's weight."""
    source = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * np.float32(old / new) - np.float32(0.5)
    source = np.clip(source, 0, old - 1)
    first = source.astype(np.intp)
    return first, np.minimum(first + 1, old - 1), source - first.astype(np.float32)
