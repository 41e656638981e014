import numpy as np
import pytest

from maskrcnn.errors import UserError
from maskrcnn.export.folding import FoldedWeights

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
