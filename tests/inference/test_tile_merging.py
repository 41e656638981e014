"""Objects that seams cut are found once, whole, in images of any size."""

import itertools

import numpy as np
import pytest
from PIL import Image

from maskrcnn.errors import UserError
from maskrcnn.imaging.large_image import LargeImage
from maskrcnn.imaging.mask_paste import coco_mask
from maskrcnn.inference.detections import Detections
from maskrcnn.inference.predictor import Predictor
from maskrcnn.inference.tile_merging import merge_tiles, tile_grid
from maskrcnn.inference.views import Views
from tests.inference.gray_objects import CATEGORIES, GrayModel, draw_objects, gray_config

pytestmark = pytest.mark.no_backend
ELLIPSES = [
    *((30, 30, 12, 9), (64, 40, 10, 14), (128, 30, 14, 14)),  # inside a tile, on a seam, inside
    *((100, 100, 60, 22), (190, 70, 16, 60)),  # longer than a tile
    *((30, 150, 25, 25), (192, 192, 14, 14), (96, 192, 9, 20), (128, 150, 8, 8), (240, 190, 15, 9)),
    *((240, 20, 11, 11), (60, 187, 6, 6), (75, 187, 8, 8)),  # the last two nearly touch
    *((225, 130, 13, 13), (20, 90, 18, 10)),
]


@pytest.fixture(scope="module")
def predictor():
    return Predictor(GrayModel(), gray_config(64))


def _iou(first, second):
    return (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize("overlap", [0.2, 0.4])
def test_every_object_is_found_once_and_whole(predictor, overlap):
    image = draw_objects(210, 260, ELLIPSES)
    found = predictor.predict(image, tile=64, overlap=overlap)
    values = [int(np.median(image[mask][:, 0])) for mask in found.masks]
    assert sorted(values) == sorted({10 * number for number in range(1, len(ELLIPSES) + 1)})
    for value, mask, box, name in zip(values, found.masks, found.boxes, found.names, strict=True):
        truth = image[..., 0] == value
        assert _iou(mask, truth) >= 0.85, value
        columns, rows = np.nonzero(truth.any(axis=0))[0], np.nonzero(truth.any(axis=1))[0]
        np.testing.assert_allclose(box, [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], atol=1.5)
        assert name == ("light" if value >= 128 else "dark")
    assert (np.diff(found.scores) <= 0).all()


def test_an_image_of_one_tile_gives_what_it_gives_without_tiles(predictor):
    image = draw_objects(64, 50, ELLIPSES[:2])
    whole, tiled = predictor.predict(image), predictor.predict(image, tile=64)
    assert whole.rles == tiled.rles
    np.testing.assert_array_equal(whole.boxes, tiled.boxes)


def test_tiles_are_predicted_in_batches_and_lists_keep_their_order(predictor):
    sizes = []

    class Recorder(GrayModel):
        def predict_on_batch(self, x):
            sizes.append(len(x["images"]))
            return super().predict_on_batch(x)

    images = [draw_objects(210, 260, ELLIPSES), draw_objects(50, 64, ELLIPSES[:1])]
    large, small = Predictor(Recorder(), gray_config(64)).predict(images, tile=64)
    assert len(large) == len(ELLIPSES)
    assert small.image_size == (50, 64)
    assert set(sizes) == {4}  # 4 x 5 tiles and one image, the last batch padded


def test_the_grid_covers_the_image_with_tiles_of_one_size():
    for height, width in ((64, 64), (65, 300), (30, 1000), (500, 20)):
        tiles = tile_grid((height, width), Views(64, 0.25))
        covered = np.zeros((height, width), np.bool_)
        for left, top, right, bottom in tiles:
            assert (right - left, bottom - top) == (min(width, 64), min(height, 64))
            covered[top:bottom, left:right] = True
        assert covered.all()
        lefts = sorted({tile[0] for tile in tiles})
        assert all(second - first <= 48 for first, second in itertools.pairwise(lefts))


def _detections(boxes, classes, scores):
    masks = np.zeros((len(boxes), 64, 64), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    rles = [coco_mask.encode(np.asfortranarray(mask)) for mask in masks]
    return Detections(np.array(boxes, np.float32), np.array(classes), np.array(scores), rles, (64, 64), CATEGORIES)


TILES = [(0, 0, 64, 64), (44, 0, 108, 64)]  # the strip is 20 px wide


def test_neighbors_that_touch_stay_apart():
    left = _detections([(30, 10, 64, 20), (30, 20, 64, 30)], [1, 1], [0.9, 0.8])
    right = _detections([(0, 10, 40, 20), (0, 20, 35, 30)], [1, 1], [0.7, 0.6])
    merged = merge_tiles(TILES, [left, right], (64, 108))
    assert merged.boxes.tolist() == [[30, 10, 84, 20], [30, 20, 79, 30]]
    assert coco_mask.area(merged.rles).tolist() == [540, 490]


def test_the_parts_of_an_object_that_a_tile_sees_in_two_are_joined():
    prongs = _detections([(20, 0, 64, 10), (20, 40, 64, 50)], [1, 1], [0.9, 0.8])
    whole = _detections([(0, 0, 40, 50)], [1], [0.7])
    assert len(merge_tiles(TILES, [prongs, whole], (64, 108))) == 1


def test_a_whole_object_decides_on_the_class_of_its_part():
    part, whole = _detections([(50, 10, 64, 30)], [1], [0.95]), _detections([(6, 10, 46, 30)], [2], [0.6])
    merged = merge_tiles(TILES, [part, whole], (64, 108))
    assert merged.names == ["light"]
    assert merged.boxes.tolist() == [[50, 10, 90, 30]]
    other = _detections([(6, 40, 46, 60)], [2], [0.6])
    assert len(merge_tiles(TILES, [part, other], (64, 108))) == 2


def test_files_are_converted_region_by_region(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    large = LargeImage(tmp_path / "a.png")
    assert large.shape == (30, 40, 3)
    np.testing.assert_array_equal(large[5:20, 7:31], np.rot90(pixels, -1)[5:20, 7:31])
    assert large.reduced((20, 15)).shape == (15, 20, 3)
    deep = (np.arange(1200, dtype=np.uint16) * 50).reshape(30, 40)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(LargeImage(tmp_path / "deep.png")[3:4, 0:40][0, :, 0], deep[3] >> 8)
    with pytest.raises(UserError, match=r"b\.png: no such file"):
        LargeImage(tmp_path / "b.png")


def test_images_beyond_pillows_limit_are_tiled(predictor, tmp_path, monkeypatch):
    Image.fromarray(draw_objects(210, 260, ELLIPSES)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(UserError, match="too large"):
        predictor.predict(tmp_path / "large.png")
    assert len(predictor.predict(tmp_path / "large.png", tile=64)) == len(ELLIPSES)
    assert Image.MAX_IMAGE_PIXELS == 10_000


@pytest.mark.parametrize(("tile", "overlap", "message"), [(8, 0.2, "--tile 8"), (64, 0.95, "--overlap 0.95")])
def test_impossible_tiles_are_refused(predictor, tile, overlap, message):
    with pytest.raises(UserError, match=message):
        predictor.predict(np.zeros((100, 100, 3), np.uint8), tile=tile, overlap=overlap)
