import numpy as np
import pytest

from maskrcnn.ops.matching import match

RPN = {"positive_iou": 0.7, "negative_iou": 0.3, "allow_low_quality": True}
CASES = {  # of the golden file: which matrix, and torchvision's settings
    "low_quality": ("quality", RPN),
    "plain": ("quality", RPN | {"allow_low_quality": False}),
    "half": ("quality", {"positive_iou": 0.5, "negative_iou": 0.5, "allow_low_quality": False}),
    "zero_row": ("quality_zero_row", RPN),
}


def matcher(settings):
    return lambda iou, valid: match(iou, valid, **settings)


def test_hand_worked_labels(run):
    # Rows are anchors. Ground truth 0 is met well by anchor 0; ground truth 1 reaches 0.4 at most, by anchors 1 and 2.
    iou = np.array([[[0.8, 0.1], [0.2, 0.4], [0.5, 0.4], [0.6, 0.0], [0.29, 0.1], [0.3, 0.2]]], "float32")
    matched, labels = run(matcher(RPN), iou, np.ones((1, 2), bool))
    np.testing.assert_array_equal(labels, [[1, 1, 1, -1, 0, -1]])
    np.testing.assert_array_equal(matched, [[0, 1, 0, 0, 0, 0]])  # anchor 2 keeps its own best
    assert matched.dtype == labels.dtype == np.int32


def test_thresholds_belong_to_the_upper_label(compute):
    iou = np.array([[[0.5], [0.25], [0.75], [0.2499]]], "float32")
    settings = {"positive_iou": 0.5, "negative_iou": 0.25, "allow_low_quality": False}
    _, labels = compute(matcher(settings), iou, np.ones((1, 1), bool))
    np.testing.assert_array_equal(labels, [[1, -1, 1, 0]])


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_torchvision(compute, goldens, case):
    name, settings = CASES[case]
    iou = goldens[f"matcher.{name}"].T[None]  # torchvision has ground truths in rows
    matched, labels = compute(matcher(settings), iou, np.ones((1, 5), bool))
    actual = np.where(labels == 1, matched, np.where(labels == 0, -1, -2))
    np.testing.assert_array_equal(actual[0], goldens[f"matcher.{case}"])


def test_without_ground_truth_all_are_negative(compute, rng):
    iou = rng.random((2, 6, 3), dtype="float32")
    matched, labels = compute(matcher(RPN), iou, np.zeros((2, 3), bool))
    np.testing.assert_array_equal(labels, np.zeros((2, 6)))
    np.testing.assert_array_equal(matched, np.zeros((2, 6)))


def test_padding_changes_nothing(compute, rng):
    iou = rng.random((2, 40, 5), dtype="float32")
    valid = np.ones((2, 5), bool)
    padded = np.concatenate([iou, np.ones((2, 40, 3), "float32")], 2)  # entries that would win
    padded_valid = np.concatenate([valid, np.zeros((2, 3), bool)], 1)
    for expected, actual in zip(
        compute(matcher(RPN), iou, valid), compute(matcher(RPN), padded, padded_valid), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def naive_match(iou, valid, positive_iou, negative_iou):
    """One image, anchor by anchor."""
    entries = [g for g in range(len(valid)) if valid[g]]
    highest = {g: max(row[g] for row in iou) for g in entries}
    matched, labels = [], []
    for row in iou:
        best = max(entries, key=lambda g: row[g])
        matched.append(best)
        if row[best] >= positive_iou or any(row[g] == highest[g] for g in entries):
            labels.append(1)
        else:
            labels.append(0 if row[best] < negative_iou else -1)
    return matched, labels


def test_agrees_with_a_loop(compiled, rng):
    iou = (rng.integers(0, 20, (3, 60, 4)) / 20).astype("float32")  # many ties
    iou[:, :, 3] *= 0.5
    valid = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 0]], bool)
    matched, labels = compiled(matcher(RPN), iou, valid)
    for image in range(3):
        expected = naive_match(iou[image], valid[image], 0.7, 0.3)
        np.testing.assert_array_equal(matched[image], expected[0])
        np.testing.assert_array_equal(labels[image], expected[1])


def test_unknown_number_of_anchors(run_unknown_sizes, rng):
    iou = rng.random((2, 9, 3), dtype="float32")
    valid = np.ones((2, 3), bool)
    _, labels = run_unknown_sizes(matcher(RPN), iou, valid)
    for image in range(2):
        np.testing.assert_array_equal(labels[image], naive_match(iou[image], valid[image], 0.7, 0.3)[1])
