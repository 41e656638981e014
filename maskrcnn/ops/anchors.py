"""Anchors of one pyramid level (torchvision's grid: the first center is at (0, 0), corners are rounded)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops


def base_anchors(size: float, aspect_ratios: Sequence[float], *, rounded: bool = True) -> np.ndarray:
    """The R anchors of one cell, centerd at (0, 0): [R, 4].

    Args:
        size: square root of the area, px.
        aspect_ratios: height / width of each.
        rounded: to whole px, as torchvision does; Detectron2 does not.
    """
    height_ratios = np.sqrt(np.asarray(aspect_ratios, "float32"))
    half = np.stack([size / height_ratios, size * height_ratios], axis=-1).astype("float32") / 2
    corners = np.concatenate([-half, half], axis=-1)
    return np.round(corners) if rounded else corners  # half to even, as torchvision rounds


def grid_anchors(height: Any, width: Any, stride: int, base: np.ndarray) -> Any:
    """Anchors of a map of ``height`` x ``width`` cells, in the order row, column, ratio: [H * W * R, 4].

    Args:
        height, width: ints or, where unknown at trace time, integer scalars.
        stride: px between cells.
        base: [R, 4] from ``base_anchors``.
    """
    y, x = ops.meshgrid(_positions(height, stride), _positions(width, stride), indexing="ij")
    centers = ops.reshape(ops.stack([x, y, x, y], axis=-1), (-1, 1, 4))  # [H * W, 1, 4]
    return ops.reshape(centers + ops.convert_to_tensor(base, "float32"), (-1, 4))


def _positions(count: Any, stride: int) -> Any:
    return ops.cast(ops.arange(count, dtype="int32"), "float32") * float(stride)
