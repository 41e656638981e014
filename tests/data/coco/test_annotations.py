import pytest

from maskrcnn.data.coco.annotations import Rules, SplitClasses, check_split, load_coco
from maskrcnn.data.formats.found_dataset import RawSplit
from maskrcnn.errors import UserError


def check(coco, **rules):
    """The dataset, all its classes known by their own ids."""
    categories = load_coco(coco.path, coco.images, skip_bad=True).categories
    classes = SplitClasses(categories, {category.id: category.id for category in categories}, [])
    return check_split(RawSplit(coco.content, coco.images), coco.path, classes, Rules(**rules))


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
    assert not any(annotation.is_crowd for annotation in check(coco, crowds_as_objects=True).annotations[100])


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


def test_rectangles_are_made_of_boxes_on_demand(coco):
    coco.add_box(100, 7, [1, 2, 5, 6], segmentation=[])
    coco.add_box(100, 7, [1, 2, 5, 0], segmentation=[])
    coco.write()
    assert len(check(coco).annotations[100]) == 1
    dataset = check(coco, masks_from_boxes=True)
    assert dataset.annotations[100][1].segmentation == [[1, 2, 6, 2, 6, 8, 1, 8]]
    assert [problem.kind for problem in dataset.problems] == ["degenerate box"]


def test_what_is_listed_is_counted(coco):
    coco.add_box(100, 7, [1, 1, 4, 4], iscrowd=1)
    coco.add_box(100, 7, [1, 1, 4, 4], segmentation=[])
    coco.write()
    dataset = check(coco)
    assert dataset.totals == {"image": 5, "annotation": 6, "category": 3, "crowd": 1}
    assert dataset.class_totals == {90: 2, 0: 1, 7: 2}


def test_all_problems_are_found_at_once(coco):
    for changes in ({"image_id": 5}, {"category_id": 8}, {"segmentation": [[1, 1, 5, 5]]}, {"id": 1}):
        coco.add_box(100, 7, [1, 1, 4, 4], **changes)
    coco.content["images"].append("not an object")
    coco.write()
    problems = load_coco(coco.path, coco.images, skip_bad=True).problems
    assert [(problem.item, problem.kind) for problem in problems] == [
        ("image at position 5", "not an object"),
        ("annotation 5", "unlisted image"),
        ("annotation 6", "unlisted category"),
        ("annotation 7", "bad polygon"),
        ("annotation 1", "annotation id"),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not COCO annotations (no list 'images', 'annotations', 'categories')"),
        ('{"images": [], "annotations": 0, "categories": []}', "not COCO annotations (no list 'annotations')"),
    ],
)
def test_one_line_says_what_is_not_coco(coco, text, problem):
    coco.path.write_text(text)
    with pytest.raises(UserError) as error:
        load_coco(coco.path, coco.images)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_annotation_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_coco(tmp_path / "none.json", tmp_path)
