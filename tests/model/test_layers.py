"""A frozen norm is folded into its convolution; on a CPU, large convolutions use Winograd's algorithm."""

import keras
import numpy as np
import pytest

from maskrcnn.config import NormConfig
from maskrcnn.model.layers import ConvNorm
from maskrcnn.ops.fast.cpu_convolution import MIN_WINOGRAD_CHANNELS
from maskrcnn.ops.fast.winograd import convolve3x3


def pad(layer, inputs):
    return np.pad(inputs, ((0, 0), (layer.padding, layer.padding), (layer.padding, layer.padding), (0, 0)))


@pytest.mark.parametrize("strides", [1, 2])
def test_folded_norm_is_the_norm_after_the_convolution(strides):
    rng = np.random.default_rng(0)
    layer = ConvNorm(5, 3, strides=strides, norm=NormConfig(epsilon=0.1))
    layer.build((None, None, None, 4))
    for weight in layer.weights:
        weight.assign(rng.uniform(0.5, 2, weight.shape))
    inputs = rng.normal(size=(2, 8, 6, 4)).astype("float32")
    expected = layer.norm(layer.conv(pad(layer, inputs)), training=False)
    for training in (False, True):  # frozen: the moving statistics in training too
        actual = np.asarray(layer(inputs, training=training))
        np.testing.assert_allclose(actual, np.asarray(expected), atol=1e-4)
        assert layer.compute_output_shape(inputs.shape) == actual.shape
    assert layer.compute_output_shape((None, None, 5, 4)) == (None, None, 5 if strides == 1 else 3, 5)


def test_a_norm_that_learns_uses_the_batch():
    layer = ConvNorm(3, 1, norm=NormConfig(train=True))
    layer.build((None, None, None, 2))
    inputs = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(3, 2, (4, 5, 5, 2)), "float32")
    outputs = np.asarray(layer(inputs, training=True))
    np.testing.assert_allclose(outputs.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    assert np.abs(np.asarray(layer.norm.moving_mean)).max() > 0.01


def test_many_channels_are_convolved_by_winograd(monkeypatch):
    monkeypatch.setattr("maskrcnn.runtime.hardware.computes_on_cpu", lambda: True)
    layer = ConvNorm(MIN_WINOGRAD_CHANNELS, 3)
    layer.build((None, None, None, MIN_WINOGRAD_CHANNELS))
    assert layer.conv.algorithm is convolve3x3
    inputs = np.random.default_rng(0).normal(size=(1, 4, 4, MIN_WINOGRAD_CHANNELS)).astype("float32")
    outputs = layer(inputs)
    layer.conv.algorithm = None
    np.testing.assert_allclose(outputs, layer.conv(pad(layer, inputs)), atol=1e-4)
