"""A COCO dataset with one thing changed: the result is right, or one line says what is wrong; nothing is silent."""

import copy
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskrcnn.config import DataConfig
from maskrcnn.data.splits import find_dataset
from maskrcnn.errors import UserError

IMAGES, OBJECTS = 8, 6  # of each image
HEIGHT, WIDTH = 48, 64
NAMES = {1: "cat", 2: "dog", 5: "cow"}


class Drawn:
    """A dataset of 8 images with 6 objects each, in memory; a mutation changes it or the files that are written."""

    def __init__(self, root: Path) -> None:
        self.root, self.images_dir = root, root / "images"
        self.annotation_file = root / "annotations" / "instances_train.json"
        self.text: Callable[[str], str] = lambda text: text
        self.content: dict[str, Any] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": id, "name": name, "supercategory": "animal"} for id, name in NAMES.items()],
        }
        self.images_dir.mkdir(parents=True)
        for number in range(1, IMAGES + 1):
            name = f"{number:03d}.png"
            Image.fromarray(np.full((HEIGHT, WIDTH, 3), 20 * number, np.uint8)).save(self.images_dir / name)
            self.content["images"].append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
            for index in range(OBJECTS):
                self._add(number, list(NAMES)[index % 3], 10 + 8 * (index % 3) + number % 3, 12 + 14 * (index // 3), 6)

    def _add(self, image: int, category: int, x: float, y: float, side: float) -> None:
        polygon = [x, y, x + side, y, x + side, y + side + 2, x, y + side + 2]
        entry = {"id": len(self.content["annotations"]) + 1, "image_id": image, "category_id": category}
        entry |= {"bbox": [x, y, side, side + 2], "segmentation": [polygon], "area": side * (side + 2), "iscrowd": 0}
        self.content["annotations"].append(entry)

    def write(self) -> None:
        self.annotation_file.parent.mkdir(parents=True, exist_ok=True)
        self.annotation_file.write_text(self.text(json.dumps(self.content)))

    def move_images(self, folder: str) -> None:
        (self.root / folder).parent.mkdir(parents=True, exist_ok=True)
        self.images_dir.rename(self.root / folder)

    def rename_images(self, rename: Callable[[str], str]) -> None:
        """Changes the names in the annotations, not those of the files."""
        for image in self.content["images"]:
            image["file_name"] = rename(image["file_name"])


def objects_of(content: dict[str, Any]) -> list[tuple]:
    """What is annotated, as comparable values: file, class, box."""
    files = {image["id"]: Path(image["file_name"]).name.lower() for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    return sorted(
        (files[a["image_id"]], names[a["category_id"]], *(round(value, 3) for value in a["bbox"]))
        for a in content["annotations"]
        if not a["iscrowd"]
    )


def annotations(change: Callable[[dict], Any], *, first: int | None = None) -> Callable[[Drawn], None]:
    """A mutation of all annotations, or of the first ones."""

    def mutate(drawn: Drawn) -> None:
        for entry in drawn.content["annotations"][:first]:
            change(entry)

    return mutate


def images(change: Callable[[dict], Any], *, first: int | None = None) -> Callable[[Drawn], None]:
    def mutate(drawn: Drawn) -> None:
        for entry in drawn.content["images"][:first]:
            change(entry)

    return mutate


def whole(change: Callable[[Drawn], Any]) -> Callable[[Drawn], None]:
    return lambda drawn: change(drawn)


def update(**values: Any) -> Callable[[dict], None]:
    return lambda entry: entry.update(values)


def drop(key: str) -> Callable[[dict], Any]:
    return lambda entry: entry.pop(key)


def pairs(entry: dict) -> None:
    polygon = entry["segmentation"][0]
    entry["segmentation"] = [[[x, y] for x, y in zip(polygon[0::2], polygon[1::2], strict=True)]]


def points(entry: dict) -> None:
    pairs(entry)
    entry["segmentation"] = [[{"x": x, "y": y} for x, y in entry["segmentation"][0]]]


def xyxy(entry: dict) -> None:
    x, y, w, h = entry["bbox"]
    entry["bbox"] = [x, y, x + w, y + h]


def centered(entry: dict) -> None:
    x, y, w, h = entry["bbox"]
    entry["bbox"] = [x + w / 2, y + h / 2, w, h]


def normalized_box(entry: dict) -> None:
    x, y, w, h = entry["bbox"]
    entry["bbox"] = [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]


def normalized_polygon(entry: dict) -> None:
    polygon = entry["segmentation"][0]
    entry["segmentation"] = [[value / (HEIGHT if i % 2 else WIDTH) for i, value in enumerate(polygon)]]


def as_text(*keys: str) -> Callable[[dict], None]:
    return lambda entry: entry.update({key: str(entry[key]) for key in keys})


def rle(entry: dict, *, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    x, y, w, h = (int(value) for value in entry["bbox"])
    mask = np.zeros(size, np.uint8)
    mask[y : y + h, x : x + w] = 1
    flat = mask.ravel("F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    entry["segmentation"] = {"size": list(size), "counts": np.diff([0, *edges, flat.size]).tolist()}


def upper_case_files(drawn: Drawn) -> None:
    for path in list(drawn.images_dir.iterdir()):
        path.rename(path.with_suffix(".PNG"))


def add_category(**values: Any) -> Callable[[Drawn], None]:
    return lambda drawn: drawn.content["categories"].append(values)


def phantom(drawn: Drawn) -> None:
    drawn.content["categories"].insert(0, {"id": 0, "name": "animal", "supercategory": "none"})


def phantom_with_a_class_of_its_name(drawn: Drawn) -> None:
    for category in drawn.content["categories"]:
        category["supercategory"] = "cat"
    drawn.content["categories"].insert(0, {"id": 0, "name": "cat", "supercategory": "none"})


def string_image_ids(drawn: Drawn) -> None:
    for image in drawn.content["images"]:
        image["id"] = f"image-{image['id']}"
    for entry in drawn.content["annotations"]:
        entry["image_id"] = f"image-{entry['image_id']}"


def file_names_as_ids(drawn: Drawn) -> None:
    names = {image.pop("id"): image["file_name"] for image in drawn.content["images"]}
    for entry in drawn.content["annotations"]:
        entry["image_id"] = names[entry["image_id"]]


def ids_from_zero(drawn: Drawn) -> None:
    for image in drawn.content["images"]:
        image["id"] -= 1
    for number, entry in enumerate(drawn.content["annotations"]):
        entry.update(id=number, image_id=entry["image_id"] - 1)


def duplicate_image_entry(drawn: Drawn) -> None:
    drawn.content["images"].append(dict(drawn.content["images"][0]))


def image_listed_under_two_ids(drawn: Drawn) -> None:
    drawn.content["images"].append({**drawn.content["images"][0], "id": 99})
    for entry in drawn.content["annotations"][:3]:
        entry["image_id"] = 99


def twelve_bits(drawn: Drawn) -> None:
    for path in drawn.images_dir.iterdir():
        Image.fromarray(np.full((HEIGHT, WIDTH), 4000, np.uint16)).save(path)


def damage(count: int) -> Callable[[Drawn], None]:
    def mutate(drawn: Drawn) -> None:
        for path in sorted(drawn.images_dir.iterdir())[:count]:
            path.write_bytes(path.read_bytes()[:40])

    return mutate


def delete(count: int) -> Callable[[Drawn], None]:
    def mutate(drawn: Drawn) -> None:
        for path in sorted(drawn.images_dir.iterdir())[:count]:
            path.unlink()

    return mutate


def name_train_and_val(drawn: Drawn) -> None:
    drawn.root.joinpath("annotations").mkdir()
    val = {**drawn.content, "images": drawn.content["images"][6:], "annotations": drawn.content["annotations"][36:]}
    drawn.root.joinpath("annotations", "instances_val.json").write_text(json.dumps(val))
    drawn.content = {
        **drawn.content,
        "images": drawn.content["images"][:6],
        "annotations": drawn.content["annotations"][:36],
    }


# name: mutation, what is logged (None: nothing has to be said), objects that are lost
RIGHT: dict[str, tuple[Callable[[Drawn], None], str | None, int]] = {
    "untouched": (whole(lambda drawn: None), None, 0),
    "box of zero width": (annotations(update(bbox=[5, 5, 0, 4]), first=1), "degenerate box", 0),
    "all boxes degenerate": (annotations(update(bbox=[0, 0, 0, 0])), "48 x box from mask", 0),
    "boxes absent": (annotations(drop("bbox")), None, 0),
    "boxes empty": (annotations(update(bbox=[])), None, 0),
    "boxes null": (annotations(update(bbox=None)), None, 0),
    "boxes of three numbers": (annotations(update(bbox=[1, 2, 3])), "not four finite numbers", 0),
    "boxes of text": (annotations(lambda a: a.update(bbox=[str(v) for v in a["bbox"]])), None, 0),
    "NaN in a box": (annotations(update(bbox=[float("nan"), 1, 2, 3]), first=1), "not four finite numbers", 0),
    "xyxy boxes": (annotations(xyxy), "is [x1, y1, x2, y2]", 0),
    "boxes by their center": (annotations(centered), "does not fit its mask", 0),
    "normalized boxes": (annotations(normalized_box), "does not fit its mask", 0),
    "boxes in another place": (annotations(update(bbox=[40, 30, 5, 5])), "does not fit its mask", 0),
    "flat polygons": (annotations(lambda a: a.update(segmentation=a["segmentation"][0])), "flat polygon", 0),
    "paired polygons": (annotations(pairs), "polygon of points", 0),
    "polygons one level of pairs": (
        annotations(lambda a: (pairs(a), a.update(segmentation=a["segmentation"][0]))),
        "polygon of points",
        0,
    ),
    "polygons of x and y": (annotations(points), "polygon of points", 0),
    "coordinates as text": (
        annotations(lambda a: a.update(segmentation=[[str(value) for value in a["segmentation"][0]]])),
        "number as text",
        0,
    ),
    "a part of two points": (
        annotations(lambda a: a["segmentation"].append([1, 1, 2, 2])),
        "polygon of fewer than 3 points",
        0,
    ),
    "masks as RLE": (annotations(rle), None, 0),
    "RLE in a list": (annotations(lambda a: (rle(a), a.update(segmentation=[a["segmentation"]]))), None, 0),
    "one mask of two points": (annotations(update(segmentation=[[1, 1, 5, 5]]), first=1), "polygon of 2 points", 1),
    "one mask without area": (
        annotations(update(segmentation=[[1, 1, 5, 1, 9, 1]], bbox=[1, 1, 8, 0]), first=1),
        "mask has no area",
        1,
    ),
    "one odd polygon": (annotations(update(segmentation=[[1, 1, 5, 5, 9, 1, 2]]), first=1), "odd number", 1),
    "one polygon of null": (annotations(update(segmentation=[[None] * 6]), first=1), "not a list of finite numbers", 1),
    "one RLE of another size": (annotations(lambda a: rle(a, size=(WIDTH, HEIGHT)), first=1), "does not fit", 1),
    "one RLE that ends early": (
        annotations(update(segmentation={"size": [HEIGHT, WIDTH], "counts": [5, 5]}), first=1),
        "do not add up",
        1,
    ),
    "one mask as text": (annotations(update(segmentation="mask.png"), first=1), "segmentation is the text", 1),
    "one object without mask": (annotations(update(segmentation=[]), first=1), "has no segmentation", 1),
    "one object outside": (
        annotations(update(bbox=[90, 1, 5, 5], segmentation=[[90, 1, 95, 1, 95, 6]]), first=1),
        "lies outside",
        1,
    ),
    "one entry is null": (
        whole(lambda drawn: drawn.content["annotations"].__setitem__(0, None)),
        "is not an object",
        1,
    ),
    "annotation ids absent": (annotations(drop("id")), "annotation id", 0),
    "annotation ids equal": (annotations(update(id=7)), "annotation id", 0),
    "annotation ids as text": (annotations(as_text("id")), None, 0),
    "annotation ids of letters": (annotations(lambda a: a.update(id=f"a{a['id']}")), "annotation id", 0),
    "ids as text": (
        whole(lambda drawn: [as_text("id")(e) for e in drawn.content["images"] + drawn.content["categories"]]),
        None,
        0,
    ),
    "references as text": (annotations(as_text("image_id", "category_id")), None, 0),
    "references as floats": (annotations(lambda a: a.update(image_id=float(a["image_id"]))), None, 0),
    "image ids of letters": (string_image_ids, "image id", 0),
    "file names as image ids": (file_names_as_ids, "image id", 0),
    "ids from zero": (ids_from_zero, None, 0),
    "areas absent": (annotations(drop("area")), None, 0),
    "areas as text": (annotations(as_text("area")), None, 0),
    "iscrowd absent": (annotations(drop("iscrowd")), None, 0),
    "iscrowd false": (annotations(update(iscrowd=False)), None, 0),
    "iscrowd as text": (annotations(update(iscrowd="0")), None, 0),
    "sizes absent": (images(lambda e: (e.pop("height"), e.pop("width"))), "taken from its file", 0),
    "sizes zero": (images(update(height=0, width=0)), "taken from its file", 0),
    "sizes as text": (images(as_text("height", "width")), None, 0),
    "one image missing": (delete(1), "the file is missing", OBJECTS),
    "one image damaged": (damage(1), "not a JPEG", OBJECTS),
    "an image listed twice": (duplicate_image_entry, "is listed twice", 0),
    "an image under two ids": (image_listed_under_two_ids, "is the file of image 1 too", 0),
    "Windows paths": (whole(lambda d: d.rename_images(lambda name: f"images\\{name}")), "found by their name", 0),
    "Label Studio's paths": (
        whole(lambda d: d.rename_images(lambda name: f"../../label-studio/data/media/upload/1/{name}")),
        "found by their name",
        0,
    ),
    "an uploader's prefix": (
        whole(lambda d: d.rename_images(lambda name: f"/data/upload/3/0f3a9b1c-{name}")),
        "found by their name",
        0,
    ),
    "URLs": (
        whole(lambda d: d.rename_images(lambda name: f"https://example.org/a%20b/{name}?size=1")),
        "found by their name",
        0,
    ),
    "local files of a query": (
        whole(lambda d: d.rename_images(lambda name: f"/data/local-files/?d=photos/{name}")),
        "found by their name",
        0,
    ),
    "absolute paths": (whole(lambda d: d.rename_images(lambda name: f"/home/me/{name}")), "found by their name", 0),
    "another letter case": (upper_case_files, "found by their name", 0),
    "images in imgs": (whole(lambda drawn: drawn.move_images("imgs")), None, 0),
    "images in JPEGImages": (whole(lambda drawn: drawn.move_images("JPEGImages")), None, 0),
    "images in train/images": (whole(lambda drawn: drawn.move_images("train/images")), None, 0),
    "images in train2017": (whole(lambda drawn: drawn.move_images("train2017")), None, 0),
    "images beside the annotations": (whole(lambda drawn: drawn.move_images("annotations")), None, 0),
    "12 bits in 16": (twelve_bits, None, 0),
    "a phantom category": (phantom, "'animal' is only the supercategory of others", 0),
    "a phantom with a class's name": (phantom_with_a_class_of_its_name, "'cat' is only the supercategory", 0),
    "a background class": (add_category(id=0, name="_background_"), "stands for the background", 0),
    "a class without objects": (add_category(id=9, name="horse"), None, 0),
    "two classes of one name": (
        whole(lambda d: (add_category(id=9, name="cat")(d), d.content["annotations"][0].update(category_id=9))),
        "has the name of category 1; merged",
        0,
    ),
    "category ids of letters": (
        whole(
            lambda d: (
                [c.update(id=f"c{c['id']}") for c in d.content["categories"]],
                [a.update(category_id=f"c{a['category_id']}") for a in d.content["annotations"]],
            )
        ),
        "category id",
        0,
    ),
    "more lists than needed": (whole(lambda d: d.content.update(info={"year": 2024}, licenses=[])), None, 0),
}

# name: mutation, what the one line says
REFUSED: dict[str, tuple[Callable[[Drawn], None], str]] = {
    "not JSON": (whole(lambda d: setattr(d, "text", lambda text: text[:-5])), "not valid JSON"),
    "an empty file": (whole(lambda d: setattr(d, "text", lambda text: "")), "not valid JSON"),
    "deeply nested": (whole(lambda d: setattr(d, "text", lambda text: "[" * 100_000)), "not valid JSON"),
    "a list": (whole(lambda d: setattr(d, "text", lambda text: "[]")), "not COCO annotations"),
    "no categories": (whole(lambda d: d.content.pop("categories")), "no list 'categories'"),
    "no annotations": (whole(lambda d: d.content.pop("annotations")), "no list 'annotations'"),
    "empty annotations": (whole(lambda d: d.content.update(annotations=[])), "no object to learn from: it has no"),
    "empty images": (whole(lambda d: d.content.update(images=[], annotations=[])), "lists no images"),
    "boxes only": (annotations(update(segmentation=[])), "48 of 48 objects are boxes without masks"),
    "boxes only, segmentation absent": (annotations(drop("segmentation")), "pass --masks_from_boxes"),
    "boxes only, [[]]": (annotations(update(segmentation=[[]])), "48 of 48 objects are boxes without masks"),
    "half without masks": (annotations(update(segmentation=[]), first=24), "24 of 48 objects are boxes without masks"),
    "normalized polygons": (annotations(normalized_polygon), "in fractions of the image"),
    "all are crowds": (annotations(update(iscrowd=1)), "are crowds (iscrowd 1"),
    "annotations of other images": (
        annotations(lambda a: a.update(image_id=a["image_id"] + 100)),
        "which is not listed",
    ),
    "some of another image": (annotations(update(image_id=77), first=3), "belongs to image 77, which is not listed"),
    "image_id absent": (annotations(drop("image_id")), "has no image_id"),
    "unlisted category": (annotations(update(category_id=3), first=4), "belongs to category 3, which is not listed"),
    "category_id absent": (annotations(drop("category_id")), "category_id is missing"),
    "equal category ids": (
        whole(lambda d: [category.update(id=1) for category in d.content["categories"]]),
        "has the id of 'cat' too",
    ),
    "a category without name": (add_category(id=9), "has no name"),
    "equal image ids": (images(update(id=1)), "8 images have this id"),
    "images without names": (images(drop("file_name")), "none of its 8 images has a file_name"),
    "all images gone": (delete(IMAGES), "none of the 8 images"),
    "half of the images gone": (delete(4), "4 of 8 images cannot be used"),
    "half of the images damaged": (damage(4), "images cannot be used"),
    "sizes swapped": (images(update(height=WIDTH, width=HEIGHT)), "annotated as 48 x 64"),
    "sizes of another copy": (images(update(height=2 * HEIGHT, width=2 * WIDTH)), "annotated as 128 x 96"),
    "most masks broken": (annotations(update(segmentation=[[1, 1, 2, 2]]), first=30), "30 of 48 annotations"),
    "all RLE of another size": (annotations(lambda a: rle(a, size=(WIDTH, HEIGHT))), "does not fit the image"),
    "two files for train": (
        whole(lambda d: (d.write(), shutil.copy(d.annotation_file, d.root / "annotations" / "instances_train2.json"))),
        "several annotation files for train",
    ),
}


@pytest.fixture
def drawn(tmp_path: Path) -> Drawn:
    return Drawn(tmp_path / "data")


@pytest.mark.parametrize("name", RIGHT)
def test_the_result_is_right_and_changes_are_reported(drawn, caplog, name):
    expected = objects_of(drawn.content)
    mutate, said, lost = RIGHT[name]
    mutate(drawn)
    drawn.write()
    with caplog.at_level(logging.INFO, "maskrcnn"):
        dataset = find_dataset(drawn.root, DataConfig(val_fraction=0))
        dataset.convert("train", progress=False)
    split = dataset.open("train")
    actual = objects_of(json.loads(split.annotation_file.read_text()))
    assert len(actual) == len(expected) - lost == split.index.objects.sum()
    assert set(actual) <= set(expected)
    assert {category.name for category in split.categories} - {"horse"} == set(NAMES.values())
    assert (said or "") in caplog.text
    assert bool(caplog.records) == (said is not None)


@pytest.mark.parametrize("name", REFUSED)
def test_one_line_says_what_is_wrong(drawn, name):
    mutate, said = REFUSED[name]
    mutate(drawn)
    drawn.write()
    with pytest.raises(UserError) as error:
        find_dataset(drawn.root, DataConfig()).convert("train", "val", progress=False)
    message = str(error.value)
    assert said in message
    assert "\n" not in message
    assert not list(drawn.root.glob("tfrecords/*"))


def test_there_are_at_least_sixty_mutations():
    assert len(RIGHT) + len(REFUSED) >= 60


@pytest.mark.parametrize("count", [1, 4, 12])
def test_skip_bad_skips_them_all_the_same(drawn, caplog, count):
    expected = objects_of(copy.deepcopy(drawn.content))
    annotations(update(segmentation=[[1, 1, 2, 2]]), first=count)(drawn)
    drawn.write()
    dataset = find_dataset(drawn.root, DataConfig(val_fraction=0, skip_bad=True))
    dataset.convert("train", progress=False)
    assert dataset.open("train").index.objects.sum() == len(expected) - count
    assert "polygon of 2 points" in caplog.text


@pytest.mark.parametrize(
    ("options", "mutate"),
    [
        ({"masks_from_boxes": True}, annotations(update(segmentation=[]))),
        ({"crowds_as_objects": True}, annotations(update(iscrowd=1))),
    ],
)
def test_a_flag_uses_what_would_be_refused(drawn, options, mutate):
    expected = objects_of(drawn.content)
    mutate(drawn)
    drawn.write()
    dataset = find_dataset(drawn.root, DataConfig(val_fraction=0, **options))
    dataset.convert("train", progress=False)
    assert objects_of(json.loads(dataset.open("train").annotation_file.read_text())) == expected


@pytest.mark.parametrize(
    ("box", "said"), [([40, 30, 60, 44], "is [x1, y1, x2, y2]"), ([0.5, 0.5, 0.1, 0.1], "in fractions of the image")]
)
def test_boxes_alone_are_refused_if_they_are_no_xywh_in_pixels(drawn, box, said):
    annotations(update(bbox=box, segmentation=[]), first=12)(drawn)
    drawn.write()
    with pytest.raises(UserError) as error:
        find_dataset(drawn.root, DataConfig(masks_from_boxes=True)).convert("train", progress=False)
    assert said in str(error.value)
