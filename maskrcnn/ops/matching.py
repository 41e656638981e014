"""Assignment of ground truth to anchors or proposals; Faster R-CNN, Sec. 3.1.2.

Legend: B images, A anchors (or proposals), G ground-truth entries.
"""

from keras import ops

from maskrcnn.ops.typing import Bool, Float, Int, Tensor

Labels = Int[Tensor, "B A"]
POSITIVE, NEGATIVE, IGNORED = 1, 0, -1


def match(
    iou: Float[Tensor, "B A G"],
    valid: Bool[Tensor, "B G"],
    *,
    positive_iou: float,
    negative_iou: float,
    allow_low_quality: bool,
) -> tuple[Int[Tensor, "B A"], Labels]:
    """Matches each anchor to the ground truth that it overlaps most.

    With ``allow_low_quality``, anchors that reach a ground truth's highest IoU (all that tie) become positive too, but
    keep their own best ground truth, which may be another one. As in torchvision, a ground truth that overlaps with
    nothing thereby makes every anchor positive whose IoU with it is 0.

    Args:
        iou: overlap of each anchor with each ground truth.
        valid: False for padding, which is never matched.
        positive_iou, negative_iou: thresholds of the labels.
        allow_low_quality: see above.

    Returns:
        Index of the best ground truth (0 where there is none), and labels: POSITIVE from ``positive_iou`` up, NEGATIVE
        below ``negative_iou``, IGNORED between.
    """
    valid = ops.expand_dims(valid, 1)  # [B, 1, G]
    iou = ops.where(valid, iou, -1.0)
    best_iou = ops.max(iou, axis=2)  # [B, A]
    matched = ops.cast(ops.argmax(iou, axis=2), "int32")
    positive = best_iou >= positive_iou
    if allow_low_quality:
        highest = ops.max(iou, axis=1, keepdims=True)  # [B, 1, G]
        positive = positive | ops.any((iou == highest) & valid, axis=2)
    labels = ops.where(positive, POSITIVE, ops.where(best_iou < negative_iou, NEGATIVE, IGNORED))
    return matched, ops.cast(labels, "int32")
