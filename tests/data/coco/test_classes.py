from pathlib import Path

from maskrcnn.data.coco.classes import unify_classes

FILES = {"train": Path("train.json"), "val": Path("val.json")}


def content(categories, used, *, crowds=()):
    entries = [{"category_id": id, "iscrowd": 0} for id in used] + [{"category_id": id, "iscrowd": 1} for id in crowds]
    return {"images": [], "annotations": entries, "categories": categories}


def names(classes):
    return {category.id: category.name for category in next(iter(classes.values())).categories}


def said(classes, split="train"):
    return [problem.text for problem in classes[split].problems]


def test_roboflows_phantom_is_dropped_though_a_class_has_its_name():
    categories = [
        {"id": 0, "name": "facade", "supercategory": "none"},
        {"id": 1, "name": "window", "supercategory": "facade"},
        {"id": 2, "name": "facade", "supercategory": "facade"},
    ]
    classes = unify_classes({"train": content(categories, [1, 2])}, FILES)
    assert names(classes) == {1: "window", 2: "facade"}
    assert said(classes) == ["'facade' is only the supercategory of others and has no objects; dropped"]


def test_a_supercategory_with_objects_in_any_split_is_a_class():
    categories = [{"id": 0, "name": "animal"}, {"id": 1, "name": "cat", "supercategory": "animal"}]
    contents = {"train": content(categories, [1]), "val": content(categories, [0])}
    classes = unify_classes(contents, FILES)
    assert names(classes) == {0: "animal", 1: "cat"}
    assert not said(classes)


def test_a_class_that_is_its_own_supercategory_stays():
    classes = unify_classes({"train": content([{"id": 1, "name": "person", "supercategory": "person"}], [])}, FILES)
    assert names(classes) == {1: "person"}


def test_a_background_is_dropped_or_pointed_out():
    categories = [{"id": 0, "name": "_background_"}, {"id": 1, "name": "cat"}]
    assert names(unify_classes({"train": content(categories, [1])}, FILES)) == {1: "cat"}
    classes = unify_classes({"train": content(categories, [0, 1])}, FILES)
    assert names(classes) == {0: "_background_", 1: "cat"}
    assert "'_background_' has 1 objects and is trained like any class" in said(classes)[0]


def test_classes_of_splits_are_one_by_name():
    train = content([{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}], [1, 2])
    val = content([{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "cow"}], [1])
    classes = unify_classes({"train": train, "val": val}, FILES)
    assert names(classes) == {1: "cat", 2: "dog", 3: "cow"}
    assert {split: own.ids for split, own in classes.items()} == {"train": {1: 1, 2: 2}, "val": {1: 2, 2: 1, 3: 3}}
    assert said(classes, "val") == ["'dog' gets the id 2", "'cat' gets the id 1"]


def test_an_id_that_is_taken_is_replaced():
    train, val = content([{"id": 1, "name": "cat"}], [1]), content([{"id": 1, "name": "dog"}], [1])
    classes = unify_classes({"train": train, "val": val}, FILES)
    assert names(classes) == {1: "cat", 2: "dog"}
    assert classes["val"].ids == {1: 2}


def test_equal_names_in_a_split_are_merged():
    classes = unify_classes({"train": content([{"id": 4, "name": "cat"}, {"id": 7, "name": "cat"}], [4, 7])}, FILES)
    assert names(classes) == {4: "cat"}
    assert classes["train"].ids == {4: 4, 7: 4}


def test_categories_are_known_by_name_where_they_have_no_id():
    classes = unify_classes({"train": content([{"name": "cat"}, {"name": "dog"}], ["cat"])}, FILES)
    assert names(classes) == {1: "cat", 2: "dog"}
    assert classes["train"].ids == {"cat": 1, "dog": 2}


def test_most_objects_of_a_class_being_crowds_is_pointed_out():
    classes = unify_classes({"train": content([{"id": 1, "name": "cat"}], [1], crowds=[1, 1])}, FILES)
    (text,) = said(classes)
    assert "2 of the 3 objects of 'cat' are crowds" in text
    assert "--crowds_as_objects" in text
