"""Box geometry.

``boxes`` are always ``xyxy``: (x1, y1, x2, y2) in absolute pixels, float32, continuous coordinates (pixel centers at
+0.5, width = x2 - x1, no "+1"). Legend: B images, N and M boxes.
"""

import math

from keras import ops

from maskrcnn.ops.typing import Bool, Float, Tensor

MAX_LOG_SCALE = math.log(1000 / 16)  # a 16 px anchor may grow to 1000 px at most; keeps exp() finite early in training
MIN_SIDE = 1e-6  # px; padding has boxes without area, whose unused targets must stay finite

Boxes = Float[Tensor, "... 4"]  # or their deltas
Weights = tuple[float, float, float, float]  # of dx, dy, dw, dh


def area(boxes: Boxes) -> Float[Tensor, "..."]:
    """Area of each box."""
    boxes = ops.cast(boxes, "float32")
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_iou(first: Float[Tensor, "... N 4"], second: Float[Tensor, "... M 4"]) -> Float[Tensor, "... N M"]:
    """Intersection over union of every pair; 0 where the union is empty."""
    first = ops.expand_dims(ops.cast(first, "float32"), -2)  # [..., N, 1, 4]
    second = ops.expand_dims(ops.cast(second, "float32"), -3)  # [..., 1, M, 4]
    width = ops.minimum(first[..., 2], second[..., 2]) - ops.maximum(first[..., 0], second[..., 0])
    height = ops.minimum(first[..., 3], second[..., 3]) - ops.maximum(first[..., 1], second[..., 1])
    intersection = ops.maximum(width, 0.0) * ops.maximum(height, 0.0)
    union = area(first) + area(second) - intersection
    return ops.where(union > 0, intersection / ops.where(union > 0, union, 1.0), 0.0)


def clip(boxes: Float[Tensor, "B ... 4"], image_sizes: Float[Tensor, "B 2"]) -> Float[Tensor, "B ... 4"]:
    """Moves corners into the image, whose size is (height, width)."""
    boxes, image_sizes = ops.cast(boxes, "float32"), ops.cast(image_sizes, "float32")
    limits = ops.take(image_sizes, [1, 0, 1, 0], axis=-1)  # x1, y1, x2, y2 are bounded by w, h, w, h
    limits = ops.reshape(limits, (-1, *[1] * (len(boxes.shape) - 2), 4))
    return ops.minimum(ops.maximum(boxes, 0.0), limits)


def encode(boxes: Boxes, anchors: Boxes, *, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Boxes:
    """Deltas (dx, dy, dw, dh) that move ``anchors`` onto ``boxes``, times ``weights``; R-CNN, Appendix C."""
    centers, sizes = _center_size(boxes)
    anchor_centers, anchor_sizes = _center_size(anchors)
    sizes, anchor_sizes = ops.maximum(sizes, MIN_SIDE), ops.maximum(anchor_sizes, MIN_SIDE)
    shift = (centers - anchor_centers) / anchor_sizes
    scale = ops.log(sizes / anchor_sizes)
    return ops.concatenate([shift, scale], axis=-1) * ops.convert_to_tensor(weights, "float32")


def decode(deltas: Boxes, anchors: Boxes, *, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Boxes:
    """Boxes that ``encode`` would have turned into ``deltas``; dw and dh are bounded above by ``MAX_LOG_SCALE``."""
    deltas = ops.cast(deltas, "float32") / ops.convert_to_tensor(weights, "float32")
    anchor_centers, anchor_sizes = _center_size(anchors)
    centers = deltas[..., :2] * anchor_sizes + anchor_centers
    half = 0.5 * ops.exp(ops.minimum(deltas[..., 2:], MAX_LOG_SCALE)) * anchor_sizes
    return ops.concatenate([centers - half, centers + half], axis=-1)


def is_larger(boxes: Boxes, min_size: float) -> Bool[Tensor, "..."]:
    """Whether both sides of each box are at least ``min_size`` px."""
    boxes = ops.cast(boxes, "float32")
    return ops.all(boxes[..., 2:] - boxes[..., :2] >= min_size, axis=-1)


def _center_size(boxes: Boxes) -> tuple[Float[Tensor, "... 2"], Float[Tensor, "... 2"]]:
    boxes = ops.cast(boxes, "float32")
    sizes = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sizes, sizes
