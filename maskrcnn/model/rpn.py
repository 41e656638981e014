"""Region Proposal Network (Faster R-CNN, arXiv:1506.01497, Sec. 3.1) on the levels of an FPN."""

import keras
from keras import ops

from maskrcnn.config import AnchorConfig, RPNConfig
from maskrcnn.model.layers import ConvNorm, InitialWeights
from maskrcnn.model.losses import box_loss, objectness_loss
from maskrcnn.model.structures import Boxes, Loss, Proposals, Pyramid, RPNOutputs, Targets
from maskrcnn.ops.anchors import base_anchors, grid_anchors
from maskrcnn.ops.boxes import clip, decode, encode, is_larger, pairwise_iou
from maskrcnn.ops.fast.padding_buckets import run_on_bucket
from maskrcnn.ops.fast.sparse_convolution import convolve_at
from maskrcnn.ops.matching import Labels, match
from maskrcnn.ops.nms import suppress
from maskrcnn.ops.sampling import Seed, sample_labels, take_sampled
from maskrcnn.ops.typing import Bool, Float, Int, Tensor

MIN_BUCKETED = 32  # ground-truth entries; with fewer, a padding bucket is not worth a branch


class RPN(keras.layers.Layer):
    """Predicts objectness and box deltas for every anchor, selects proposals, and has two losses."""

    def __init__(self, config: RPNConfig, anchors: AnchorConfig, channels: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.channels = channels
        self.base_anchors = [
            base_anchors(size, anchors.aspect_ratios, rounded=anchors.rounded) for size in anchors.sizes
        ]
        start = InitialWeights(kernel=keras.initializers.RandomNormal(stddev=0.01))
        settings = {"initial": start, "dtype": self.dtype_policy}
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

    def call(self, pyramid: Pyramid) -> RPNOutputs:
        """Objectness logits and box deltas of each level's anchors, float32."""
        objectness, deltas = [], []
        for features in pyramid:
            x = features
            for convolution in self.convolutions:
                x = convolution(x)
            batch = ops.shape(x)[0]
            objectness.append(ops.reshape(ops.cast(self.objectness(x), "float32"), (batch, -1)))
            deltas.append(ops.reshape(ops.cast(self.deltas(x), "float32"), (batch, -1, 4)))
        return RPNOutputs(objectness, deltas, self.anchors(pyramid), pyramid)

    def anchors(self, pyramid: Pyramid) -> list[Float[Tensor, "A 4"]]:
        """The anchors of each level; level l = 2.. has stride 2^l."""
        return [
            grid_anchors(ops.shape(features)[1], ops.shape(features)[2], 2**level, base)
            for level, (features, base) in enumerate(zip(pyramid, self.base_anchors, strict=True), start=2)
        ]

    def propose(self, outputs: RPNOutputs, image_sizes: Float[Tensor, "B 2"], *, training: bool) -> Proposals:
        """The best boxes of all levels after suppression within each level; FPN, Sec. 4.1.

        Args:
            outputs: the predictions for all anchors.
            image_sizes: height and width in px, to which boxes are clipped.
            training: selects the numbers of candidates and proposals.

        Returns:
            N proposals an image. No gradient flows into them.
        """
        config = self.config
        candidates = config.train_candidates if training else config.test_candidates
        proposals = config.train_proposals if training else config.test_proposals
        levels = zip(outputs.objectness, outputs.deltas, outputs.anchors, strict=True)
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
        scores, order = ops.top_k(scores, min(proposals, candidates * len(outputs.anchors)))  # [B, N]
        boxes = ops.take_along_axis(boxes, order[..., None], axis=1)
        valid = scores >= 0.0
        return Proposals(ops.where(valid[..., None], boxes, 0.0), ops.where(valid, scores, 0.0), valid)

    def losses(self, outputs: RPNOutputs, targets: Targets, *, seed: Seed) -> tuple[Loss, Loss]:
        """L_rpn_class and L_rpn_box on a sample of anchors; Faster R-CNN, Sec. 3.1.2 and 3.1.3.

        The other anchors have no loss, so that the dense outputs need no gradient (see `predict_at`).
        """
        config = self.config
        anchors = ops.concatenate(outputs.anchors, axis=0)  # [A, 4]
        matched, labels = self.match_anchors(anchors, targets)
        sampled = sample_labels(
            labels, num_samples=config.samples, positive_fraction=config.positive_fraction, seed=seed
        )
        indices, valid = take_sampled(sampled, labels, num_samples=config.samples)  # [B, S]
        positive = valid & (ops.take_along_axis(labels, indices, axis=1) == 1)

        sampled_anchors = ops.take(anchors, indices, axis=0)  # [B, S, 4]
        matched = ops.take_along_axis(matched, indices, axis=1)
        boxes = ops.take_along_axis(targets.boxes, matched[..., None], axis=1)
        boxes = ops.where(positive[..., None], boxes, sampled_anchors)  # empty boxes would encode to infinities
        target_deltas = encode(boxes, sampled_anchors)

        logits, deltas = self.predict_at(outputs.pyramid, indices)
        return (
            objectness_loss(logits, positive, valid),
            box_loss(deltas, target_deltas, positive, valid, beta=config.smooth_l1_beta),
        )

    def match_anchors(self, anchors: Float[Tensor, "A 4"], targets: Targets) -> tuple[Int[Tensor, "B A"], Labels]:
        """The ground truth of each anchor, and its label; see `ops.matching.match`.

        An image of COCO has 7 objects on average, padded to 100: where a quarter holds all, only that is matched.
        """

        def match_first(targets: tuple[Boxes, Bool[Tensor, "B G"]]) -> tuple[Int[Tensor, "B A"], Labels]:
            boxes, valid = targets
            return match(
                pairwise_iou(anchors, boxes),  # [B, A, G]
                valid,
                positive_iou=self.config.positive_iou,
                negative_iou=self.config.negative_iou,
                allow_low_quality=True,
            )

        count = targets.valid.shape[1]
        sizes = [count // 4, count] if count >= MIN_BUCKETED else [count]
        return run_on_bucket(match_first, (targets.boxes, targets.valid), targets.valid, sizes)

    def predict_at(
        self, pyramid: Pyramid, indices: Int[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B S"], Float[Tensor, "B S 4"]]:
        """Objectness logits and box deltas of single anchors: the numbers of `call` without its dense pass.

        Computing the sampled anchors once more saves the backward pass of the dense one, 13 % of a training step; see
        `ops.fast.sparse_convolution`.
        """
        ratios = len(self.base_anchors[0])
        x = ops.expand_dims(convolve_at(pyramid, indices // ratios, [layer.fold() for layer in self.convolutions]), 2)
        batch, samples = ops.shape(indices)[0], indices.shape[1]
        logits = ops.reshape(ops.cast(self.objectness(x), "float32"), (batch, samples, ratios))
        deltas = ops.reshape(ops.cast(self.deltas(x), "float32"), (batch, samples, ratios, 4))
        ratio = (indices % ratios)[..., None]  # [B, S, 1]
        logits = ops.take_along_axis(logits, ratio, axis=2)[:, :, 0]
        return logits, ops.take_along_axis(deltas, ratio[..., None], axis=2)[:, :, 0]


def _best_of_level(
    logits: Float[Tensor, "B A"], deltas: Float[Tensor, "B A 4"], anchors: Float[Tensor, "A 4"], *, candidates: int
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K 4"]]:
    """The K best logits of a level and their decoded boxes; missing ones have -inf.

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
