import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils

from maskrcnn.data.coco.problems import EntryError
from maskrcnn.data.coco.segmentation import bounding_box, encode_rle, normalize_segmentation, rectangle, run_lengths


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 300), st.integers(1, 50))
def test_run_lengths_are_those_of_the_mask(seed, height, width, runs):
    edges = np.random.default_rng(seed).integers(0, height * width, runs)
    mask = np.isin(np.arange(height * width), edges).cumsum() % 2
    mask = mask.astype(np.uint8).reshape(height, width, order="F")
    lengths = run_lengths(mask_utils.encode(np.asfortranarray(mask))["counts"].decode())
    assert sum(lengths) == height * width
    rebuilt = np.repeat(np.arange(len(lengths)) % 2, lengths)
    np.testing.assert_array_equal(rebuilt.reshape(height, width, order="F"), mask)


@pytest.mark.parametrize("counts", ["zz~~zz", "0X1", "o", "\u00e9", "oooooooooooo1", "321O10O12O"])
def test_broken_counts_are_refused(counts):
    with pytest.raises(ValueError, match="RLE counts"):
        normalize_segmentation({"size": [40, 64], "counts": counts}, (40, 64), pytest.fail)


def test_polygons_become_one_rle():
    rle = encode_rle([[0, 0, 2, 0, 2, 2, 0, 2], [4, 4, 8, 4, 8, 6, 4, 6]], 10, 10)
    assert mask_utils.area(rle) == 4 + 8
    assert bounding_box({"size": rle["size"], "counts": rle["counts"].decode()}) == [0, 0, 8, 6]


TRIANGLE = [1.0, 2.0, 5.0, 2.0, 5.0, 9.0]


@pytest.mark.parametrize(
    ("written", "kinds"),
    [
        ([TRIANGLE], []),
        (TRIANGLE, ["flat polygon"]),
        ([[1.0, 2.0], [5.0, 2.0], [5.0, 9.0]], ["polygon of points"]),
        ([[[1.0, 2.0], [5.0, 2.0], [5.0, 9.0]]], ["polygon of points"]),
        ([{"x": 1.0, "y": 2.0}, {"x": 5.0, "y": 2.0}, {"x": 5.0, "y": 9.0}], ["polygon of points"]),
        ([[str(value) for value in TRIANGLE]], ["number as text"]),
        ("[[1, 2, 5, 2, 5, 9]]", ["segmentation as text"]),
        (" [1, 2, 5, 2, 5, 9]", ["segmentation as text", "flat polygon"]),
        ("1 2 5.0 2 5 9", ["segmentation as text"]),
        (["1,2, 5,2, 5,9"], ["segmentation as text"]),
        ([TRIANGLE, [1.0, 1.0]], ["polygon of fewer than 3 points"]),
    ],
)
def test_polygons_of_any_form_become_lists_of_coordinates(written, kinds):
    repairs = []
    assert normalize_segmentation(written, (40, 64), lambda kind, text: repairs.append(kind)) == [TRIANGLE]
    assert repairs == kinds


RLE: Any = {"size": [40, 64], "counts": [2558, 2]}
COUNTS = "n_22"  # of the same mask


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps(RLE), RLE),
        (str(RLE), RLE),
        (f"[{json.dumps(RLE)}]", RLE),
        (str({"size": [40, 64], "counts": COUNTS.encode()}), {"size": [40, 64], "counts": COUNTS}),
    ],
)
def test_text_of_run_lengths(text, expected):
    assert normalize_segmentation(text, (40, 64), lambda kind, text: None) == expected


@pytest.mark.parametrize(
    "text",
    ["1 3 2000 5 2100 7", "POLYGON ((1 2, 3 4, 5 6))", "[[1, 2", "{'a': 1", "{1, 2}", "[" * 10_000, "1", "nan 1"],
)
def test_other_text_is_refused(text):
    with pytest.raises(EntryError):
        normalize_segmentation(text, (40, 64), lambda kind, text: None)


def test_a_rectangle_fills_its_box():
    assert bounding_box(rectangle((1, 2, 5, 9))) == [1, 2, 4, 7]
