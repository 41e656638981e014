"""Image files as they go into records: encoded, 8-bit RGB, on the grid that the annotations were drawn on."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from maskrcnn.errors import UserError
from maskrcnn.imaging.read import DAMAGED, to_rgb

ORIENTATION = 0x0112  # EXIF tag


@dataclass(frozen=True)
class StoredImage:
    """An encoded RGB image whose pixels agree with the annotations' grid."""

    data: bytes
    format: str  # "jpeg" or "png"
    height: int
    width: int


def store_image(path: Path, height: int, width: int) -> StoredImage:
    """The file's own bytes where a decoder that knows nothing of EXIF reads them as 8-bit RGB; else the pixels as PNG.

    ``height`` and ``width`` are those of the annotations: they tell whether these were drawn on the upright image or on
    the pixels as stored.

    Raises:
        ValueError: unreadable, truncated, or of another size than annotated.
    """
    try:
        data = path.read_bytes()
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore", UserWarning)  # odd EXIF blocks do not harm the pixels
            turn = _must_turn(image, height, width)
            if image.format in ("JPEG", "MPO") and image.mode == "RGB" and not turn:
                image.draft("RGB", (1, 1))  # truncation shows in the entropy decoder; an eighth of the size will do
                image.load()
                return StoredImage(data, "jpeg", height, width)
            pixels = to_rgb(ImageOps.exif_transpose(image) if turn else image, path)
    except WrongSizeError:
        raise
    except UserError as error:
        raise ValueError(str(error).removeprefix(f"{path}: ")) from error
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be decoded ({error})") from error
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return StoredImage(buffer.getvalue(), "png", height, width)


class WrongSizeError(ValueError):
    """The image and its annotations disagree."""


def _must_turn(image: Image.Image, height: int, width: int) -> bool:
    orientation = image.getexif().get(ORIENTATION, 1)
    upright = image.size[::-1] if orientation >= 5 else image.size  # 5..8 turn by 90 degrees
    if (width, height) == upright:
        return orientation != 1
    if (width, height) == image.size:
        return False
    raise WrongSizeError(f"is {upright[0]} x {upright[1]} px, annotated as {width} x {height}")
