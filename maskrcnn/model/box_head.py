"""The box head: class and refined box of each RoI (Fast R-CNN, arXiv:1504.08083; FPN, Sec. 4.2)."""

import keras
from keras import ops

from maskrcnn.config import ModelConfig
from maskrcnn.model.layers import conv_stack, pool
from maskrcnn.model.losses import box_loss, class_loss
from maskrcnn.model.structures import Boxes, Detections, Loss, Proposals, Pyramid, RoIs, Targets
from maskrcnn.ops.boxes import clip, decode, encode, is_larger, pairwise_iou
from maskrcnn.ops.matching import match
from maskrcnn.ops.nms import nms
from maskrcnn.ops.sampling import Seed, sample_labels, take_sampled
from maskrcnn.ops.typing import Float, Tensor

Logits = Float[Tensor, "B N C"]
Deltas = Float[Tensor, "B N C 4"]


class BoxHead(keras.layers.Layer):
    """Classifies RoIs and refines their boxes, class by class; samples RoIs for training; picks the detections."""

    def __init__(self, model: ModelConfig, num_classes: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config, self.align = model.box_head, model.roi_align
        self.num_classes, self.channels = num_classes, model.fpn.channels
        config, norm = self.config, model.norm if self.config.norm else None
        self.convolutions = conv_stack(config.convolutions, config.conv_channels, norm=norm, dtype=self.dtype_policy)
        self.dense = [
            self._dense(config.channels, f"dense{index + 1}", "he_uniform", activation="relu")
            for index in range(config.dense_layers)
        ]
        # Small weights at the start: all classes alike, boxes left where they are; Fast R-CNN, Sec. 4.1.
        self.class_logits = self._dense(num_classes, "classes", keras.initializers.RandomNormal(stddev=0.01))
        self.deltas = self._dense(4 * num_classes, "deltas", keras.initializers.RandomNormal(stddev=0.001))

    def _dense(self, units: int, name: str, start, activation: str | None = None) -> keras.layers.Dense:
        return keras.layers.Dense(units, activation, kernel_initializer=start, dtype=self.dtype_policy, name=name)

    def build(self, input_shape=None) -> None:
        channels = self.channels
        for convolution in self.convolutions:
            convolution.build((None, None, None, channels))
            channels = self.config.conv_channels
        channels *= self.config.pool_size**2
        for dense in self.dense:
            dense.build((None, channels))
            channels = self.config.channels
        self.class_logits.build((None, channels))
        self.deltas.build((None, channels))

    def call(self, pyramid: Pyramid, boxes: Boxes, training: bool = False) -> tuple[Logits, Deltas]:
        """Class logits and box deltas of each box, float32."""
        x = pool(pyramid, boxes, self.config.pool_size, self.align)  # [B, N, P, P, channels]
        batch, rois, side = x.shape[:3]
        x = ops.reshape(x, (-1, side, side, self.channels))
        for convolution in self.convolutions:
            x = convolution(x, training=training)
        x = ops.reshape(x, (-1, side * side * x.shape[-1]))
        for dense in self.dense:
            x = dense(x)
        leading = (-1 if batch is None else batch, rois)
        logits = ops.reshape(ops.cast(self.class_logits(x), "float32"), (*leading, self.num_classes))
        deltas = ops.reshape(ops.cast(self.deltas(x), "float32"), (*leading, self.num_classes, 4))
        return logits, deltas

    def sample(self, proposals: Proposals, targets: Targets, *, seed: Seed) -> RoIs:
        """Draws the RoIs of a training step; Fast R-CNN, Sec. 2.3. The ground truth is among the candidates."""
        config = self.config
        boxes = ops.concatenate([proposals.boxes, targets.boxes], axis=1)  # [B, N + G, 4]
        candidate = ops.concatenate([proposals.valid, targets.valid], axis=1)
        matched, labels = match(
            pairwise_iou(boxes, targets.boxes),
            targets.valid,
            positive_iou=config.positive_iou,
            negative_iou=config.positive_iou,
            allow_low_quality=False,
        )
        labels = ops.where(candidate, labels, -1)
        sampled = sample_labels(
            labels, num_samples=config.samples, positive_fraction=config.positive_fraction, seed=seed
        )
        indices, valid = take_sampled(sampled, labels, num_samples=config.samples)  # [B, S]
        return RoIs(
            boxes=ops.stop_gradient(ops.take_along_axis(boxes, indices[..., None], axis=1)),
            matched=ops.take_along_axis(matched, indices, axis=1),
            positive=valid & (ops.take_along_axis(labels, indices, axis=1) == 1),
            valid=valid,
        )

    def losses(self, logits: Logits, deltas: Deltas, rois: RoIs, targets: Targets) -> tuple[Loss, Loss]:
        """L_class and L_box of sampled RoIs, from the outputs of `call` for them."""
        config = self.config
        classes = ops.take_along_axis(targets.classes, rois.matched, axis=1)
        classes = ops.where(rois.positive, classes, 0)  # [B, S]
        boxes = ops.take_along_axis(targets.boxes, rois.matched[..., None], axis=1)
        # RoIs without an object encode a harmless unit box: an empty one would give infinities.
        unit = ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])
        boxes = ops.where(rois.positive[..., None], boxes, unit)
        regions = ops.where(rois.positive[..., None], rois.boxes, unit)
        target_deltas = encode(boxes, regions, weights=config.delta_weights)  # [B, S, 4]
        deltas = ops.take_along_axis(deltas, classes[..., None, None], axis=2)[:, :, 0]  # [B, S, 4] of the own class
        return (
            class_loss(logits, classes, rois.valid),
            box_loss(deltas, target_deltas, rois.positive, rois.valid, beta=config.smooth_l1_beta),
        )

    def detect(
        self, logits: Logits, deltas: Deltas, proposals: Proposals, image_sizes: Float[Tensor, "B 2"]
    ) -> Detections:
        """The boxes above the score threshold after suppression within each class; Mask R-CNN, Sec. 3.1.

        One proposal may become several detections, of different classes. The best `test_candidates` pairs of proposal
        and class take part in the suppression.
        """
        config = self.config
        foreground = self.num_classes - 1
        scores = ops.softmax(logits, axis=-1)[:, :, 1:]  # [B, N, C - 1]
        scores = ops.where(proposals.valid[..., None], scores, 0.0)
        scores = ops.reshape(scores, (-1, scores.shape[1] * foreground))
        scores, order = ops.top_k(scores, min(config.test_candidates, scores.shape[1]))  # [B, K]
        row, classes = order // foreground, order % foreground + 1

        deltas = ops.reshape(deltas[:, :, 1:], (-1, deltas.shape[1] * foreground, 4))
        deltas = ops.take_along_axis(deltas, order[..., None], axis=1)
        regions = ops.take_along_axis(proposals.boxes, row[..., None], axis=1)
        boxes = clip(decode(deltas, regions, weights=config.delta_weights), image_sizes)  # [B, K, 4]

        valid = (scores > config.score_threshold) & is_larger(boxes, config.min_size)
        keep, valid = nms(
            boxes, scores, valid, iou_threshold=config.nms_iou, max_outputs=config.detections, groups=classes
        )  # [B, D]
        return Detections(
            boxes=ops.where(valid[..., None], ops.take_along_axis(boxes, keep[..., None], axis=1), 0.0),
            classes=ops.where(valid, ops.cast(ops.take_along_axis(classes, keep, axis=1), "int32"), 0),
            scores=ops.where(valid, ops.take_along_axis(scores, keep, axis=1), 0.0),
            valid=valid,
        )
