"""Mask targets and mask selection; Mask R-CNN, Sec. 3.

Legend: B images, K boxes, M pixels a side of a ground-truth mask, S pixels a side of the result, C classes.
"""

from keras import ops

from maskrcnn.ops.typing import Float, Int, Number, Tensor

Boxes = Float[Tensor, "B K 4"]
MIN_REGION = 1e-6  # px; the mask regions of padding have no size


def crop_masks(
    masks: Number[Tensor, "B K Mh Mw"], regions: Boxes, boxes: Boxes, *, output_size: int, max_samples: int
) -> Float[Tensor, "B K S S"]:
    """Crops each mask to its box and resizes it; values in [0, 1], soft at edges.

    torchvision's mask targets: RoIAlign with ``aligned=False`` on the mask's pixels, with ceil(box side in mask pixels
    / S) sample points a side of a bin. Bilinear sampling is separable, so that it is two small matrix products a box.

    Args:
        masks: 0 and 1, any dtype.
        regions: the rectangle of the image that each mask covers, px.
        boxes: px of the image.
        output_size: S.
        max_samples: bound of the sample points a side of a bin; a box wider than S * max_samples mask pixels is
            sampled more coarsely than torchvision does.
    """
    masks = ops.cast(masks, "float32")
    regions, boxes = ops.cast(regions, "float32"), ops.cast(boxes, "float32")
    rows = _interpolation(masks.shape[-2], regions[..., 1::2], boxes[..., 1::2], output_size, max_samples)
    columns = _interpolation(masks.shape[-1], regions[..., 0::2], boxes[..., 0::2], output_size, max_samples)
    return ops.matmul(ops.matmul(rows, masks), ops.swapaxes(columns, -1, -2))


def select_class_masks(logits: Float[Tensor, "B K S S C"], classes: Int[Tensor, "B K"]) -> Float[Tensor, "B K S S"]:
    """The channel of each box's class."""
    channels = ops.arange(logits.shape[-1], dtype="int32")
    chosen = ops.cast(classes, "int32")[..., None, None, None] == channels  # [B, K, 1, 1, C]
    # A masked sum: its gradient is a plain product, where that of a gather would be a scatter into all classes.
    return ops.sum(ops.where(chosen, logits, 0.0), axis=-1)


def _interpolation(
    pixels: int, regions: Float[Tensor, "B K 2"], boxes: Float[Tensor, "B K 2"], bins: int, max_samples: int
) -> Float[Tensor, "B K S M"]:
    """Weights of a mask's pixels along one axis in each bin, from mask regions and boxes as (start, end)."""
    region_size = ops.maximum(regions[..., 1] - regions[..., 0], MIN_REGION)
    start = (boxes[..., 0] - regions[..., 0]) * pixels / region_size  # in mask pixels, [B, K]
    end = (boxes[..., 1] - regions[..., 0]) * pixels / region_size
    bin_size = ops.maximum(end - start, 1.0) / bins
    samples = ops.clip(ops.ceil(bin_size), 1.0, max_samples)[..., None]  # [B, K, 1]
    bin_start = start[..., None] + ops.arange(bins, dtype="float32") * bin_size[..., None]  # [B, K, S]
    centers = ops.arange(pixels, dtype="float32")
    weights = 0.0
    for sample in range(max_samples):
        points = bin_start + (sample + 0.5) * bin_size[..., None] / samples
        counted = (sample < samples) & (points >= -1.0) & (points <= pixels)
        distance = ops.abs(ops.clip(points, 0.0, pixels - 1.0)[..., None] - centers)  # [B, K, S, M]
        share = ops.cast(counted, "float32") / samples
        weights = weights + ops.maximum(1.0 - distance, 0.0) * share[..., None]
    return weights
