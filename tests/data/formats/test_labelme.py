import base64
import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.formats.labelme import find
from maskrcnn.data.records.stored_images import store_image
from tests.data.formats.drawing import (
    average_precision,
    class_counts,
    draw_image,
    iou,
    masks_of,
    polygon_mask,
    read_all,
    rectangle_mask,
)

TRIANGLE = [[8.0, 4.0], [56.0, 4.0], [32.0, 36.0]]
SQUARE = [[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]]


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


def write(path, shapes, image_path=None, size=(40, 64), **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path or f"{path.stem}.jpg",
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
        **more,
    }
    path.write_text(json.dumps(content))
    return path


def draw(folder, stem, shapes, **more):
    draw_image(folder / f"{stem}.jpg")
    return write(folder / f"{stem}.json", shapes, **more)


def mask_shape(label, mask, left, top):
    """A mask shape as labelme saves it: the points are the first and the last pixel of its box."""
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    height, width = mask.shape
    points = [[left, top], [left + width - 1, top + height - 1]]
    return shape(label, points, "mask", mask=base64.b64encode(file.getvalue()).decode())


def test_polygons(tmp_path):
    draw(tmp_path, "a", [shape("dog", TRIANGLE), shape("cat", SQUARE)])
    draw(tmp_path, "b", [shape("cat", SQUARE)])
    draw(tmp_path, "c", [])
    dataset = find(tmp_path)
    split = read_all(dataset)["all"]
    assert dataset.format == "labelme"
    assert [category["name"] for category in split.content["categories"]] == ["cat", "dog"]
    assert class_counts(split) == {"cat": 2, "dog": 1}
    triangle, square = masks_of(split, "a.jpg")
    assert iou(square, rectangle_mask(10, 10, 30, 30)) == 1.0
    assert iou(triangle, polygon_mask(TRIANGLE)) > 0.97
    assert (len(split.content["images"]), split.notes) == (3, [])
    assert len(dataset.splits[0].list_files()) == 3
    assert average_precision(split, tmp_path) == (1.0, 1.0)


def test_other_shapes(tmp_path):
    rectangle, circle = shape("r", [[30, 30], [10, 10]], "rectangle"), shape("c", [[32, 20], [32, 30]], "circle")
    four = shape("r", SQUARE, "rectangle")
    turned = shape("t", [[20, 10], [30, 20], [20, 30], [10, 20]], "rotation")
    draw(tmp_path, "a", [rectangle, circle, four, turned])
    masks = masks_of(read_all(find(tmp_path))["all"], "a.jpg")
    assert iou(masks[0], rectangle_mask(10, 10, 30, 30)) == iou(masks[2], rectangle_mask(10, 10, 30, 30)) == 1.0
    ys, xs = np.mgrid[:40, :64] + 0.5
    assert iou(masks[1], np.hypot(xs - 32, ys - 20) < 10) > 0.97
    assert masks[1].sum() == pytest.approx(math.pi * 100, rel=0.03)
    assert masks[3].sum() == pytest.approx(200, rel=0.1)


def test_rectangles_only_are_boxes(tmp_path):
    draw(tmp_path, "a", [shape("cat", [[30, 30], [10, 12]], "rectangle")])
    (annotation,) = read_all(find(tmp_path))["all"].content["annotations"]
    assert "segmentation" not in annotation
    assert annotation["bbox"] == [10, 12, 20, 18]


def test_masks(tmp_path):
    whole, beyond = rectangle_mask(0, 0, 7, 5, (6, 8)), np.ones((10, 10), bool)
    draw(tmp_path, "a", [mask_shape("cat", whole, 20, 10), mask_shape("cat", beyond, 60, 35)])
    split = read_all(find(tmp_path))["all"]
    inside, clipped = masks_of(split, "a.jpg")
    assert iou(inside, rectangle_mask(20, 10, 27, 15)) == 1.0
    assert iou(clipped, rectangle_mask(60, 35, 64, 40)) == 1.0
    assert average_precision(split, tmp_path) == (1.0, 1.0)


def test_a_group_is_one_object(tmp_path):
    left, right = [[0, 0], [10, 0], [10, 10], [0, 10]], [[20, 0], [30, 0], [30, 10], [20, 10]]
    shapes = [
        shape("cat", left, group_id=1),
        shape("cat", right, group_id=1),
        shape("dog", left, group_id=1),
        shape("cat", SQUARE),
        mask_shape("cow", np.ones((5, 5), bool), 40, 0) | {"group_id": 2},
        shape("cow", left, group_id=2),
    ]
    draw(tmp_path, "a", shapes)
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"cat": 2, "cow": 1, "dog": 1}
    first, *_, mixed = masks_of(split, "a.jpg")
    assert iou(first, rectangle_mask(0, 0, 10, 10) | rectangle_mask(20, 0, 30, 10)) == 1.0
    assert iou(mixed, rectangle_mask(0, 0, 10, 10) | rectangle_mask(40, 0, 45, 5)) == 1.0


@pytest.mark.parametrize(
    ("bad", "note"),
    [
        (shape("cat", [[1, 1], [5, 5]], "line"), "shapes of type line skipped"),
        (shape("cat", [[1, 1], [5, 5], [9, 1]], "linestrip"), "shapes of type linestrip skipped"),
        (shape("cat", [[1, 1]], "point"), "shapes of type point skipped"),
        (shape("_background_", SQUARE), "labeled _background_"),
        (shape("__ignore__", SQUARE), "labeled __ignore__"),
        (shape(None, SQUARE), "without a label"),
        (shape("cat", [[1, 1], [5, 5]]), "fewer than 3 points"),
        (shape("cat", [[1, 1], [5, "x"], [2, 2]]), "not pairs of numbers"),
        (shape("cat", [[1, 1], [5, 1], [9, 1]]), "without an area"),
        (shape("cat", [[1, 1], [5, 1], [9, 1]], "circle"), "not a center and a point"),
        (shape("cat", [[1, 1], [5, 1]], "mask", mask="AAAA"), "mask cannot be read"),
        (shape("cat", [[1, 1], [5, 1]], "mask"), "mask cannot be read"),
    ],
)
def test_skipped_shapes_are_counted(tmp_path, bad, note):
    for stem in "ab":
        draw(tmp_path, stem, [shape("cat", SQUARE), bad])
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"cat": 2}
    (text,) = split.notes
    assert note in text
    assert text.endswith(f": 2 (first: {tmp_path}/a.json, shape 2)")


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("images/a.jpg", "..\\images\\a.jpg"),
        ("images/a.jpg", "C:\\Users\\me\\a.jpg"),
        ("images/a.jpg", "/home/me/data/a.jpg"),
        ("images/A.JPG", "a.jpg"),
        ("images/a.png", "a.jpg"),  # converted since
        ("images/photo.jpg", "photo.jpg"),
        ("images/a.jpg", "old_name.jpg"),  # the JSON was renamed with the image
    ],
)
def test_images_elsewhere(tmp_path, image, reference):
    draw_image(tmp_path / image)
    write(tmp_path / "labels/a.json", [shape("cat", SQUARE)], reference)
    split = read_all(find(tmp_path))["all"]
    assert [entry["file_name"] for entry in split.content["images"]] == [image]
    assert split.notes == []


@pytest.mark.parametrize(("data", "note"), [(None, "missing images"), ("AAAA", "unreadable images"), (7, "unreadable")])
def test_missing_images(tmp_path, data, note):
    draw(tmp_path, "a", [shape("cat", SQUARE)])
    write(tmp_path / "b.json", [shape("dog", SQUARE)], imageData=data)
    split = read_all(find(tmp_path))["all"]
    assert len(split.content["images"]) == 1
    (line,) = split.notes  # not also that it was read from its JSON
    assert note in line
    assert "b.json" in line


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_images_that_are_embedded_only(tmp_path, prefix):
    draw(tmp_path, "a", [shape("cat", SQUARE)])
    data = prefix + base64.b64encode((tmp_path / "a.jpg").read_bytes()).decode()
    write(tmp_path / "b.json", [shape("dog", SQUARE), shape("cat", SQUARE)], imageData=data)
    files = sorted(tmp_path.iterdir())
    dataset = find(tmp_path)
    assert dataset is not None
    split = dataset.splits[0].read()
    assert class_counts(split) == {"cat": 2, "dog": 1}
    assert [entry["file_name"] for entry in split.content["images"]] == ["a.jpg", "b.json"]
    assert "images read from their JSON (imageData), since they have no file: 1" in split.notes[0]
    stored = [store_image(tmp_path / name, 40, 64) for name in ("a.jpg", "b.json")]
    assert stored[0].data == stored[1].data
    assert stored[1].source.size == (tmp_path / "b.json").stat().st_size
    assert sorted(tmp_path.iterdir()) == files


def test_other_problems_of_files(tmp_path):
    draw(tmp_path, "a", [shape("cat", SQUARE)])
    draw(tmp_path, "b", [shape("cat", SQUARE)], size=(80, 128))
    (tmp_path / "c.json").write_text("{")
    draw_image(tmp_path / "d.jpg")
    draw(tmp_path, "e", [])
    (tmp_path / "e.jpg").write_bytes(b"no image")
    split = read_all(find(tmp_path))["all"]
    assert [entry["file_name"] for entry in split.content["images"]] == ["a.jpg"]
    assert split.notes == [
        f"JSON files skipped that are not labelme's: 1 (first: {tmp_path}/c.json)",
        f"images skipped whose JSON states another size: 1 (first: {tmp_path}/b.json: 128 x 80, the image is 64 x 40)",
        f"unreadable images skipped: 1 (first: {tmp_path}/e.jpg)",
        f"images left out that have no JSON: 1 (first: {tmp_path}/d.jpg)",
    ]


def test_splits_have_the_same_classes(tmp_path):
    draw(tmp_path / "train", "a", [shape("cat", SQUARE)])
    draw(tmp_path / "valid", "a", [shape("dog", TRIANGLE)])
    splits = read_all(find(tmp_path))
    assert class_counts(splits["train"]) == {"cat": 1, "dog": 0}
    assert class_counts(splits["val"]) == {"cat": 0, "dog": 1}
    assert splits["val"].content["images"][0]["file_name"] == "valid/a.jpg"


def test_upright_size_counts(tmp_path):
    draw_image(tmp_path / "a.jpg", orientation=8)
    write(tmp_path / "a.json", [shape("cat", SQUARE)], size=(64, 40))
    split = read_all(find(tmp_path))["all"]
    assert iou(masks_of(split, "a.jpg")[0], rectangle_mask(10, 10, 30, 30, (64, 40))) == 1.0


@pytest.mark.parametrize("content", ['{"images": [], "annotations": []}', "[]", "{"])
def test_other_json_is_not_labelme(tmp_path, content):
    draw_image(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(content)
    assert find(tmp_path) is None
