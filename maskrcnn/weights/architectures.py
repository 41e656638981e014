"""Detects the architecture of a checkpoint from its tensors, and describes it as a config."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from maskrcnn.config import BoxHeadConfig, Config, FPNConfig, MaskHeadConfig, ModelConfig, RPNConfig
from maskrcnn.errors import UserError
from maskrcnn.model.resnet import BLOCKS
from maskrcnn.weights.rules import (
    DETECTRON2,
    NVIDIA_RESNET,
    STAGES,
    TORCHVISION,
    TORCHVISION_RESNET,
    ConvertedTensor,
    Naming,
    Tensors,
    convert,
)

# torchvision's second version ("Benchmarking Detection Transfer Learning", arXiv:2111.11429).
TORCHVISION_V2: dict[str, Any] = {
    "fpn": FPNConfig(norm=True),
    "rpn": RPNConfig(convolutions=2),
    "box_head": BoxHeadConfig(convolutions=4, norm=True, dense_layers=1),
    "mask_head": MaskHeadConfig(norm=True),
}
COCO_V1_DIGITS = "bf2d0c1e"  # in the file name of torchvision's COCO_V1 release: from its SHA-256
COCO_CHANNELS = 91  # of torchvision's class-wise heads: the background and COCO's ids up to 90


class Family(NamedTuple):
    """The checkpoints of one publisher, with the settings that their tensors do not show."""

    title: str
    prefix: str  # some of its tensors' names start with it
    naming: Naming
    settings: Mapping[str, Any]  # dotted config fields
    has_heads: bool = True


class ConvertedCheckpoint(NamedTuple):
    """A checkpoint under the model's own names and in its layout."""

    family: Family
    config: Config  # without categories
    tensors: dict[str, ConvertedTensor]  # by variable name
    num_classes: int  # channels of the class-wise heads, including the background; 0 without heads
    hint: str = ""  # a setting that the user may have to make, since the tensors do not show it


TEST_SIZE = {"image.min_side": 800, "image.max_side": 1333}  # of both publishers
FAMILIES = (
    Family("torchvision Mask R-CNN", "backbone.body.", TORCHVISION, TEST_SIZE),
    Family(
        "Detectron2 Mask R-CNN",
        "backbone.bottom_up.",
        DETECTRON2,
        {
            **TEST_SIZE,
            "image.mean": (123.675, 116.28, 103.53),
            "image.std": (1.0, 1.0, 1.0),
            "image.bgr": True,
            "backbone.stride_in_1x1": True,
            "anchors.rounded": False,
            # Detectron2 takes one sample per feature-map location of a bin, usually 2 or 3 per side; here always 2.
            "roi_align.aligned": True,
        },
    ),
    Family("torchvision ResNet", "layer1.", TORCHVISION_RESNET, {}, has_heads=False),
    Family("NVIDIA ResNet-50", "resnet50/btlnck_block_", NVIDIA_RESNET, {}, has_heads=False),
)


def identify(tensors: Tensors, path: Any) -> Family:
    """Finds the publisher.

    Raises:
        UserError: an unknown one.
    """
    for family in FAMILIES:
        if any(name.startswith(family.prefix) for name in tensors):
            return family
    titles = ", ".join(family.title for family in FAMILIES)
    first = ", ".join(list(tensors)[:3])
    raise UserError(f"{path}: an unknown architecture (its tensors: {first}, ...); known: {titles}")


def read_checkpoint(tensors: Tensors, path: str | Path) -> ConvertedCheckpoint:
    """Renames and transposes tensors for the model, and finds the config that fits them.

    Raises:
        UserError: an unknown architecture, or tensors that no rule covers.
    """
    family = identify(tensors, path)
    converted = convert(tensors, family.naming, path=path)
    shapes = {name: tensor.value.shape for name, tensor in converted.items()}
    model = _backbone(ModelConfig(), shapes, path)
    num_classes = 0
    if family.has_heads:
        model = _heads(model, shapes)
        num_classes = _channels(shapes, "box_head/classes/kernel", 0)
        if num_classes < 2:
            raise UserError(f"{path}: the box head's classifier is missing; give a complete checkpoint")
    config = Config(model=model).override(dict(family.settings))
    hint = ""
    if _is_frozen_coco(family, tensors, num_classes):
        # torchvision's COCO_V1 release has an epsilon of 0, which no tensor shows: torchvision sets it after loading.
        # The release is recognized by its file name, or by tensor names from before torchvision 0.13.
        if COCO_V1_DIGITS in Path(path).name or "rpn.head.conv.weight" in tensors:
            config = config.override({"norm.epsilon": 0.0})
        else:
            hint = "if the model was saved from torchvision's COCO_V1 weights, import it with --set norm.epsilon=0"
    return ConvertedCheckpoint(family, config, converted, num_classes, hint)


def _is_frozen_coco(family: Family, tensors: Tensors, num_classes: int) -> bool:
    """Whether the checkpoint is like torchvision's COCO_V1: COCO's classes and frozen batch norms."""
    frozen = not any(name.endswith("num_batches_tracked") for name in tensors)
    return family.naming is TORCHVISION and num_classes == COCO_CHANNELS and frozen


def _backbone(model: ModelConfig, shapes: Mapping[str, tuple[int, ...]], path: Any) -> ModelConfig:
    blocks = tuple(_count(shapes, rf"resnet/c{stage}_block(\d+)_conv") for stage in STAGES)
    is_bottleneck = _count(shapes, r"resnet/c2_block(\d+)_conv3") > 0
    depths = [depth for depth, counts in BLOCKS.items() if counts == blocks and (depth >= 50) == is_bottleneck]
    if not depths:
        listed = ", ".join(map(str, BLOCKS))
        raise UserError(f"{path}: a ResNet of {'+'.join(map(str, blocks))} blocks; the supported depths are {listed}")
    width = _channels(shapes, "resnet/stem/conv/kernel", model.backbone.width)
    backbone = dataclasses.replace(model.backbone, depth=depths[0], width=width)
    return dataclasses.replace(model, backbone=backbone)


def _heads(model: ModelConfig, shapes: Mapping[str, tuple[int, ...]]) -> ModelConfig:
    return dataclasses.replace(
        model,
        fpn=dataclasses.replace(
            model.fpn,
            channels=_channels(shapes, "fpn/lateral2/conv/kernel", model.fpn.channels),
            norm=_count(shapes, r"fpn/(\w+)/norm") > 0,
        ),
        rpn=dataclasses.replace(model.rpn, convolutions=_count(shapes, r"rpn/conv(\d+)/")),
        box_head=dataclasses.replace(
            model.box_head,
            convolutions=_count(shapes, r"box_head/conv(\d+)/"),
            norm=_count(shapes, r"box_head/conv(\d+)/norm") > 0,
            conv_channels=_channels(shapes, "box_head/conv1/conv/kernel", model.box_head.conv_channels),
            dense_layers=_count(shapes, r"box_head/dense(\d+)/"),
            channels=_channels(shapes, "box_head/dense1/kernel", model.box_head.channels),
        ),
        mask_head=dataclasses.replace(
            model.mask_head,
            convolutions=_count(shapes, r"mask_head/conv(\d+)/"),
            norm=_count(shapes, r"mask_head/conv(\d+)/norm") > 0,
            channels=_channels(shapes, "mask_head/conv1/conv/kernel", model.mask_head.channels),
        ),
    )


def _count(shapes: Mapping[str, tuple[int, ...]], expression: str) -> int:
    """The number of different values that the expression's group has among the names."""
    return len({found[1] for name in shapes if (found := re.match(expression, name))})


def _channels(shapes: Mapping[str, tuple[int, ...]], name: str, default: int) -> int:
    """The output channels of a layer; missing layers are reported later, all at once."""
    shape = shapes.get(name, ())
    return int(shape[-1]) if shape else default
