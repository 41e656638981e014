"""The runtime's operator, fed with ranks, keeps what `ops.nms.suppress` keeps."""

import keras
import numpy as np
import pytest

from maskrcnn.export.nms import Suppression
from maskrcnn.export.nms import suppress as suppress_in_graph
from maskrcnn.ops.nms import suppress

pytestmark = pytest.mark.slow_under_jax  # compiles the live model; tests/inference/test_exported.py remains


def random_boxes(batch, count, seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (batch, count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 40, (batch, count, 2))], axis=-1).astype(np.float32)
    return boxes, rng.random((batch, count)) < 0.8, rng.integers(1, 4, (batch, count))


def run(run_graph, settings, boxes, valid, classes=None):
    def build(graph, boxes, valid, classes=None):
        return [suppress_in_graph(graph, boxes, valid, settings, classes)]

    extra = {} if classes is None else {"classes": classes}
    return run_graph(build, boxes=boxes, valid=valid, **extra)[0]


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_the_same_boxes_survive(run_graph, threshold):
    boxes, valid, _ = random_boxes(3, 200, 0)
    expected = keras.ops.convert_to_numpy(suppress(boxes, valid, iou_threshold=threshold))
    ranks = run(run_graph, Suppression(threshold, 200, 200), boxes, valid)
    np.testing.assert_array_equal(ranks, np.where(expected, np.arange(200, 0, -1), 0))


def test_boxes_suppress_within_their_class_and_the_first_ones_suffice(run_graph):
    boxes, valid, classes = random_boxes(2, 150, 1)
    kept = keras.ops.convert_to_numpy(suppress(boxes, valid, iou_threshold=0.4, groups=classes))
    ranks = run(run_graph, Suppression(0.4, 150, 10, num_classes=4), boxes, valid, classes)
    for image in range(2):
        np.testing.assert_array_equal(np.flatnonzero(ranks[image])[:10], np.flatnonzero(kept[image])[:10])


def test_a_box_is_dropped_above_the_threshold_only(run_graph):
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 5, 10], [0, 0, 6, 10]]], np.float32)  # IoU 0.5 and 0.6 with the first
    ranks = run(run_graph, Suppression(0.5, 3, 3), boxes, np.ones((1, 3), bool))
    np.testing.assert_array_equal(ranks, [[3, 2, 0]])


def test_no_valid_box_is_fine(run_graph):
    boxes, _, classes = random_boxes(2, 20, 2)
    assert not run(run_graph, Suppression(0.5, 20, 5, num_classes=4), boxes, np.zeros((2, 20), bool), classes).any()
