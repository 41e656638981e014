import numpy as np
import pytest

from maskrcnn.config import NormConfig
from maskrcnn.errors import UserError
from maskrcnn.export.folding import FoldedWeights, convolution
from maskrcnn.model.layers import ConvNorm

pytestmark = pytest.mark.slow_under_jax  # compiles the live model; tests/inference/test_exported.py remains


def test_a_batch_norm_becomes_part_of_the_kernel_and_a_bias():
    values = {
        "x/conv/kernel": np.full((1, 1, 1, 2), 3.0),
        "x/norm/gamma": np.array([2.0, 1.0]),
        "x/norm/beta": np.array([1.0, 0.0]),
        "x/norm/moving_mean": np.array([4.0, 0.0]),
        "x/norm/moving_variance": np.array([3.0, 0.0]),
    }
    kernel, bias = FoldedWeights(values, 1.0).convolution("x")  # scales 2 / sqrt(4) and 1 / sqrt(1)
    np.testing.assert_allclose(kernel[:, 0, 0, 0], [3.0, 3.0])
    np.testing.assert_allclose(bias, [1.0 - 4.0, 0.0])


def test_layers_are_counted_and_what_was_not_read_is_named():
    values = {f"rpn/conv{i}/conv/{leaf}": np.zeros((1, 1, 1, 1)) for i in (1, 2) for leaf in ("kernel", "bias")}
    weights = FoldedWeights(values, 0.0)
    assert weights.count("rpn/conv{}") == 2
    assert weights.count("mask_head/conv{}") == 0
    weights.convolution("rpn/conv1")
    assert weights.unread() == ["rpn/conv2/conv/bias", "rpn/conv2/conv/kernel"]


def test_a_missing_weight_is_named():
    with pytest.raises(UserError, match="no weight resnet/stem/conv/kernel"):
        FoldedWeights({}, 0.0).convolution("resnet/stem")


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
