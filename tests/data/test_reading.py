import dataclasses

import pytest

from maskrcnn.data.coco.annotations import CocoDataset
from maskrcnn.data.coco.images import ImageEntry
from maskrcnn.data.reading import hold_out, require_objects
from maskrcnn.errors import UserError


def dataset(tmp_path, names):
    images = tuple(ImageEntry(number, name, 10, 10) for number, name in enumerate(names))
    return CocoDataset(tmp_path / "all.json", tmp_path, images, {}, ())


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
