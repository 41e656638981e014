"""Mask R-CNN (arXiv:1703.06870) as one Keras model.

B images, H x W canvas, N proposals, G ground-truth slots, D detections, C classes with the background, M mask side.
"""

import dataclasses
from typing import Any

import keras
from keras import ops

from maskrcnn.config import Config, ImageConfig
from maskrcnn.model.backbones import build_backbone
from maskrcnn.model.box_head import BoxHead
from maskrcnn.model.fpn import FPN
from maskrcnn.model.losses import l2_loss
from maskrcnn.model.mask_head import MaskHead
from maskrcnn.model.rpn import RPN
from maskrcnn.model.structures import Detections, RoIs, Targets, Tensor
from maskrcnn.ops.fast.padding_buckets import run_on_bucket
from maskrcnn.ops.roi_align import multilevel_roi_align
from maskrcnn.runtime import backend

LOSSES = ("rpn_class_loss", "rpn_box_loss", "class_loss", "box_loss", "mask_loss")


@keras.saving.register_keras_serializable("maskrcnn")
class MaskRCNN(keras.Model):
    """Detects objects and their masks.

    Called with ``training=False`` on ``{"images": [B, H, W, 3] RGB in 0..255, "image_sizes": [B, 2] height and width
    of the valid part in px}`` it returns the detections ``{"boxes": [B, D, 4] px of the canvas, "classes": [B, D],
    "scores": [B, D], "masks": [B, D, M, M] probabilities, "valid": [B, D]}``, by falling score, empty slots last.

    Called with ``training=True`` the same dict also holds the ground truth, ``boxes, classes, masks, mask_regions,
    valid`` (see `Targets`), and the five losses are returned. ``compile(optimizer=...)`` needs no loss: ``fit`` adds
    them up. H and W are multiples of 32.

    Args:
        config: the architecture and recipe; the number of classes comes from its categories.
        backbone: any Keras model from normalized images to the list C2..C5; None builds the one of the config.
    """

    def __init__(self, config: Config, backbone: keras.Model | None = None, **kwargs):
        super().__init__(autocast=False, **kwargs)  # boxes and image sizes must stay float32 in every precision
        self.config = config
        model, dtype = config.model, self.dtype_policy
        channels, classes = model.fpn.channels, config.num_classes
        self.custom_backbone = backbone is not None
        backbone_dtype = "float32" if model.backbone.float32 else dtype
        self.resnet = backbone or build_backbone(model, dtype=backbone_dtype)
        self.fpn = FPN(model.fpn, model.norm, dtype=dtype, name="fpn")
        self.rpn = RPN(model.rpn, model.anchors, channels, dtype=dtype, name="rpn")
        self.box_head = BoxHead(model.box_head, model.norm, classes, channels, dtype=dtype, name="box_head")
        self.mask_head = MaskHead(model.mask_head, model.norm, classes, channels, dtype=dtype, name="mask_head")
        self.seed_generator = keras.random.SeedGenerator(config.train.seed)
        self.loss_trackers = {name: keras.metrics.Mean(name) for name in (*LOSSES, "l2_loss")}
        self.build()

    def build(self, input_shape=None) -> None:
        self.fpn.build([(None, *output.shape[1:]) for output in self.resnet.outputs])
        self.rpn.build()
        self.box_head.build()
        self.mask_head.build()
        self.built = True

    def call(self, inputs, training=False) -> dict[str, Tensor]:
        return self.forward_train(inputs) if training else self.detect(inputs)

    def detect(self, inputs) -> dict[str, Tensor]:
        """The detections of a batch; Mask R-CNN, Sec. 3.1, "Inference"."""
        image_sizes = ops.cast(inputs["image_sizes"], "float32")
        pyramid = self.pyramid(inputs["images"], image_sizes)
        objectness, deltas = self.rpn(pyramid)
        anchors = self.rpn.anchors(pyramid)
        proposals = self.rpn.propose(objectness, deltas, anchors, image_sizes, training=False)

        logits, deltas = self.box_head(self.pool(pyramid, proposals.boxes, self.box_head.config.pool_size))
        detections = self.box_head.detect(logits, deltas, proposals, image_sizes)
        return {**detections._asdict(), "masks": self.masks(pyramid, detections)}

    def forward_train(self, inputs) -> dict[str, Tensor]:
        """The five losses of a batch; Mask R-CNN, Sec. 3.1, "Training"."""
        targets = Targets(*(inputs[name] for name in Targets._fields))
        image_sizes = ops.cast(inputs["image_sizes"], "float32")
        pyramid = self.pyramid(inputs["images"], image_sizes, training=True)
        objectness, deltas = self.rpn(pyramid)
        anchors = self.rpn.anchors(pyramid)
        rpn_class_loss, rpn_box_loss = self.rpn.losses(pyramid, anchors, targets, seed=self.seed_generator)
        proposals = self.rpn.propose(objectness, deltas, anchors, image_sizes, training=True)

        rois = self.box_head.sample(proposals, targets, seed=self.seed_generator)
        roi_features = self.pool(pyramid, rois.boxes, self.box_head.config.pool_size)
        logits, deltas = self.box_head(roi_features, training=True)
        class_loss, box_loss = self.box_head.losses(logits, deltas, rois, targets)

        mask_loss = self.mask_loss(pyramid, rois, targets)
        return dict(zip(LOSSES, (rpn_class_loss, rpn_box_loss, class_loss, box_loss, mask_loss), strict=True))

    def pyramid(self, images, image_sizes, training=False) -> list[Tensor]:
        """Images [B, H, W, 3] -> [P2, .., P6], P_l: [B, H / 2^l, W / 2^l, channels]."""
        images = normalize(images, image_sizes, self.config.model.image)
        features = self.resnet(images, training=training)  # [C2, .., C5]; its layers cast to their own precision
        return self.fpn(features, training=training)

    def pool(self, pyramid, boxes, output_size: int) -> Tensor:
        """RoIAlign: boxes [B, N, 4] -> [B, N, P, P, channels]; P6 serves the RPN only; FPN, Sec. 4.2."""
        align = self.config.model.roi_align
        return multilevel_roi_align(
            pyramid[:4], boxes, output_size=output_size, sampling_ratio=align.sampling_ratio, aligned=align.aligned
        )

    def masks(self, pyramid, detections: Detections) -> Tensor:
        """Mask probabilities of the detections' own classes: [B, D, M, M]; 0 in empty slots."""
        slots = detections.boxes.shape[1]

        def of_first(count: int) -> Tensor:
            roi_features = self.pool(pyramid, detections.boxes[:, :count], self.mask_head.config.pool_size)
            masks = ops.sigmoid(self.mask_head(roi_features, detections.classes[:, :count]))
            return ops.pad(masks, ((0, 0), (0, slots - count), (0, 0), (0, 0)))

        sizes = self.mask_head.slot_sizes(slots, training=False)
        masks = run_on_bucket(of_first, detections.valid, sizes)
        return ops.where(detections.valid[..., None, None], masks, 0.0)

    def mask_loss(self, pyramid, rois: RoIs, targets: Targets) -> Tensor:
        """L_mask. Only positives have one, and they fill the first slots; Mask R-CNN, Sec. 3.1."""

        def of_first(count: int) -> Tensor:
            positives = RoIs(*(field[:, :count] for field in rois))
            classes = ops.take_along_axis(targets.classes, positives.matched, axis=1)
            roi_features = self.pool(pyramid, positives.boxes, self.mask_head.config.pool_size)
            return self.mask_head.loss(self.mask_head(roi_features, classes, training=True), positives, targets)

        slots = min(self.box_head.config.max_positives, rois.boxes.shape[1])
        sizes = self.mask_head.slot_sizes(slots, training=True)
        return run_on_bucket(of_first, rois.positive[:, :slots], sizes)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """L = L_rpn_class + L_rpn_box + L_class + L_box + L_mask, plus the weight decay."""
        losses: dict[str, Any] = dict(y_pred or {})
        losses["l2_loss"] = l2_loss(self.trainable_variables, self.config.train.l2_weight_decay)
        for name, value in losses.items():
            self.loss_trackers[name].update_state(value)
        return backend.scale_loss_by_replicas(sum(losses.values()))

    def get_config(self) -> dict[str, Any]:
        backbone = keras.saving.serialize_keras_object(self.resnet) if self.custom_backbone else None
        return {**super().get_config(), "config": dataclasses.asdict(self.config), "backbone": backbone}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config["config"] = Config.from_dict(config["config"])
        if config["backbone"] is not None:
            config["backbone"] = keras.saving.deserialize_keras_object(config["backbone"], custom_objects)
        return cls(**config)


def normalize(images, image_sizes, config: ImageConfig) -> Tensor:
    """RGB in 0..255 -> zero mean and unit deviation, float32; what lies outside an image is 0.

    Args:
        images: [B, H, W, 3], any dtype.
        image_sizes: [B, 2] height and width of the valid part, px.
        config: mean, deviation, and the channels' order.
    """
    images = ops.cast(images, "float32")
    images = (images - ops.convert_to_tensor(config.mean)) / ops.convert_to_tensor(config.std)
    rows = ops.cast(ops.arange(ops.shape(images)[1]), "float32")[None, :, None] < image_sizes[:, 0, None, None]
    columns = ops.cast(ops.arange(ops.shape(images)[2]), "float32")[None, None, :] < image_sizes[:, 1, None, None]
    images = ops.where((rows & columns)[..., None], images, 0.0)
    return ops.flip(images, axis=-1) if config.bgr else images
