"""RoIAlign on one map or on a pyramid; Mask R-CNN, Sec. 3, and FPN, Sec. 4.2.

The numbers are torchvision's: with ``aligned=False`` there is no half-pixel shift and a box covers at least one cell.
Legend: B images, N boxes, P bins a side, R sample points a side of a bin, S cells of all maps.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

from maskrcnn.ops.boxes import area
from maskrcnn.ops.cells import flatten_pyramid
from maskrcnn.ops.select import gather_rows

CANONICAL_LEVEL, CANONICAL_SIZE = 4, 224.0  # k0 and the ImageNet size of FPN, Eq. 1
FIRST_LEVEL = 2  # of the pyramid that boxes are pooled from


class _Taps(NamedTuple):
    """The two cells that each sample point of one axis reads, and their weights: each [B, R, N, P]."""

    cells: tuple[Any, Any]
    weights: tuple[Any, Any]


def roi_align(
    features: Any,
    boxes: Any,
    *,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> Any:
    """Bilinear averages over a grid of bins in each box: [B, H, W, C], [B, N, 4] -> [B, N, P, P, C].

    Args:
        output_size: P, or (rows, columns).
        spatial_scale: cells a pixel, 1 / stride.
        sampling_ratio: R.
        aligned: shift by half a cell, so that a cell's centre is at +0.5 (Detectron2).
    """
    levels = ops.zeros_like(boxes[..., 0], dtype="int32")
    return _pool([features], [spatial_scale], boxes, levels, _size(output_size), sampling_ratio, aligned)


def assign_levels(boxes: Any, *, min_level: int = FIRST_LEVEL, max_level: int = 5) -> Any:
    """Pyramid level that each box is pooled from: int32 [B, N]; floor(k0 + log2(sqrt(wh) / 224)), Eq. 1 of FPN."""
    areas = area(boxes)
    side = ops.sqrt(ops.where(areas > 1e-12, areas, 1e-12))  # NaN, too, has a level
    level = ops.floor(CANONICAL_LEVEL + ops.log2(side / CANONICAL_SIZE) + 1e-6)  # epsilon as in torchvision
    return ops.cast(ops.clip(level, min_level, max_level), "int32")


def multilevel_roi_align(
    features: Sequence[Any],
    boxes: Any,
    *,
    output_size: int | tuple[int, int],
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> Any:
    """RoIAlign of each box on its own level of the pyramid: [B, N, P, P, C] in the features' dtype.

    Args:
        features: P2, P3, ... [B, H / 2^l, W / 2^l, C].
        boxes: [B, N, 4] px of the image.
        output_size, sampling_ratio, aligned: as in ``roi_align``.
    """
    levels = assign_levels(boxes, max_level=FIRST_LEVEL + len(features) - 1) - FIRST_LEVEL
    scales = [0.5 ** (FIRST_LEVEL + level) for level in range(len(features))]
    return _pool(features, scales, boxes, levels, _size(output_size), sampling_ratio, aligned)


def _size(output_size: int | tuple[int, int]) -> tuple[int, int]:
    return (output_size, output_size) if isinstance(output_size, int) else output_size


def _pool(
    features: Sequence[Any],
    scales: Sequence[float],
    boxes: Any,
    levels: Any,
    bins: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
) -> Any:
    """Pools box n of image b from ``features[levels[b, n]]``."""
    table = flatten_pyramid(features)
    boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
    boxes = boxes * ops.take(ops.convert_to_tensor(scales, "float32"), levels)[..., None]  # in cells
    offset, height, width = (ops.take(sizes, levels) for sizes in table[1:])  # [B, N]
    rows = _taps(boxes[..., 1], boxes[..., 3], ops.cast(height, "float32"), bins[0], sampling_ratio, aligned)
    columns = _taps(boxes[..., 0], boxes[..., 2], ops.cast(width, "float32"), bins[1], sampling_ratio, aligned)
    offset, width = offset[:, None, :, None], width[:, None, :, None]
    rows = rows._replace(cells=tuple(offset + row * width for row in rows.cells))
    pooled = _average(table.cells, rows, columns, bins, sampling_ratio)
    return ops.cast(pooled, features[0].dtype)


def _taps(start: Any, end: Any, limit: Any, bins: int, sampling_ratio: int, aligned: bool) -> _Taps:
    """Sample points along one axis, from box sides and map sizes in cells, each [B, N]."""
    if aligned:
        start, size = start - 0.5, end - start
    else:
        size = ops.maximum(end - start, 1.0)
    first = (ops.arange(sampling_ratio, dtype="float32") + 0.5) / sampling_ratio
    steps = ops.reshape(first, (-1, 1, 1)) + ops.arange(bins, dtype="float32")  # [R, 1, P] in bins
    points = start[:, None, :, None] + steps * (size / bins)[:, None, :, None]  # [B, R, N, P]
    limit = limit[:, None, :, None]
    inside = (points >= -1.0) & (points <= limit)  # others, NaN too, count 0 and read cell 0
    points = ops.where(inside, ops.clip(points, 0.0, limit - 1.0), 0.0)
    inside = ops.cast(inside, "float32")
    low = ops.floor(points)
    high = ops.minimum(low + 1.0, limit - 1.0)
    fraction = points - low
    cells = (ops.cast(low, "int32"), ops.cast(high, "int32"))
    return _Taps(cells, ((1.0 - fraction) * inside, fraction * inside))


def _average(table: Any, rows: _Taps, columns: _Taps, bins: tuple[int, int], sampling_ratio: int) -> Any:
    """Weighted mean of the table's cells [B, S, C] over each bin, float32 [B, N, P, P, C]; rows come as offsets.

    One corner of all sample points at a time: at 832x1344 with 1000 boxes a corner is 200 MB. In float32 even for half
    precision, as the gradient adds up the contributions of hundreds of boxes in one cell.
    """
    table = ops.cast(table, "float32")
    batch, _, num_boxes, _ = ops.shape(rows.cells[0])
    samples = list(itertools.product(range(sampling_ratio), repeat=2))
    pooled = 0.0
    for row, row_weight in zip(rows.cells, rows.weights, strict=True):
        for column, column_weight in zip(columns.cells, columns.weights, strict=True):
            indices = ops.stack([row[:, i, :, :, None] + column[:, j, :, None, :] for i, j in samples], axis=1)
            corner = gather_rows(table, ops.reshape(indices, (batch, -1)))  # [B, R * R * N * P * P, C]
            corner = ops.reshape(corner, (batch, len(samples), num_boxes, *bins, table.shape[-1]))
            # Not one product and a sum over the samples: on a CPU, JAX takes ten times as long for that.
            for (i, j), cells in zip(samples, ops.split(corner, len(samples), axis=1), strict=True):
                weights = row_weight[:, i, :, :, None] * column_weight[:, j, :, None, :]  # [B, N, P, P]
                pooled = pooled + ops.squeeze(cells, 1) * weights[..., None]
    return pooled / sampling_ratio**2
