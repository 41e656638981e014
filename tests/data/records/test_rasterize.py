import numpy as np
import pytest

from maskrcnn.data.coco.annotations import Annotation
from maskrcnn.data.records.rasterize import MASK_BYTES, decode_mask, frame_mask, pack_masks, resample_mask


def annotation(segmentation, box):
    return Annotation(1, 1, 1, box, segmentation, None, False)


def test_the_left_half_of_a_box_fills_the_left_half_of_the_grid():
    mask = frame_mask(annotation([[10, 20, 15, 20, 15, 60, 10, 60]], (10, 20, 20, 60)), 100, 100)
    assert mask[:, :56].all()
    assert not mask[:, 56:].any()


def test_the_frame_may_begin_within_a_pixel():
    # the box's first quarter of a pixel row is background: 0.5 px of 4 px is 14 of 112 cells
    mask = frame_mask(annotation([[0, 2, 10, 2, 10, 6, 0, 6]], (0.0, 1.5, 10.0, 5.5)), 20, 20)
    assert not mask[:14].any()
    assert mask[14:].all()


def test_parts_outside_the_frame_are_cut_off():
    mask = frame_mask(annotation([[-50, -50, 50, -50, 50, 50, -50, 50]], (0.0, 0.0, 10.0, 10.0)), 20, 20)
    assert mask.all()


def test_a_box_far_too_small_for_its_polygon_does_no_harm():
    tiny = (5.0, 5.0, 5.0 + 1e-9, 5.0 + 1e-9)
    assert frame_mask(annotation([[0, 0, 500, 0, 500, 500, 0, 500]], tiny), 500, 500).shape == (112, 112)


@pytest.mark.parametrize("box", [(30.0, 20.0, 70.0, 80.0), (31.3, 20.7, 66.2, 77.9), (0.0, 0.0, 300.0, 200.0)])
def test_polygon_and_rle_of_the_same_shape_agree(box):
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    points = np.stack([50 + 20 * np.cos(angles), 50 + 30 * np.sin(angles)], -1)
    polygon = annotation([points.ravel().tolist()], box)
    pixels = decode_mask(polygon, 200, 300)
    counts = np.diff(np.flatnonzero(np.diff(np.r_[2, pixels.T.ravel(), 2])))  # run lengths, column by column
    counts = counts.tolist() if pixels[0, 0] == 0 else [0, *counts.tolist()]
    rle = annotation({"size": [200, 300], "counts": counts}, box)
    assert (frame_mask(polygon, 200, 300) != frame_mask(rle, 200, 300)).mean() < 0.025  # the rim, half a pixel


def test_resampling_keeps_pixel_edges():
    mask = np.zeros((6, 8), np.uint8)
    mask[:, 3:5] = 1  # columns 3 and 4 of a frame of columns 2..5: the middle half
    grid = resample_mask(mask, (2, 0, 6, 6))
    np.testing.assert_array_equal(grid, np.tile(np.repeat([False, True, False], [28, 56, 28]), (112, 1)))


def test_resampling_takes_fractions_of_pixels():
    mask = np.zeros((6, 8), np.uint8)
    mask[:, 3:5] = 1
    (row,) = np.unique(resample_mask(mask, (2.5, 0, 5.5, 6)), axis=0)
    assert np.flatnonzero(row)[[0, -1]].tolist() == [19, 92]  # 0.5 / 3 of 112 cells is 18.7, 2.5 / 3 is 93.3


def test_bits_are_packed_from_the_highest():
    mask = np.zeros((112, 112), bool)
    mask[0, 0] = mask[0, 9] = mask[1, 0] = True
    packed = pack_masks([mask, ~mask])
    assert len(packed) == 2 * MASK_BYTES
    assert (packed[0], packed[1], packed[14]) == (0b10000000, 0b01000000, 0b10000000)
    assert packed[MASK_BYTES] == 0b01111111
