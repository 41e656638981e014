"""Class logits, deltas and detections equal those of the Keras layer."""

import keras
import numpy as np
import pytest

from maskrcnn.export.box_head import box_head, detect
from maskrcnn.export.folding import FoldedWeights
from maskrcnn.export.roi_align import Pooled
from maskrcnn.export.rpn import Proposals
from maskrcnn.model.structures import Proposals as KerasProposals
from tests.export.conftest import channels_first

pytestmark = pytest.mark.slow_under_jax  # compiles the live model; tests/inference/test_exported.py remains


@pytest.mark.parametrize(
    "changes", [{}, {"box_head.convolutions": 2, "box_head.conv_channels": 6, "box_head.norm": True}]
)
def test_outputs_equal_those_of_the_keras_layer_in_the_order_of_the_rois(
    run_graph, config, make_model, weights_of, monkeypatch, changes
):
    config = config.override(changes)
    model = make_model(config)
    weights = FoldedWeights(weights_of(model), config.model.norm.epsilon)
    features = np.random.default_rng(0).standard_normal((2, 5, 7, 7, 8)).astype(np.float32)
    order = np.random.default_rng(1).permutation(10)

    def build(graph, features, order):
        return box_head(graph, weights, Pooled(features, order), config.model.box_head, 5)

    pooled = channels_first(features.reshape(10, 7, 7, 8))[order]
    monkeypatch.setattr("maskrcnn.model.box_head.pool", lambda *_: features)
    outputs = model.box_head([features], np.zeros((2, 5, 4)))
    for actual, expected in zip(run_graph(build, features=pooled, order=order), outputs, strict=True):
        np.testing.assert_allclose(actual, keras.ops.convert_to_numpy(expected), atol=1e-4)


@pytest.mark.parametrize("detections", [12, 40])  # more than the candidates, too: the rest is padding
def test_detections_equal_those_of_the_keras_layer(run_graph, config, make_model, detections):
    config = config.override({"box_head.detections": detections, "box_head.score_threshold": 0.3})
    settings = config.model.box_head
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2, 16, 4)).astype(np.float32)
    deltas = rng.standard_normal((2, 16, 4, 4)).astype(np.float32)
    corners = rng.uniform(0, 40, (2, 16, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (2, 16, 2))], axis=-1).astype(np.float32)
    valid = np.arange(16) < np.array([[16], [0]])  # the second image has no proposals
    sizes = np.array([[64, 96], [64, 96]], np.float32)
    expected = make_model(config).box_head.detect(logits, deltas, KerasProposals(boxes, boxes[..., 0], valid), sizes)

    def build(graph, logits, deltas, boxes, valid, sizes):
        return detect(graph, (logits, deltas), Proposals(boxes, valid, 16), sizes, settings, 4)

    actual = run_graph(build, logits=logits, deltas=deltas, boxes=boxes, valid=valid, sizes=sizes)
    for mine, theirs in zip(actual, expected, strict=True):
        theirs = keras.ops.convert_to_numpy(theirs)
        np.testing.assert_allclose(mine[:, : theirs.shape[1]], theirs, atol=1e-4)
        assert not mine[:, theirs.shape[1] :].any()
    assert actual[3].any(axis=1).tolist() == [True, False]
