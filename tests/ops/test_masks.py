import math

import numpy as np
import pytest
from keras import ops

from maskrcnn.ops.masks import crop_masks, select_class_masks


def crop(output_size, max_samples=4):
    return lambda masks, regions, boxes: crop_masks(
        masks, regions, boxes, output_size=output_size, max_samples=max_samples
    )


def rectangles(*rows):
    return np.array([rows], "float32")


def test_hand_worked_ramp(run):
    # Bins of 2 x 2 mask pixels, hence 2 points a side: x = 0.5, 1.5 | 2.5, 3.5, and 3.5 reads the last pixel, 3.
    mask = np.broadcast_to(np.arange(4, dtype="float32"), (1, 1, 4, 4))
    cropped = run(crop(2), mask, rectangles([0, 0, 4, 4]), rectangles([0, 0, 4, 4]))
    np.testing.assert_allclose(cropped[0, 0], [[1, 2.75], [1, 2.75]], rtol=1e-6)


def test_agrees_with_torchvision(compiled, goldens):
    masks = goldens["mask_target.masks"][goldens["mask_target.matched"]][None]  # uint8, 48 x 64
    regions = np.tile(np.array([0, 0, 64, 48], "float32"), (1, 6, 1))  # a mask pixel is an image pixel
    cropped = compiled(crop(28), masks, regions, goldens["mask_target.boxes"][None])
    np.testing.assert_allclose(cropped[0], goldens["mask_target.targets"], atol=1e-4)


@pytest.mark.parametrize("k", [2, 8])
def test_agrees_with_adaptive_roi_align_of_torchvision(compute, goldens, k):
    # Any map is a mask, and the channels are masks side by side.
    features = goldens["roi_align.features"]
    rois, expected = goldens[f"roi_align.{k}.rois"], goldens[f"roi_align.{k}.output"]
    scale, size = goldens["roi_align.cases"][k][:2]
    masks = features[rois[:, 0].astype(int)].transpose(1, 0, 2, 3)  # [3, 10, 12, 16]
    regions = np.tile(np.array([0, 0, 16 / scale, 12 / scale], "float32"), (3, 10, 1))
    cropped = compute(crop(int(size), max_samples=3), masks, regions, np.stack([rois[:, 1:]] * 3))
    np.testing.assert_allclose(cropped.transpose(1, 0, 2, 3), expected, atol=2e-4)


def naive_crop(mask, region, box, bins, max_samples):
    """RoIAlign of one mask in its own pixels, point by point."""
    height, width = mask.shape

    def axis(pixels, region_start, region_end, start, end):
        scale = pixels / (region_end - region_start)
        low, high = (start - region_start) * scale, (end - region_start) * scale
        size = max(high - low, 1.0) / bins
        count = min(math.ceil(size), max_samples)
        return [[low + bin * size + (i + 0.5) * size / count for i in range(count)] for bin in range(bins)]

    def value(y, x):
        if not (-1 <= y <= height and -1 <= x <= width):
            return 0.0
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        upper = mask[top, left] * (1 - x + left) + mask[top, right] * (x - left)
        lower = mask[bottom, left] * (1 - x + left) + mask[bottom, right] * (x - left)
        return upper * (1 - y + top) + lower * (y - top)

    rows = axis(height, region[1], region[3], box[1], box[3])
    columns = axis(width, region[0], region[2], box[0], box[2])
    return [[np.mean([value(y, x) for y in ys for x in xs]) for xs in columns] for ys in rows]


@pytest.mark.parametrize("max_samples", [1, 2, 6])
def test_agrees_with_a_loop(compute, rng, max_samples):
    masks = rng.integers(0, 2, (2, 5, 12, 9)).astype("uint8")
    corner = rng.uniform(0, 50, (2, 5, 2))
    regions = np.concatenate([corner, corner + rng.uniform(3, 40, (2, 5, 2))], -1).astype("float32")
    boxes = (regions + rng.uniform(-6, 6, (2, 5, 4))).astype("float32")
    cropped = compute(crop(4, max_samples), masks, regions, boxes)
    expected = [
        [naive_crop(masks[b, k].astype(float), regions[b, k], boxes[b, k], 4, max_samples) for k in range(5)]
        for b in range(2)
    ]
    np.testing.assert_allclose(cropped, expected, atol=2e-3)


def test_only_the_relation_of_box_and_region_counts(compute, rng):
    masks = rng.integers(0, 2, (1, 2, 10, 10)).astype("float32")
    regions = rectangles([10, 20, 30, 60], [0, 0, 5, 5])
    boxes = rectangles([12, 18, 28, 50], [1, 1, 6, 4])
    expected = compute(crop(7), masks, regions, boxes)
    np.testing.assert_allclose(compute(crop(7), masks, 8 * regions + 3, 8 * boxes + 3), expected, atol=1e-5)


def test_far_from_its_region_a_mask_is_empty(compute):
    cropped = compute(crop(5), np.ones((1, 1, 8, 8)), rectangles([0, 0, 8, 8]), rectangles([20, 0, 28, 8]))
    np.testing.assert_array_equal(cropped, np.zeros((1, 1, 5, 5)))


def test_padding_is_finite(compute):
    masks, nothing = np.zeros((1, 2, 8, 8), bool), np.zeros((1, 2, 4), "float32")
    boxes = rectangles([0, 0, 0, 0], [5, 5, 30, 30])
    np.testing.assert_array_equal(compute(crop(4), masks, nothing, boxes), np.zeros((1, 2, 4, 4)))


def test_select_reads_the_channel_of_each_class(run):
    logits = np.arange(2 * 2 * 1 * 1 * 3, dtype="float32").reshape(2, 2, 1, 1, 3)
    chosen = run(select_class_masks, logits, np.array([[2, 0], [1, 1]], "int32"))
    np.testing.assert_array_equal(chosen.reshape(2, 2), [[2, 3], [7, 10]])


def test_select_agrees_with_indexing(compute, rng):
    logits = rng.standard_normal((2, 3, 4, 5, 6)).astype("float32")
    classes = rng.integers(0, 6, (2, 3)).astype("int32")
    expected = [[logits[b, k, :, :, classes[b, k]] for k in range(3)] for b in range(2)]
    np.testing.assert_array_equal(compute(select_class_masks, logits, classes), expected)


def test_other_channels_matter_neither_forward_nor_backward(compute, gradient):
    logits = np.full((1, 1, 2, 2, 3), np.nan, "float32")
    logits[..., 1] = 4.0
    classes = np.array([[1]], "int32")
    np.testing.assert_array_equal(compute(select_class_masks, logits, classes), np.full((1, 1, 2, 2), 4.0))
    slope = gradient(lambda x: ops.sum(select_class_masks(x, classes)), logits)
    np.testing.assert_array_equal(slope, np.broadcast_to([0.0, 1.0, 0.0], logits.shape))
