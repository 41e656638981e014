"""L = L_rpn_class + L_rpn_box + L_class + L_box + L_mask.

Each term is the mean of the losses that the images of a batch have alone. So the gradients of N small batches average
to that of one large batch, and those of N devices to that of one device, exactly. (torchvision divides by the number of
samples in the whole batch: the same for one image, and for several if each of them fills its sample.)
"""

from collections.abc import Iterable

import keras
from keras import ops

from maskrcnn.model.structures import Loss
from maskrcnn.ops.typing import Bool, Float, Int, Tensor

PerSample = Float[Tensor, "B S"]
Mask = Bool[Tensor, "B S"]


def objectness_loss(logits: PerSample, positive: Mask, valid: Mask) -> Loss:
    """Mean binary cross-entropy over the sampled anchors; Faster R-CNN, Eq. 1."""
    return _mean_over_image(_binary_crossentropy(logits, ops.cast(positive, "float32")), valid)


def class_loss(logits: Float[Tensor, "B S C"], classes: Int[Tensor, "B S"], valid: Mask) -> Loss:
    """Mean cross-entropy over the sampled RoIs; Fast R-CNN, Eq. 1."""
    log_probabilities = ops.log_softmax(logits, axis=-1)
    chosen = ops.take_along_axis(log_probabilities, classes[..., None], axis=-1)[..., 0]  # [B, S]
    return _mean_over_image(-chosen, valid)


def box_loss(
    deltas: Float[Tensor, "B S 4"], target_deltas: Float[Tensor, "B S 4"], positive: Mask, valid: Mask, *, beta: float
) -> Loss:
    """Smooth L1 over the positives, divided by the number of all samples; Fast R-CNN, Eq. 2 and 3."""
    difference = ops.abs(deltas - target_deltas)
    values = ops.where(difference < beta, 0.5 * difference**2 / beta, difference - 0.5 * beta)
    per_sample = ops.where(positive, ops.sum(values, axis=-1), 0.0)
    return _mean_over_image(per_sample, valid)


def mask_loss(logits: Float[Tensor, "B S M M"], target_masks: Float[Tensor, "B S M M"], positive: Mask) -> Loss:
    """Mean binary cross-entropy over the positives' pixels, of their own class; Mask R-CNN, Sec. 3."""
    per_roi = ops.mean(_binary_crossentropy(logits, target_masks), axis=(2, 3))  # [B, S]
    return _mean_over_image(per_roi, positive)


def l2_loss(variables: Iterable[keras.Variable], weight_decay: float) -> Loss:
    """0.5 * weight_decay * sum(w^2) over kernels; biases and norms are left out, as in the reference."""
    kernels = [ops.convert_to_tensor(v) for v in variables if v.path.endswith("kernel")]
    squares = [ops.sum(ops.square(ops.cast(kernel, "float32"))) for kernel in kernels]
    return 0.5 * weight_decay * sum(squares, ops.zeros(()))


def _binary_crossentropy(logits: Float[Tensor, "..."], targets: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    # max(x, 0) - x t + log(1 + exp(-|x|)) never overflows.
    return ops.relu(logits) - logits * targets + ops.log1p(ops.exp(-ops.abs(logits)))


def _mean_over_image(values: PerSample, counted: Mask) -> Loss:
    """Mean over the counted samples of each image (0 if there is none), then over images."""
    weights = ops.cast(counted, "float32")
    totals = ops.sum(ops.where(counted, values, 0.0), axis=-1)
    return ops.mean(totals / ops.maximum(ops.sum(weights, axis=-1), 1.0))
