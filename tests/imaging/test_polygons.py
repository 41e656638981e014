"""Polygons give their masks back, holes included."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from maskrcnn.imaging.mask_paste import coco_mask
from maskrcnn.imaging.polygons import trace_polygons


def _fill(polygons, height, width):
    codes = coco_mask.frPyObjects([polygon.ravel().tolist() for polygon in polygons], height, width)
    return coco_mask.decode(coco_mask.merge(codes)).astype(bool)


def _fill_by_pillow(polygons, height, width):
    image = Image.new("1", (width, height))
    for polygon in polygons:
        ImageDraw.Draw(image).polygon([tuple(point - 0.5) for point in polygon], fill=1)  # its pixels are points
    return np.asarray(image)


def _iou(first, second):
    return (first & second).sum() / (first | second).sum()


def _blob(seed, side):
    noise = np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)
    smooth = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(side / 20)), float)
    return np.pad(smooth > np.median(smooth), 3)


@pytest.mark.parametrize("side", [40, 100, 300])
def test_smooth_masks_with_holes_and_islands_return(side):
    for seed in range(5):
        mask = _blob(seed, side)
        polygons = trace_polygons(mask)
        assert _iou(_fill(polygons, *mask.shape), mask) >= 0.98
        assert sum(map(len, polygons)) < sum(map(len, trace_polygons(mask, 0)))


def test_a_ring_keeps_its_hole_and_other_programs_see_it():
    rows, columns = np.ogrid[:120, :140]
    distance = np.hypot(rows - 60, columns - 70)
    ring = (distance < 50) & (distance > 20)
    (polygon,) = trace_polygons(ring)
    assert _iou(_fill([polygon], 120, 140), ring) >= 0.99
    assert not _fill([polygon], 120, 140)[60, 70]
    assert _iou(_fill_by_pillow([polygon], 120, 140), ring) >= 0.97
    assert len(polygon) < 120


def test_the_largest_part_is_first_and_rectangles_are_exact():
    mask = np.zeros((60, 50), np.bool_)
    mask[2:4, 2:5] = mask[10:50, 20:40] = True
    large, small = trace_polygons(mask)
    np.testing.assert_allclose([*large.min(axis=0), *large.max(axis=0)], [20, 10, 40, 50], atol=0.3)
    np.testing.assert_allclose([*small.min(axis=0), *small.max(axis=0)], [2, 2, 5, 4], atol=0.3)
    np.testing.assert_array_equal(_fill([large, small], 60, 50), mask)


def test_masks_at_the_limits():
    assert trace_polygons(np.zeros((5, 5), np.bool_)) == []
    assert trace_polygons(np.zeros((0, 3), np.bool_)) == []
    full = np.ones((7, 300), np.bool_)
    np.testing.assert_array_equal(_fill(trace_polygons(full), 7, 300), full)
    (pixel,) = trace_polygons(np.ones((1, 1), np.bool_))
    assert _fill([pixel], 1, 1).all()
