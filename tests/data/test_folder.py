import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn.config import DataConfig
from maskrcnn.data.coco.annotations import load_coco
from maskrcnn.data.folder import convert_folder
from maskrcnn.data.records.rasterize import decode_mask
from maskrcnn.data.splits import find_dataset
from maskrcnn.errors import UserError
from tests.ground_truth import evaluate_ground_truth

ALL_TRAIN = DataConfig(val_fraction=0)


@pytest.fixture
def varied(coco):
    """Polygons, one of two parts, an RLE and a crowd, over images of which one has no objects."""
    coco.add_box(100, 7, [30, 5, 20, 20], segmentation=[[30, 5, 40, 5, 35, 25], [42, 5, 50, 5, 50, 15]])
    column = {"size": [64, 40], "counts": [64 * 10 + 4, 30, 34, 30, 64 * 28 + 30]}  # two columns, 30 px of each
    coco.add_box(101, 0, [10, 4, 2, 30], segmentation=column)
    coco.add_box(103, 0, [1, 1, 9, 9], iscrowd=1)
    coco.write()
    return coco


def masks(folder, file, images):
    """The masks of each image of a COCO file, by its name without suffix."""
    dataset = load_coco(folder / file, folder / images)
    return {
        image.file_name.partition(".")[0]: [
            (
                annotation.category_id,
                annotation.is_crowd,
                decode_mask(annotation, image.height, image.width).astype(bool),
            )
            for annotation in dataset.annotations.get(image.id, ())
        ]
        for image in dataset.images
    }


def assert_same_masks(actual, expected, *, least_iou=1.0):
    assert actual.keys() == expected.keys()
    for name, objects in expected.items():
        assert [item[:2] for item in actual[name]] == [item[:2] for item in objects]
        for (*_, one), (*_, other) in zip(actual[name], objects, strict=True):
            assert (one & other).sum() / (one | other).sum() >= least_iou


def test_coco_comes_out_as_it_went_in(varied, tmp_path):
    counts = convert_folder(varied.root, tmp_path / "out", to="coco", options=ALL_TRAIN, progress=False)
    assert counts == {"train": 5}
    actual = masks(tmp_path / "out", "annotations/instances_train.json", "train")
    assert_same_masks(actual, masks(varied.root, "annotations/instances_train.json", "train"))
    again = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())
    assert {category["id"]: category["name"] for category in again["categories"]} == {0: "dog", 7: "cow", 90: "cat"}


def test_yolo_holds_outlines_and_no_crowds(varied, tmp_path):
    convert_folder(varied.root, tmp_path / "yolo", to="yolo", options=ALL_TRAIN, progress=False)
    assert (tmp_path / "yolo" / "data.yaml").read_text() == (
        'train: images/train\nnames:\n  0: "dog"\n  1: "cow"\n  2: "cat"\n'
    )
    lines = (tmp_path / "yolo" / "labels" / "train" / "100.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["2", "1"]
    assert len(lines[1].split()) == 1 + 2 * (3 + 1 + 3 + 1)  # two triangles, and a way there and back
    assert (tmp_path / "yolo" / "labels" / "train" / "102.txt").read_text() == ""
    assert len((tmp_path / "yolo" / "labels" / "train" / "103.txt").read_text().splitlines()) == 1


def test_yolo_can_be_read_again(varied, tmp_path):
    convert_folder(varied.root, tmp_path / "yolo", to="yolo", options=ALL_TRAIN, progress=False)
    convert_folder(tmp_path / "yolo", tmp_path / "back", to="coco", options=ALL_TRAIN, progress=False)
    actual = masks(tmp_path / "back", "annotations/instances_train.json", "train")
    expected = masks(varied.root, "annotations/instances_train.json", "train")
    numbers = {0: 0, 7: 1, 90: 2}  # in the order of their ids
    kept = {name: [(numbers[o[0]], *o[1:]) for o in objects if not o[1]] for name, objects in expected.items()}
    first = min(object[0] for objects in actual.values() for object in objects)  # readers may number from 1
    actual = {name: [(o[0] - first, *o[1:]) for o in objects] for name, objects in actual.items()}
    assert_same_masks(actual, kept, least_iou=0.85)


@pytest.mark.parametrize("to", ["tfrecord", "coco"])
def test_converted_ground_truth_is_found_again(varied, tmp_path, to):
    convert_folder(varied.root, tmp_path / "out", to=to, options=ALL_TRAIN, progress=False)
    file = "train_annotations.json" if to == "tfrecord" else "annotations/instances_train.json"
    metrics = evaluate_ground_truth(tmp_path / "out" / file)
    assert metrics["bbox"]["AP"] == metrics["segm"]["AP"] == pytest.approx(1)
    assert metrics["images"] == 5


def test_images_of_one_name_stay_apart(coco, tmp_path):
    for name in ("a", "b"):
        (coco.images / name).mkdir()
        (coco.images / name / "0.jpg").write_bytes((coco.images / "100.jpg").read_bytes())
        coco.content["images"].append({"id": 200 + ord(name), "file_name": f"{name}/0.jpg", "height": 40, "width": 64})
    coco.write()
    convert_folder(coco.root, tmp_path / "out", to="coco", options=ALL_TRAIN, progress=False)
    files = {path.name for path in (tmp_path / "out" / "train").iterdir()}
    assert files == {"100.jpg", "101.jpg", "102.jpg", "103.jpg", "104.jpg", "0.jpg", "b_0.jpg"}


def test_all_splits_are_converted(coco, tmp_path):
    counts = convert_folder(coco.root, tmp_path / "out", options=DataConfig(val_fraction=0.4), progress=False)
    assert set(counts) == {"train", "val"}
    assert sum(counts.values()) == 5
    exported = convert_folder(
        coco.root, tmp_path / "coco", to="coco", options=DataConfig(val_fraction=0.4), progress=False
    )
    assert exported == counts
    again = find_dataset(tmp_path / "coco", DataConfig())
    assert (again.names, again.held_out) == (("train", "val"), None)


def test_sixteen_bits_become_eight(coco, tmp_path):
    Image.fromarray(np.full((40, 64), 0x1234, np.uint16)).save(coco.images / "100.png")
    coco.content["images"][0]["file_name"] = "100.png"
    coco.write()
    convert_folder(coco.root, tmp_path / "out", to="coco", options=ALL_TRAIN, progress=False)
    with Image.open(tmp_path / "out" / "train" / "100.png") as image:
        assert (image.mode, image.getpixel((0, 0))) == ("RGB", (0x1234 >> 6,) * 3)  # as of a sensor of 14 bits


def test_wrong_use_is_one_line(coco, tmp_path):
    with pytest.raises(UserError, match="--out_dir"):
        convert_folder(coco.root, to="yolo", progress=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no dataset recognized"):
        convert_folder(tmp_path / "empty", progress=False)
    convert_folder(coco.root, tmp_path / "out", progress=False)
    with pytest.raises(UserError, match="holds TFRecords already"):
        convert_folder(tmp_path / "out", progress=False)
