import keras
import numpy as np
import pytest

from maskrcnn.ops.nms import nms, suppress

# Indices are exact: no overlap of torchvision's cases is nearer to its threshold than 7e-7, more than float32 rounding
# (in "iou_equals_threshold" it is made of whole numbers).
CASES = (
    "ties",
    "one",
    "identical_equal_scores",
    "identical_boxes",
    "iou_equals_threshold",
    "iou_above_threshold",
    "zero_area",
    "chain",
    "random50",
    "random2000_0.5",
    "random2000_0.7",
)
CHAIN = np.array([[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]], "float32")  # neighbors overlap by 7/13


def nms_of(iou_threshold, max_outputs):
    def of(boxes, scores, valid, groups=None):
        return nms(boxes, scores, valid, iou_threshold=iou_threshold, max_outputs=max_outputs, groups=groups)

    return of


def naive_nms(boxes, scores, valid, iou_threshold, groups):
    """Greedy suppression of one image, box by box."""
    kept = []
    for i in sorted(np.flatnonzero(valid), key=lambda i: (-scores[i], i)):
        for j in kept:
            sides = np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2])
            shared = np.prod(np.maximum(sides, 0))
            union = np.prod(boxes[i, 2:] - boxes[i, :2]) + np.prod(boxes[j, 2:] - boxes[j, :2]) - shared
            if groups[i] == groups[j] and shared > iou_threshold * union:
                break
        else:
            kept.append(i)
    return kept


def test_suppress_keeps_what_only_a_dropped_box_overlaps(run):
    keep = run(lambda b, v: suppress(b, v, iou_threshold=0.5), CHAIN, np.ones(3, bool))
    np.testing.assert_array_equal(keep, [True, False, True])


def test_an_invalid_box_neither_survives_nor_suppresses(compute):
    keep = compute(lambda b, v: suppress(b, v, iou_threshold=0.5), CHAIN, np.array([False, True, True]))
    np.testing.assert_array_equal(keep, [False, True, False])


def test_a_long_chain_settles(compute):
    # Each box overlaps its neighbors only, so that every second one survives: the slowest case of the fixed point.
    start = 3 * np.arange(40, dtype="float32")
    boxes = np.stack([start, 0 * start, start + 10, 0 * start + 10], -1)
    keep = compute(lambda b, v: suppress(b, v, iou_threshold=0.5), boxes, np.ones(40, bool))
    np.testing.assert_array_equal(keep, np.arange(40) % 2 == 0)


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_torchvision(compute, goldens, case):
    boxes, scores, keep = (goldens[f"nms.{case}.{name}"] for name in ("boxes", "scores", "keep"))
    threshold = float(goldens[f"nms.{case}.threshold"])
    indices, filled = compute(nms_of(threshold, len(boxes)), boxes, scores, np.ones(len(boxes), bool))
    np.testing.assert_array_equal(indices[filled], keep)


@pytest.mark.parametrize("case", ["zero_area", "random2000_0.7"])
def test_compiled_agrees_with_torchvision(compiled, goldens, case):
    boxes, scores, keep = (goldens[f"nms.{case}.{name}"] for name in ("boxes", "scores", "keep"))
    threshold = float(goldens[f"nms.{case}.threshold"])
    indices, filled = compiled(nms_of(threshold, 50), boxes, scores, np.ones(len(boxes), bool))
    np.testing.assert_array_equal(indices[filled], keep[:50])


@pytest.mark.parametrize("case", ["500", "2000"])
def test_groups_agree_with_torchvision(compute, goldens, case):
    names = ("boxes", "scores", "idxs", "keep")
    boxes, scores, groups, keep = (goldens[f"batched_nms.{case}.{name}"] for name in names)
    indices, filled = compute(nms_of(0.5, len(boxes)), boxes, scores, np.ones(len(boxes), bool), groups)
    np.testing.assert_array_equal(indices[filled], keep)


def test_leading_dimensions_are_independent(run, random_boxes, rng):
    boxes, scores = random_boxes(2, 3, 40), rng.random((2, 3, 40), dtype="float32")
    valid, groups = rng.random((2, 3, 40)) < 0.8, rng.integers(0, 2, (2, 3, 40)).astype("int32")
    indices, filled = run(nms_of(0.3, 12), boxes, scores, valid, groups)
    assert indices.shape == filled.shape == (2, 3, 12)
    for row in np.ndindex(2, 3):
        expected = naive_nms(boxes[row], scores[row], valid[row], 0.3, groups[row])[:12]
        np.testing.assert_array_equal(indices[row][filled[row]], expected)


def test_survivors_do_not_overlap_and_the_others_do(compute, random_boxes, rng):
    from maskrcnn.ops.boxes import pairwise_iou

    boxes, scores = random_boxes(200), rng.random(200, dtype="float32")
    indices, filled = compute(nms_of(0.4, 200), boxes, scores, np.ones(200, bool))
    kept = indices[filled]
    iou = compute(pairwise_iou, boxes, boxes)
    rounding = 1e-6  # nms computes its overlaps in another program, where fused multiply-adds may round otherwise
    assert (iou[np.ix_(kept, kept)] - np.eye(len(kept)) <= 0.4 + rounding).all()
    for dropped in set(range(200)) - set(kept.tolist()):
        assert any(scores[k] > scores[dropped] and iou[k, dropped] > 0.4 - rounding for k in kept)


@pytest.mark.parametrize("max_outputs", [2, 5])
def test_nothing_valid(compiled, max_outputs):
    valid = np.zeros((2, 3), bool)
    boxes, scores = np.stack([CHAIN, 0 * CHAIN]), np.ones((2, 3), "float32")
    indices, filled = compiled(nms_of(0.5, max_outputs), boxes, scores, valid)
    np.testing.assert_array_equal(filled, np.zeros((2, max_outputs)))
    np.testing.assert_array_equal(indices, np.zeros((2, max_outputs)))


def test_more_outputs_than_boxes(compute):
    scores = np.array([0.2, 0.9, 0.3], "float32")
    indices, filled = compute(nms_of(0.6, 5), CHAIN, scores, np.array([True, True, False]))
    np.testing.assert_array_equal(indices, [[1, 0, 0, 0, 0]][0])
    np.testing.assert_array_equal(filled, [True, True, False, False, False])


def test_invalid_boxes_of_high_score_come_last(compute):
    scores = np.array([0.9, 0.1, 0.2], "float32")
    indices, filled = compute(nms_of(0.9, 2), CHAIN, scores, np.array([False, True, True]))
    np.testing.assert_array_equal(indices[filled], [2, 1])


def test_unknown_number_of_boxes(random_boxes, rng):
    if keras.backend.backend() == "jax":
        pytest.skip("JAX always knows the sizes")
    import tensorflow as tf

    shapes = [tf.TensorSpec([None, None, 4]), tf.TensorSpec([None, None]), tf.TensorSpec([None, None], tf.bool)]
    traced = tf.function(nms_of(0.3, 6), input_signature=shapes)
    for count in (3, 30):
        boxes, scores = random_boxes(1, count), rng.random((1, count), dtype="float32")
        indices, filled = (output.numpy()[0] for output in traced(boxes, scores, np.ones((1, count), bool)))
        expected = naive_nms(boxes[0], scores[0], np.ones(count), 0.3, np.zeros(count))[:6]
        np.testing.assert_array_equal(indices[filled], expected)


def test_no_gradient_flows_into_the_choice(gradient):
    from keras import ops

    def chosen_scores(boxes):
        scores = ops.sum(boxes, axis=-1)
        indices, filled = nms(boxes, scores, ops.ones((3,), "bool"), iou_threshold=0.5, max_outputs=2)
        return ops.sum(ops.where(filled, ops.take(scores, indices), 0.0))

    slope = gradient(chosen_scores, CHAIN)
    np.testing.assert_array_equal(slope, [[1] * 4, [0] * 4, [1] * 4])
