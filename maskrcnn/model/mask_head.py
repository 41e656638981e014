"""The mask head: a binary mask for each class of each RoI (Mask R-CNN, arXiv:1703.06870, Sec. 3)."""

import math

import keras
from keras import ops

from maskrcnn.config import MaskHeadConfig, NormConfig
from maskrcnn.model.layers import ConvNorm
from maskrcnn.model.losses import mask_loss
from maskrcnn.model.structures import RoIs, Targets, Tensor
from maskrcnn.ops.masks import crop_masks, select_class_masks


class MaskHead(keras.layers.Layer):
    """Predicts masks at twice the side of the pooled RoI; Mask R-CNN, Fig. 4 (right)."""

    def __init__(self, config: MaskHeadConfig, norm: NormConfig, num_classes: int, channels: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.num_classes = num_classes
        self.channels = channels
        dtype = self.dtype_policy
        self.convolutions = [
            ConvNorm(
                config.channels,
                3,
                norm=norm if config.norm else None,
                relu=True,
                dtype=dtype,
                name=f"conv{index + 1}",
            )
            for index in range(config.convolutions)
        ]
        self.upsample = keras.layers.Conv2DTranspose(
            config.channels,
            2,
            strides=2,
            activation="relu",
            kernel_initializer="he_normal",
            dtype=dtype,
            name="upsample",
        )
        self.mask_logits = keras.layers.Conv2D(
            num_classes, 1, kernel_initializer=keras.initializers.RandomNormal(stddev=0.001), dtype=dtype, name="masks"
        )

    def build(self, input_shape=None) -> None:
        channels = self.channels
        for convolution in self.convolutions:
            convolution.build((None, None, None, channels))
            channels = self.config.channels
        self.upsample.build((None, None, None, channels))
        self.mask_logits.build((None, None, None, self.config.channels))

    def call(self, roi_features, classes, training=False) -> Tensor:
        """RoI features [B, N, P, P, channels] and classes [B, N] -> the classes' mask logits [B, N, M, M], float32."""
        batch, rois, side = roi_features.shape[0], roi_features.shape[1], self.config.pool_size
        x = ops.reshape(roi_features, (-1, side, side, self.channels))
        for convolution in self.convolutions:
            x = convolution(x, training=training)
        logits = self.mask_logits(self.upsample(x))  # [BN, M, M, C]
        leading = (-1 if batch is None else batch, rois)
        logits = ops.reshape(logits, (*leading, 2 * side, 2 * side, self.num_classes))
        return ops.cast(select_class_masks(logits, classes), "float32")

    def slot_sizes(self, slots: int, *, training: bool) -> list[int]:
        """Numbers of slots on which the head may run, rising; one only where its batch norms learn from all slots."""
        learns = training and any(layer.norm is not None and layer.norm.trainable for layer in self.convolutions)
        return sorted({max(slots >> halvings, 1) for halvings in range(1 if learns else self.config.slot_sizes)})

    def loss(self, logits, rois: RoIs, targets: Targets) -> Tensor:
        """L_mask. The target is the intersection of a RoI and its ground-truth mask; Mask R-CNN, Sec. 3.1."""
        masks = ops.take_along_axis(targets.masks, rois.matched[..., None, None], axis=1)  # [B, S, M, M]
        frames = ops.take_along_axis(targets.mask_regions, rois.matched[..., None], axis=1)
        # A RoI overlaps its object by an IoU of 0.5 at least, so neither of its sides is longer than two of the grid.
        side = 2 * self.config.pool_size
        max_samples = math.ceil(2 * max(masks.shape[2:]) / side)
        target_masks = crop_masks(masks, frames, rois.boxes, output_size=side, max_samples=max_samples)
        return mask_loss(logits, ops.stop_gradient(target_masks), rois.positive)
