"""What passes between the stages. Shapes are static: each slot that may be empty has its place in a ``valid`` mask.

B images, G ground-truth slots, N proposals, S sampled RoIs, M side of the ground-truth masks in cells.
"""

from typing import Any, NamedTuple

Tensor = Any  # a tensor of the Keras backend at hand


class Targets(NamedTuple):
    """Ground truth, padded to G objects an image."""

    boxes: Tensor  # [B, G, 4] px of the canvas
    classes: Tensor  # [B, G] int32, 1..C-1
    masks: Tensor  # [B, G, M, M] 0 or 1, a grid over the frame
    mask_regions: Tensor  # [B, G, 4] px of the canvas
    valid: Tensor  # [B, G] bool


class Proposals(NamedTuple):
    """What the RPN takes for objects, by falling score."""

    boxes: Tensor  # [B, N, 4]
    scores: Tensor  # [B, N] probability of an object
    valid: Tensor  # [B, N] bool


class RoIs(NamedTuple):
    """The sample of proposals that the heads are trained on, positives first."""

    boxes: Tensor  # [B, S, 4]
    matched: Tensor  # [B, S] int32, index of the ground truth
    positive: Tensor  # [B, S] bool
    valid: Tensor  # [B, S] bool


class Detections(NamedTuple):
    """Classified and refined boxes, by falling score; empty slots last."""

    boxes: Tensor  # [B, D, 4]
    classes: Tensor  # [B, D] int32, 0 in empty slots
    scores: Tensor  # [B, D], 0 in empty slots
    valid: Tensor  # [B, D] bool
