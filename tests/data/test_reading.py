import dataclasses

import pytest
from PIL import Image

from maskrcnn.data.coco.annotations import Annotation, CocoDataset, Rules
from maskrcnn.data.coco.images import ImageEntry
from maskrcnn.data.formats.found_dataset import FoundSplit, RawSplit
from maskrcnn.data.reading import hold_out, read_splits, require_objects
from maskrcnn.errors import UserError

POLYGON = [[1.0, 1.0, 9.0, 1.0, 9.0, 9.0]]


def dataset(tmp_path, names, annotated=()):
    images = tuple(ImageEntry(number, name, 10, 10) for number, name in enumerate(names))
    objects = {id: (Annotation(id, id, 1, (1.0, 1.0, 9.0, 9.0), POLYGON, None, False),) for id in annotated}
    return CocoDataset(tmp_path / "all.json", tmp_path, images, objects, ())


def names(part):
    return {image.file_name for image in part.images}


def test_the_fraction_is_held_out_the_same_way_every_time(tmp_path):
    whole = dataset(tmp_path, [f"{number}.jpg" for number in range(1000)])
    train, val = hold_out(whole, 0.1)
    assert names(train) | names(val) == names(whole)
    assert not names(train) & names(val)
    assert 70 < len(val.images) < 130
    shuffled = dataclasses.replace(whole, images=whole.images[::-1])
    assert names(hold_out(shuffled, 0.1)[1]) == names(val)


def test_more_images_leave_the_others_where_they_are(tmp_path):
    few, many = (dataset(tmp_path, [f"{number}.jpg" for number in range(count)]) for count in (100, 200))
    assert names(hold_out(few, 0.2)[1]) == names(hold_out(many, 0.2)[1]) & names(few)


@pytest.mark.parametrize("fraction", [0.001, 0.999])
@pytest.mark.parametrize("count", [2, 3, 20])
def test_neither_part_is_empty(tmp_path, count, fraction):
    train, val = hold_out(dataset(tmp_path, [f"{number}.jpg" for number in range(count)]), fraction)
    assert train.images
    assert val.images


@pytest.mark.parametrize("annotated", [(one, other) for one in range(6) for other in range(one)])
def test_both_parts_have_objects_if_two_images_have_some(tmp_path, annotated):
    train, val = hold_out(dataset(tmp_path, [f"{number}.jpg" for number in range(6)], annotated), 0.1)
    assert len(train.annotations) == len(val.annotations) == 1


@pytest.mark.parametrize("annotated", range(4))
def test_the_only_image_with_objects_is_trained_on_and_said(tmp_path, annotated):
    for number in range(4):
        Image.new("RGB", (10, 10)).save(tmp_path / f"{number}.jpg")
    objects = [{"id": 1, "image_id": annotated, "category_id": 1, "segmentation": POLYGON, "iscrowd": 0}]
    images = [{"id": number, "file_name": f"{number}.jpg", "height": 10, "width": 10} for number in range(4)]
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}
    source = FoundSplit("train", tmp_path, lambda: RawSplit(content, tmp_path), lambda: [])
    splits = read_splits({"train": source}, ("train", "val"), Rules(), 0.5).splits
    require_objects(splits["train"])
    assert not splits["val"].annotations
    assert [problem.item for problem in splits["train"].problems] == ["split val"]


def test_augmented_copies_of_an_image_stay_together(tmp_path):
    whole = dataset(tmp_path, [f"{number}_jpg.rf.{copy}.jpg" for number in range(50) for copy in "abc"])
    train, val = hold_out(whole, 0.3)
    assert not {name.split(".rf.")[0] for name in names(train)} & {name.split(".rf.")[0] for name in names(val)}


def test_copies_of_one_image_are_divided_all_the_same(tmp_path):
    train, val = hold_out(dataset(tmp_path, ["a.rf.1.jpg", "a.rf.2.jpg"]), 0.1)
    assert (len(train.images), len(val.images)) == (1, 1)


def test_nothing_to_learn_from_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no object to learn from: it has no annotations"):
        require_objects(dataset(tmp_path, ["a.jpg"]))
