"""Masks equal those of the Keras layers; an image without detections has none."""

import keras
import numpy as np
import pytest

from maskrcnn.export.box_head import Detections
from maskrcnn.export.folding import FoldedWeights
from maskrcnn.export.mask_head import mask_head, masks
from maskrcnn.model.structures import Detections as KerasDetections
from tests.export.conftest import channels_first

pytestmark = pytest.mark.slow_under_jax  # compiles the live model; tests/inference/test_exported.py remains


@pytest.mark.parametrize("norm", [False, True])
def test_logits_are_those_of_each_rois_class(run_graph, config, make_model, weights_of, monkeypatch, norm):
    config = config.override({"mask_head.norm": norm})
    model = make_model(config)
    weights = FoldedWeights(weights_of(model), config.model.norm.epsilon)
    features = np.random.default_rng(0).standard_normal((1, 5, 14, 14, 8)).astype(np.float32)
    classes = np.array([[1, 3, 2, 3, 0]])
    actual = run_graph(
        lambda graph, features, classes: [mask_head(graph, weights, features, classes, 28)],
        features=channels_first(features[0]),
        classes=classes[0],
    )[0]
    monkeypatch.setattr("maskrcnn.model.mask_head.pool", lambda *_: features)
    expected = keras.ops.convert_to_numpy(model.mask_head([features], np.zeros((1, 5, 4)), classes))
    np.testing.assert_allclose(actual, expected[0], atol=1e-4)


@pytest.mark.parametrize("found", [(3, 0), (0, 0), (4, 4)])
def test_padding_has_no_mask(run_graph, config, make_model, weights_of, found):
    config = config.override({"box_head.detections": 4, "mask_head.slot_sizes": 1})
    model = make_model(config)
    weights = FoldedWeights(weights_of(model), config.model.norm.epsilon)
    rng = np.random.default_rng(0)
    pyramid = [rng.standard_normal((2, 64 // 2**level, 96 // 2**level, 8)).astype(np.float32) for level in range(2, 6)]
    valid = np.arange(4) < np.array(found)[:, None]
    boxes = np.where(valid[..., None], [[[3, 4, 60, 50], [10, 10, 30, 30], [0, 0, 96, 64], [5, 5, 9, 30]]] * 2, 0)
    boxes, classes = boxes.astype(np.float32), np.where(valid, [[1, 2, 3, 3]], 0)
    found = KerasDetections(boxes, classes, np.ones(classes.shape, np.float32), valid)
    expected = keras.ops.convert_to_numpy(model.mask_head.predict(pyramid, found))

    def build(graph, boxes, classes, valid, **levels):
        detections = Detections(boxes, classes, boxes, valid)
        settings = (config.model.mask_head, config.model.roi_align, 4)
        return [masks(graph, weights, list(levels.values()), detections, settings)]

    levels = {f"p{level}": channels_first(one) for level, one in enumerate(pyramid, start=2)}
    actual = run_graph(build, boxes=boxes, classes=classes, valid=valid, **levels)[0]
    np.testing.assert_allclose(actual, expected, atol=1e-4)
