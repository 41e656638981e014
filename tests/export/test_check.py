"""Detections are compared as sets, and what differs is refused."""

from pathlib import Path

import numpy as np
import pytest

from maskrcnn.errors import UserError
from maskrcnn.export.check import (
    EIGHT_BITS,
    Difference,
    Tolerance,
    agreement,
    compare_outputs,
    format_differences,
    refuse,
)

pytestmark = pytest.mark.slow_under_jax  # compiles the live model; tests/inference/test_exported.py remains


def outputs(scores, classes=(1, 2, 1)):
    """Three detections, then padding."""
    scores = np.array([*scores, 0.0], np.float32)
    valid = scores > 0
    start = np.arange(4, dtype=np.float32)
    boxes = np.stack([10 * start, start, 10 * start + 8, start + 9], axis=-1)
    masks = np.full((4, 2, 2), 0.5, np.float32)
    return {
        "boxes": np.where(valid[:, None], boxes, 0),
        "classes": np.where(valid, [*classes, 0], 0).astype(np.int32),
        "scores": scores,
        "masks": np.where(valid[:, None, None], masks, 0),
        "valid": valid,
    }


def compare(live, exported):
    return compare_outputs("image", live, exported, score_threshold=0.05, tolerance=Tolerance())


def test_the_order_of_detections_does_not_count():
    live = outputs([0.9, 0.5, 0.5])
    swapped = {name: value[[0, 2, 1, 3]] for name, value in live.items()}
    assert compare(live, swapped) == Difference("image", 3, 0, 0.0, 0.0, 0.0, *[pytest.approx(3.8)] * 2)


def test_differences_are_the_largest_ones():
    live, exported = outputs([0.9, 0.5, 0.4]), outputs([0.9, 0.5, 0.4])
    exported["boxes"][1, 2] += 0.25
    exported["scores"][1] -= 0.125
    exported["masks"][0, 1, 1] -= 0.375
    assert compare(live, exported) == Difference("image", 3, 0, 0.25, 0.125, 0.375, *[pytest.approx(3.475)] * 2)


@pytest.mark.parametrize("swapped", [False, True])
def test_missing_and_additional_detections_are_counted(swapped):
    pair = [outputs([0.9, 0.5, 0.4]), outputs([0.9, 0.5, 0.0])]
    difference = compare(*(reversed(pair) if swapped else pair))
    assert difference.unmatched == 1
    assert not difference.passes(Tolerance())


def test_another_class_is_another_detection():
    assert compare(outputs([0.9, 0.5, 0.4]), outputs([0.9, 0.5, 0.4], classes=(1, 3, 1))).unmatched == 2


def test_one_at_the_score_threshold_may_be_missing():
    assert compare(outputs([0.9, 0.5, 0.05005]), outputs([0.9, 0.5, 0.0])).unmatched == 0


def test_one_at_the_lowest_score_may_be_missing_only_if_there_is_no_padding():
    live, exported = outputs([0.9, 0.5, 0.4]), outputs([0.9, 0.5, 0.4])
    exported["valid"][2], exported["scores"][2] = False, 0
    exported["boxes"][2], exported["masks"][2] = 0, 0
    assert compare(live, exported).unmatched == 1
    full, other = ({name: value[:3] for name, value in one.items()} for one in (live, exported))
    assert compare(full, other).unmatched == 0


def test_padding_that_is_not_zero_and_nan_are_differences():
    live, exported = outputs([0.9, 0.5, 0.4]), outputs([0.9, 0.5, 0.4])
    exported["masks"][3] = 0.25
    assert compare(live, exported).masks == 0.25
    exported["scores"][0] = np.nan
    assert not compare(live, exported).passes(Tolerance())


def test_no_detections_at_all_are_equal_but_prove_nothing():
    empty = outputs([0.0, 0.0, 0.0])
    difference = compare(empty, empty)
    assert difference.passes(Tolerance())
    with pytest.raises(UserError, match="finds nothing in the images that it is checked on"):
        refuse([difference], Tolerance(), Path("model.onnx"))


def test_the_image_that_differs_is_named():
    rows = [Difference("gray", 3, 0, 1e-5, 1e-6, 1e-6), Difference("photo.jpg", 2, 1, 0.5, 0.0, 0.0)]
    with pytest.raises(UserError, match=r"photo.jpg: 1 detections without a partner, boxes 5.0e-01 px"):
        refuse(rows, Tolerance(), Path("model.onnx"))
    refuse(rows[:1], Tolerance(), Path("model.onnx"))
    table = format_differences(rows, Tolerance()).splitlines()
    assert ["too large" in line for line in table] == [False, False, True, False]


def test_an_int8_file_may_differ_but_must_find_most():
    live, exported = outputs([0.9, 0.6, 0.1]), outputs([0.8, 0.5, 0.1])
    exported["boxes"][:3, 2] += 2  # a fifth of their sides
    rows = [compare_outputs("image", live, exported, score_threshold=0.05, tolerance=EIGHT_BITS)]
    assert agreement(rows) == pytest.approx(1.0)
    refuse(rows, EIGHT_BITS, Path("model.onnx"))
    exported["boxes"][2] += 4  # the doubtful one
    rows = [compare_outputs("image", live, exported, score_threshold=0.05, tolerance=EIGHT_BITS)]
    assert rows[0].unmatched == 2
    assert agreement(rows) == pytest.approx(2.8 / 3.0)
    assert format_differences(rows, EIGHT_BITS).endswith("weighted by score: 93.3%, at least 80% expected")
    refuse(rows, EIGHT_BITS, Path("model.onnx"))
    exported["classes"][0] = 2  # the clearest one
    rows = [compare_outputs("image", live, exported, score_threshold=0.05, tolerance=EIGHT_BITS)]
    with pytest.raises(UserError, match=r"model\.onnx: only 37% of its detections, weighted by their scores"):
        refuse(rows, EIGHT_BITS, Path("model.onnx"))
