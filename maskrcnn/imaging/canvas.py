"""Resizes images and places them on the model's canvas.

A canvas has its image in the upper left corner and zeros elsewhere. Sizes and resizing are torchvision's: bilinear,
half-pixel centers, no antialiasing.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskrcnn.config import CANVAS_STRIDE, ImageConfig


class Prepared(NamedTuple):
    """An image as the model receives it."""

    canvas: NDArray[np.uint8]  # [H, W, 3]
    image_size: tuple[int, int]  # height and width that the image fills on the canvas, px
    original_size: tuple[int, int]  # height and width of the image itself, px


def resized_size(height: int, width: int, config: ImageConfig) -> tuple[int, int]:
    """Height and width after resizing.

    The shorter side becomes ``min_side``, unless the longer one would then exceed ``max_side``: in that case the longer
    side becomes ``max_side``. This is torchvision's floor(size * scale), in exact arithmetic.
    """
    short, long = min(height, width), max(height, width)
    if config.min_side * long <= config.max_side * short:
        numerator, denominator = config.min_side, short
    else:
        numerator, denominator = config.max_side, long
    return max(height * numerator // denominator, 1), max(width * numerator // denominator, 1)


def canvas_size(height: int, width: int, config: ImageConfig) -> tuple[int, int]:
    """Height and width of an image's canvas: landscape if the image is at least as wide as high, else portrait."""
    short, long = _round_up(config.min_side), _round_up(config.max_side)
    return (short, long) if width >= height else (long, short)


def _round_up(side: int) -> int:
    return -(-side // CANVAS_STRIDE) * CANVAS_STRIDE


def prepare(image: NDArray[np.uint8], config: ImageConfig) -> Prepared:
    """Resizes an RGB image [H, W, 3] and places it on its canvas."""
    height, width = image.shape[:2]
    size = resized_size(height, width, config)
    canvas = np.zeros((*canvas_size(height, width, config), 3), np.uint8)
    canvas[: size[0], : size[1]] = resize(image, size)
    return Prepared(canvas, size, (height, width))


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resizes [H, W, 3] to [*size, 3]: bilinear, half-pixel centers, no antialiasing, rounded to whole values."""
    row, next_row, along_y = sample_points(0, size[0], size[0], image.shape[0])
    column, next_column, along_x = sample_points(0, size[1], size[1], image.shape[1])
    above, below = image[row], image[next_row]  # [h, W, 3]
    across = along_x[:, None]
    upper = above[:, column] * (1 - across) + above[:, next_column] * across  # [h, w, 3]
    lower = below[:, column] * (1 - across) + below[:, next_column] * across
    return np.rint(upper + (lower - upper) * along_y[:, None, None]).astype(np.uint8)


def sample_points(
    start: int, stop: int, length: int, side: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """The two neighbors of pixels start..stop-1 of ``length`` among ``side`` others, and the weight of the second."""
    source = (np.arange(start, stop, dtype=np.float32) + np.float32(0.5)) * np.float32(side / length) - np.float32(0.5)
    source = np.clip(source, 0, side - 1)
    first = source.astype(np.intp)
    return first, np.minimum(first + 1, side - 1), source - first.astype(np.float32)
