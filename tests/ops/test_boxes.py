import math

import numpy as np
import pytest

from maskrcnn.ops.boxes import area, clip, decode, encode, is_larger, pairwise_iou

WEIGHTS = {"w1": (1.0, 1.0, 1.0, 1.0), "w10": (10.0, 10.0, 5.0, 5.0)}


def array(*rows):
    return np.array(rows, "float32")


def test_area_is_width_times_height_without_plus_one(run):
    np.testing.assert_array_equal(run(area, array([1, 2, 4, 8], [5, 5, 5, 9])), [18, 0])


def test_iou_of_hand_worked_pairs(run):
    first = array([0, 0, 10, 10], [0, 0, 0, 0])
    second = array([5, 5, 15, 15], [0, 0, 10, 5], [10, 0, 20, 10], [0, 0, 0, 0])
    # 25 / (100 + 100 - 25); 50 / 100; they only touch; no area. The last row is 0 / 0 at its end.
    np.testing.assert_allclose(run(pairwise_iou, first, second), [[25 / 175, 0.5, 0, 0], [0, 0, 0, 0]], rtol=1e-6)


def test_iou_agrees_with_torchvision(compute, goldens):
    iou = compute(pairwise_iou, goldens["iou.boxes1"], goldens["iou.boxes2"])
    np.testing.assert_allclose(iou, goldens["iou.matrix"], atol=1e-6)


def test_iou_agrees_with_a_loop_and_broadcasts(compute, random_boxes):
    anchors, boxes = random_boxes(30), random_boxes(2, 5)  # the same anchors for both images

    def iou(a, b):
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        shared = width * height if width > 0 and height > 0 else 0.0
        return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)

    expected = [[[iou(a, b) for b in image] for a in anchors] for image in boxes]
    np.testing.assert_allclose(compute(pairwise_iou, anchors, boxes), expected, atol=1e-6)


def test_iou_is_symmetric_and_one_with_itself(compute, random_boxes):
    boxes = random_boxes(20)
    iou = compute(pairwise_iou, boxes, boxes)
    # fused multiply-adds round the areas of the two boxes differently, so that exact symmetry is not promised
    np.testing.assert_allclose(iou, iou.T, rtol=1e-6)
    np.testing.assert_allclose(np.diag(iou), 1, rtol=1e-5)
    assert iou.min() >= 0
    assert iou.max() <= 1 + 1e-5


def test_iou_of_half_precision_boxes_is_computed_in_float32(compute):
    boxes = np.array([[0, 0, 1000, 1000]], "float16")  # the area overflows float16
    assert compute(pairwise_iou, boxes, boxes) == pytest.approx(1.0)


def test_clip_bounds_each_coordinate_by_its_own_side_of_its_own_image(run):
    boxes = array([[-5, -6, 50, 60], [1, 2, 3, 4]], [[-5, -6, 50, 60], [90, 90, 99, 99]])
    sizes = array([40, 30], [100, 20])  # height, width
    expected = [[[0, 0, 30, 40], [1, 2, 3, 4]], [[0, 0, 20, 60], [20, 90, 20, 99]]]
    np.testing.assert_array_equal(run(clip, boxes, sizes), expected)


def test_clip_takes_boxes_of_several_classes(compute):
    boxes = array([-5, -6, 50, 60]) * np.ones((2, 3, 4, 4), "float32")
    clipped = compute(clip, boxes, array([40, 30], [100, 20]))
    np.testing.assert_array_equal(clipped[1], np.broadcast_to([0, 0, 20, 60], (3, 4, 4)))


def test_clip_agrees_with_torchvision(compute, goldens):
    clipped = compute(clip, goldens["coder.anchors"][None], array([180, 260]))
    np.testing.assert_array_equal(clipped[0], goldens["clip.boxes"])


def test_encode_of_a_hand_worked_box(run):
    anchor = array([0, 0, 10, 20])  # center (5, 10), size (10, 20)
    box = array([5, 10, 25, 20])  # center (15, 15), size (20, 10)
    expected = [[1.0, 0.25, math.log(2), -math.log(2)]]
    np.testing.assert_allclose(run(encode, box, anchor), expected, rtol=1e-6)


def test_decode_of_hand_worked_deltas(run):
    anchor = array([0, 0, 10, 20])
    deltas = array([1.0, 0.25, math.log(2), -math.log(2)]) * array([10, 10, 5, 5])
    decoded = run(lambda d, a: decode(d, a, weights=(10, 10, 5, 5)), deltas, anchor)
    np.testing.assert_allclose(decoded, [[5, 10, 25, 20]], rtol=1e-6)


def test_decode_bounds_the_size_above_only(compute):
    anchor = array([-8, -8, 8, 8])  # 16 px
    decoded = compute(decode, array([0, 0, 50, -9]), anchor)[0]
    assert decoded[2] - decoded[0] == pytest.approx(1000, rel=1e-5)
    assert decoded[3] - decoded[1] == pytest.approx(16 * math.exp(-9), rel=1e-4)


@pytest.mark.parametrize("name", WEIGHTS)
def test_encode_agrees_with_torchvision(compute, goldens, name):
    encoded = compute(lambda b, a: encode(b, a, weights=WEIGHTS[name]), goldens["coder.gt"], goldens["coder.anchors"])
    np.testing.assert_allclose(encoded, goldens[f"coder.{name}.encoded"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", WEIGHTS)
def test_decode_agrees_with_torchvision(compute, goldens, name):
    anchors, deltas = goldens["coder.anchors"], goldens["coder.deltas"]
    decoded = compute(lambda d, a: decode(d, a, weights=WEIGHTS[name]), deltas, anchors)
    np.testing.assert_allclose(decoded, goldens[f"coder.{name}.decoded"], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", WEIGHTS)
def test_decode_of_several_classes_agrees_with_torchvision(compute, goldens, name):
    deltas, anchors = goldens["coder.deltas_3_classes"].reshape(24, 3, 4), goldens["coder.anchors"][:, None]
    decoded = compute(lambda d, a: decode(d, a, weights=WEIGHTS[name]), deltas, anchors)
    np.testing.assert_allclose(decoded, goldens[f"coder.{name}.decoded_3_classes"], rtol=1e-5, atol=1e-3)


def test_decode_undoes_encode(compute, random_boxes):
    boxes, anchors = random_boxes(2, 50), random_boxes(50)
    weights = WEIGHTS["w10"]
    there_and_back = compute(lambda b, a: decode(encode(b, a, weights=weights), a, weights=weights), boxes, anchors)
    np.testing.assert_allclose(there_and_back, boxes, atol=1e-3)


def test_encode_of_padding_is_finite(compute):
    empty = np.zeros((1, 4), "float32")
    assert np.isfinite(compute(encode, empty, empty)).all()
    assert np.isfinite(compute(encode, array([0, 0, 9, 9]), empty)).all()


def test_is_larger_wants_both_sides(run):
    boxes = array([0, 0, 2, 2], [0, 0, 1.5, 9], [0, 0, 9, 1.5], [5, 5, 3, 9])
    np.testing.assert_array_equal(run(lambda b: is_larger(b, 2.0), boxes), [True, False, False, False])
