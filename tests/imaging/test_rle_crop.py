"""Crops of run-length codes are those of the decoded image."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.imaging.mask_paste import coco_mask
from maskrcnn.imaging.rle_crop import decode_crop, mask_place


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_crop_is_that_of_the_whole_mask(data):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    mask = rng.random((height, width)) < data.draw(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))
    left, right = sorted(data.draw(st.tuples(*[st.integers(0, width)] * 2)))
    top, bottom = sorted(data.draw(st.tuples(*[st.integers(0, height)] * 2)))
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    np.testing.assert_array_equal(decode_crop(rle, (left, top, right, bottom)), mask[top:bottom, left:right])


def test_the_place_is_the_smallest_rectangle():
    mask = np.zeros((3000, 4000), np.uint8, order="F")
    assert mask_place(coco_mask.encode(mask)) == (0, 0, 0, 0)
    mask[700:2100, 1500:1503] = mask[2999, 3999] = 1
    rle = coco_mask.encode(mask)
    assert mask_place(rle) == (1500, 700, 4000, 3000)
    assert decode_crop(rle, mask_place(rle)).sum() == 1400 * 3 + 1
