"""The door for images: reads image files as RGB arrays.

Only six decoders are ever run, whatever a file is called, and whatever Pillow raises ends as one `UserError`. An image
may be embedded in a JSON of labelme, whose path then stands for it.
"""

import base64
import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskrcnn.errors import UserError
from maskrcnn.input_files import open_regular, parse_json, read_bytes

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")  # of all others none is decoded; EPS would start Ghostscript
FORMAT_NAMES = "JPEG, PNG, BMP, GIF, TIFF or WebP"
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
EMBEDDED = ".json"  # the suffix of a file that may hold an image
MAX_IMAGE_BYTES = 1 << 29  # of an image file
MAX_PIXELS = 178_956_970  # twice Pillow's limit for warnings, its own for errors
ORIENTATION = 0x0112  # EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@contextlib.contextmanager
def open_image(path: Path, data: bytes | None = None, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Opens an image file, or ``data`` that ``path`` names in errors; decoding belongs into the ``with`` block.

    Raises:
        UserError: the file is missing, damaged, not a regular file, too large, or of another format.
    """
    data = read_image_bytes(path)[1] if data is None and path.suffix.lower() == EMBEDDED else data
    file: BinaryIO = io.BytesIO(data) if data is not None else open_regular(path)
    with file, reading(path), Image.open(file, formats=FORMATS) as image:
        if image.width * image.height > max_pixels:
            raise Image.DecompressionBombError(f"{image.width} x {image.height} px")
        yield image


def read_image_bytes(path: Path) -> tuple[bytes, bytes]:
    """The contents of a file, and those of its image: the same, unless it is embedded as base64 (``imageData``).

    Raises:
        UserError: the file cannot be read, is too large, or is a JSON without an image.
    """
    contents = read_bytes(path, MAX_IMAGE_BYTES)
    if path.suffix.lower() != EMBEDDED:
        return contents, contents
    try:
        text = parse_json(contents)["imageData"]
        return contents, base64.b64decode(text.rpartition(",")[2])  # some write data:image/png;base64,...
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: holds no image as base64 (imageData); save the image as a file beside it") from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever Pillow raises while it decodes into a `UserError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # malformed EXIF blocks and large sizes do not harm the pixels
            yield
    except (UserError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{path}: not a {FORMAT_NAMES} image; convert or remove it") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: the image is too large ({error}); make it smaller") from error
    except Exception as error:  # plugins raise nearly anything for a damaged file
        raise UserError(f"{path}: the image is damaged or truncated ({reason(error)}); replace or remove it") from error


def load_image(path: str | Path) -> NDArray[np.uint8]:
    """Reads an image file as upright RGB, [H, W, 3].

    Gray, palette, CMYK, 16-bit and transparent images are converted; of an animation the first frame is read.

    Raises:
        UserError: the file is missing, damaged, not a regular file, too large, not an image of a known format, or has
            pixels without an 8-bit meaning.
    """
    path = Path(path)
    with open_image(path) as image:
        return to_rgb(turn_upright(image), path)


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of the upright image, as `load_image` gives it, without decoding pixels.

    Raises:
        UserError: see `open_image`.
    """
    with open_image(path) as image:
        width, height = upright_size(image)
        return height, width


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 where there is none that makes sense.

    Pillow turns a TIFF itself, and decodes a PNG in search of an EXIF block after the pixels, which hardly any has.
    """
    if image.format == "TIFF":
        return 1
    try:
        late = image.format == "PNG" and "exif" not in image.info and not _has_late_exif(image)
        value = (Image.Image.getexif(image) if late else image.getexif()).get(ORIENTATION)
    except Exception:  # a block that cannot be parsed does not harm the pixels
        return 1
    return value if isinstance(value, int) and value in UPRIGHT else 1


def _has_late_exif(image: Any) -> bool:
    if image.fp is None:
        return False
    place = image.fp.tell()
    image.fp.seek(0)
    found = b"eXIf" in image.fp.read()
    image.fp.seek(place)
    return found


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image once it is turned upright."""
    width, height = image.size
    return (height, width) if orientation(image) >= 5 else (width, height)  # 5..8 turn by 90 degrees


def turn_upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says."""
    image.load()
    turn = UPRIGHT.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def reason(error: Exception) -> str:
    """The message of a decoder's error, without the Python objects that Pillow names in it."""
    return re.sub(r" ?<_?\w+\.[^>]*>", "", str(error))


def to_rgb(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    """Converts an image of any mode to 8-bit RGB [H, W, 3].

    Args:
        image: as Pillow opened it.
        path: names the image in errors.

    Raises:
        UserError: no pixels, or floating-point ones.
    """
    if not image.width or not image.height:
        raise UserError(f"{path}: the image has no pixels; replace or remove it")
    if image.mode == "F":
        raise UserError(f"{path}: floating-point pixels have no fixed range; save the image with 8 bits per channel")
    if image.mode.startswith("I"):  # 16 bits per pixel, in either byte order
        values = np.asarray(image).astype(np.int32)
        gray = np.clip(values >> (_bit_depth(values) - 8), 0, 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette may hold transparent colors; the alpha channel is dropped below
    return np.array(image.convert("RGB"))


def _bit_depth(values: NDArray[np.int32]) -> int:
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
