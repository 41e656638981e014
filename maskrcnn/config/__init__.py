"""The recipe of a model and its training: `recipe` has the dataclasses, `ranges` what values their fields take."""

from maskrcnn.config.recipe import (
    CANVAS_STRIDE,
    AnchorConfig,
    BackboneConfig,
    BoxHeadConfig,
    Category,
    Config,
    DataConfig,
    FPNConfig,
    ImageConfig,
    MaskHeadConfig,
    ModelConfig,
    NormConfig,
    RoIAlignConfig,
    RPNConfig,
    TrainConfig,
    load_config,
)

__all__ = [
    "AnchorConfig",
    "BackboneConfig",
    "BoxHeadConfig",
    "CANVAS_STRIDE",
    "Category",
    "Config",
    "DataConfig",
    "FPNConfig",
    "ImageConfig",
    "MaskHeadConfig",
    "ModelConfig",
    "NormConfig",
    "RPNConfig",
    "RoIAlignConfig",
    "TrainConfig",
    "load_config",
]
