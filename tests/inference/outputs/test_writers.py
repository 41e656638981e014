"""Each form of output, read back, has the masks that were found."""

import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image

from maskrcnn.config import Category, Config
from maskrcnn.data.coco.segmentation import encode_rle
from maskrcnn.data.formats import coco, labelme, png_masks, yolo
from maskrcnn.errors import UserError
from maskrcnn.imaging.mask_paste import coco_mask
from maskrcnn.inference.detections import Detections
from maskrcnn.inference.outputs import FORMATS
from maskrcnn.inference.outputs.item import Item
from maskrcnn.inference.outputs.writers import OPENERS, Saving, writing_outputs

pytestmark = pytest.mark.no_backend
CATEGORIES = (Category(1, 7, "ring/1"), Category(2, 9, "'dog' <b>, \"x\""), Category(3, 12, "unseen"))
HEIGHT, WIDTH = 150, 200


def _masks():
    """A ring, a disk that overlaps it, and an object in two parts."""
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    distance = np.hypot(rows - 75, columns - 60)
    parts = (np.hypot(rows - 40, columns - 170) < 20) | (np.hypot(rows - 110, columns - 165) < 25)
    return np.stack([(distance < 50) & (distance > 20), np.hypot(rows - 70, columns - 105) < 30, parts])


@pytest.fixture(scope="module")
def found():
    masks = _masks()
    rles = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    boxes = np.array([[mask.any(0).argmax(), mask.any(1).argmax(), *_last(mask)] for mask in masks], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    return Detections(boxes, np.array([1, 2, 2], np.int32), scores, rles, (HEIGHT, WIDTH), CATEGORIES)


def _last(mask):
    return np.nonzero(mask.any(0))[0][-1] + 1, np.nonzero(mask.any(1))[0][-1] + 1


@pytest.fixture(scope="module")
def folder(found, tmp_path_factory):
    """All forms, beside the image in ``images``."""
    folder = tmp_path_factory.mktemp("outputs")
    (folder / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "images" / "photo_1.png")
    found.save(folder, folder / "images" / "photo_1.png", FORMATS)
    return folder


def _objects(raw):
    """Class name and mask of each object that a reader of datasets found."""
    names = {category["id"]: category["name"] for category in raw.content["categories"]}
    (image,) = raw.content["images"]
    assert (image["height"], image["width"]) == (HEIGHT, WIDTH)
    return [
        (names[entry["category_id"]], coco_mask.decode(encode_rle(entry["segmentation"], HEIGHT, WIDTH)).astype(bool))
        for entry in raw.content["annotations"]
    ]


def _check(objects, found, iou, names=None):
    assert [name for name, _ in objects] == (names or found.names)
    for (_, actual), expected in zip(objects, found.masks, strict=True):
        assert (actual & expected).sum() / (actual | expected).sum() >= iou


def _read(dataset):
    assert dataset is not None
    (split,) = dataset.splits
    return split.read()


def test_every_form_has_a_writer():
    assert tuple(OPENERS) == FORMATS


@pytest.mark.parametrize(("name", "iou"), [("annotations.json", 1.0), ("polygons.json", 0.98)])
def test_coco(folder, found, tmp_path, name, iou):
    (tmp_path / "images").symlink_to(folder / "images")
    (tmp_path / name).write_bytes((folder / name).read_bytes())
    _check(_objects(_read(coco.find(tmp_path))), found, iou)
    content = json.loads((tmp_path / name).read_text())
    assert content["images"][0]["file_name"] == "photo_1.png"
    assert [annotation["category_name"] for annotation in content["annotations"]] == found.names
    assert [annotation["area"] for annotation in content["annotations"]] == found.masks.sum(axis=(1, 2)).tolist()


def test_labelme(folder, found, tmp_path):
    (tmp_path / "labelme").symlink_to(folder / "labelme")
    (tmp_path / "images").symlink_to(folder / "images")
    _check(_objects(_read(labelme.find(tmp_path))), found, 0.98)
    content = json.loads((folder / "labelme" / "photo_1.json").read_text())
    assert (folder / "labelme" / content["imagePath"]).resolve() == (folder / "images" / "photo_1.png").resolve()
    assert [shape["group_id"] for shape in content["shapes"]] == [None, None, 3, 3]


def test_yolo(folder, found, tmp_path):
    (tmp_path / "images").symlink_to(folder / "images")
    (tmp_path / "labels").symlink_to(folder / "yolo" / "labels")
    (tmp_path / "data.yaml").write_bytes((folder / "yolo" / "data.yaml").read_bytes())
    dataset = yolo.find(tmp_path)
    assert dataset is not None
    _check(_objects(dataset.splits[0].read()), found, 0.98)


def test_masks(folder, found, tmp_path):
    (tmp_path / "images").symlink_to(folder / "images")
    (tmp_path / "masks").symlink_to(folder / "masks")
    objects = _objects(_read(png_masks.find(tmp_path)))
    names = ["ring_1", "_dog_ _b__ _x_"]  # as folders
    order = sorted(range(3), key=lambda i: (found.names[i] != CATEGORIES[1].name, i))  # by folder name
    assert [name for name, _ in objects] == [names[found.classes[i] - 1] for i in order]
    for (_, actual), i in zip(objects, order, strict=True):
        np.testing.assert_array_equal(actual, found.masks[i])


def test_results_csv_crops_and_drawing(folder, found):
    results = json.loads((folder / "predictions.json").read_text())
    assert [result["category_name"] for result in results] == found.names
    with (folder / "detections.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class_name"] for row in rows] == found.names
    assert [float(row["x2"]) for row in rows] == found.boxes[:, 2].tolist()
    assert [int(row["area_px"]) for row in rows] == found.masks.sum(axis=(1, 2)).tolist()
    with Image.open(folder / "crops" / "ring_1" / "photo_1_1.png") as crop, Image.open(folder / "photo_1.png") as drawn:
        assert crop.size == (found.boxes[0, 2] - found.boxes[0, 0], found.boxes[0, 3] - found.boxes[0, 1])
        assert drawn.size == (WIDTH, HEIGHT)


def test_crops_of_masks_are_transparent_outside(folder, found):
    ring, *_ = found.crop(folder / "images" / "photo_1.png", padding=5, masked=True)
    alpha = np.asarray(ring)[..., 3] > 0
    assert alpha.sum() == found.masks[0].sum()
    assert not alpha[alpha.shape[0] // 2, alpha.shape[1] // 2]


def test_supervision_gets_names_and_masks(found):
    pytest.importorskip("supervision")
    detections = found.to_supervision()
    np.testing.assert_array_equal(detections.mask, found.masks)
    assert detections.data["class_name"].tolist() == found.names
    assert detections.class_id.tolist() == [0, 1, 1]
    assert len(found.above(2).to_supervision()) == 0


def test_pandas_gets_a_row_for_each_detection(found):
    pytest.importorskip("pandas")
    frame = found.to_dataframe()
    assert frame["class_name"].tolist() == found.names
    assert frame["area_px"].tolist() == found.masks.sum(axis=(1, 2)).tolist()


def test_supervision_gets_large_masks_in_its_compact_form(found, monkeypatch):
    pytest.importorskip("supervision")
    monkeypatch.setattr("maskrcnn.inference.outputs.conversions.DENSE_BYTES", 0)
    np.testing.assert_array_equal(np.asarray(found.to_supervision().mask), found.masks)


def test_hundreds_of_detections_are_written(found, tmp_path):
    many = found.select(np.arange(300) % 3)
    many.save(tmp_path, np.zeros((HEIGHT, WIDTH, 3), np.uint8), ("csv", "coco", "drawn"), name="many")
    assert len((tmp_path / "detections.csv").read_text().splitlines()) == 301
    assert len(json.loads((tmp_path / "annotations.json").read_text())["annotations"]) == 300


def test_missing_packages_are_named(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"pandas is not installed; run: pip install 'maskrcnn\[pandas\]'"):
        found.to_dataframe()


@pytest.mark.parametrize("name", ["polygons", "labelme", "yolo"])
def test_a_package_for_a_format_is_missed_before_anything_is_written(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "contourpy", None)
    message = r"contourpy is not installed; run: pip install 'maskrcnn\[polygons\]'"
    with pytest.raises(UserError, match=message), writing_outputs(Saving(tmp_path / "out", (name,)), CATEGORIES):
        pass
    assert not (tmp_path / "out").exists()


def test_only_chosen_classes_and_scores_are_written(found, folder, tmp_path):
    saving = Saving(tmp_path, ("csv", "yolo"), 0.75, (CATEGORIES[1].name,))
    with writing_outputs(saving, CATEGORIES) as add:
        add(Item(1, "photo_1", "photo_1.png", found, lambda: np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == 2
    assert len((tmp_path / "detections.csv").read_text().splitlines()) == 2
    assert (tmp_path / "yolo" / "labels" / "photo_1.txt").read_text().startswith("1 ")
    with pytest.raises(UserError, match=r"--classes cat: expected some of ring/1, 'dog'"):
        Saving(tmp_path, classes=("cat",)).check(CATEGORIES)
    with pytest.raises(UserError, match="--save voc: expected some of coco, masks"):
        Saving(tmp_path, ("voc",)).check(Config().categories)


def test_a_disk_that_fails_leaves_no_half_written_file(found, tmp_path):
    (tmp_path / "labelme").write_text("in the way")
    with pytest.raises(UserError, match=r"labelme/image\.json: cannot be written"):
        found.save(tmp_path, np.zeros((HEIGHT, WIDTH, 3), np.uint8), ("csv", "labelme"))
    assert [path.name for path in tmp_path.iterdir()] == ["labelme"]
