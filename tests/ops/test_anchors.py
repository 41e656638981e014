import numpy as np
import pytest

from maskrcnn.ops.anchors import base_anchors, grid_anchors

RATIOS = (0.5, 1.0, 2.0)


def test_base_anchors_of_a_hand_worked_size():
    # ratio 0.5 is 32 * sqrt(2) = 45.25 wide and 22.63 high; halves are rounded to 23 and 11
    expected = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    np.testing.assert_array_equal(base_anchors(32, RATIOS), expected)


def test_base_anchors_round_half_to_even():
    np.testing.assert_array_equal(base_anchors(33, (1.0,)), [[-16, -16, 16, 16]])


def test_base_anchors_of_detectron2_keep_fractions():
    half = 16 * np.sqrt(2)  # of the longer side; the shorter one is half of it
    expected = [[-half, -half / 2, half, half / 2], [-half / 2, -half, half / 2, half]]
    np.testing.assert_allclose(base_anchors(32, (0.5, 2.0), rounded=False), expected, rtol=1e-6)


def test_base_anchors_agree_with_torchvision(goldens):
    anchors = np.stack([base_anchors(size, RATIOS) for size in (32, 64, 128, 256, 512)])
    np.testing.assert_array_equal(anchors, goldens["anchors.cell"])
    assert anchors.dtype == "float32"


def test_grid_of_two_by_three_locations_by_hand(compute):
    base = np.array([[-1, -2, 1, 2], [-3, -1, 3, 1]], "float32")
    anchors = compute(lambda b: grid_anchors(2, 3, 16, b), base)
    assert anchors.shape == (12, 4)
    np.testing.assert_array_equal(anchors[:4], [[-1, -2, 1, 2], [-3, -1, 3, 1], [15, -2, 17, 2], [13, -1, 19, 1]])
    np.testing.assert_array_equal(anchors[6], [-1, 14, 1, 18])  # the second row starts
    np.testing.assert_array_equal(anchors[-1], [29, 15, 35, 17])


def test_grid_agrees_with_a_loop(run):
    base = base_anchors(48, RATIOS)
    anchors = run(lambda b: grid_anchors(5, 7, 8, b), base)
    expected = [
        anchor + np.array([8 * column, 8 * row, 8 * column, 8 * row])
        for row in range(5)
        for column in range(7)
        for anchor in base
    ]
    np.testing.assert_array_equal(anchors, expected)


@pytest.mark.parametrize(("height", "width"), [(3, 4), (1, 1)])
def test_grid_of_a_map_of_unknown_size(run_unknown_sizes, compute, height, width):
    base = base_anchors(32, RATIOS)

    def of_map(features):
        from keras import ops

        return grid_anchors(ops.shape(features)[1], ops.shape(features)[2], 4, base)

    anchors = run_unknown_sizes(of_map, np.zeros((1, height, width, 2), "float32"))
    np.testing.assert_array_equal(anchors, compute(lambda b: grid_anchors(height, width, 4, b), base))


def test_base_anchors_of_detectron2_are_not_rounded():
    side = 32 * 2**-0.5 / 2  # ratio 2: half of the width; the height is twice the width
    np.testing.assert_allclose(base_anchors(32, (2.0,), rounded=False), [[-side, -2 * side, side, 2 * side]], rtol=1e-6)
