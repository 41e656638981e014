from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from maskrcnn.data.loader.transforms import (
    decode_image,
    decode_png_masks,
    flip_horizontal,
    mirror,
    pad_instances,
    resize_to_canvas,
    unpack_masks,
)
from maskrcnn.data.records.rasterize import pack_masks

GOLDENS = np.load(Path(__file__).parents[2] / "fixtures" / "goldens" / "ops.npz")
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def example(height=6, width=10, objects=2):
    rng = np.random.default_rng(0)
    boxes = tf.constant([[1, 2, 4, 5], [0, 0, 10, 6]][:objects], tf.float32)
    return {
        "image": tf.constant(rng.integers(0, 256, (height, width, 3), np.uint8)),
        "boxes": tf.reshape(boxes, [-1, 4]),
        "mask_regions": tf.reshape(boxes, [-1, 4]),
        "classes": tf.constant([3, 1][:objects], tf.int32),
        "masks": tf.constant(rng.integers(0, 2, (objects, 112, 112), np.uint8)),
    }


def test_mirror_by_hand():
    before, after = example(), mirror(example())
    np.testing.assert_array_equal(after["image"], before["image"].numpy()[:, ::-1])
    np.testing.assert_array_equal(after["boxes"], [[6, 2, 9, 5], [0, 0, 10, 6]])  # x -> 10 - x
    np.testing.assert_array_equal(after["mask_regions"], after["boxes"])
    np.testing.assert_array_equal(after["masks"], before["masks"].numpy()[:, :, ::-1])
    np.testing.assert_array_equal(after["classes"], before["classes"])


def test_mirroring_twice_changes_nothing():
    before, after = example(), mirror(mirror(example()))
    for key in before:
        np.testing.assert_array_equal(before[key], after[key])


def test_half_of_all_seeds_flip_and_each_always_does_the_same():
    image = example()["image"].numpy()
    flipped = [(flip_horizontal(example(), tf.constant([7, n]))["image"].numpy() != image).any() for n in range(60)]
    again = [(flip_horizontal(example(), tf.constant([7, n]))["image"].numpy() != image).any() for n in range(60)]
    assert flipped == again
    assert 15 < sum(flipped) < 45


@pytest.mark.parametrize("case", range(4))
def test_resizing_is_torchvisions(case):
    recorded = {key: GOLDENS[f"transform.{case}.{key}"] for key in ("image", "boxes", "output", "output_boxes")}
    size = GOLDENS[f"transform.{case}.output_size"]
    canvas = recorded["output"].shape[1:]
    boxes = tf.constant(recorded["boxes"], tf.float32)
    got = resize_to_canvas(
        {"image": tf.constant(recorded["image"].transpose(1, 2, 0)), "boxes": boxes},
        tf.constant(size, tf.int32),
        tf.constant(canvas, tf.int32),
    )
    expected = recorded["output"].transpose(1, 2, 0) * STD + MEAN
    height, width = size
    assert got["image"].dtype == tf.uint8
    assert np.abs(got["image"].numpy()[:height, :width] - expected[:height, :width] * 255).max() < 0.5 + 1e-3
    assert not got["image"].numpy()[height:].any()
    assert not got["image"].numpy()[:, width:].any()
    np.testing.assert_allclose(got["boxes"], recorded["output_boxes"], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(got["image_sizes"], size)


def test_a_three_pixel_wide_image_fills_its_canvas():
    got = resize_to_canvas(example(200, 3), tf.constant([64, 1]), tf.constant([64, 32]))
    assert got["image"].shape == (64, 32, 3)
    np.testing.assert_allclose(got["boxes"][0], [1 / 3, 2 * 64 / 200, 4 / 3, 5 * 64 / 200], rtol=1e-5)


@pytest.mark.parametrize("objects", [0, 1, 2])
def test_padding_says_which_objects_are_real(objects):
    got = pad_instances(example(objects=objects), 3)
    assert got["valid"].numpy().tolist() == [True] * objects + [False] * (3 - objects)
    assert got["boxes"].shape == (3, 4)
    assert got["masks"].shape == (3, 112, 112)
    assert not got["classes"].numpy()[objects:].any()
    np.testing.assert_array_equal(got["boxes"][:objects], example(objects=objects)["boxes"])


def test_unpacking_undoes_packing():
    masks = np.random.default_rng(0).integers(0, 2, (3, 112, 112), np.uint8)
    np.testing.assert_array_equal(unpack_masks(tf.constant(pack_masks(list(masks)))), masks)
    assert unpack_masks(tf.constant(b"")).shape == (0, 112, 112)


def test_png_masks_are_cut_at_fractional_boxes():
    mask = np.zeros((20, 30, 1), np.uint8)
    mask[5:10, 10:20] = 1
    encoded = tf.stack([tf.io.encode_png(mask)] * 2)
    got = decode_png_masks(encoded, tf.constant([[10, 5, 20, 10], [7.5, 5, 12.5, 10]], tf.float32)).numpy()
    assert got[0].mean() > 0.98  # interpolation rounds the corners off
    assert got[0, 20:-20].all()
    np.testing.assert_array_equal(got[1, 20:-20], np.tile(np.repeat([0, 1], 56), (72, 1)))  # begins in the middle


def test_jpegs_are_decoded_as_pillow_does():
    import io

    from PIL import Image

    ramp = np.stack(np.meshgrid(np.arange(64) * 4, np.arange(48) * 5, [90])[:2], -1)[..., 0, :]
    pixels = np.concatenate([ramp, ramp[..., :1]], -1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    difference = decode_image(tf.constant(buffer.getvalue())).numpy().astype(int) - np.asarray(Image.open(buffer))
    assert np.abs(difference).max() <= 1
