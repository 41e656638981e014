"""Instances are drawn in their place, on a copy of the image, at any scale."""

import itertools

import numpy as np
import pytest
from PIL import Image

from maskrcnn.imaging.draw import Instance, color_of, draw_instances


def _instance(x1: int, y1: int, x2: int, y2: int, *, label: str = "", number: int = 0) -> Instance:
    mask = np.zeros((100, 120), np.bool_)
    mask[y1 + 4 : y2 - 4, x1 + 4 : x2 - 4] = True
    return Instance(np.array([x1, y1, x2, y2], np.float32), mask, label, color_of(number))


def _grey() -> np.ndarray:
    return np.full((100, 120, 3), 128, np.uint8)


def test_masks_are_tinted_and_outlined_and_other_pixels_stay() -> None:
    image = _grey()
    pixels = np.asarray(draw_instances(image, [_instance(20, 30, 80, 70)])).astype(int)
    color = np.array(color_of(0))
    inside = 128 + (color - 128) * 0.42
    np.testing.assert_allclose(pixels[50, 50], inside, atol=1)
    np.testing.assert_array_equal(pixels[34, 50], color)  # first row of the mask
    assert np.abs(pixels[30, 50] - color).max() < 30  # box, nearly opaque
    np.testing.assert_array_equal(pixels[32, 50], [128] * 3)  # between box and mask
    np.testing.assert_array_equal(pixels[90, 100], [128] * 3)
    assert (image == 128).all()


def test_small_objects_are_drawn_over_large_ones() -> None:
    small, large = _instance(40, 40, 60, 60, number=1), _instance(5, 5, 115, 95, number=0)
    first, second = draw_instances(_grey(), [small, large]), draw_instances(_grey(), [large, small])
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))
    np.testing.assert_array_equal(np.asarray(first)[44, 50], color_of(1))


@pytest.mark.parametrize("corner", [(0, 0, 30, 30), (90, 0, 120, 30), (0, 70, 30, 100), (90, 70, 120, 100)])
def test_labels_stay_inside_the_image(corner: tuple[int, int, int, int]) -> None:
    plain = np.asarray(draw_instances(_grey(), [_instance(*corner)]))
    labeled = np.asarray(draw_instances(_grey(), [_instance(*corner, label="cat 0.90")]))
    rows, columns = np.nonzero((plain != labeled).any(axis=2))
    width, height = columns.max() - columns.min() + 1, rows.max() - rows.min() + 1
    assert width > 45
    assert height > 11


def test_labels_of_overlapping_boxes_do_not_cover_each_other() -> None:
    box = _instance(20, 40, 100, 90)
    labels = [Instance(box.box, None, "cat 0.90", color_of(number)) for number in range(3)]
    pixels = np.asarray(draw_instances(_grey(), labels)).astype(int)
    areas = [(np.abs(pixels - color_of(number)).max(axis=2) < 20).sum() for number in range(3)]
    assert min(areas) > 200


def test_scale_enlarges_masks_and_boxes() -> None:
    drawing = draw_instances(_grey(), [_instance(20, 30, 80, 70)], scale=3)
    assert drawing.size == (360, 300)
    pixels = np.asarray(drawing).astype(int)
    np.testing.assert_allclose(pixels[150, 150], 128 + (np.array(color_of(0)) - 128) * 0.42, atol=1)
    assert np.abs(pixels[90, 150] - color_of(0)).max() < 30


def test_degenerate_instances_do_no_harm() -> None:
    empty = Instance(np.array([5, 5, 5, 5], np.float32), np.zeros((100, 120), np.bool_), "nothing", (255, 255, 0))
    beyond = Instance(np.array([-50, -50, 500, 500], np.float32), None, "ein größeres Wort, слово", (0, 0, 0))
    assert draw_instances(_grey(), [empty, beyond]).size == (120, 100)
    thin = Instance(np.array([0, 0, 3, 50], np.float32), np.ones((50, 3), np.bool_), "thin", (9, 9, 9))
    assert draw_instances(np.zeros((50, 3, 3), np.uint8), [thin]).size == (3, 50)
    assert isinstance(draw_instances(_grey(), []), Image.Image)


def test_consecutive_colors_differ_and_are_stable() -> None:
    colors = [np.array(color_of(number)) for number in range(30)]
    assert all(np.abs(a - b).sum() > 100 for a, b in itertools.pairwise(colors))
    assert color_of(3) == color_of(3)
