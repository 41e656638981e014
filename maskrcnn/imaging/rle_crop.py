"""Masks as crops: the part of a run-length code inside a rectangle, decoded without the rest of the image."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maskrcnn.imaging.mask_paste import RLE, Rectangle, coco_mask


def mask_place(rle: RLE) -> Rectangle:
    """The smallest rectangle with all pixels of a mask; zeros if it has none."""
    x, y, width, height = (round(value) for value in coco_mask.toBbox(rle))
    return x, y, x + width, y + height


def bounding(places: Sequence[Rectangle]) -> Rectangle:
    """The smallest rectangle that holds all of several."""
    lefts, tops, rights, bottoms = zip(*places, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def decode_crop(rle: RLE, place: Rectangle) -> NDArray[np.bool_]:
    """Decodes the part of a mask inside a rectangle of the image: [h, w]."""
    left, top, right, bottom = place
    width, height = max(right - left, 0), max(bottom - top, 0)
    image_height = rle["size"][0]
    edges = np.cumsum(_counts(rle["counts"]))  # where runs end, down the columns
    starts, ends = edges[:-1:2], edges[1::2]
    inside = (ends > left * image_height) & (starts < right * image_height) & (ends > starts)
    starts, ends = starts[inside], ends[inside]
    first, last = starts // image_height, (ends - 1) // image_height
    spanned = last - first + 1  # columns of each run
    order = np.arange(spanned.sum()) - np.repeat(np.cumsum(spanned) - spanned, spanned)
    column = np.repeat(first, spanned) + order
    upper = np.maximum(np.repeat(starts, spanned) - column * image_height, top) - top
    lower = np.minimum(np.repeat(ends, spanned) - column * image_height, bottom) - top
    kept = (column >= left) & (column < right) & (lower > upper)
    base = (column[kept] - left) * height
    steps = np.zeros(width * height + 1, np.int8)  # of runs that touch, one ends where the other starts: they cancel
    np.add.at(steps, base + upper[kept], 1)
    np.add.at(steps, base + lower[kept], -1)
    return np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_).reshape(width, height).T


def _counts(code: bytes) -> NDArray[np.int64]:
    """The run lengths in a COCO code: 5 bits a character, lowest first, each but three less its predecessor but one."""
    values = np.frombuffer(code, np.uint8).astype(np.int64) - 48
    final = values & 0x20 == 0
    starts = np.concatenate([[0], np.flatnonzero(final)[:-1] + 1])
    position = np.arange(len(values)) - np.repeat(starts, np.diff(np.append(starts, len(values))))
    counts = np.add.reduceat((values & 0x1F) << 5 * position, starts)
    negative = final & (values & 0x10 != 0)
    counts -= np.add.reduceat(np.where(negative, np.int64(1) << 5 * (position + 1), 0), starts)
    counts[2::2] = np.cumsum(counts[2::2])
    counts[1::2] = np.cumsum(counts[1::2])
    return counts
