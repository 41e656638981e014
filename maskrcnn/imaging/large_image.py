"""Images too large for several copies: decoded once, converted region by region."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskrcnn.imaging.read import open_image, to_rgb, turn_upright

MAX_PIXELS = 1 << 31  # 46,340 px square; Pillow itself takes 179 million pixels for an attack

_limit = threading.Lock()


class LargeImage:
    """An image file as Pillow decodes it, 4 bytes a pixel (1 in gray); regions of it become RGB when asked for."""

    def __init__(self, path: str | Path) -> None:
        """Decodes a file.

        Raises:
            UserError: see `load_image`.
        """
        self._path = Path(path)
        with _pixel_limit(), open_image(self._path, max_pixels=MAX_PIXELS) as file:
            image = turn_upright(file)
            # of 16 bits, the largest in the whole image matters
            self._image = Image.fromarray(to_rgb(image, self._path)) if image.mode[0] in "IF" else image
        self.shape = (self._image.height, self._image.width, 3)

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[np.uint8]:
        """The RGB pixels of a region, rows first, as of an array."""
        (top, bottom, _), (left, right, _) = (
            part.indices(side) for part, side in zip(window, self.shape, strict=False)
        )
        with _pixel_limit():
            return to_rgb(self._image.crop((left, top, right, bottom)), self._path)

    def reduced(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """The image in a smaller size, width first."""
        return np.asarray(self._image.resize(size, Image.Resampling.BOX).convert("RGB"))


Pixels = NDArray[np.uint8] | LargeImage  # [H, W, 3] RGB


@contextlib.contextmanager
def _pixel_limit() -> Iterator[None]:
    with _limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before
