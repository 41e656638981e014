"""A frozen norm is folded into its convolution."""

import keras
import numpy as np
import pytest

from maskrcnn.config import NormConfig
from maskrcnn.model.layers import ConvNorm


@pytest.mark.parametrize("strides", [1, 2])
def test_folded_norm_is_the_norm_after_the_convolution(strides):
    rng = np.random.default_rng(0)
    layer = ConvNorm(5, 3, strides=strides, norm=NormConfig(epsilon=0.1))
    layer.build((None, None, None, 4))
    for weight in layer.weights:
        weight.assign(rng.uniform(0.5, 2, weight.shape))
    inputs = keras.ops.convert_to_tensor(rng.normal(size=(2, 8, 6, 4)), "float32")

    padded = inputs if layer.pad is None else layer.pad(inputs)
    wanted = layer.norm(layer.conv(padded), training=False)

    for training in (False, True):  # frozen: the moving statistics in training too
        np.testing.assert_allclose(np.asarray(layer(inputs, training=training)), np.asarray(wanted), atol=1e-4)


def test_a_norm_that_learns_uses_the_batch():
    layer = ConvNorm(3, 1, norm=NormConfig(train=True))
    layer.build((None, None, None, 2))
    inputs = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(3, 2, (4, 5, 5, 2)), "float32")
    outputs = np.asarray(layer(inputs, training=True))
    np.testing.assert_allclose(outputs.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    assert np.abs(np.asarray(layer.norm.moving_mean)).max() > 0.01
