"""Models with generated weights, which find objects in any image."""

import dataclasses
import zlib

import keras
import numpy as np
import pytest

from maskrcnn.config import Category, Config
from maskrcnn.model import MaskRCNN
from maskrcnn.weights.variables import model_variables

pytest.importorskip("onnx")

GAINS = {"rpn/deltas": 0.04, "rpn/objectness": 4.0, "box_head/classes": 30.0, "box_head/deltas": 1.0, "mask_head/masks": 4.0}


def make_model(config: Config) -> MaskRCNN:
    """A compiled model whose weights depend on their names only; its batch norms are far from the identity."""
    model = MaskRCNN(config)
    for name, variable in model_variables(model).items():
        variable.assign(_values(name, tuple(variable.shape)))
    model.compile()
    return model


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape).astype(np.float32)
    layer, _, leaf = name.rpartition("/")
    if leaf == "kernel":
        fan_in = shape[0] * shape[1] * shape[3] if "upsample" in name else np.prod(shape[:-1])
        return values * np.float32(np.sqrt(GAINS.get(layer.removesuffix("/conv"), 1.0) / fan_in))
    if leaf == "moving_variance":
        return 0.5 + np.abs(values)
    if leaf == "gamma":
        return 1.0 + 0.3 * values
    return 0.1 * values
