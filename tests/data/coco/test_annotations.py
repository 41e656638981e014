import logging

import pytest

from maskrcnn.data.coco.annotations import load_coco, scan_coco
from maskrcnn.errors import UserError

SQUARE = [[1, 1, 5, 1, 5, 5, 1, 5]]


def test_categories_are_indexed_by_their_ids_from_one(coco):
    dataset = load_coco(coco.path, coco.images)
    assert [(c.index, c.id, c.name) for c in dataset.categories] == [(1, 0, "dog"), (2, 7, "cow"), (3, 90, "cat")]


def test_reads_images_with_and_without_objects(coco):
    dataset = load_coco(coco.path, coco.images)
    assert [image.id for image in dataset.images] == [100, 101, 102, 103, 104]
    assert sorted(dataset.annotations) == [100, 101, 103, 104]
    (annotation,) = dataset.annotations[100]
    assert annotation.box == (4.5, 6.0, 24.5, 16.0)  # xyxy
    assert not annotation.is_crowd


def test_reads_crowds_and_both_forms_of_rle(coco):
    column = {"size": [40, 64], "counts": [0, 40, 40 * 63]}  # the first column
    coco.add_box(100, 7, [0, 0, 1, 40], segmentation=column, iscrowd=1)
    coco.add_box(100, 7, [0, 0, 1, 40], segmentation={"size": [40, 64], "counts": "0X1h^2"})
    coco.write()
    annotations = load_coco(coco.path, coco.images).annotations[100]
    assert [annotation.is_crowd for annotation in annotations] == [False, True, False]


def test_boxes_are_clipped_to_the_image(coco):
    coco.add_box(100, 7, [-3, 30, 70, 20])
    coco.write()
    assert load_coco(coco.path, coco.images).annotations[100][1].box == (0, 30, 64, 40)


@pytest.mark.parametrize(
    ("segmentation", "box"),
    [
        ([[1, 2, 5, 2, 5, 9], [7, 3, 8, 3, 8, 4]], (1, 2, 8, 9)),
        ({"size": [40, 64], "counts": [0, 40, 40 * 63]}, (0, 0, 1, 40)),
    ],
)
def test_a_missing_box_is_taken_from_the_mask(coco, segmentation, box):
    del coco.add_box(100, 7, [0, 0, 1, 1], segmentation=segmentation)["bbox"]
    coco.write()
    assert load_coco(coco.path, coco.images).annotations[100][1].box == box


FAULTS = {
    "belongs to image 5, which is not listed": {"image_id": 5},
    "belongs to category 8, which is not listed": {"category_id": 8},
    "degenerate box": {"bbox": [1, 1, 0, 5]},
    "bbox [1, 1, 5] is not four finite numbers": {"bbox": [1, 1, 5]},
    "bbox [nan, 1, 5, 5] is not four finite numbers": {"bbox": [float("nan"), 1, 5, 5]},
    "lies outside the image of 64 x 40": {"bbox": [70, 1, 5, 5]},
    "has no segmentation": {"segmentation": []},
    "polygon of 2 points": {"segmentation": [[1, 1, 5, 5]]},
    "odd number of coordinates (7)": {"segmentation": [[1, 1, 5, 5, 1, 5, 3]]},
    "polygon is not a list of finite numbers": {"segmentation": [[1, 1, 5, 5, 1, None]]},
    "RLE of 40 x 64 does not fit the image of 64 x 40": {"segmentation": {"size": [64, 40], "counts": [2560]}},
    "RLE counts do not add up to 2560 pixels": {"segmentation": {"size": [40, 64], "counts": [1, 2]}},
    "RLE has no counts": {"segmentation": {"size": [40, 64]}},
    "duplicate id": {"id": 1},
    "id is '9', not an integer": {"id": "9"},
    "category_id is missing": {"category_id": None},
}


@pytest.mark.parametrize("problem", FAULTS)
def test_a_faulty_annotation_is_named_or_left_out(coco, caplog, problem):
    bad = coco.add_box(100, 7, [1, 1, 4, 4], **FAULTS[problem])
    coco.write()
    with pytest.raises(UserError) as error:
        load_coco(coco.path, coco.images)
    message = str(error.value)
    assert message.startswith(f"{coco.path}: annotation {bad['id']}: ")
    assert problem in message
    assert "\n" not in message
    with caplog.at_level(logging.WARNING):
        dataset = load_coco(coco.path, coco.images, skip_bad=True)
    assert dataset.skipped == 1
    assert len(dataset.annotations[100]) == 1
    assert len(caplog.records) == 1
    assert "1 faulty entries left out (1 annotation)" in caplog.text


IMAGE_FAULTS = {
    "is missing": {"file_name": "absent.jpg"},
    "has no file_name": {"file_name": None},
    "duplicate id": {"id": 100},
    "width is missing": {"width": None},
    "size 0 x 5 is empty": {"width": 0, "height": 5},
}


@pytest.mark.parametrize("problem", IMAGE_FAULTS)
def test_a_faulty_image_is_named_and_left_out_with_its_objects(coco, problem):
    coco.content["images"][4].update(IMAGE_FAULTS[problem])
    coco.write()
    with pytest.raises(UserError, match=problem):
        load_coco(coco.path, coco.images)
    dataset = load_coco(coco.path, coco.images, skip_bad=True)
    assert [image.id for image in dataset.images] == [100, 101, 102, 103]
    assert 104 not in dataset.annotations


@pytest.mark.parametrize(
    ("entry", "problem"), [({"id": 3, "name": "cow"}, "duplicate name 'cow'"), ({"id": 3}, "has no name")]
)
def test_a_faulty_category_is_named(coco, entry, problem):
    coco.content["categories"].append(entry)
    coco.write()
    with pytest.raises(UserError, match=f"category 3: {problem}"):
        load_coco(coco.path, coco.images)


def test_all_faults_are_found_at_once(coco):
    for changes in FAULTS.values():
        coco.add_box(100, 7, [1, 1, 4, 4], **changes)
    coco.content["images"].append("not an object")
    coco.write()
    _, faults = scan_coco(coco.path, coco.images)
    assert len(faults) == len(FAULTS) + 1
    assert "image at position 5: is not an object" in str(faults[0])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not valid JSON"),
        ("[]", "not COCO annotations (no list 'images', 'annotations', 'categories')"),
        ('{"images": [], "annotations": {}, "categories": []}', "not COCO annotations (no list 'annotations')"),
    ],
)
def test_what_is_not_coco_is_told_in_one_line(coco, text, problem):
    coco.path.write_text(text)
    with pytest.raises(UserError) as error:
        load_coco(coco.path, coco.images)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_annotation_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_coco(tmp_path / "none.json", tmp_path)
