"""RoIAlign on one map or on a pyramid; Mask R-CNN, Sec. 3, and FPN, Sec. 4.2.

The numbers are torchvision's: with ``aligned=False`` there is no half-pixel shift and a box covers at least one
location of the feature map. Boxes on a map are measured in its locations, which are one stride apart.
Legend: B images, N boxes, P bins a side, R sample points a side of a bin, C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from keras import ops

from maskrcnn.ops.boxes import area
from maskrcnn.ops.fast.bilinear_average import BilinearSamples, average
from maskrcnn.ops.indexing import flatten_pyramid
from maskrcnn.ops.typing import Float, Int, Tensor

CANONICAL_LEVEL, CANONICAL_SIZE = 4, 224.0  # k0 and the ImageNet size of FPN, Eq. 1
FIRST_LEVEL = 2  # of the pyramid that boxes are pooled from

Map = Float[Tensor, "B H W C"]
Boxes = Float[Tensor, "B N 4"]
Pooled = Float[Tensor, "B N P P C"]


@dataclass(frozen=True)
class _Grid:
    """Bins of a box, and sample points in them."""

    output_size: int | tuple[int, int]
    sampling_ratio: int
    aligned: bool

    @property
    def bins(self) -> tuple[int, int]:
        """Rows and columns."""
        return (self.output_size, self.output_size) if isinstance(self.output_size, int) else self.output_size


def roi_align(
    features: Map,
    boxes: Boxes,
    *,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> Pooled:
    """Averages bilinear samples over a grid of bins in each box.

    Args:
        features: a feature map.
        boxes: px of the image.
        output_size: P, or (rows, columns).
        spatial_scale: locations a pixel, 1 / stride.
        sampling_ratio: R.
        aligned: shift by half a location, so that its center is at +0.5 (Detectron2).
    """
    levels = ops.zeros_like(boxes[..., 0], dtype="int32")
    return _pool([features], [spatial_scale], boxes, levels, _Grid(output_size, sampling_ratio, aligned))


def assign_levels(boxes: Boxes, *, min_level: int = FIRST_LEVEL, max_level: int = 5) -> Int[Tensor, "B N"]:
    """The pyramid level that each box is pooled from: floor(k0 + log2(sqrt(wh) / 224)), Eq. 1 of FPN."""
    areas = area(boxes)
    side = ops.sqrt(ops.where(areas > 1e-12, areas, 1e-12))  # NaN, too, has a level
    level = ops.floor(CANONICAL_LEVEL + ops.log2(side / CANONICAL_SIZE) + 1e-6)  # epsilon as in torchvision
    return ops.cast(ops.clip(level, min_level, max_level), "int32")


def multilevel_roi_align(
    features: Sequence[Map],
    boxes: Boxes,
    *,
    output_size: int | tuple[int, int],
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> Pooled:
    """RoIAlign of each box on its own level of the pyramid, in the features' dtype.

    Args:
        features: P2, P3, ... [B, H / 2^l, W / 2^l, C].
        boxes: px of the image.
        output_size, sampling_ratio, aligned: see ``roi_align``.
    """
    levels = assign_levels(boxes, max_level=FIRST_LEVEL + len(features) - 1) - FIRST_LEVEL
    scales = [0.5 ** (FIRST_LEVEL + level) for level in range(len(features))]
    return _pool(features, scales, boxes, levels, _Grid(output_size, sampling_ratio, aligned))


def _pool(
    features: Sequence[Map], scales: Sequence[float], boxes: Boxes, levels: Int[Tensor, "B N"], grid: _Grid
) -> Pooled:
    """Pools box n of image b from ``features[levels[b, n]]``."""
    table = flatten_pyramid(features)
    boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
    boxes = boxes * ops.take(ops.convert_to_tensor(scales, "float32"), levels)[..., None]  # in locations
    offset, height, width = (ops.take(sizes, levels) for sizes in table[1:])  # [B, N]
    bins = grid.bins
    rows = _bilinear_samples(boxes[..., 1], boxes[..., 3], ops.cast(height, "float32"), bins[0], grid)
    columns = _bilinear_samples(boxes[..., 0], boxes[..., 2], ops.cast(width, "float32"), bins[1], grid)
    rows = rows._replace(locations=offset[..., None] + rows.locations * width[..., None])
    return ops.cast(average(table.features, rows, columns), features[0].dtype)


def _bilinear_samples(
    start: Float[Tensor, "B N"], end: Float[Tensor, "B N"], limit: Float[Tensor, "B N"], bins: int, grid: _Grid
) -> BilinearSamples:
    """The samples of the bins along one axis, from box sides and map sizes in locations."""
    if grid.aligned:
        start, size = start - 0.5, end - start
    else:
        size = ops.maximum(end - start, 1.0)
    start, size, limit = (values[..., None] for values in (start, size, limit))  # [B, N, 1]
    locations, weights = [], []
    for sample in range(grid.sampling_ratio):
        steps = ops.arange(bins, dtype="float32") + (sample + 0.5) / grid.sampling_ratio  # in bins
        points = start + steps * (size / bins)  # [B, N, P]
        inside = (points >= -1.0) & (points <= limit)  # others, NaN too, count 0 and read location 0
        points = ops.where(inside, ops.clip(points, 0.0, limit - 1.0), 0.0)
        share = ops.cast(inside, "float32") / grid.sampling_ratio
        low = ops.floor(points)
        high = ops.minimum(low + 1.0, limit - 1.0)
        fraction = points - low
        locations += [ops.cast(low, "int32"), ops.cast(high, "int32")]
        weights += [(1.0 - fraction) * share, fraction * share]
    return BilinearSamples(ops.stack(locations), ops.stack(weights))
