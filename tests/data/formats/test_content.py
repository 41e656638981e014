import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as mask_utils

from maskrcnn.data.coco.segmentation import encode_mask
from maskrcnn.data.formats.content import (
    clip_points,
    connected_parts,
    encode_ids,
    map_in_threads,
    place_mask,
    read_ids,
    read_size,
)
from maskrcnn.data.formats.folders import split_of
from maskrcnn.data.formats.image_files import ImageFinder
from maskrcnn.imaging.read import load_image
from tests.data.formats.drawing import draw_image


@given(arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 3)))
def test_ids_come_back(ids):
    rles = encode_ids(ids)
    assert set(rles) == set(np.unique(ids).tolist()) - {0}
    for value, rle in rles.items():
        assert (mask_utils.decode(rle).astype(bool) == (ids == value)).all()
        assert rle == encode_mask(ids == value)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8])
def test_sizes_are_those_of_the_decoded_image(tmp_path, suffix, orientation):
    path = draw_image(tmp_path / f"a{suffix}", 20, 30, orientation=orientation)
    assert read_size(path) == load_image(path).shape[:2]


def test_exif_data_after_the_pixels_of_a_png(tmp_path):
    """Pillow writes them before the pixels; the standard allows both."""
    path = draw_image(tmp_path / "a.png", 20, 30, orientation=6)
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    length = int.from_bytes(data[start : start + 4], "big") + 12
    chunk, rest = data[start : start + length], data[:start] + data[start + length :]
    end = rest.index(b"IEND") - 4
    path.write_bytes(rest[:end] + chunk + rest[end:])
    assert read_size(path) == load_image(path).shape[:2] == (30, 20)


def test_a_cut_image_has_a_size_and_other_files_have_none(tmp_path):
    path = draw_image(tmp_path / "a.jpg", 200, 300)
    path.write_bytes(path.read_bytes()[:-50])
    assert read_size(path) == (200, 300)  # whether it can be decoded shows when it is
    assert read_size(tmp_path / "missing.jpg") is None
    (tmp_path / "a.txt").write_text("text")
    assert read_size(tmp_path / "a.txt") is None


@pytest.mark.parametrize("mode", ["F", "CMYK"])
def test_files_that_hold_no_ids(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "a.tif")
    assert read_ids(tmp_path / "a.tif") is None


def test_transparent_pixels_are_background(tmp_path):
    pixels = np.full((1, 2, 4), 200, np.uint8)
    pixels[0, 0, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (read_ids(tmp_path / "a.png") > 0).tolist() == [[False, True]]


def test_points_are_clipped_and_closed_once():
    assert clip_points([(-1, 2), (5, 2), (5, 99), (-1, 2)], (10, 4)) == [0, 2, 4, 2, 4, 10]


def test_results_keep_their_order():
    assert map_in_threads(lambda number: number * 2, list(range(100)), "counting") == list(range(0, 200, 2))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("train", "train"), ("Valid", "val"), ("train2017", "train"), ("stage1_test", "test"), ("trainval", None),
     ("images", None), ("valley", None), ("train_val", None), ("valdata", "val"), ("TestSet", "test"),
     ("trainmasks01", "train"), ("trains", None), ("vegetation", None), ("contest", None), ("traintest", None)],
)  # fmt: skip
def test_splits_in_names(name, expected):
    assert split_of(name) == expected


def test_of_several_images_the_one_that_agrees_most(tmp_path):
    for folder in ("train/images", "val/images", "other"):
        draw_image(tmp_path / folder / "0.jpg")
    finder = ImageFinder(tmp_path)
    assert finder.find("/content/val/images/0.jpg", tmp_path) == tmp_path / "val/images/0.jpg"
    assert finder.find("0.jpg", tmp_path / "train/labels") == tmp_path / "train/images/0.jpg"
    assert finder.find("0.jpg", tmp_path) is None
    assert finder.find("", tmp_path) is None


def test_linked_folders_are_walked_once(tmp_path):
    draw_image(tmp_path / "images/0.jpg")
    (tmp_path / "images/again").symlink_to(tmp_path / "images")
    assert ImageFinder(tmp_path).find("x/0.JPG", tmp_path / "labels") == tmp_path / "images/0.jpg"


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_connected_parts(mask):
    parts = connected_parts(mask)
    assert ((parts > 0) == mask).all()
    assert set(np.unique(parts[mask])) == set(range(1, parts.max() + 1))
    seen = np.zeros(mask.shape, bool)
    for start in zip(*np.nonzero(mask), strict=True):
        if not seen[start]:  # flood from there
            reached, queue = set(), [start]
            while queue:
                y, x = queue.pop()
                if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and (y, x) not in reached:
                    reached.add((y, x))
                    queue += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
            assert reached == set(zip(*np.nonzero(parts == parts[start]), strict=True))
            seen[tuple(zip(*reached, strict=True))] = True


@pytest.mark.parametrize("left", [-3, 0, 5, 60])
@pytest.mark.parametrize("top", [-2, 0, 7, 39, 80])
def test_placed_masks_are_cut_to_the_image(left, top):
    part = np.ones((6, 8), bool)
    whole = place_mask(part, left, top, (40, 64))
    expected = [(y, x) for y in range(max(top, 0), min(top + 6, 40)) for x in range(max(left, 0), min(left + 8, 64))]
    assert list(zip(*np.nonzero(whole), strict=True)) == expected
