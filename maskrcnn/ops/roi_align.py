"""RoIAlign on one map or on a pyramid; Mask R-CNN, Sec. 3, and FPN, Sec. 4.2.

The numbers are torchvision's: with ``aligned=False`` there is no half-pixel shift and a box covers at least one cell.
Legend: B images, N boxes, P bins a side, R sample points a side of a bin, S cells of all maps.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

from maskrcnn.ops.boxes import area
from maskrcnn.ops.indexing import add_rows, flatten_pyramid, gather_rows
from maskrcnn.runtime import compiler

CANONICAL_LEVEL, CANONICAL_SIZE = 4, 224.0  # k0 and the ImageNet size of FPN, Eq. 1
FIRST_LEVEL = 2  # of the pyramid that boxes are pooled from


class _Taps(NamedTuple):
    """The 2R cells that a bin reads along one axis, and their weights in the bin's mean: each [2R, B, N, P]."""

    cells: Any
    weights: Any


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
        aligned: shift by half a cell, so that a cell's center is at +0.5 (Detectron2).
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
    rows = rows._replace(cells=offset[..., None] + rows.cells * width[..., None])
    return ops.cast(_average(table.cells, rows, columns), features[0].dtype)


def _taps(start: Any, end: Any, limit: Any, bins: int, sampling_ratio: int, aligned: bool) -> _Taps:
    """What the bins read along one axis, from box sides and map sizes in cells, each [B, N]."""
    if aligned:
        start, size = start - 0.5, end - start
    else:
        size = ops.maximum(end - start, 1.0)
    start, size, limit = (values[..., None] for values in (start, size, limit))  # [B, N, 1]
    cells, weights = [], []
    for sample in range(sampling_ratio):
        steps = ops.arange(bins, dtype="float32") + (sample + 0.5) / sampling_ratio  # in bins
        points = start + steps * (size / bins)  # [B, N, P]
        inside = (points >= -1.0) & (points <= limit)  # others, NaN too, count 0 and read cell 0
        points = ops.where(inside, ops.clip(points, 0.0, limit - 1.0), 0.0)
        share = ops.cast(inside, "float32") / sampling_ratio
        low = ops.floor(points)
        high = ops.minimum(low + 1.0, limit - 1.0)
        fraction = points - low
        cells += [ops.cast(low, "int32"), ops.cast(high, "int32")]
        weights += [(1.0 - fraction) * share, fraction * share]
    return _Taps(ops.stack(cells), ops.stack(weights))


def _average(table: Any, rows: _Taps, columns: _Taps) -> Any:
    """Weighted sum of the cells [B, S, C] that each bin reads, float32 [B, N, P, P, C]; rows come as offsets.

    The gradient is added to one table, the taps of one row at a time: all cells that 512 boxes read are 1.6 GB at
    832x1344, and automatic differentiation would hold them at once. It is summed in float32 for half precision too, as
    hundreds of boxes may meet in one cell.
    """

    @ops.custom_gradient  # of its arguments only: JAX lets it see no other values where it is in a branch
    def average(table: Any, *taps: Any) -> Any:
        rows, columns = _Taps(*taps[:2]), _Taps(*taps[2:])
        size = ops.shape(table)[1]  # the gradient needs no more of the table, and must not keep it

        def gradient(*arguments: Any, upstream: Any = None) -> tuple[Any, ...]:
            upstream = arguments[0] if upstream is None else upstream
            total = _spread(upstream, rows, columns, size)
            return (ops.cast(total, table.dtype), *[None] * len(taps))

        return _weighted_sum(table, rows, columns), gradient

    return average(table, *rows, *columns)


@compiler.compiled_by_xla  # as one pass over the result, not one for each of 16 taps
def _weighted_sum(table: Any, rows: _Taps, columns: _Taps) -> Any:
    batch, _, channels = ops.shape(table)
    count = rows.cells.shape[0]
    pooled = 0.0
    for row in range(count):
        taps = (ops.unstack(values, count) for values in _read_by(row, rows, columns))
        for cells, weights in zip(*taps, strict=True):
            values = gather_rows(table, ops.reshape(cells, (batch, -1)))
            values = ops.reshape(values, (*ops.shape(cells), channels))
            pooled = pooled + ops.cast(values, "float32") * weights[..., None]
    return pooled


@compiler.compiled_by_xla
def _spread(upstream: Any, rows: _Taps, columns: _Taps, size: int) -> Any:
    """The transpose of `_weighted_sum`: what arrives at the bins [B, N, P, P, C], on the cells they read [B, S, C]."""
    batch, channels = ops.shape(upstream)[0], upstream.shape[-1]

    def add(row: Any, table: Any) -> Any:
        cells, weights = (ops.moveaxis(values, 0, 1) for values in _read_by(row, rows, columns))
        values = upstream[:, None] * weights[..., None]  # [B, 2R, N, P, P, C]
        return add_rows(table, ops.reshape(cells, (batch, -1)), ops.reshape(values, (batch, -1, channels)))

    return ops.fori_loop(0, rows.cells.shape[0], add, ops.zeros((batch, size, channels), "float32"))


def _read_by(row: Any, rows: _Taps, columns: _Taps) -> tuple[Any, Any]:
    """Cells and weights of a row's taps with all of the columns': [2R, B, N, P, P] each."""
    cell, weight = (ops.expand_dims(values[row], -1) for values in rows)  # [B, N, P, 1]
    return cell + ops.expand_dims(columns.cells, -2), weight * ops.expand_dims(columns.weights, -2)
