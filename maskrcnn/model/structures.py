"""The data that passes between the stages. Shapes are static: what may be absent is padding, with a ``valid`` mask.

B images, A anchors of a level, G ground-truth entries, N proposals, S sampled RoIs, D detections, M side of the
ground-truth masks.
"""

from collections.abc import Sequence
from typing import NamedTuple

from maskrcnn.ops.typing import Bool, Float, Int, Number, Tensor

Boxes = Float[Tensor, "B N 4"]
Loss = Float[Tensor, ""]
Pyramid = Sequence[Float[Tensor, "B H W C"]]  # P2..P6, of stride 2^l at level l


class Targets(NamedTuple):
    """Ground truth, padded to G objects an image."""

    boxes: Float[Tensor, "B G 4"]  # px of the canvas
    classes: Int[Tensor, "B G"]  # 1..C-1
    masks: Number[Tensor, "B G M M"]  # 0 or 1, a grid over the mask region
    mask_regions: Float[Tensor, "B G 4"]  # px of the canvas
    valid: Bool[Tensor, "B G"]


class RPNOutputs(NamedTuple):
    """The RPN's predictions for every anchor, level by level; anchors go by row, column, aspect ratio."""

    objectness: Sequence[Float[Tensor, "B A"]]  # logits
    deltas: Sequence[Float[Tensor, "B A 4"]]
    anchors: Sequence[Float[Tensor, "A 4"]]
    pyramid: Pyramid  # the features that they were predicted from


class Proposals(NamedTuple):
    """Boxes that the RPN takes for objects, in descending order of score."""

    boxes: Float[Tensor, "B N 4"]
    scores: Float[Tensor, "B N"]  # probability of an object
    valid: Bool[Tensor, "B N"]


class RoIs(NamedTuple):
    """The sample of proposals that the heads are trained on, positives first."""

    boxes: Float[Tensor, "B S 4"]
    matched: Int[Tensor, "B S"]  # index of the ground truth
    positive: Bool[Tensor, "B S"]
    valid: Bool[Tensor, "B S"]

    def first(self, count: int) -> "RoIs":
        """The first ``count`` RoIs of each image."""
        return RoIs(*(field[:, :count] for field in self))


class Detections(NamedTuple):
    """Classified and refined boxes, in descending order of score; padding last."""

    boxes: Float[Tensor, "B D 4"]
    classes: Int[Tensor, "B D"]  # 0 for padding
    scores: Float[Tensor, "B D"]  # 0 for padding
    valid: Bool[Tensor, "B D"]
