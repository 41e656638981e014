import csv
import json
import math

import numpy as np
import pytest

from maskrcnn.data.formats.via import find
from tests.data.formats.drawing import (
    average_precision,
    class_counts,
    draw_image,
    iou,
    masks_of,
    read_all,
    rectangle_mask,
)

SQUARE = {"name": "polygon", "all_points_x": [10, 30, 30, 10, 10], "all_points_y": [10, 10, 30, 30, 10]}
RECT = {"name": "rect", "x": 10, "y": 10, "width": 20, "height": 20}
CIRCLE = {"name": "circle", "cx": 32, "cy": 20, "r": 10}
ELLIPSE = {"name": "ellipse", "cx": 32, "cy": 20, "rx": 18, "ry": 9}
POINT = {"name": "point", "cx": 3, "cy": 3}


def region(shape, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def draw(folder, images, name="via_region_data.json", *, as_dict=False, project=False):
    """Images and their VIA file; ``images`` are regions by file name."""
    content = {}
    for file_name, regions in images.items():
        draw_image(folder / file_name)
        listed = {str(number): entry for number, entry in enumerate(regions)} if as_dict else regions
        content[f"{file_name}123"] = {"filename": file_name, "size": 123, "regions": listed, "file_attributes": {}}
    content = {"_via_settings": {}, "_via_img_metadata": content, "_via_attributes": {}} if project else content
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("project", [False, True])
def test_versions_1_and_2_and_projects(tmp_path, as_dict, project):
    images = {
        "a.jpg": [region(SQUARE, type="cat"), region(RECT, type="dog")],
        "b.jpg": [],
        "c.jpg": [region(CIRCLE, type="cat")],
    }
    draw(tmp_path, images, "any name.json", as_dict=as_dict, project=project)
    dataset = find(tmp_path)
    split = read_all(dataset)["all"]
    assert dataset.format == "VGG Image Annotator"
    assert class_counts(split) == {"cat": 2, "dog": 1}
    assert len(split.content["images"]) == 3
    for mask in masks_of(split, "a.jpg"):
        assert iou(mask, rectangle_mask(10, 10, 30, 30)) == 1.0
    assert split.notes == []
    assert average_precision(split, tmp_path) == (1.0, 1.0)


@pytest.mark.parametrize("first", ["filename", "#filename"])
def test_csv(tmp_path, first):
    columns = [first, "file_size", "file_attributes", "region_count", "region_id"]
    rows = [[*columns, "region_shape_attributes", "region_attributes"]]
    for file_name, regions in {"a.jpg": [SQUARE, RECT], "b.jpg": [], "c.jpg": [CIRCLE, None]}.items():
        draw_image(tmp_path / file_name)
        for number, shape in enumerate(regions or [{}]):
            text = "{" if shape is None else json.dumps(shape)
            rows.append([file_name, 1, "{}", len(regions), number, text, json.dumps({"type": "cat"} if shape else {})])
    with (tmp_path / "via_region_data.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"cat": 3}
    assert len(split.content["images"]) == 3
    assert iou(masks_of(split, "a.jpg")[0], rectangle_mask(10, 10, 30, 30)) == 1.0
    assert len(split.notes) == 1  # of the shape that is broken


def test_curves(tmp_path):
    turned = {**ELLIPSE, "theta": math.pi / 2}
    draw(tmp_path, {"a.jpg": [region(CIRCLE), region(ELLIPSE), region({**turned, "rx": 9, "ry": 18})]})
    split = read_all(find(tmp_path))["all"]
    circle, ellipse, same = masks_of(split, "a.jpg")
    ys, xs = np.mgrid[:40, :64] + 0.5
    assert iou(circle, np.hypot(xs - 32, ys - 20) < 10) > 0.97
    assert iou(ellipse, np.hypot((xs - 32) / 18, (ys - 20) / 9) < 1) > 0.97
    assert iou(ellipse, same) > 0.97
    assert class_counts(split) == {"object": 3}


def test_ellipse_turns_clockwise_on_the_screen(tmp_path):
    long = {"name": "ellipse", "cx": 32, "cy": 20, "rx": 18, "ry": 3, "theta": math.pi / 4}
    draw(tmp_path, {"a.jpg": [region(long)]})
    (mask,) = masks_of(read_all(find(tmp_path))["all"], "a.jpg")
    assert mask[30, 42]  # to the right and down
    assert not mask[10, 42]


def test_rectangles_only_are_boxes(tmp_path):
    draw(tmp_path, {"a.jpg": [region(RECT, name="x"), region({**RECT, "x": 50}, name="x"), region(POINT)]})
    split = read_all(find(tmp_path))["all"]
    first, second = split.content["annotations"]
    assert "segmentation" not in first
    assert (first["bbox"], second["bbox"]) == ([10, 10, 20, 20], [50, 10, 14, 20])
    assert split.notes == ["regions skipped: shape point has no area: 1 (first: a.jpg, region 3)"]


def test_polyline_is_a_polygon(tmp_path):
    line = {"name": "polyline", "all_points_x": [10, 30, 30, 10], "all_points_y": [10, 10, 30, 30]}
    short = {"name": "polyline", "all_points_x": [10, 30], "all_points_y": [10, 10]}
    draw(tmp_path, {"a.jpg": [region(line), region(short)]})
    split = read_all(find(tmp_path))["all"]
    (mask,) = masks_of(split, "a.jpg")
    assert iou(mask, rectangle_mask(10, 10, 30, 30)) == 1.0
    assert split.notes == ["regions skipped: polyline of fewer than 3 points: 1 (first: a.jpg, region 2)"]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ([{"name": "cat"}, {"name": "dog"}, {"name": "cat"}], {"cat": 2, "dog": 1}),
        (
            [{"type": {"cat": True}}, {"type": {"cat": False, "dog": True}}, {"type": {"dog": True}}],
            {"cat": 1, "dog": 2},
        ),
        ([{"id": "1", "kind": "cat"}, {"id": "2", "kind": "cat"}, {"id": "3", "kind": "dog"}], {"cat": 2, "dog": 1}),
        ([{"note": "torn", "kind": "cat"}, {"kind": "cat"}, {"kind": "dog"}], {"cat": 2, "dog": 1}),
        ([{"size": 3}, {"size": 4}, {"size": 3}], {"3": 2, "4": 1}),
        ([{}, {}, {}], {"object": 3}),
        ([{"name": ""}, {"name": ""}, {"name": ""}], {"object": 3}),
    ],
)
def test_classes(tmp_path, attributes, expected):
    draw(tmp_path, {"a.jpg": [region(SQUARE, **entry) for entry in attributes]})
    assert class_counts(read_all(find(tmp_path))["all"]) == expected


def test_a_region_without_the_attribute_stays(tmp_path):
    draw(tmp_path, {"a.jpg": [region(SQUARE, name="cat"), region(CIRCLE, name="cat"), region(RECT)]})
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"cat": 2, "object": 1}
    assert split.notes == ["regions without 'name', taken for class 'object': 1 (first: a.jpg, region 3)"]


def test_splits(tmp_path):
    (tmp_path / "balloon/train").mkdir(parents=True)
    draw(tmp_path / "balloon/train", {"a.jpg": [region(SQUARE)], "b.jpg": [region(SQUARE)]}, as_dict=True)
    (tmp_path / "balloon/val").mkdir()
    draw(tmp_path / "balloon/val", {"a.jpg": [region(CIRCLE)]}, as_dict=True)
    for root in (tmp_path, tmp_path / "balloon"):
        splits = read_all(find(root))
        assert {name: len(split.content["annotations"]) for name, split in splits.items()} == {"train": 2, "val": 1}
        assert splits["val"].content["images"][0]["file_name"].endswith("val/a.jpg")


def test_splits_by_file_name(tmp_path):
    draw(tmp_path, {"a.jpg": [region(SQUARE)]}, "via_train.json")
    draw(tmp_path, {"b.jpg": [region(SQUARE)]}, "via_val.json")
    splits = read_all(find(tmp_path))
    assert [entry["file_name"] for entry in splits["val"].content["images"]] == ["b.jpg"]


def test_a_project_and_its_export_count_once(tmp_path):
    draw(tmp_path, {"a.jpg": [region(SQUARE)], "b.jpg": []}, "via_project.json", project=True)
    draw(tmp_path, {"a.jpg": [region(SQUARE)], "b.jpg": [region(CIRCLE)]}, "via_region_data.json")
    split = read_all(find(tmp_path))["all"]
    assert (len(split.content["images"]), len(split.content["annotations"])) == (2, 2)


@pytest.mark.parametrize(
    ("shape", "note"),
    [
        ({"name": "rect", "x": 1, "y": 1}, "rect without its numbers"),
        ({"name": "circle", "cx": 1, "cy": None, "r": 3}, "circle without its numbers"),
        ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, "polygon without its numbers"),
        ({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "polygon of fewer than 3 points"),
        ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [5, 5, 5]}, "objects without an area"),
        ({"name": "cube"}, "shape cube has no area"),
        ({}, "shape None has no area"),
    ],
)
def test_bad_regions_are_counted(tmp_path, shape, note):
    draw(tmp_path, {"a.jpg": [region(SQUARE), region(shape)], "b.jpg": [region(shape)]})
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"object": 1}
    (text,) = split.notes
    assert note in text
    assert text.endswith(": 2 (first: a.jpg, region 2)")


def test_images_elsewhere_and_missing_ones(tmp_path):
    (tmp_path / "annotations").mkdir()
    draw(tmp_path / "annotations", {"a.jpg": [region(SQUARE)], "b.jpg": [region(SQUARE)], "c.jpg": [region(SQUARE)]})
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations/a.jpg").rename(tmp_path / "images/A.JPG")
    (tmp_path / "annotations/b.jpg").unlink()
    (tmp_path / "annotations/c.jpg").write_bytes(b"no image")
    split = read_all(find(tmp_path))["all"]
    assert [entry["file_name"] for entry in split.content["images"]] == ["images/A.JPG"]
    assert split.notes == [
        "missing images skipped: 1 (first: b.jpg)",
        f"unreadable images skipped: 1 (first: {tmp_path}/annotations/c.jpg)",
    ]


def test_upright_size_counts(tmp_path):
    draw(tmp_path, {"a.jpg": [region({**SQUARE, "all_points_y": [10, 10, 60, 60, 10]})]})
    draw_image(tmp_path / "a.jpg", orientation=6)
    split = read_all(find(tmp_path))["all"]
    assert iou(masks_of(split, "a.jpg")[0], rectangle_mask(10, 10, 30, 60, (64, 40))) == 1.0


@pytest.mark.parametrize("content", ['{"images": [], "annotations": []}', '{"shapes": []}', "[]"])
def test_other_json_is_not_via(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    assert find(tmp_path) is None
