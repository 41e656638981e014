"""The convolution layers of a CPU give what Keras' own give, and so do their gradients."""

import keras
import numpy as np
import pytest
from keras import ops

from maskrcnn.ops.fast import cpu_convolution, kernel_gradient, winograd
from maskrcnn.ops.fast.cpu_convolution import MIN_WINOGRAD_CHANNELS, CpuConv2D, UpsamplingConv2D, multiply


def plain(inputs, kernel):
    return ops.conv(inputs, kernel, 1, "same", data_format="channels_last")


@pytest.fixture(params=[(multiply, 1), (kernel_gradient.convolve, 1), (kernel_gradient.convolve, 3)])
def convolution(request):
    return request.param


@pytest.fixture(params=[(3, 6, 5), (1, 1, 4)], ids=str)
def problem(request, convolution, rng):
    """Maps, a kernel, and the gradient of the outputs."""
    _, side = convolution
    shapes = (*request.param, 4), (side, side, 4, 7), (*request.param, 7)
    return tuple(rng.normal(size=shape).astype("float32") for shape in shapes)


def test_outputs_are_those_of_a_plain_convolution(run, convolution, problem):
    inputs, kernel, _ = problem
    np.testing.assert_allclose(run(convolution[0], inputs, kernel), plain(inputs, kernel), atol=1e-5)


def test_gradients_are_those_of_a_plain_convolution(gradient, convolution, problem):
    inputs, kernel, upstream = problem

    def slopes(function):
        of_inputs = gradient(lambda maps: ops.sum(function(maps, kernel) * upstream), inputs)
        return of_inputs, gradient(lambda k: ops.sum(function(inputs, k) * upstream), kernel)

    for slope, expected in zip(slopes(convolution[0]), slopes(plain), strict=True):
        np.testing.assert_allclose(slope, expected, atol=1e-4)


@pytest.mark.parametrize("side", [2, 3])
@pytest.mark.parametrize("on_cpu", [True, False])
def test_an_upsampling_convolution_is_a_transposed_one(monkeypatch, run, gradient, rng, side, on_cpu):
    monkeypatch.setattr(cpu_convolution.hardware, "computes_on_cpu", lambda: on_cpu)
    ours, theirs = (cls(5, side, side, activation="relu") for cls in (UpsamplingConv2D, keras.layers.Conv2DTranspose))
    inputs = rng.normal(size=(2, 3, 4, 6)).astype("float32")
    for layer in (ours, theirs):
        layer.build(inputs.shape)
    theirs.set_weights([rng.normal(size=variable.shape) for variable in theirs.variables])
    ours.set_weights(theirs.get_weights())
    assert ours.multiplies == on_cpu
    np.testing.assert_allclose(run(ours, inputs), theirs(inputs), atol=1e-5)
    expected = gradient(lambda maps: ops.sum(theirs(maps) ** 2), inputs)
    np.testing.assert_allclose(gradient(lambda maps: ops.sum(ours(maps) ** 2), inputs), expected, rtol=1e-4, atol=1e-4)


def test_sizes_may_be_unknown_where_maps_are_upsampled(monkeypatch, run_unknown_sizes, rng):
    """As they are behind Winograd's convolutions under TensorFlow."""
    monkeypatch.setattr(cpu_convolution.hardware, "computes_on_cpu", lambda: True)
    layer = UpsamplingConv2D(5, 2, 2, activation="relu")
    inputs = rng.normal(size=(2, 3, 4, 6)).astype("float32")
    layer.build(inputs.shape)
    np.testing.assert_allclose(run_unknown_sizes(layer, inputs), layer(inputs), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "tensorflow", "jax"),
    [
        ({"kernel_size": 3, "padding": "same"}, winograd.convolve3x3, winograd.convolve3x3),
        ({"kernel_size": 3, "padding": "same", "filters": 8}, None, kernel_gradient.convolve),
        ({"kernel_size": 3, "padding": "same", "dtype": "bfloat16"}, None, kernel_gradient.convolve),
        ({"kernel_size": 3, "padding": "same", "strides": 2}, None, None),
        ({"kernel_size": 3, "padding": "same", "dilation_rate": 2}, None, None),
        ({"kernel_size": 3, "padding": "same", "groups": 2}, None, None),
        ({"kernel_size": 3, "padding": "valid"}, None, None),
        ({"kernel_size": 1, "groups": 2}, None, None),
    ],
    ids=lambda value: (
        "-".join(map(str, value.values())) if isinstance(value, dict) else getattr(value, "__name__", "none")
    ),
)
def test_the_algorithm_follows_the_layer(monkeypatch, settings, tensorflow, jax):
    layers = []
    for on_cpu in (True, False):
        monkeypatch.setattr(cpu_convolution.hardware, "computes_on_cpu", lambda on_cpu=on_cpu: on_cpu)
        layer = CpuConv2D(**{"filters": MIN_WINOGRAD_CHANNELS, **settings})
        layer.build((None, None, None, MIN_WINOGRAD_CHANNELS))
        layers.append(layer)
    on_cpu, on_gpu = layers
    assert on_cpu.algorithm is {"tensorflow": tensorflow, "jax": jax}[keras.backend.backend()]
    assert on_gpu.algorithm is None


@pytest.mark.parametrize(
    ("backend", "avx512", "strides", "is_product"),
    [
        ("jax", True, 1, True),
        ("jax", True, 2, True),
        ("tensorflow", False, 1, True),
        ("tensorflow", False, 2, False),
        ("tensorflow", True, 1, False),
        ("tensorflow", None, 1, False),
    ],
)
def test_a_pointwise_convolution_may_be_a_product_of_matrices(
    monkeypatch, run, rng, backend, avx512, strides, is_product
):
    monkeypatch.setattr(cpu_convolution, "active_backend", lambda: backend)
    monkeypatch.setattr(cpu_convolution.hardware, "computes_on_cpu", lambda: True)
    monkeypatch.setattr(cpu_convolution.hardware, "uses_avx512", lambda: avx512)
    layer = CpuConv2D(7, 1, strides=strides)
    inputs = rng.normal(size=(2, 5, 6, 4)).astype("float32")
    layer.build(inputs.shape)
    outputs = run(layer, inputs)
    assert getattr(layer.algorithm, "func", None) is (multiply if is_product else None)
    layer.algorithm = None
    np.testing.assert_allclose(outputs, layer(inputs), atol=1e-5)
