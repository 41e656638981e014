"""Convolutions with and without a batch norm equal the Keras layer."""

import numpy as np
import pytest

from maskrcnn.config import NormConfig
from maskrcnn.export.folding import FoldedWeights
from maskrcnn.export.layers import convolution
from maskrcnn.model.layers import ConvNorm

pytestmark = pytest.mark.slow_under_jax  # compiles the live model; tests/inference/test_exported.py remains


@pytest.mark.parametrize("side", [1, 3, 7])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("norm", [None, NormConfig(epsilon=1e-2)])
def test_convolution_equals_the_keras_layer(run_graph, side, strides, norm):
    rng = np.random.default_rng(side)
    layer = ConvNorm(6, side, strides=strides, norm=norm, relu=True)
    layer.build((None, None, None, 4))
    values = {}
    for variable in layer.variables:
        name = "layer/" + "/".join(variable.path.split("/")[-2:])
        values[name] = rng.standard_normal(variable.shape).astype(np.float32) ** 2  # variances are positive
        variable.assign(values[name])
    x = rng.standard_normal((2, 8, 10, 4)).astype(np.float32)
    weights = FoldedWeights(values, 1e-2)
    actual = run_graph(
        lambda graph, x: [convolution(graph, weights, x, "layer", strides=strides, relu=True)],
        x=x.transpose(0, 3, 1, 2),
    )[0]
    np.testing.assert_allclose(actual.transpose(0, 2, 3, 1), np.asarray(layer(x)), rtol=1e-4, atol=1e-4)
    assert not weights.unread()
