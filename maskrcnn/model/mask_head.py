"""The mask head: a binary mask for each class of each RoI (Mask R-CNN, arXiv:1703.06870, Sec. 3)."""

import math

import keras
from keras import ops

from maskrcnn.config import ModelConfig
from maskrcnn.model.layers import conv_stack, pool
from maskrcnn.model.losses import mask_loss
from maskrcnn.model.structures import Boxes, Detections, Loss, Pyramid, RoIs, Targets
from maskrcnn.ops.fast.cpu_convolution import CpuConv2D, UpsamplingConv2D
from maskrcnn.ops.fast.padding_buckets import run_on_bucket
from maskrcnn.ops.masks import crop_masks, select_class_masks
from maskrcnn.ops.typing import Float, Int, Tensor

Masks = Float[Tensor, "B N M M"]


class MaskHead(keras.layers.Layer):
    """Predicts masks of M pixels a side, twice the side of the pooled RoI; Mask R-CNN, Fig. 4 (right)."""

    def __init__(self, model: ModelConfig, num_classes: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config, self.align = model.mask_head, model.roi_align
        self.num_classes, self.channels = num_classes, model.fpn.channels
        config, dtype, norm = self.config, self.dtype_policy, model.norm if self.config.norm else None
        self.convolutions = conv_stack(config.convolutions, config.channels, norm=norm, dtype=dtype)
        self.upsample = UpsamplingConv2D(
            config.channels, 2, 2, activation="relu", kernel_initializer="he_normal", dtype=dtype, name="upsample"
        )
        start = keras.initializers.RandomNormal(stddev=0.001)
        self.mask_logits = CpuConv2D(num_classes, 1, kernel_initializer=start, dtype=dtype, name="masks")

    def build(self, input_shape=None) -> None:
        channels = self.channels
        for convolution in self.convolutions:
            convolution.build((None, None, None, channels))
            channels = self.config.channels
        self.upsample.build((None, None, None, channels))
        self.mask_logits.build((None, None, None, self.config.channels))

    def call(self, pyramid: Pyramid, boxes: Boxes, classes: Int[Tensor, "B N"], training: bool = False) -> Masks:
        """Mask logits of the boxes' own classes, float32."""
        x = pool(pyramid, boxes, self.config.pool_size, self.align)  # [B, N, P, P, channels]
        batch, rois, side = x.shape[:3]
        x = ops.reshape(x, (-1, side, side, self.channels))
        for convolution in self.convolutions:
            x = convolution(x, training=training)
        logits = self.mask_logits(self.upsample(x))  # [BN, M, M, C]
        leading = (-1 if batch is None else batch, rois)
        logits = ops.reshape(logits, (*leading, 2 * side, 2 * side, self.num_classes))
        return ops.cast(select_class_masks(logits, classes), "float32")

    def predict(self, pyramid: Pyramid, detections: Detections) -> Masks:
        """Mask probabilities of the detections' own classes; 0 for padding."""
        count = detections.valid.shape[1]

        def predict(detections: Detections) -> Masks:
            masks = ops.sigmoid(self(pyramid, detections.boxes, detections.classes))
            return ops.pad(masks, ((0, 0), (0, count - masks.shape[1]), (0, 0), (0, 0)))

        masks = run_on_bucket(predict, detections, detections.valid, self.bucket_sizes(count, training=False))
        return ops.where(detections.valid[..., None, None], masks, 0.0)

    def losses(self, pyramid: Pyramid, rois: RoIs, targets: Targets) -> Loss:
        """L_mask of the positives among the RoIs; Mask R-CNN, Sec. 3.1."""

        def losses(rois: RoIs) -> Loss:
            classes = ops.take_along_axis(targets.classes, rois.matched, axis=1)
            logits = self(pyramid, rois.boxes, classes, training=True)
            return mask_loss(logits, self.target_masks(rois, targets), rois.positive)

        return run_on_bucket(losses, rois, rois.positive, self.bucket_sizes(rois.valid.shape[1], training=True))

    def target_masks(self, rois: RoIs, targets: Targets) -> Masks:
        """The intersection of each RoI and its ground-truth mask; Mask R-CNN, Sec. 3.1."""
        masks = ops.take_along_axis(targets.masks, rois.matched[..., None, None], axis=1)  # [B, S, M, M]
        regions = ops.take_along_axis(targets.mask_regions, rois.matched[..., None], axis=1)
        # A RoI overlaps its object by an IoU of 0.5 at least, so neither of its sides is longer than two of the mask.
        side = 2 * self.config.pool_size
        max_samples = math.ceil(2 * max(masks.shape[2:]) / side)
        return ops.stop_gradient(crop_masks(masks, regions, rois.boxes, output_size=side, max_samples=max_samples))

    def bucket_sizes(self, count: int, *, training: bool) -> list[int]:
        """The padding buckets of ``count`` entries, rising; one only where the batch norms learn from all entries."""
        learns = training and any(layer.norm is not None and layer.norm.trainable for layer in self.convolutions)
        return sorted({max(count >> halvings, 1) for halvings in range(1 if learns else self.config.slot_sizes)})
