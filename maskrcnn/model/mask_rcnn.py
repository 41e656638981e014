"""Mask R-CNN (arXiv:1703.06870) as one Keras model.

B images, H x W canvas, A anchors, N proposals, S sampled RoIs, D detections, C classes with background, M mask side.
"""

import dataclasses

import keras
from keras import ops

from maskrcnn.config import Config, ImageConfig
from maskrcnn.model.backbones import build_backbone
from maskrcnn.model.box_head import BoxHead
from maskrcnn.model.fpn import FPN
from maskrcnn.model.losses import l2_loss
from maskrcnn.model.mask_head import MaskHead
from maskrcnn.model.rpn import RPN
from maskrcnn.model.structures import Pyramid, Targets
from maskrcnn.ops.typing import Float, Number, Tensor
from maskrcnn.runtime import backend, compiler

LOSSES = ("rpn_class_loss", "rpn_box_loss", "class_loss", "box_loss", "mask_loss", "l2_loss")


@keras.saving.register_keras_serializable("maskrcnn")
class MaskRCNN(keras.Model):
    """Detects objects and their masks.

    Called with ``training=False`` on ``{"images": [B, H, W, 3] RGB in 0..255, "image_sizes": [B, 2] height and width
    of the valid part in px}`` it returns the detections ``{"boxes": [B, D, 4] px of the canvas, "classes": [B, D],
    "scores": [B, D], "masks": [B, D, M, M] probabilities, "valid": [B, D]}``, in descending order of score,
    padding last.

    Called with ``training=True`` the same dict also holds the ground truth, ``boxes, classes, masks, mask_regions,
    valid`` (see `Targets`), and the five losses and the weight decay are returned. ``compile(optimizer=...)`` needs no
    loss: ``fit`` adds them up. H and W are multiples of 32.

    Args:
        config: the architecture and recipe; the number of classes comes from its categories.
        backbone: any Keras model from normalized images to the list C2..C5; None builds the one of the config.
    """

    def __init__(self, config: Config, backbone: keras.Model | None = None, **kwargs):
        super().__init__(autocast=False, **kwargs)  # boxes and image sizes must stay float32 in every precision
        self.config = config
        model, dtype = config.model, self.dtype_policy
        self.custom_backbone = backbone is not None
        backbone_dtype = "float32" if model.backbone.float32 else dtype
        self.resnet = backbone or build_backbone(model, dtype=backbone_dtype)
        self.fpn = FPN(model.fpn, model.norm, dtype=dtype, name="fpn")
        self.rpn = RPN(model.rpn, model.anchors, model.fpn.channels, dtype=dtype, name="rpn")
        self.box_head = BoxHead(model, config.num_classes, dtype=dtype, name="box_head")
        self.mask_head = MaskHead(model, config.num_classes, dtype=dtype, name="mask_head")
        self.seed_generator = keras.random.SeedGenerator(config.train.seed)
        self.loss_trackers = {name: keras.metrics.Mean(name) for name in LOSSES}
        self.build()

    def build(self, input_shape=None) -> None:
        self.fpn.build([(None, *output.shape[1:]) for output in self.resnet.outputs])
        self.rpn.build()
        self.box_head.build()
        self.mask_head.build()
        self.built = True

    def call(self, inputs, training=False) -> dict[str, Tensor]:
        return self.forward_train(inputs) if training else self.detect(inputs)

    def detect(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The detections of a batch; Mask R-CNN, Sec. 3.1, "Inference"."""
        image_sizes = ops.cast(inputs["image_sizes"], "float32")
        pyramid = self.fpn(self.features(inputs["images"], image_sizes))  # [P2, .., P6]

        anchors = self.rpn(pyramid)  # objectness [B, A], deltas [B, A, 4] on each level
        proposals = self.rpn.propose(anchors, image_sizes, training=False)  # boxes [B, N, 4]
        logits, deltas = self.box_head(pyramid, proposals.boxes)  # [B, N, C], [B, N, C, 4]
        detections = self.box_head.detect(logits, deltas, proposals, image_sizes)  # boxes [B, D, 4]
        masks = self.mask_head.predict(pyramid, detections)  # [B, D, M, M]
        return {**detections._asdict(), "masks": masks}

    def forward_train(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The five losses of a batch and the weight decay; Mask R-CNN, Sec. 3.1, "Training"."""
        targets = Targets(*(inputs[name] for name in Targets._fields))
        image_sizes = ops.cast(inputs["image_sizes"], "float32")
        *lower, c5 = self.features(inputs["images"], image_sizes, training=True)  # C2, C3, C4; C5
        l2 = l2_loss(self.trainable_variables, self.config.train.l2_weight_decay)
        # Its gradients, as large as the weights, wait for those of FPN and heads: TensorFlow would begin with them.
        l2, c5 = compiler.with_gradient_dependency(l2, c5)
        pyramid = self.fpn([*lower, c5], training=True)  # [P2, .., P6]

        anchors = self.rpn(pyramid)  # objectness [B, A], deltas [B, A, 4] on each level
        rpn_losses = self.rpn.losses(anchors, targets, seed=self.seed_generator)
        proposals = self.rpn.propose(anchors, image_sizes, training=True)  # boxes [B, N, 4]
        rois = self.box_head.sample(proposals, targets, seed=self.seed_generator)  # boxes [B, S, 4], positives first
        logits, deltas = self.box_head(pyramid, rois.boxes, training=True)  # [B, S, C], [B, S, C, 4]
        box_losses = self.box_head.losses(logits, deltas, rois, targets)
        mask_loss = self.mask_head.losses(pyramid, rois.first(self.box_head.config.max_positives), targets)
        return dict(zip(LOSSES, (*rpn_losses, *box_losses, mask_loss, l2), strict=True))

    def features(
        self, images: Number[Tensor, "B H W 3"], image_sizes: Float[Tensor, "B 2"], training: bool = False
    ) -> Pyramid:
        """Images -> [C2, .., C5], C_l: [B, H / 2^l, W / 2^l, channels]."""
        images = normalize(images, image_sizes, self.config.model.image)
        return self.resnet(images, training=training)  # its layers cast to their own precision

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """L = L_rpn_class + L_rpn_box + L_class + L_box + L_mask, plus the weight decay."""
        losses: dict[str, Tensor] = y_pred or {}
        for name, value in losses.items():
            self.loss_trackers[name].update_state(value)
        return backend.scale_loss_by_replicas(sum(losses.values()))

    def get_config(self) -> dict[str, object]:
        backbone = keras.saving.serialize_keras_object(self.resnet) if self.custom_backbone else None
        return {**super().get_config(), "config": dataclasses.asdict(self.config), "backbone": backbone}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config["config"] = Config.from_dict(config["config"])
        if config["backbone"] is not None:
            config["backbone"] = keras.saving.deserialize_keras_object(config["backbone"], custom_objects)
        return cls(**config)


def normalize(
    images: Number[Tensor, "B H W 3"], image_sizes: Float[Tensor, "B 2"], config: ImageConfig
) -> Float[Tensor, "B H W 3"]:
    """RGB in 0..255 -> zero mean and unit deviation, float32; 0 outside of the image.

    Args:
        images: any dtype.
        image_sizes: height and width of the valid part, px.
        config: mean, deviation, and the channels' order.
    """
    images = ops.cast(images, "float32")
    images = (images - ops.convert_to_tensor(config.mean)) / ops.convert_to_tensor(config.std)
    rows = ops.cast(ops.arange(ops.shape(images)[1]), "float32")[None, :, None] < image_sizes[:, 0, None, None]
    columns = ops.cast(ops.arange(ops.shape(images)[2]), "float32")[None, None, :] < image_sizes[:, 1, None, None]
    images = ops.where((rows & columns)[..., None], images, 0.0)
    return ops.flip(images, axis=-1) if config.bgr else images
