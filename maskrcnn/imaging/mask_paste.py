"""Pastes the mask head's square masks into their images.

The arithmetic is that of torchvision's ``paste_masks_in_image``. Only the part of the image inside the box is computed,
and run-length codes are built from that part alone.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as pycocotools_mask

from maskrcnn.imaging.canvas import sample_points

Rectangle = tuple[int, int, int, int]  # x1, y1, x2, y2 in whole pixels; x2 and y2 are exclusive
RLE = dict[str, Any]  # COCO's {"size": [height, width], "counts": bytes}

coco_mask: Any = pycocotools_mask  # its type stubs name a private class

PADDING = 1  # px of zeros around the mask, so that it fades out at the box's edge; torchvision
THRESHOLD = 0.5  # torchvision's and COCO's usual choice


def paste_probabilities(
    mask: NDArray[np.float32], box: NDArray[np.float32], height: int, width: int
) -> tuple[NDArray[np.float32], Rectangle]:
    """Stretches a square mask over its box and crops it to the image.

    Args:
        mask: [M, M] probabilities.
        box: [4] xyxy in pixels of the image.
        height: height of the image, px.
        width: width of the image, px.

    Returns:
        [h, w] probabilities and the rectangle that they cover; h or w is 0 if the box lies outside the image.
    """
    side = mask.shape[0] + 2 * PADDING
    padded = np.zeros((side, side), np.float32)
    padded[PADDING:-PADDING, PADDING:-PADDING] = mask.T
    x1, y1, x2, y2 = _expand(np.asarray(box, np.float32), side / mask.shape[0])
    left, right = max(x1, 0), min(x2 + 1, width)
    top, bottom = max(y1, 0), min(y2 + 1, height)
    if right <= left or bottom <= top:
        return np.zeros((0, 0), np.float32), (0, 0, 0, 0)
    # torchvision counts the corner pixels: x2 - x1 + 1 columns
    column, next_column, along_x = sample_points(left - x1, right - x1, max(x2 - x1 + 1, 1), side)
    row, next_row, along_y = sample_points(top - y1, bottom - y1, max(y2 - y1 + 1, 1), side)
    along_x = along_x[:, None]
    stretched = padded.take(column, 0) * (1 - along_x)  # [w, M + 2]
    stretched += padded.take(next_column, 0) * along_x
    crop = stretched.take(row, 1)
    crop *= 1 - along_y
    below = stretched.take(next_row, 1)
    below *= along_y
    crop += below
    return crop.T, (left, top, right, bottom)  # in memory column by column, as run-length codes go


def encode_crop(crop: NDArray[np.bool_], place: Rectangle, height: int, width: int) -> RLE:
    """The COCO run-length code of an image that is empty outside ``crop``, computed without that image.

    Args:
        crop: [h, w] bool.
        place: the rectangle of the image that ``crop`` covers.
        height: height of the image, px.
        width: width of the image, px.
    """
    columns = crop.T  # [w, h]
    left, top = place[:2]
    # runs go down the columns; an empty pixel above each column and after the last one ends every run in its column
    stride = columns.shape[1] + 1
    bordered = np.zeros(columns.shape[0] * stride + 1, np.bool_)
    bordered[:-1].reshape(-1, stride)[:, 1:] = columns
    # where a run starts or ends, counting the pixel above each column
    change = np.flatnonzero(bordered[1:] != bordered[:-1])
    positions = change + (change // stride) * (height - stride) + (left * height + top)
    if columns.shape[1] == height:  # a run that reaches the foot of a column and one that starts the next are one
        joined = np.flatnonzero(positions[1:] == positions[:-1])
        positions = np.delete(positions, np.concatenate([joined, joined + 1]))
    counts = np.diff(positions, prepend=0, append=height * width)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    return coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)


def paste_and_encode(masks: NDArray[np.float32], boxes: NDArray[np.float32], height: int, width: int) -> list[RLE]:
    """The run-length codes of masks [K, M, M] in boxes [K, 4] of an image."""
    codes = []
    for mask, box in zip(masks, boxes, strict=True):
        crop, place = paste_probabilities(mask, box, height, width)
        codes.append(encode_crop(crop >= THRESHOLD, place, height, width))
    return codes


def decode_rles(codes: list[RLE], height: int, width: int) -> NDArray[np.bool_]:
    """Decodes run-length codes to masks [K, height, width]."""
    if not codes:
        return np.zeros((0, height, width), np.bool_)
    with warnings.catch_warnings():
        # pycocotools 2.0.11 does not know NumPy 2's copy keyword
        warnings.filterwarnings("ignore", "__array__", DeprecationWarning)
        pixels = coco_mask.decode(codes)  # [height, width, K], column-major
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0)).view(np.bool_)


def _expand(box: NDArray[np.float32], scale: float) -> Rectangle:
    """The box scaled about its center, with its corners truncated to integers."""
    center = (box[2:] + box[:2]) * np.float32(0.5)
    half = (box[2:] - box[:2]) * np.float32(0.5) * np.float32(scale)
    x1, y1 = (int(value) for value in center - half)
    x2, y2 = (int(value) for value in center + half)
    return x1, y1, x2, y2
