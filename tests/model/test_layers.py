"""A frozen norm is folded into its convolution; on a CPU, large convolutions take fewer products."""

import keras
import numpy as np
import pytest
from keras import ops

from maskrcnn.config import NormConfig
from maskrcnn.model.layers import WINOGRAD_CHANNELS, ConvNorm
from maskrcnn.ops.fast.winograd import convolve3x3


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


@pytest.mark.parametrize("channels", [WINOGRAD_CHANNELS, WINOGRAD_CHANNELS - 1])
@pytest.mark.parametrize("settings", [{}, {"kernel_size": 1}, {"strides": 2}, {"dtype": "bfloat16"}])
def test_layers_use_it_for_many_channels_in_float32(monkeypatch, channels, settings):
    calls = []
    monkeypatch.setattr("maskrcnn.model.layers.convolve3x3", lambda *inputs: calls.append(1) or convolve3x3(*inputs))
    monkeypatch.setattr("maskrcnn.runtime.hardware.computes_on_cpu", lambda: True)
    layer = ConvNorm(WINOGRAD_CHANNELS, **{"kernel_size": 3, **settings})
    layer.build((None, None, None, channels))
    inputs = ops.cast(np.random.default_rng(0).normal(size=(1, 4, 4, channels)), layer.compute_dtype)
    outputs = layer(inputs)
    assert len(calls) == (channels == WINOGRAD_CHANNELS and not settings)
    plain = layer.conv(inputs if layer.pad is None else layer.pad(inputs))
    np.testing.assert_allclose(ops.cast(outputs, "float32"), ops.cast(plain, "float32"), atol=1e-4)


def test_layers_leave_a_gpu_its_own_algorithms(monkeypatch):
    monkeypatch.setattr("maskrcnn.model.layers.convolve3x3", None)
    monkeypatch.setattr("maskrcnn.runtime.hardware.computes_on_cpu", lambda: False)
    layer = ConvNorm(WINOGRAD_CHANNELS, 3)
    layer.build((None, None, None, WINOGRAD_CHANNELS))
    assert layer(ops.ones((1, 4, 4, WINOGRAD_CHANNELS))).shape == (1, 4, 4, WINOGRAD_CHANNELS)
