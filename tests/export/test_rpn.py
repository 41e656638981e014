"""Proposals equal those of the Keras layer, also where a level has fewer anchors than candidates."""

import keras
import numpy as np
import pytest

from maskrcnn.export.folding import FoldedWeights
from maskrcnn.export.rpn import propose
from tests.export.conftest import channels_first

pytestmark = pytest.mark.slow_under_jax  # compiles the live model; tests/inference/test_exported.py remains


@pytest.mark.parametrize(
    "changes", [{}, {"rpn.convolutions": 2, "anchors.rounded": False}, {"rpn.test_proposals": 200}]
)
def test_proposals_equal_those_of_the_keras_layer(run_graph, config, make_model, weights_of, changes):
    config = config.override({"fpn.channels": 16, **changes})
    model = make_model(config)
    weights = FoldedWeights(weights_of(model), config.model.norm.epsilon)
    rng = np.random.default_rng(0)
    pyramid = [rng.standard_normal((2, 64 // 2**level, 96 // 2**level, 16)).astype(np.float32) for level in range(2, 6)]
    pyramid.append(pyramid[-1][:, ::2, ::2])  # 1x2 locations: 6 anchors for 20 candidates
    image_sizes = np.array([[64, 96], [30, 50]], np.float32)
    expected = model.rpn.propose(model.rpn(pyramid), image_sizes, training=False)

    def build(graph, image_sizes, **levels):
        found = propose(graph, weights, list(levels.values()), image_sizes, (config.model.rpn, config.model.anchors))
        return [found.boxes, found.valid]

    levels = {f"p{level}": channels_first(features) for level, features in enumerate(pyramid, start=2)}
    boxes, valid = run_graph(build, image_sizes=image_sizes, **levels)
    np.testing.assert_array_equal(valid, keras.ops.convert_to_numpy(expected.valid))
    np.testing.assert_allclose(boxes, keras.ops.convert_to_numpy(expected.boxes), atol=1e-4)
    assert valid.any()
