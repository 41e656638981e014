"""Half precision, and the sums that stay out of it."""

import keras
import numpy as np
import pytest

from maskrcnn.config import BackboneConfig, NormConfig
from maskrcnn.model.resnet import resnet


@pytest.mark.parametrize(
    ("policy", "float32_residual", "wanted"),
    [
        ("mixed_bfloat16", True, "float32"),
        ("mixed_bfloat16", False, "bfloat16"),
        ("mixed_float16", True, "float16"),
        ("float32", False, "float32"),
    ],
)
def test_blocks_add_up_in_float32_under_bfloat16(policy: str, float32_residual: bool, wanted: str) -> None:
    config = BackboneConfig(depth=18, width=8, float32_residual=float32_residual)
    model = resnet(config, NormConfig(), dtype=policy)
    assert model.get_layer("stem").conv.compute_dtype == policy.removeprefix("mixed_")
    outputs = model(np.ones((1, 32, 32, 3), "float32"))
    assert {keras.backend.standardize_dtype(output.dtype) for output in outputs} == {wanted}
