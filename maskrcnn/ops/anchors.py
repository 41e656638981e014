"""Anchors of one pyramid level (torchvision's grid: the first center is at (0, 0), corners are rounded).

Legend: R aspect ratios, H x W locations of the level's feature map.
"""

from collections.abc import Sequence

import numpy as np
from keras import ops

from maskrcnn.ops.typing import Float, Size, Tensor


def base_anchors(size: float, aspect_ratios: Sequence[float], *, rounded: bool = True) -> Float[np.ndarray, "R 4"]:
    """The anchors of one location, centered at (0, 0).

    Args:
        size: square root of the area, px.
        aspect_ratios: height / width of each.
        rounded: to whole px, as torchvision does; Detectron2 does not.
    """
    height_ratios = np.sqrt(np.asarray(aspect_ratios, "float32"))
    half = np.stack([size / height_ratios, size * height_ratios], axis=-1).astype("float32") / 2
    corners = np.concatenate([-half, half], axis=-1)
    return np.round(corners) if rounded else corners  # half to even, as torchvision rounds


def grid_anchors(height: Size, width: Size, stride: int, base: Float[np.ndarray, "R 4"]) -> Float[Tensor, "HWR 4"]:
    """The anchors of a feature map of ``height`` x ``width`` locations, in the order row, column, ratio.

    Args:
        height, width: ints or, where unknown at trace time, integer scalars.
        stride: px between locations.
        base: anchors of one location, from ``base_anchors``.
    """
    y, x = ops.meshgrid(_positions(height, stride), _positions(width, stride), indexing="ij")
    centers = ops.reshape(ops.stack([x, y, x, y], axis=-1), (-1, 1, 4))  # [H * W, 1, 4]
    return ops.reshape(centers + ops.convert_to_tensor(base, "float32"), (-1, 4))


def _positions(count: Size, stride: int) -> Float[Tensor, " count"]:
    return ops.cast(ops.arange(count, dtype="int32"), "float32") * float(stride)
