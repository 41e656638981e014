"""Region Proposal Network (Faster R-CNN, arXiv:1506.01497, Sec. 3.1) on the levels of an FPN."""

import keras
from keras import ops

from maskrcnn.config import AnchorConfig, RPNConfig
from maskrcnn.model.layers import ConvNorm
from maskrcnn.model.losses import box_loss, objectness_loss
from maskrcnn.model.structures import Proposals, Targets, Tensor
from maskrcnn.ops.anchors import base_anchors, grid_anchors
from maskrcnn.ops.boxes import clip, decode, encode, is_larger, pairwise_iou
from maskrcnn.ops.fast.padding_buckets import run_on_bucket
from maskrcnn.ops.indexing import gather_patches
from maskrcnn.ops.matching import match
from maskrcnn.ops.nms import suppress
from maskrcnn.ops.sampling import sample_labels, take_sampled

MANY_SLOTS = 32  # of ground truth; below, it is not worth a branch


class RPN(keras.layers.Layer):
    """Objectness and box deltas for every anchor, proposals from them, and their two losses."""

    def __init__(self, config: RPNConfig, anchors: AnchorConfig, channels: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.channels = channels
        self.base_anchors = [
            base_anchors(size, anchors.aspect_ratios, rounded=anchors.rounded) for size in anchors.sizes
        ]
        settings = {"kernel_initializer": keras.initializers.RandomNormal(stddev=0.01), "dtype": self.dtype_policy}
        ratios = len(anchors.aspect_ratios)
        self.convolutions = [
            ConvNorm(channels, 3, relu=True, name=f"conv{index + 1}", **settings)
            for index in range(config.convolutions)
        ]
        self.objectness = ConvNorm(ratios, 1, name="objectness", **settings)
        self.deltas = ConvNorm(4 * ratios, 1, name="deltas", **settings)

    def build(self, input_shape=None) -> None:
        for layer in (*self.convolutions, self.objectness, self.deltas):
            layer.build((None, None, None, self.channels))

    def call(self, pyramid):
        """[P2, .., P6] -> objectness logits [[B, A_l], ..] and deltas [[B, A_l, 4], ..] of each level, float32.

        The A_l = H W R anchors of a level go by row, column, aspect ratio.
        """
        objectness, deltas = [], []
        for features in pyramid:
            x = features
            for convolution in self.convolutions:
                x = convolution(x)
            batch = ops.shape(x)[0]
            objectness.append(ops.reshape(ops.cast(self.objectness(x), "float32"), (batch, -1)))
            deltas.append(ops.reshape(ops.cast(self.deltas(x), "float32"), (batch, -1, 4)))
        return objectness, deltas

    def anchors(self, pyramid) -> list[Tensor]:
        """The anchors of each level, [A_l, 4]; level l = 2.. has stride 2^l."""
        return [
            grid_anchors(ops.shape(features)[1], ops.shape(features)[2], 2**level, base)
            for level, (features, base) in enumerate(zip(pyramid, self.base_anchors, strict=True), start=2)
        ]

    def propose(self, objectness, deltas, anchors, image_sizes, *, training: bool) -> Proposals:
        """The best boxes of all levels after suppression within each level; FPN, Sec. 4.1.

        Args:
            objectness, deltas: as `call` returns them.
            anchors: as `anchors` returns them.
            image_sizes: [B, 2] height and width in px, to which boxes are clipped.
            training: selects the numbers of candidates and proposals.

        Returns:
            N proposals an image. No gradient flows into them.
        """
        config = self.config
        candidates = config.train_candidates if training else config.test_candidates
        proposals = config.train_proposals if training else config.test_proposals
        levels = zip(objectness, deltas, anchors, strict=True)
        best = [_best_of_level(*level, candidates=candidates) for level in levels]
        logits = ops.stack([logits for logits, _ in best], axis=1)  # [B, L, K]
        boxes = ops.stack([boxes for _, boxes in best], axis=1)  # [B, L, K, 4]

        shape = ops.shape(boxes)
        boxes = clip(ops.reshape(boxes, (shape[0], -1, 4)), image_sizes)  # [B, LK, 4]
        boxes = ops.reshape(boxes, shape)
        valid = ops.isfinite(logits) & is_larger(boxes, config.min_size)  # [B, L, K]
        keep = suppress(boxes, valid, iou_threshold=config.nms_iou)

        scores = ops.reshape(ops.where(keep, ops.sigmoid(logits), -1.0), (shape[0], -1))  # [B, LK]
        boxes = ops.reshape(boxes, (shape[0], -1, 4))
        scores, order = ops.top_k(scores, min(proposals, candidates * len(anchors)))  # [B, N]
        boxes = ops.take_along_axis(boxes, order[..., None], axis=1)
        valid = scores >= 0.0
        return Proposals(ops.where(valid[..., None], boxes, 0.0), ops.where(valid, scores, 0.0), valid)

    def losses(self, pyramid, anchors, targets: Targets, *, seed) -> tuple[Tensor, Tensor]:
        """L_rpn_class and L_rpn_box on a sample of anchors; Faster R-CNN, Sec. 3.1.2 and 3.1.3.

        All anchors but the sampled ones have no loss, so that what `call` returns needs no gradient: the few cells
        that do are computed once more. That saves the backward pass of the RPN, an eighth of the whole step.
        """
        config = self.config
        anchors = ops.concatenate(anchors, axis=0)  # [A, 4]
        matched, labels = self.match_anchors(anchors, targets)
        sampled = sample_labels(
            labels, num_samples=config.samples, positive_fraction=config.positive_fraction, seed=seed
        )
        indices, valid = take_sampled(sampled, labels, num_slots=config.samples)  # [B, S]
        positive = valid & (ops.take_along_axis(labels, indices, axis=1) == 1)

        sampled_anchors = ops.take(anchors, indices, axis=0)  # [B, S, 4]
        matched = ops.take_along_axis(matched, indices, axis=1)
        boxes = ops.take_along_axis(targets.boxes, matched[..., None], axis=1)
        boxes = ops.where(positive[..., None], boxes, sampled_anchors)  # empty boxes would encode to infinities
        target_deltas = encode(boxes, sampled_anchors)

        logits, deltas = self.at_anchors(pyramid, indices)
        return (
            objectness_loss(logits, positive, valid),
            box_loss(deltas, target_deltas, positive, valid, beta=config.smooth_l1_beta),
        )

    def match_anchors(self, anchors, targets: Targets) -> tuple[Tensor, Tensor]:
        """The ground truth of each anchor [A, 4], and its label: int [B, A] both; see `ops.matching.match`.

        An image has 7 objects on average and 100 slots for them (COCO): where a quarter of them holds all, only those
        are looked at.
        """
        config = self.config

        def of_first(count: int) -> tuple[Tensor, Tensor]:
            return match(
                pairwise_iou(anchors, targets.boxes[:, :count]),  # [B, A, G]
                targets.valid[:, :count],
                positive_iou=config.positive_iou,
                negative_iou=config.negative_iou,
                allow_low_quality=True,
            )

        slots = targets.valid.shape[1]
        return run_on_bucket(of_first, targets.valid, [slots // 4, slots] if slots >= MANY_SLOTS else [slots])

    def at_anchors(self, pyramid, indices) -> tuple[Tensor, Tensor]:
        """What `call` returns, for single anchors only: logits [B, S] and deltas [B, S, 4] for indices int [B, S]."""
        batch, slots = ops.shape(indices)[0], indices.shape[1]
        ratios = len(self.base_anchors[0])
        margin = len(self.convolutions)  # cells around an anchor's own that its 3x3 convolutions see
        patches, inside = gather_patches(pyramid, indices // ratios, side=2 * margin + 1)
        x = ops.reshape(patches, (-1, *patches.shape[2:]))
        inside = ops.reshape(inside, (-1, *inside.shape[2:], 1))
        for convolution in self.convolutions:
            x = convolution.unpadded(ops.where(inside, x, ops.zeros_like(x)))  # each convolution pads by zeros
            inside = inside[:, 1:-1, 1:-1]
        logits = ops.reshape(ops.cast(self.objectness(x), "float32"), (batch, slots, ratios))
        deltas = ops.reshape(ops.cast(self.deltas(x), "float32"), (batch, slots, ratios, 4))
        ratio = (indices % ratios)[..., None]  # [B, S, 1]
        logits = ops.take_along_axis(logits, ratio, axis=2)[:, :, 0]
        return logits, ops.take_along_axis(deltas, ratio[..., None], axis=2)[:, :, 0]


def _best_of_level(logits, deltas, anchors, *, candidates: int) -> tuple[Tensor, Tensor]:
    """The K best logits [B, K] of a level and their decoded boxes [B, K, 4]; missing ones have -inf.

    K is the same for all levels, and also when the level's size is unknown while TensorFlow traces.
    """
    logits, deltas = ops.stop_gradient(logits), ops.stop_gradient(deltas)
    missing = candidates if logits.shape[1] is None else max(0, candidates - logits.shape[1])
    if missing:
        logits = ops.pad(logits, ((0, 0), (0, missing)), constant_values=-float("inf"))
    logits, order = ops.top_k(logits, candidates)  # [B, K]
    order = ops.minimum(order, ops.shape(deltas)[1] - 1)
    deltas = ops.take_along_axis(deltas, order[..., None], axis=1)
    return logits, decode(deltas, ops.take(anchors, order, axis=0))
