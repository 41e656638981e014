import math

import keras
import numpy as np
import pytest
from keras import ops

from maskrcnn.ops.roi_align import assign_levels, multilevel_roi_align, roi_align

RAMP = np.arange(25, dtype="float32").reshape(1, 5, 5, 1)  # 5 * row + column
STATIC_CASES = [k for k in range(18) if k % 3 != 2]  # the third of each three is adaptive: see test_masks.py
COMPILED_CASES = (3, 13)


def align(**settings):
    return lambda features, boxes: roi_align(features, boxes, **settings)


def one_box(*corners):
    return np.array([[corners]], "float32")


def test_hand_worked_ramp(run):
    # Bins of 1 x 1 with one sample point in the middle of each, at 1.5 and 2.5; the ramp is linear.
    pooled = run(align(output_size=2, spatial_scale=1.0, sampling_ratio=1), RAMP, one_box(1, 1, 3, 3))
    np.testing.assert_allclose(pooled[0, 0, ..., 0], [[9, 10], [14, 15]])


def test_aligned_moves_the_points_by_half_a_location(compute):
    pooled = compute(align(output_size=2, spatial_scale=1.0, sampling_ratio=1, aligned=True), RAMP, one_box(1, 1, 3, 3))
    np.testing.assert_allclose(pooled[0, 0, ..., 0], [[6, 7], [11, 12]])


def test_rows_and_columns_of_a_flat_box(compute):
    # 2 rows of height 0.5 and 1 column of width 3: points at y = 0.25, 0.75 and x = 2.5.
    pooled = compute(align(output_size=(2, 1), spatial_scale=1.0, sampling_ratio=1), RAMP, one_box(1, 0, 4, 1))
    np.testing.assert_allclose(pooled[0, 0, ..., 0], [[3.75], [6.25]])


def test_a_point_covers_one_location_unless_aligned(compute):
    settings = {"output_size": 1, "spatial_scale": 1.0, "sampling_ratio": 1}
    pooled = compute(align(**settings), RAMP, one_box(2, 2, 2, 2))
    assert pooled.item() == 5 * 2.5 + 2.5
    pooled = compute(align(**settings, aligned=True), RAMP, one_box(2.5, 2.5, 2.5, 2.5))
    assert pooled.item() == 5 * 2 + 2


@pytest.mark.parametrize(
    ("x", "expected"),
    [(-1.01, 0.0), (-1.0, 10.0), (-0.5, 10.0), (3.5, 13.5), (4.5, 14.0), (5.0, 14.0), (5.01, 0.0)],
)
def test_points_near_the_border(compute, x, expected):
    # One sample point at (x, 2). Counted from -1 to the map's width; beyond the centers it reads the nearest location.
    box = one_box(x - 1, 1, x + 1, 3)
    pooled = compute(align(output_size=1, spatial_scale=1.0, sampling_ratio=1), RAMP, box)
    assert pooled.item() == pytest.approx(expected)


def per_image(goldens, k):
    """Boxes of golden case k for both images, and the image that each belongs to."""
    rois = goldens[f"roi_align.{k}.rois"]
    return np.stack([rois[:, 1:]] * 2), rois[:, 0].astype(int)


def settings_of(goldens, k):
    scale, height, width, aligned, ratio = goldens["roi_align.cases"][k]
    return {
        "output_size": (int(height), int(width)),
        "spatial_scale": float(scale),
        "sampling_ratio": int(ratio),
        "aligned": bool(aligned),
    }


def check_golden(runner, goldens, k):
    features = goldens["roi_align.features"].transpose(0, 2, 3, 1)
    boxes, images = per_image(goldens, k)
    pooled = runner(align(**settings_of(goldens, k)), features, boxes)[images, np.arange(10)]
    np.testing.assert_allclose(pooled.transpose(0, 3, 1, 2), goldens[f"roi_align.{k}.output"], atol=1e-4)


@pytest.mark.parametrize("k", STATIC_CASES)
def test_agrees_with_torchvision(compute, goldens, k):
    check_golden(compute, goldens, k)


@pytest.mark.parametrize("k", COMPILED_CASES)
def test_compiled_agrees_with_torchvision(compiled, goldens, k):
    check_golden(compiled, goldens, k)


@pytest.mark.parametrize("k", [0, 4, 7, 15])
def test_gradient_agrees_with_torchvision(gradient, goldens, k):
    features = goldens["roi_align.features"].transpose(0, 2, 3, 1)
    boxes, images = per_image(goldens, k)
    upstream = np.zeros((2, 10, *goldens[f"roi_align.{k}.upstream"].shape[2:], 3), "float32")
    upstream[images, np.arange(10)] = goldens[f"roi_align.{k}.upstream"].transpose(0, 2, 3, 1)
    pool = align(**settings_of(goldens, k))
    slope = gradient(lambda x: ops.sum(pool(x, boxes) * upstream), features)
    np.testing.assert_allclose(slope.transpose(0, 3, 1, 2), goldens[f"roi_align.{k}.grad_features"], atol=1e-3)


def bilinear(feature, y, x):
    height, width, _ = feature.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = math.floor(y), math.floor(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    upper = feature[y0, x0] * (1 - x + x0) + feature[y0, x1] * (x - x0)
    lower = feature[y1, x0] * (1 - x + x0) + feature[y1, x1] * (x - x0)
    return upper * (1 - y + y0) + lower * (y - y0)


def naive_roi_align(feature, box, rows, columns, ratio):
    """One box on one map [H, W, C] with stride 1, point by point."""
    x1, y1, x2, y2 = (float(side) for side in box)
    height, width = max(y2 - y1, 1) / rows, max(x2 - x1, 1) / columns
    pooled = np.zeros((rows, columns, feature.shape[2]))
    for row, column, i, j in np.ndindex(rows, columns, ratio, ratio):
        y, x = y1 + (row + (i + 0.5) / ratio) * height, x1 + (column + (j + 0.5) / ratio) * width
        pooled[row, column] += bilinear(feature, y, x) / ratio**2
    return pooled


def test_agrees_with_a_loop(compute, rng):
    features = rng.standard_normal((2, 6, 9, 3)).astype("float32")
    corner = rng.uniform(-3, 8, (2, 8, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(-1, 6, (2, 8, 2))], -1).astype("float32")
    pooled = compute(align(output_size=(3, 2), spatial_scale=1.0, sampling_ratio=3), features, boxes)
    expected = [[naive_roi_align(features[b], box, 3, 2, 3) for box in boxes[b]] for b in range(2)]
    np.testing.assert_allclose(pooled, expected, atol=1e-4)


def test_moving_box_and_map_by_whole_locations_changes_nothing(compute, rng):
    features = np.zeros((1, 16, 16, 2), "float32")
    features[:, 4:9, 4:9] = rng.standard_normal((1, 5, 5, 2))
    pool = align(output_size=4, spatial_scale=0.5)
    before = compute(pool, features, one_box(7, 8, 17, 15))
    after = compute(pool, np.roll(features, (2, 3), (1, 2)), one_box(7 + 6, 8 + 4, 17 + 6, 15 + 4))
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_levels_of_hand_worked_boxes(run):
    # 223.9999 is nearer to 224 than the tolerance of 1e-6 octaves.
    boxes = np.array([[[0, 0, s, s] for s in (0, 10, 111.9, 112, 223.9, 223.9999, 224, 447, 448, 2000)]], "float32")
    np.testing.assert_array_equal(run(assign_levels, boxes), [[2, 2, 2, 3, 3, 4, 4, 4, 5, 5]])


def test_levels_agree_with_torchvision(compute, goldens):
    levels = compute(assign_levels, goldens["levels.boxes"][None])
    np.testing.assert_array_equal(levels[0] - 2, goldens["levels.level"])
    assert levels.dtype == np.int32


def test_pyramid_agrees_with_torchvision(compiled, goldens):
    maps = [goldens[f"multiscale.map{level}"].transpose(0, 2, 3, 1) for level in range(4)]
    pooled = compiled(
        lambda *inputs: multilevel_roi_align(inputs[:4], inputs[4], output_size=7),
        *maps,
        goldens["multiscale.boxes"][None],
    )
    np.testing.assert_allclose(pooled[0].transpose(0, 3, 1, 2), goldens["multiscale.output"], atol=2e-4)


def pyramid(*values, dtype="float32", channels=2, batch=2):
    """P2..P5 of a 128 x 192 image, each filled with one value."""
    sizes = [(32, 48), (16, 24), (8, 12), (4, 6)]
    return [np.full((batch, *size, channels), value, dtype) for size, value in zip(sizes, values, strict=True)]


def pool_pyramid(*inputs):
    return multilevel_roi_align(inputs[:4], inputs[4], output_size=2)


def test_each_box_reads_its_own_level_and_image(compute):
    maps = pyramid(2, 3, 4, 5)
    for level in maps:
        level[1] *= 10
    boxes = np.array([[[0, 0, 50, 50], [0, 0, 192, 128], [20, 10, 30, 20]]] * 2, "float32")  # P2, P3, P2
    pooled = compute(pool_pyramid, *maps, boxes)
    # the weights of a bin's samples add up to 1 but for rounding
    np.testing.assert_allclose(pooled[..., 0, 0, 0], [[2, 3, 2], [20, 30, 20]], rtol=1e-5)
    np.testing.assert_allclose(pooled, np.broadcast_to(pooled[..., :1, :1, :1], pooled.shape), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_features_keep_their_dtype_and_exact_coordinates(compute, dtype):
    ramp = np.broadcast_to(np.arange(48, dtype="float32")[:, None], (1, 32, 48, 1))
    maps = [np.broadcast_to(np.arange(level.shape[2], dtype="float32")[:, None], level.shape) for level in
            pyramid(0, 0, 0, 0, channels=1, batch=1)]  # fmt: skip
    boxes = one_box(120.4, 20, 134.4, 30)
    actual = compute(
        lambda *x: ops.cast(pool_pyramid(*(ops.cast(m, dtype) for m in x[:4]), x[4]), "float32"), *maps, boxes
    )
    expected = compute(align(output_size=2, spatial_scale=0.25), ramp, boxes)
    np.testing.assert_allclose(actual, expected, rtol=2**-8 if dtype == "bfloat16" else 2**-11)
    kept = pool_pyramid(*(ops.cast(level, dtype) for level in maps), ops.convert_to_tensor(boxes))
    assert keras.backend.standardize_dtype(kept.dtype) == dtype


def test_gradient_of_half_precision_features_adds_up_in_float32(gradient):
    # 3000 boxes read location (2, 2) alone. Adding ones up in float16 ends at 2048.
    boxes = np.tile(one_box(1.5, 1.5, 2.5, 2.5), (1, 3000, 1))
    pool = align(output_size=1, spatial_scale=1.0, sampling_ratio=1)
    slope = gradient(lambda x: ops.sum(ops.cast(pool(x, boxes), "float32")), RAMP.astype("float16"))
    assert slope[0, 2, 2, 0] == 3000
    assert slope.sum() == 3000


def test_maps_of_unknown_size(run_unknown_sizes, compute, rng):
    maps = [rng.standard_normal(level.shape).astype("float32") for level in pyramid(0, 0, 0, 0)]
    boxes = np.array([[[0, 0, 50, 50], [0, 0, 192, 128]]] * 2, "float32")
    expected = compute(pool_pyramid, *maps, boxes)
    np.testing.assert_allclose(run_unknown_sizes(pool_pyramid, *maps, boxes), expected, atol=1e-5)


def test_boxes_that_are_not_finite_read_nothing(compiled):
    boxes = np.full((2, 3, 4), np.nan, "float32")
    boxes[:, 1], boxes[:, 2] = np.inf, 1e30
    np.testing.assert_array_equal(compiled(pool_pyramid, *pyramid(2, 3, 4, 5), boxes), np.zeros((2, 3, 2, 2, 2)))
