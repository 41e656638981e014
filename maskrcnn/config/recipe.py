"""The recipe: nested frozen dataclasses whose defaults are the paper's model and the reference's schedule.

Each field names its source. ``FRCNN`` is Faster R-CNN (arXiv:1506.01497), ``FPN`` arXiv:1612.03144, ``MRCNN`` is
Mask R-CNN (arXiv:1703.06870); "reference" is NVIDIA's TensorFlow-2 Mask R-CNN, whose recipe this one follows, and
"torchvision" is the numeric convention (see docs/design.md); LSJ is large-scale jitter of arXiv:2012.07177.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from maskrcnn.config import ranges, typed_fields
from maskrcnn.errors import UserError
from maskrcnn.input_files import read_json

CANVAS_STRIDE = 32  # of C5: every canvas side must be a multiple of it (P6 is a subsampled P5)


@dataclass(frozen=True)
class Category:
    """One class of objects."""

    index: ranges.Index  # channel of the heads; 0 is the background and is not listed
    id: ranges.Id  # the dataset's own category id
    name: str


@dataclass(frozen=True)
class ImageConfig:
    """What happens to pixels before the first convolution."""

    min_side: ranges.Side = 832  # px of the shorter side after resizing; reference
    max_side: ranges.Side = 1344  # px, upper bound of the longer side; reference
    mean: ranges.Color = (123.675, 116.28, 103.53)  # RGB, of ImageNet; torchvision
    std: ranges.ColorScale = (58.395, 57.12, 57.375)  # RGB, of ImageNet; torchvision
    bgr: bool = False  # channels reversed before the first convolution (Detectron2's Caffe2 weights)


@dataclass(frozen=True)
class NormConfig:
    """Batch normalization (arXiv:1502.03167), wherever the model has one."""

    epsilon: ranges.Fraction = 1e-5  # torchvision; its COCO_V1 checkpoint was trained with 0
    momentum: ranges.Fraction = 0.9
    train: bool = False  # statistics and affine part frozen, as in ResNet, Sec. 4.3; `--finetune_bn` sets it


@dataclass(frozen=True)
class BackboneConfig:
    """ResNet (arXiv:1512.03385), or a model of keras.applications."""

    name: ranges.Name | None = None  # such as ConvNeXtTiny or EfficientNetV2S; None is the ResNet of the other fields
    depth: Literal[18, 34, 50, 101] = 50
    width: ranges.StemChannels = 64  # channels of the stem; other stages are multiples of it
    stride_in_1x1: bool = False  # False is "v1.5" (stride in the 3x3); True is the Caffe2 form
    float32: bool = False  # also in half precision: bfloat16's rounding shows in C5, see docs/parity.md
    freeze_at: ranges.Stages = 2  # stages frozen: 0 none, 1 the stem, 2 the stem and C2, ...; reference


@dataclass(frozen=True)
class FPNConfig:
    """The feature pyramid."""

    channels: ranges.Channels = 256  # FPN, Sec. 3
    norm: bool = False  # batch norm after each convolution, which then has no bias; torchvision's v2


@dataclass(frozen=True)
class AnchorConfig:
    """The anchors of each level of the pyramid."""

    sizes: ranges.Sides = (32, 64, 128, 256, 512)  # px, one for each of P2..P6; FPN, Sec. 4.1
    aspect_ratios: ranges.Ratios = (0.5, 1.0, 2.0)  # height / width; FPN, Sec. 4.1
    rounded: bool = True  # corners rounded to whole px; torchvision. False is Detectron2's


@dataclass(frozen=True)
class RPNConfig:
    """The region proposal network."""

    convolutions: ranges.Layers = 1  # 3x3 convolutions before the two 1x1 ones; 2 in torchvision's v2
    positive_iou: ranges.IoU = 0.7  # FRCNN, Sec. 3.1.2
    negative_iou: ranges.Fraction = 0.3  # FRCNN, Sec. 3.1.2
    samples: ranges.Boxes = 256  # anchors an image in the loss; FRCNN, Sec. 3.1.3
    positive_fraction: ranges.Fraction = 0.5  # FRCNN, Sec. 3.1.3
    train_candidates: ranges.Boxes = 2000  # per level, before suppression; reference
    train_proposals: ranges.Boxes = 1000  # per image, after suppression; reference
    test_candidates: ranges.Boxes = 1000  # reference
    test_proposals: ranges.Boxes = 1000  # reference
    nms_iou: ranges.IoU = 0.7  # FRCNN, Sec. 3.3
    min_size: ranges.Pixels = 1e-3  # px; a smaller proposal is dropped; torchvision
    smooth_l1_beta: ranges.Beta = 1 / 9  # torchvision


@dataclass(frozen=True)
class BoxHeadConfig:
    """The box head, the sampling of its RoIs, and the detections."""

    convolutions: ranges.LayersOrNone = 0  # 3x3 convolutions before the dense layers; 4 in torchvision's v2
    norm: bool = False  # batch norm after each of those convolutions; torchvision's v2
    conv_channels: ranges.Channels = 256  # torchvision's v2
    dense_layers: ranges.Layers = 2  # 1 in torchvision's v2
    channels: ranges.Channels = 1024  # of each dense layer; FPN, Sec. 4.2
    pool_size: ranges.PoolSize = 7  # FPN, Sec. 4.2
    samples: ranges.Boxes = 512  # RoIs an image in the loss; MRCNN, Sec. 3.1
    positive_fraction: ranges.Fraction = 0.25  # MRCNN, Sec. 3.1
    positive_iou: ranges.IoU = 0.5  # MRCNN, Sec. 3.1
    delta_weights: ranges.Weights = (10.0, 10.0, 5.0, 5.0)  # of dx, dy, dw, dh; torchvision
    smooth_l1_beta: ranges.Beta = 1 / 9  # torchvision
    score_threshold: ranges.Score = 0.05  # torchvision
    nms_iou: ranges.IoU = 0.5  # per class; MRCNN, Sec. 3.1
    min_size: ranges.Pixels = 1e-2  # px; a smaller detection is dropped; torchvision
    test_candidates: ranges.Boxes = 2000  # (RoI, class) pairs above the threshold that enter suppression
    detections: ranges.Boxes = 100  # MRCNN, Sec. 3.1

    @property
    def max_positives(self) -> int:
        """At most so many sampled RoIs are positive, and so have a mask loss."""
        return int(self.samples * self.positive_fraction)


@dataclass(frozen=True)
class MaskHeadConfig:
    """The mask head."""

    convolutions: ranges.Layers = 4  # MRCNN, Fig. 4
    channels: ranges.Channels = 256  # MRCNN, Fig. 4
    norm: bool = False  # batch norm after each convolution; torchvision's v2
    pool_size: ranges.PoolSize = 14  # MRCNN, Fig. 4; the head doubles it
    slot_sizes: ranges.Layers = 3  # padding buckets: all RoIs, half of them, ...; the smallest that fits is used


@dataclass(frozen=True)
class RoIAlignConfig:
    """RoIAlign."""

    sampling_ratio: ranges.Samples = 2  # sample points along each side of a bin; torchvision
    aligned: bool = False  # True is Detectron2's half-pixel shift


@dataclass(frozen=True)
class ModelConfig:
    """Everything that the model's variables and numbers depend on."""

    image: ImageConfig = field(default_factory=ImageConfig)
    norm: NormConfig = field(default_factory=NormConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    fpn: FPNConfig = field(default_factory=FPNConfig)
    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    rpn: RPNConfig = field(default_factory=RPNConfig)
    roi_align: RoIAlignConfig = field(default_factory=RoIAlignConfig)
    box_head: BoxHeadConfig = field(default_factory=BoxHeadConfig)
    mask_head: MaskHeadConfig = field(default_factory=MaskHeadConfig)


@dataclass(frozen=True)
class DataConfig:
    """How the dataset is read and augmented."""

    train_file: ranges.FilePath | None = None  # COCO JSON, relative to the dataset; if given, only named files count
    val_file: ranges.FilePath | None = None  # likewise
    test_file: ranges.FilePath | None = None  # likewise
    image_dir: ranges.FilePath | None = None  # where the images of COCO JSON lie; None: they are looked for
    val_fraction: ranges.Fraction = 0.1  # of the training images, held out if there is no val split; 0: none
    eval_split: Literal["train", "val", "test"] = "val"  # that `eval` and `infer` use
    masks_from_boxes: bool = False  # rectangles for objects without masks
    crowds_as_objects: bool = False  # for brush masks of CVAT, which are marked as crowds
    max_instances: ranges.Instances | None = None  # objects of an image in training; None: as the data need, to 300
    horizontal_flip: bool = True  # with probability 1/2; MRCNN's code
    scale_jitter: ranges.Interval | None = None  # range of scales, then a random crop: (0.1, 2.0) in LSJ
    color_jitter: ranges.Fraction = 0.0  # factors of 1 - strength to 1 + strength; 0: none; SSD, arXiv:1512.02325
    copy_paste: ranges.Fraction = 0.0  # share of images that get objects of another one; LSJ, arXiv:2012.07177, Sec. 3
    skip_bad: bool = False  # skip annotations and images with problems, however many


@dataclass(frozen=True)
class TrainConfig:
    """Learning rates are for 8 images a step and scale with the global batch; reference."""

    epochs: ranges.Epochs = 12  # reference
    steps_per_epoch: ranges.Steps | None = None  # None: one pass over the training split
    batch_size: ranges.Images = 4  # images on each device; reference
    accumulate: ranges.Images = 1  # batches whose gradients are averaged into one update
    init_learning_rate: ranges.Rate = 0.0  # warm-up starts here; reference
    learning_rate_values: ranges.Rates = (1e-2, 1e-3, 1e-4)  # reference
    learning_rate_boundaries: ranges.Boundaries = (0.3, 8.0, 10.0)  # epochs: warm-up ends, then each drop; reference
    decay: Literal["steps", "cosine"] = "steps"  # cosine falls from the first rate to 0; SGDR, arXiv:1608.03983
    optimizer: Literal["sgd", "adam"] = "sgd"  # reference; Adam gets further in a short run from scratch
    momentum: ranges.Fraction = 0.9  # of SGD; reference
    clip_norm: ranges.Norm | None = None  # bound of the norm of all gradients together; None: no bound
    ema: ranges.Decay | None = None  # decay of the weights' moving average, which is what is used; None: none
    l2_weight_decay: ranges.Rate = 1e-4  # of kernels only: no biases, no norms; reference
    precision: Literal["float32", "tf32", "float16", "bfloat16"] = "float32"
    xla: bool = False
    eagerly: bool = False
    seed: ranges.Seed | None = None
    keep: ranges.Checkpoints = 2  # checkpoints: the newest, and the one before should the newest be damaged
    checkpoint_every: ranges.Period = 0  # steps between two checkpoints; 0: only at the end of each epoch
    evaluate_every: ranges.Period = 0  # epochs between evaluations; 0: only after the last one
    eval_batch_size: ranges.Images = 8  # reference
    eval_samples: ranges.Steps | None = None  # None: the whole val split
    patience: ranges.Period = 0  # evaluations without a better mask AP after which training ends; 0: no limit
    max_time: ranges.Minutes | None = None  # minutes after which training ends; None: no limit


@dataclass(frozen=True)
class Config:
    """A whole run. Saved as ``config.json`` in the model's folder; read again by eval, infer and export."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    categories: tuple[Category, ...] = ()  # filled in from the data

    @property
    def num_classes(self) -> int:
        """Channels of the class-wise heads, background included."""
        return 1 + max((category.index for category in self.categories), default=0)

    @classmethod
    def tiny(cls) -> "Config":
        """A model of 128 px images for tests on a CPU: every part is there, all of it small."""
        return cls(
            model=ModelConfig(
                image=ImageConfig(min_side=128, max_side=128),
                norm=NormConfig(train=True),
                backbone=BackboneConfig(depth=18, width=16, freeze_at=0),
                fpn=FPNConfig(channels=32),
                anchors=AnchorConfig(sizes=(16, 32, 64, 96, 128)),
                rpn=RPNConfig(train_candidates=200, train_proposals=100, test_candidates=200, test_proposals=100),
                box_head=BoxHeadConfig(channels=128, samples=64, test_candidates=200, detections=20),
                mask_head=MaskHeadConfig(convolutions=2, channels=32, slot_sizes=1),
            ),
            data=DataConfig(max_instances=16),
            train=TrainConfig(batch_size=2),
        )

    def to_json(self) -> str:
        """The config as indented JSON, as `load_config` reads it."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Config":
        """Builds a config from nested dicts; absent fields keep their defaults.

        Raises:
            UserError: an unknown field, or a value of the wrong type or out of range.
        """
        if not isinstance(values, dict):
            raise UserError("expected a JSON object of config fields")
        try:
            return typed_fields.build(cls, values)._consistent()
        except typed_fields.SettingError as error:
            raise UserError(str(error)) from error

    def override(self, changes: Mapping[str, Any]) -> "Config":
        """Replaces fields named by dotted paths: ``{"model.rpn.nms_iou": 0.6}``.

        A leading ``model.`` may be left out, so that ``rpn.nms_iou`` works. Strings are read as JSON where they are.

        Raises:
            UserError: an unknown name (the near ones are listed), or a value of the wrong type or out of range.
        """
        config = self
        if not isinstance(changes, Mapping):
            raise UserError(f"{type(changes).__name__} holds no settings; give a dict of dotted names and values")
        try:
            for name, value in changes.items():
                path = typed_fields.resolve(Config, name, optional_prefix="model.")
                config = typed_fields.replace(config, path, value)
            return config._consistent()
        except typed_fields.SettingError as error:
            raise UserError(str(error)) from error

    def _consistent(self) -> "Config":
        rpn = self.model.rpn
        if rpn.negative_iou > rpn.positive_iou:
            raise typed_fields.SettingError(
                f"rpn.negative_iou {rpn.negative_iou} exceeds positive_iou {rpn.positive_iou}"
            )
        for values in ([c.index for c in self.categories], [c.id for c in self.categories]):
            if len(set(values)) < len(values):
                raise typed_fields.SettingError("categories: two of them have the same index or id")
        return self


def load_config(path: str | Path) -> Config:
    """Reads a JSON config file.

    Raises:
        UserError: the file is missing, not JSON, or holds a wrong field.
    """
    values = read_json(path, "a config file")
    try:
        return Config.from_dict(values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
