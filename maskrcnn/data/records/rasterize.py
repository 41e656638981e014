"""Ground-truth masks as bits relative to the object's box, made once, at conversion."""

from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

from maskrcnn.data.coco.annotations import Annotation
from maskrcnn.data.coco.segmentation import encode_rle

MASK_SIZE = 112  # px of a mask's side; the replaced system
MASK_BYTES = MASK_SIZE * MASK_SIZE // 8
MAX_COORDINATE = 1e4  # of a scaled polygon: bounds the outline that is walked when a box is far too small for it


def frame_mask(annotation: Annotation, height: int, width: int) -> np.ndarray:
    """The annotation's mask in its box: bool [MASK_SIZE, MASK_SIZE].

    Raises:
        ValueError: an RLE that cannot be decoded.
    """
    if isinstance(annotation.segmentation, list):
        return _polygon_mask(annotation.segmentation, annotation.box)
    return resample_mask(decode_mask(annotation, height, width), annotation.box)


def decode_mask(annotation: Annotation, height: int, width: int) -> np.ndarray:
    """The annotation's mask in its image: uint8 [height, width] of 0 and 1.

    Raises:
        ValueError: an RLE that cannot be decoded.
    """
    rle: Any = encode_rle(annotation.segmentation, height, width)
    return mask_utils.decode(rle)


def _polygon_mask(polygons: list[list[float]], box: tuple[float, float, float, float]) -> np.ndarray:
    x1, y1, x2, y2 = box
    scale = np.array([MASK_SIZE / (x2 - x1), MASK_SIZE / (y2 - y1)])
    scaled = []
    for polygon in polygons:
        points = (np.asarray(polygon, np.float64).reshape(-1, 2) - (x1, y1)) * scale
        scaled.append(points.clip(-MAX_COORDINATE, MAX_COORDINATE).ravel().tolist())
    rle: Any = encode_rle(scaled, MASK_SIZE, MASK_SIZE)
    return mask_utils.decode(rle).astype(bool)


def resample_mask(mask: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """A full-image mask [H, W] of 0 and 1, cut to ``box`` and resized: bool [MASK_SIZE, MASK_SIZE].

    Pillow's bilinear filter widens when it shrinks and takes fractional boxes.
    """
    resized = Image.fromarray(mask * np.uint8(255)).resize((MASK_SIZE, MASK_SIZE), Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized) >= 128


def pack_masks(masks: list[np.ndarray]) -> bytes:
    """Masks as bits, row by row, the highest bit first; MASK_BYTES each."""
    return b"".join(np.packbits(mask).tobytes() for mask in masks)
