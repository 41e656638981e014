"""The RPN's dense outputs, and those of single anchors that its losses use, are the same numbers."""

import dataclasses

import keras
import numpy as np
import pytest

from maskrcnn.config import Config
from maskrcnn.model.rpn import RPN

CHANNELS = 6
SHAPES = [(6, 9), (3, 5), (2, 3), (1, 2), (1, 1)]  # of P2..P6


@pytest.mark.parametrize("convolutions", [1, 2])
def test_single_anchors_have_the_numbers_of_all_anchors(convolutions):
    """At the borders too, where each convolution pads by zeros."""
    keras.utils.set_random_seed(1)
    config = Config().model
    rpn = RPN(dataclasses.replace(config.rpn, convolutions=convolutions), config.anchors, CHANNELS)
    rpn.build()
    for weight in rpn.weights:
        weight.assign(keras.random.normal(weight.shape, seed=len(weight.path)))
    rng = np.random.default_rng(0)
    pyramid = [rng.normal(size=(2, *shape, CHANNELS)).astype("float32") for shape in SHAPES]
    dense = rpn(pyramid)
    objectness, deltas = (np.concatenate([np.asarray(level) for level in levels], 1) for levels in dense[:2])
    indices = np.stack([rng.permutation(objectness.shape[1]) for _ in range(2)]).astype("int32")

    single_objectness, single_deltas = rpn.predict_at(pyramid, keras.ops.convert_to_tensor(indices))

    np.testing.assert_allclose(np.asarray(single_objectness), np.take_along_axis(objectness, indices, 1), atol=1e-4)
    expected = np.take_along_axis(deltas, indices[..., None], 1)
    np.testing.assert_allclose(np.asarray(single_deltas), expected, atol=1e-4)
