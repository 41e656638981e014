"""Boxes and masks follow the pixels: objects are drawn in colors of their own, and found again after each step."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from maskrcnn.config import Config, DataConfig
from maskrcnn.data.loader.augment import color_jitter, copy_paste, crop, cut_objects, draw_masks, hide, scale_jitter
from maskrcnn.data.loader.pipeline import check_augmentation, train_dataset
from maskrcnn.data.loader.transforms import resize_to_canvas
from maskrcnn.data.records.rasterize import MASK_SIZE
from maskrcnn.errors import UserError

COLORS = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250]], np.uint8)


def ellipses(*boxes, height=120, width=160, first=0, background=0):
    """An example of filled ellipses, each of one color in its box, the later over the earlier."""
    image = np.full((height, width, 3), background, np.uint8)
    y, x = np.mgrid[:height, :width] + 0.5
    for number, (x1, y1, x2, y2) in enumerate(boxes, start=first):
        inside = ((x - (x1 + x2) / 2) / (x2 - x1)) ** 2 + ((y - (y1 + y2) / 2) / (y2 - y1)) ** 2 <= 0.25
        image[inside] = COLORS[number]
    offset = (np.arange(MASK_SIZE) + 0.5) / MASK_SIZE * 2 - 1
    disk = (offset[:, None] ** 2 + offset**2 <= 1).astype(np.uint8)
    frames = np.array(boxes, np.float32).reshape(-1, 4)
    return {
        "image": tf.constant(image),
        "boxes": tf.constant(frames),
        "mask_regions": tf.constant(frames),
        "classes": tf.range(first + 1, first + 1 + len(boxes)),
        "masks": tf.constant(np.tile(disk, (len(boxes), 1, 1))),
    }


def seen_pixels(example, number):
    """Where the object's color is, up to what resizing blends: bool [H, W]."""
    return (np.abs(example["image"].numpy().astype(int) - COLORS[number]) < 60).all(axis=-1)


def assert_aligned(example, *, tolerance=1.5):
    """Each object's box bounds the pixels of its color, and its mask covers them."""
    size = tf.shape(example["image"])[:2]
    for position, label in enumerate(example["classes"].numpy()):
        pixels = seen_pixels(example, label - 1)
        rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
        expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(example["boxes"][position], expected, atol=tolerance)
        one = {key: example[key][position : position + 1] for key in ("masks", "mask_regions")}
        height, width = example.get("image_sizes", size).numpy().astype(int)
        mask = draw_masks(one, size).numpy()
        mask[height:], mask[:, width:] = False, False  # what has been cut off
        if pixels.sum() > 300:  # a sliver is mostly edge, which resizing blends
            assert (mask & pixels).sum() / (mask | pixels).sum() > 0.85
    hidden = set(range(3)) - set(example["classes"].numpy() - 1)
    assert all(seen_pixels(example, number).sum() < 10 for number in hidden)


def test_drawn_masks_are_the_drawn_pixels():
    assert_aligned(ellipses((10, 20, 60, 90), (80, 30, 150, 60)))


@pytest.mark.parametrize(
    ("offset", "size", "left"),
    [
        ((0, 0), (120, 160), [1, 2, 3]),
        ((40, 30), (60, 100), [1, 2, 3]),  # cuts all
        ((0, 0), (120, 70), [1]),
        ((50, 100), (70, 60), [2, 3]),
        ((100, 0), (20, 20), []),
    ],
)
def test_a_crop_cuts_boxes_to_what_is_seen(offset, size, left):
    got = crop(
        ellipses((10, 20, 60, 90), (80, 30, 150, 60), (120, 90, 150, 110)), tf.constant(offset), tf.constant(size)
    )
    assert got["image"].shape == (*size, 3)
    assert got["classes"].numpy().tolist() == left
    assert_aligned(got)


def test_a_crop_by_hand():
    got = crop(ellipses((10, 20, 60, 90)), tf.constant([0, 35]), tf.constant([120, 125]))
    np.testing.assert_allclose(got["mask_regions"], [[-25, 20, 25, 90]])  # the whole object's frame, 35 px further left
    np.testing.assert_allclose(got["boxes"], [[0, 20, 25, 90]], atol=1e-4)  # cut through the middle
    assert got["masks"].numpy().sum() == ellipses((10, 20, 60, 90))["masks"].numpy().sum()


def test_what_is_cut_off_at_the_corner_of_an_ellipse_does_not_count():
    # within the box, beside the ellipse: the object is not in the picture
    got = crop(ellipses((10, 20, 60, 90)), tf.constant([0, 0]), tf.constant([27, 15]))
    assert got["classes"].shape == (0,)


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 1.7, 2.0])
def test_scale_jitter_moves_boxes_and_masks_with_the_pixels(scale):
    canvas = tf.constant([128, 192])
    for seed in range(4):
        example = ellipses((10, 20, 60, 90), (80, 30, 150, 60), (120, 90, 150, 110))
        example, size = scale_jitter(example, canvas, tf.constant(scale), tf.constant([3, seed]))
        got = resize_to_canvas(example, size, canvas)
        assert got["image"].shape == (128, 192, 3)
        assert (size.numpy() <= [128, 192]).all()
        if scale <= 1:
            # 120 x 160 fits 128 x 192 at 128 / 120
            np.testing.assert_allclose(size, np.array([128, 128 / 120 * 160]) * scale, atol=0.51)
        if scale >= 0.5:
            assert_aligned(got, tolerance=1 + 2 * scale)  # the blend of an edge is as wide as a pixel of the image was


def test_what_covers_an_object_is_taken_from_its_mask():
    example = ellipses((10, 20, 60, 90), (80, 30, 150, 60), (120, 90, 150, 110))
    cover = np.zeros((120, 160), bool)
    cover[:, :35] = True  # half of the first
    cover[85:, 115:] = True  # all of the third
    got = hide(example, tf.constant(cover), tf.constant([120.0, 160.0]))
    assert got["classes"].numpy().tolist() == [1, 2]
    np.testing.assert_allclose(got["boxes"][0], [35, 20, 60, 90], atol=0.5)
    np.testing.assert_array_equal(got["boxes"][1], example["boxes"][1])  # untouched
    assert got["masks"].numpy()[0].mean() == pytest.approx(example["masks"].numpy()[0].mean() / 2, rel=0.02)
    got["image"] = tf.where(cover[..., None], tf.constant(0, tf.uint8), example["image"])
    assert_aligned(got)


def on_canvas(example, size):
    return example | {"image_sizes": tf.constant(size, tf.float32)}


def test_copies_lie_over_the_others():
    example = on_canvas(ellipses((10, 20, 60, 90), (80, 30, 150, 60)), (120, 160))
    donor = on_canvas(ellipses((40, 40, 110, 100), first=2), (120, 160))
    pasted = 0
    for seed in range(8):
        got = copy_paste(example, donor, tf.constant([1, seed]))
        assert_aligned(got)
        pasted += 3 in got["classes"].numpy()
    assert 1 <= pasted <= 7  # each copy is a matter of chance


def test_copies_end_at_the_images_edge():
    example = on_canvas(ellipses((10, 20, 60, 90)), (120, 80))
    donor = on_canvas(ellipses((40, 40, 110, 100), first=2), (120, 160))
    results = [copy_paste(example, donor, tf.constant([1, seed])) for seed in range(8)]
    got = next(result for result in results if 3 in result["classes"].numpy())
    assert not got["image"].numpy()[:, 80:].any()
    assert_aligned(got)


def test_cutting_leaves_whole_objects_alone():
    example = ellipses((10.25, 20.5, 60, 90))
    np.testing.assert_array_equal(cut_objects(example, tf.constant([120.0, 160.0]))["boxes"], example["boxes"])


def test_colors_change_and_nothing_else():
    example = ellipses((10, 20, 60, 90), background=90)
    got, again, other = (color_jitter(example, 0.5, tf.constant([0, seed])) for seed in (1, 1, 2))
    assert got["image"].dtype == tf.uint8
    np.testing.assert_array_equal(got["image"], again["image"])
    assert (got["image"].numpy() != other["image"].numpy()).any()
    assert (got["image"].numpy() != example["image"].numpy()).any()
    for key in ("boxes", "masks", "mask_regions", "classes"):
        np.testing.assert_array_equal(got[key], example[key])
    same = color_jitter(example, 0.0, tf.constant([0, 1]))["image"].numpy().astype(int)
    assert np.abs(same - example["image"].numpy()).max() <= 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [("scale_jitter", (2.0, 0.1)), ("scale_jitter", (0, 1)), ("color_jitter", 2), ("copy_paste", -1)],
)
def test_numbers_that_mean_nothing_are_refused(setting, value):
    with pytest.raises(UserError, match=f"--{setting}"):
        check_augmentation(DataConfig(**{setting: value}))


def test_augmented_batches_are_the_seeds_own_and_can_be_resumed(shapes_dir):
    from maskrcnn.data.splits import open_split

    split = open_split(shapes_dir, "train")
    config = Config.tiny().override({"image.min_side": 64, "image.max_side": 64})
    data = {"scale_jitter": (0.5, 2.0), "color_jitter": 0.3, "copy_paste": 0.7}
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **data))

    def batches(seed, skip=0):
        dataset = train_dataset(split, config, batch_size=2, seed=seed, skip_batches=skip)
        return list(itertools.islice(dataset.as_numpy_iterator(), 6 - skip))

    whole, tail, other = batches(5), batches(5, skip=4), batches(6)
    for left, right in zip(whole[4:], tail, strict=True):
        for key in left:
            np.testing.assert_array_equal(left[key], right[key], err_msg=key)
    assert any((a["images"] != b["images"]).any() for a, b in zip(whole, other, strict=True))
    for batch in whole:
        x1, y1, x2, y2 = np.moveaxis(batch["boxes"][batch["valid"]], -1, 0)
        for low, high in ((x1, x2), (y1, y2)):
            assert ((low >= 0) & (low < high) & (high <= 64)).all()
