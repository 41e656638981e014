"""Mask targets and mask selection; Mask R-CNN, Sec. 3.

Legend: B images, K boxes, M cells a side of a ground-truth mask, S cells a side of the result, C classes.
"""

from typing import Any

from keras import ops

MIN_FRAME = 1e-6  # px; the frames of empty slots have no size


def crop_masks(masks: Any, frames: Any, boxes: Any, *, output_size: int, max_samples: int) -> Any:
    """What each mask shows inside its box, float32 [B, K, S, S] in [0, 1]; soft at edges.

    torchvision's mask targets: RoIAlign with ``aligned=False`` on the mask's grid, with ceil(box side in cells / S)
    sample points a side of a bin. Bilinear sampling is separable, so that it is two small matrix products a box.

    Args:
        masks: [B, K, Mh, Mw] of 0 and 1, any dtype.
        frames: [B, K, 4] the rectangle, px, that each mask's grid covers.
        boxes: [B, K, 4] px.
        max_samples: bound of the sample points a side of a bin; a box wider than S * max_samples cells is sampled
            more coarsely than torchvision does.
    """
    masks = ops.cast(masks, "float32")
    frames, boxes = ops.cast(frames, "float32"), ops.cast(boxes, "float32")
    rows = _interpolation(masks.shape[-2], frames[..., 1::2], boxes[..., 1::2], output_size, max_samples)
    columns = _interpolation(masks.shape[-1], frames[..., 0::2], boxes[..., 0::2], output_size, max_samples)
    return ops.matmul(ops.matmul(rows, masks), ops.swapaxes(columns, -1, -2))


def select_class_masks(logits: Any, classes: Any) -> Any:
    """The channel of each box's class: [B, K, S, S, C], int [B, K] -> [B, K, S, S]."""
    channels = ops.arange(logits.shape[-1], dtype="int32")
    chosen = ops.cast(classes, "int32")[..., None, None, None] == channels  # [B, K, 1, 1, C]
    # A masked sum: its gradient is a plain product, where that of a gather would be a scatter into all classes.
    return ops.sum(ops.where(chosen, logits, 0.0), axis=-1)


def _interpolation(cells: int, frames: Any, boxes: Any, bins: int, max_samples: int) -> Any:
    """Weights of a mask's cells along one axis in each bin: [B, K, S, M], from frames and boxes as (start, end)."""
    frame_size = ops.maximum(frames[..., 1] - frames[..., 0], MIN_FRAME)
    start = (boxes[..., 0] - frames[..., 0]) * cells / frame_size  # in cells, [B, K]
    end = (boxes[..., 1] - frames[..., 0]) * cells / frame_size
    bin_size = ops.maximum(end - start, 1.0) / bins
    samples = ops.clip(ops.ceil(bin_size), 1.0, max_samples)[..., None]  # [B, K, 1]
    bin_start = start[..., None] + ops.arange(bins, dtype="float32") * bin_size[..., None]  # [B, K, S]
    centers = ops.arange(cells, dtype="float32")
    weights = 0.0
    for sample in range(max_samples):
        points = bin_start + (sample + 0.5) * bin_size[..., None] / samples
        counted = (sample < samples) & (points >= -1.0) & (points <= cells)
        distance = ops.abs(ops.clip(points, 0.0, cells - 1.0)[..., None] - centers)  # [B, K, S, M]
        share = ops.cast(counted, "float32") / samples
        weights = weights + ops.maximum(1.0 - distance, 0.0) * share[..., None]
    return weights
