"""Half precision, and the backbone that may stay out of it."""

import dataclasses

import keras
import numpy as np
import pytest

from maskrcnn.config import BackboneConfig, Category, Config
from maskrcnn.model import MaskRCNN


@pytest.mark.bfloat16
@pytest.mark.slow_under_jax
@pytest.mark.parametrize("float32", [False, True])
def test_backbone_may_stay_in_float32(float32: bool) -> None:
    tiny = dataclasses.replace(Config.tiny(), categories=(Category(1, 1, "thing"),))
    config = tiny.override({"backbone.float32": float32})
    assert BackboneConfig().float32 is False
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = MaskRCNN(config)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.resnet.get_layer("stem").conv.compute_dtype == ("float32" if float32 else "bfloat16")
    images, sizes = np.full((1, 128, 128, 3), 99, np.uint8), np.array([[128, 128]], np.float32)
    pyramid = model.fpn(model.features(images, sizes))
    assert all(keras.backend.standardize_dtype(level.dtype) == "bfloat16" for level in pyramid)
