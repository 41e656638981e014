"""Draws instances onto their image: a tinted mask with a contour, a thin box, and a label that stays legible."""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the drawing

MASK_OPACITY = 0.42
BOX_OPACITY = 0.85
LABEL_OPACITY = 0.88
TYPICAL_PART = 8  # times the side of a typical object
GOLDEN_RATIO = 0.61803399  # hues in steps of it never repeat, and consecutive ones are far apart


@dataclass(frozen=True)
class Instance:
    """The parts of an object that are drawn."""

    box: NDArray[np.float32]  # [4] xyxy, px of the image
    mask: NDArray[np.bool_] | None  # [h, w], the whole image or the part of it that begins at ``origin``
    label: str
    color: Color
    origin: tuple[int, int] = (0, 0)  # x and y, px of the image


def color_of(number: int) -> Color:
    """A saturated color for each number; consecutive numbers have very different ones."""
    hue = (0.58 + number * GOLDEN_RATIO) % 1.0
    lightness = (0.52, 0.44, 0.60)[number // 5 % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_instances(image: NDArray[np.uint8], instances: Sequence[Instance], *, scale: float = 1.0) -> Image.Image:
    """Draws instances onto a copy of an RGB image [H, W, 3], large ones first, so that small ones stay visible.

    Args:
        image: the pixels to draw on.
        instances: the objects, in any order.
        scale: enlargement of the image, but not of lines and letters.
    """
    height, width = image.shape[:2]
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return draw_resized(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC), instances, scale)


def draw_resized(image: Image.Image, instances: Sequence[Instance], scale: float) -> Image.Image:
    """Draws instances onto a copy of an RGB image that was resized by ``scale`` before."""
    canvas = np.array(image, np.float32)
    side = _typical_side(image.size, instances, scale)
    line = max(1, round(side / 320))
    ordered = sorted(instances, key=lambda instance: -_area(instance.box))
    for instance in ordered:
        if instance.mask is not None:
            _tint(canvas, *_resize(instance.mask, instance.origin, image.size, scale), instance.color, line)
    drawing = Image.fromarray(np.rint(canvas).astype(np.uint8)).convert("RGBA")
    _draw_boxes(drawing, ordered, scale, line)
    _draw_labels(drawing, ordered, scale, (line, int(np.clip(side / 40, 11, 40))))
    return drawing.convert("RGB")


def _typical_side(size: tuple[int, int], instances: Sequence[Instance], scale: float) -> float:
    """The side of an image in which lines and letters look right: smaller than it is if its objects are small."""
    sides = [float(max(one.box[2] - one.box[0], one.box[3] - one.box[1])) * scale for one in instances]
    return min(float(min(size)), TYPICAL_PART * float(np.median(sides))) if sides else float(min(size))


def _area(box: NDArray[np.float32]) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _resize(
    mask: NDArray[np.bool_], origin: tuple[int, int], size: tuple[int, int], scale: float
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """A mask and its origin in a drawing of another size."""
    if scale == 1 or not mask.size:
        return mask, origin
    left, top = (int(start * scale) for start in origin)
    right = min(math.ceil((origin[0] + mask.shape[1]) * scale), size[0])
    lower = min(math.ceil((origin[1] + mask.shape[0]) * scale), size[1])
    border = math.ceil(1 / scale) + 1  # the drawing's pixels may reach beyond the mask
    source = Image.fromarray(np.pad(mask, border).astype(np.uint8) * 255)
    box = (
        left / scale - origin[0] + border,
        top / scale - origin[1] + border,
        right / scale - origin[0] + border,
        lower / scale - origin[1] + border,
    )
    new_size = max(right - left, 1), max(lower - top, 1)
    return np.asarray(source.resize(new_size, Image.Resampling.BILINEAR, box)) >= 128, (left, top)


def _tint(
    canvas: NDArray[np.float32], mask: NDArray[np.bool_], origin: tuple[int, int], color: Color, line: int
) -> None:
    """Blends the color into the canvas [H, W, 3] under the mask and draws the mask's contour, in place."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = origin[1] + rows[0], origin[0] + columns[0]
    region = canvas[top : top + inside.shape[0], left : left + inside.shape[1]]
    ink = np.asarray(color, np.float32)
    region[inside] += (ink - region[inside]) * MASK_OPACITY
    contour = inside & ~_erode(inside, line)
    region[contour] = ink


def _erode(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    for _ in range(steps):
        padded = np.pad(mask, 1)
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask


def _draw_boxes(drawing: Image.Image, instances: Sequence[Instance], scale: float, line: int) -> None:
    layer = Image.new("RGBA", drawing.size)
    pen = ImageDraw.Draw(layer)
    limits = [drawing.width - 1, drawing.height - 1] * 2
    for instance in instances:
        x1, y1, x2, y2 = np.clip([float(value) * scale for value in instance.box], 0, limits).tolist()
        corners = [x1, y1, max(x1, x2), max(y1, y2)]
        pen.rectangle(corners, outline=(*instance.color, round(255 * BOX_OPACITY)), width=line)
    drawing.alpha_composite(layer)


def _draw_labels(drawing: Image.Image, instances: Sequence[Instance], scale: float, sizes: tuple[int, int]) -> None:
    line, letters = sizes
    font = _font(letters)
    layer = Image.new("RGBA", drawing.size)
    pen = ImageDraw.Draw(layer)
    taken: list[Rectangle] = []
    for instance in instances:
        if not instance.label:
            continue
        margin = max(2, line + 1)
        left, _, right, _ = pen.textbbox((0, 0), instance.label, font=font)
        ascent, descent = font.getmetrics()
        text_size = right - left + 2 * margin, ascent + descent + margin
        place = _free_place(instance.box * scale, text_size, drawing.size, taken)
        taken.append(place)
        pen.rounded_rectangle(place, radius=margin, fill=(*instance.color, round(255 * LABEL_OPACITY)))
        pen.text((place[0] + margin - left, place[1] + margin / 2), instance.label, _contrast(instance.color), font)
    drawing.alpha_composite(layer)


def _free_place(
    box: NDArray[np.float32], text_size: tuple[float, float], drawing_size: tuple[int, int], taken: list[Rectangle]
) -> Rectangle:
    """The position at a box where a label covers the least of the labels drawn so far; above the box if free."""
    x1, y1, x2, y2 = (float(value) for value in box)
    width, height = text_size
    corners = [(x1, y1 - height), (x1, y1), (x2 - width, y1 - height), (x2 - width, y1), (x1, y2), (x1, y2 - height)]
    corners += [(x1, y1 + height * step) for step in (1, 2)]
    candidates = []
    for left, top in corners:
        left = min(max(left, 0.0), max(drawing_size[0] - width - 1, 0.0))
        top = min(max(top, 0.0), max(drawing_size[1] - height - 1, 0.0))
        candidates.append((left, top, left + width, top + height))
    return min(candidates, key=lambda place: sum(_overlap(place, other) for other in taken))


def _overlap(first: Rectangle, second: Rectangle) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0) * max(height, 0)


def _contrast(color: Color) -> Color:
    """Black on light colors, white on dark ones (luma of Rec. 601)."""
    return (0, 0, 0) if np.dot(color, (0.299, 0.587, 0.114)) > 140 else (255, 255, 255)


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    """DejaVu, which matplotlib ships; without matplotlib Pillow's own font, which has Latin letters only."""
    try:
        from matplotlib import get_data_path
    except ImportError:
        return ImageFont.load_default(size)
    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
