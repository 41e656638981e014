"""Compares pasted masks with torchvision's recorded numbers, and run-length codes with pycocotools'."""

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from maskrcnn.imaging.mask_paste import THRESHOLD, decode_rles, encode_crop, paste_and_encode, paste_probabilities

GOLDENS = Path(__file__).parents[1] / "fixtures" / "goldens"


def test_soft_masks_equal_torchvision() -> None:
    golden = np.load(GOLDENS / "ops.npz")
    height, width = golden["paste.image_size"].tolist()
    for mask, box, expected in zip(golden["paste.prob"], golden["paste.boxes"], golden["paste.pasted"], strict=True):
        crop, (x1, y1, x2, y2) = paste_probabilities(mask, box, height, width)
        image = np.zeros((height, width), np.float32)
        image[y1:y2, x1:x2] = crop
        np.testing.assert_allclose(image, expected, atol=1e-5)


def test_masks_of_a_whole_image_equal_torchvision_bit_for_bit() -> None:
    golden = np.load(GOLDENS / "paste.npz")
    expected = np.unpackbits(golden["det.pasted_binary"], axis=2).astype(bool)  # [34, 256, 320]
    codes = paste_and_encode(golden["det.mask_prob"], golden["det.boxes"], 256, 320)
    np.testing.assert_array_equal(decode_rles(codes, 256, 320), expected)


def test_a_full_mask_fills_its_box_by_hand() -> None:
    # box 28 px wide at 10: grown by 30/28 to 9..39, so one pixel is a mask pixel plus 1/30; the middle is all ones
    crop, place = paste_probabilities(np.ones((28, 28), np.float32), np.array([10, 20, 38, 48], np.float32), 100, 100)
    assert place == (9, 19, 40, 50)
    assert crop.shape == (31, 31)
    assert (crop[2:-2, 2:-2] >= THRESHOLD).all()
    assert (crop[0] < THRESHOLD).all()
    assert (crop[:, -1] < THRESHOLD).all()


@pytest.mark.parametrize("box", [(-60, 10, -40, 20), (200, 10, 220, 20), (10, 300, 20, 310), (5, -50, 9, -20)])
def test_a_box_beside_the_image_gives_an_empty_mask(box: tuple[float, ...]) -> None:
    mask = np.ones((28, 28), np.float32)
    crop, _ = paste_probabilities(mask, np.array(box, np.float32), 90, 120)
    assert crop.size == 0
    (code,) = paste_and_encode(mask[None], np.array([box], np.float32), 90, 120)
    assert coco_mask.area(code) == 0
    assert not decode_rles([code], 90, 120).any()


def test_only_the_part_inside_the_image_is_computed() -> None:
    crop, place = paste_probabilities(np.ones((28, 28), np.float32), np.array([-1e5, -1e5, 1e5, 1e5], np.float32), 7, 9)
    assert place == (0, 0, 9, 7)
    assert crop.shape == (7, 9)
    assert (crop >= THRESHOLD).all()


@pytest.mark.parametrize(
    ("place", "fill"),
    [
        ((0, 0, 7, 5), 1.0),  # everything
        ((0, 0, 7, 5), 0.5),
        ((2, 0, 5, 5), 1.0),  # full columns: a run continues in the next
        ((2, 0, 7, 5), 0.9),
        ((1, 1, 4, 3), 0.5),
        ((6, 4, 7, 5), 1.0),  # the last pixel
        ((0, 0, 1, 1), 1.0),  # the first pixel
        ((1, 1, 4, 3), 0.0),  # nothing
    ],
)
def test_codes_are_those_of_the_full_image(place: tuple[int, int, int, int], fill: float) -> None:
    x1, y1, x2, y2 = place
    random = np.random.default_rng(0)
    for _ in range(20):
        crop = random.random((y2 - y1, x2 - x1)) < fill
        image = np.zeros((5, 7), np.uint8, order="F")
        image[y1:y2, x1:x2] = crop
        assert encode_crop(crop, place, 5, 7) == coco_mask.encode(image)
