import numpy as np
import pytest

from maskrcnn.data.formats.voc import find
from maskrcnn.data.formats.voc_names import VOC_NAMES
from maskrcnn.errors import UserError
from tests.data.formats.drawing import (
    average_precision,
    class_counts,
    draw_image,
    iou,
    masks_of,
    polygon_mask,
    read_all,
    rectangle_mask,
    save_mask,
)

ONE, TWO = rectangle_mask(4, 4, 20, 20), rectangle_mask(30, 10, 60, 36)
COLORS = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 4: (0, 0, 128), 15: (192, 128, 128), 255: (224, 224, 192)}


def xml(file_name, *objects):
    return f"<annotation><filename>{file_name}</filename>{''.join(objects)}</annotation>"


def box(name, left, top, right, bottom, more=""):
    sides = f"<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
    return f"<object><name>{name}</name><bndbox>{sides}</bndbox>{more}</object>"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def draw(root, stem, classes=(1, 2), ids=(1, 2), *, mode="P"):
    """An image with two objects, one with a void border, in a mask of ids and one of classes."""
    draw_image(root / f"JPEGImages/{stem}.jpg")
    border = rectangle_mask(3, 3, 21, 21) & ~ONE
    for folder, values in (("SegmentationObject", ids), ("SegmentationClass", classes)):
        pixels = np.where(ONE, values[0], 0) + np.where(TWO, values[1], 0) + np.where(border, 255, 0)
        if mode == "RGB":
            pixels = np.array([COLORS.get(index, (9, 9, 9)) for index in range(256)], np.uint8)[pixels]
        save_mask(root / folder / f"{stem}.png", pixels, mode)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_masks_of_objects_and_classes(tmp_path, mode):
    for stem in "abc":
        draw(tmp_path, stem, (15, 4), mode=mode)
    dataset = find(tmp_path)
    split = read_all(dataset)["all"]
    assert dataset.format == "Pascal VOC segmentation"
    assert len(dataset.splits[0].list_files()) == 6
    assert [category["name"] for category in split.content["categories"]] == list(VOC_NAMES)
    assert {name: count for name, count in class_counts(split).items() if count} == {"person": 3, "boat": 3}
    by_area = sorted(masks_of(split, "b.jpg"), key=np.sum)
    assert iou(by_area[0], ONE) == iou(by_area[1], TWO) == 1.0
    assert split.notes == []
    assert average_precision(split, tmp_path) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("file_name", "text"),
    [
        ("class_names.txt", "_background_\ncat\ndog\n"),
        ("class_names.txt", "__ignore__\n_background_\ncat\ndog\n"),
        ("labels.txt", "cat\r\ndog\r\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n"),
    ],
)
@pytest.mark.parametrize("mode", ["P", "RGB"])
def test_listed_names(tmp_path, file_name, text, mode):
    draw(tmp_path, "a", mode=mode)
    write(tmp_path / file_name, text)
    assert class_counts(read_all(find(tmp_path))["all"]) == {"cat": 1, "dog": 1}


def test_colors_of_a_label_map_in_another_order(tmp_path):
    draw(tmp_path, "a", (4, 2), mode="RGB")
    write(tmp_path / "labelmap.txt", "dog:0,128,0::\ncat:0,0,128::\nbackground:0,0,0::\n")
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"dog": 1, "cat": 1}
    names = {category["id"]: category["name"] for category in split.content["categories"]}
    named = {names[entry["category_id"]]: entry["bbox"] for entry in split.content["annotations"]}
    assert named == {"cat": [4, 4, 16, 16], "dog": [30, 10, 30, 26]}


def test_names_of_xml_files(tmp_path):
    for stem in "ab":
        draw(tmp_path, stem)
        objects = box("kiwi", 30, 10, 60, 36), box("apple", 4, 4, 20, 20), box("pear", 0, 0, 3, 3)
        write(tmp_path / f"Annotations/{stem}.xml", xml(f"{stem}.jpg", *objects))
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"apple": 2, "kiwi": 2}
    assert iou(masks_of(split, "a.jpg")[0], ONE) == 1.0


def test_a_class_without_a_name(tmp_path):
    draw(tmp_path, "a", (1, 99))
    write(tmp_path / "class_names.txt", "_background_\ncat\n")
    assert class_counts(read_all(find(tmp_path))["all"]) == {"cat": 1, "class 99": 1}


def test_objects_of_no_class_are_noted(tmp_path):
    draw(tmp_path, "a", (1, 255))
    split = read_all(find(tmp_path))["all"]
    assert sum(class_counts(split).values()) == 1
    (note,) = split.notes
    assert note.startswith("objects skipped that have no class in SegmentationClass: 1 ")
    assert note.endswith("SegmentationObject/a.png, object 2)")


def test_ids_without_classes(tmp_path):
    draw(tmp_path, "a")
    (tmp_path / "SegmentationClass/a.png").unlink()
    (tmp_path / "SegmentationClass").rmdir()
    assert class_counts(read_all(find(tmp_path))["all"]) == {"object": 2}


def test_image_sets(tmp_path):
    root = tmp_path / "VOCdevkit/VOC2012"
    for stem in "abcd":
        draw(root, stem)
    write(root / "ImageSets/Segmentation/train.txt", "a\nb\n")
    write(root / "ImageSets/Segmentation/val.txt", "c\n")
    write(root / "ImageSets/Segmentation/trainval.txt", "a\nb\nc\n")
    write(root / "ImageSets/Segmentation/test.txt", "x\ny\n")  # whose masks are not public
    for folder in (tmp_path, tmp_path / "VOCdevkit", root):
        splits = read_all(find(folder))
        files = {name: [e["file_name"] for e in split.content["images"]] for name, split in splits.items()}
        assert files == {"train": ["JPEGImages/a.jpg", "JPEGImages/b.jpg"], "val": ["JPEGImages/c.jpg"]}


def test_trainval_alone_is_unsplit(tmp_path):
    for stem in "abc":
        draw(tmp_path, stem)
    write(tmp_path / "ImageSets/Segmentation/trainval.txt", "a\nb\n")
    assert len(read_all(find(tmp_path))["all"].content["images"]) == 2


def test_problems_of_masks(tmp_path):
    for stem in "abcde":
        draw(tmp_path, stem)
    (tmp_path / "JPEGImages/a.jpg").unlink()
    draw_image(tmp_path / "JPEGImages/b.jpg", 20, 20)
    (tmp_path / "SegmentationObject/c.png").write_bytes(b"no image")
    (tmp_path / "SegmentationClass/d.png").unlink()
    split = read_all(find(tmp_path))["all"]
    assert [entry["file_name"] for entry in split.content["images"]] == ["JPEGImages/e.jpg"]
    folder = tmp_path / "SegmentationObject"
    assert split.notes == [
        f"masks skipped whose image is missing or cannot be read: 1 (first: {folder}/a.png)",
        f"masks skipped whose size is not their image's: 1 (first: {folder}/b.png)",
        f"masks skipped that cannot be read: 1 (first: {folder}/c.png)",
        f"masks skipped whose file in SegmentationClass is missing or of another size: 1 (first: {folder}/d.png)",
    ]


@pytest.mark.parametrize(
    ("images", "annotations"),
    [("JPEGImages", "Annotations"), ("images", "annots"), ("Images", "ANNOTATIONS"), (".", "."), ("imgs", "xml")],
)
def test_boxes(tmp_path, images, annotations):
    for stem in "ab":
        draw_image(tmp_path / images / f"{stem}.jpg")
        objects = box("cat", 10, 12, 30, 20), box("dog", -5, 30, 10, 60)
        write(tmp_path / annotations / f"{stem}.xml", xml(f"{stem}.jpg", *objects))
    dataset = find(tmp_path)
    split = read_all(dataset)["all"]
    assert dataset.format == "Pascal VOC"
    assert class_counts(split) == {"cat": 2, "dog": 2}
    assert [entry["bbox"] for entry in split.content["annotations"][:2]] == [[10, 12, 20, 8], [0, 30, 10, 10]]
    assert not any("segmentation" in entry for entry in split.content["annotations"])


def test_boxes_with_splits_in_folders(tmp_path):
    for name, stems in (("train", "ab"), ("valid", "a")):
        for stem in stems:
            draw_image(tmp_path / name / f"{stem}.jpg")
            write(tmp_path / name / f"{stem}.xml", xml(f"{stem}.jpg", box(name, 10, 12, 30, 20)))
    splits = read_all(find(tmp_path))
    assert class_counts(splits["train"]) == {"train": 2, "valid": 0}
    assert class_counts(splits["val"]) == {"train": 0, "valid": 1}
    assert splits["val"].content["images"][0]["file_name"] == "valid/a.jpg"


def test_boxes_with_image_sets(tmp_path):
    for stem in "abc":
        draw_image(tmp_path / f"JPEGImages/{stem}.jpg")
        write(tmp_path / f"Annotations/{stem}.xml", xml(f"{stem}.jpg", box("cat", 10, 12, 30, 20)))
    write(tmp_path / "ImageSets/Main/train.txt", "a 1\nb -1\n")
    write(tmp_path / "ImageSets/Main/val.txt", "c 1\n")
    assert {name: len(s.content["images"]) for name, s in read_all(find(tmp_path)).items()} == {"train": 2, "val": 1}


@pytest.mark.parametrize("point", ["<x{0}>{1}</x{0}><y{0}>{2}</y{0}>", "<pt><x>{1}</x><y>{2}</y></pt>"])
def test_polygons(tmp_path, point):
    draw_image(tmp_path / "a.jpg")
    points = [(8.0, 4.0), (56.0, 4.0), (32.0, 36.0)]
    sides = "".join(point.format(n, x, y) for n, (x, y) in enumerate(points, start=1))
    write(tmp_path / "a.xml", xml("a.jpg", box("cat", 8, 4, 56, 36, more=f"<polygon>{sides}</polygon>")))
    split = read_all(find(tmp_path))["all"]
    assert iou(masks_of(split, "a.jpg")[0], polygon_mask(points)) > 0.97
    assert average_precision(split, tmp_path) == (1.0, 1.0)


def test_problems_of_xml(tmp_path):
    draw_image(tmp_path / "a.jpg")
    objects = box("cat", 10, 12, 30, 20), box("cat", 10, 12, 10, 20), box("cat", "x", 1, 2, 3), "<object></object>"
    write(tmp_path / "a.xml", xml("a.jpg", *objects))
    write(tmp_path / "b.xml", xml("b.jpg", box("cat", 10, 12, 30, 20)))
    write(tmp_path / "c.xml", "<annotation><filename>")
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    write(tmp_path / "d.xml", bomb + xml("a.jpg", box("&b;", 10, 12, 30, 20)))
    split = read_all(find(tmp_path))["all"]
    assert class_counts(split) == {"cat": 1, "object": 0}
    assert split.notes == [
        f"missing images skipped: 1 (first: {tmp_path}/b.xml: b.jpg)",
        f"XML files skipped that are not VOC annotations: 2 (first: {tmp_path}/c.xml)",
        f"objects without an area skipped: 1 (first: {tmp_path}/a.xml, object 2)",
        f"objects skipped that have no box: 2 (first: {tmp_path}/a.xml, object 3)",
    ]


def test_masks_of_classes_alone_are_not_recognized(tmp_path):
    draw(tmp_path, "a")
    assert find(tmp_path) is not None
    (tmp_path / "SegmentationObject/a.png").unlink()
    assert find(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["<project><item/></project>", "not XML", '<annotations><image id="0"/></annotations>']
)
def test_other_xml_is_not_voc(tmp_path, text):
    write(tmp_path / "a.xml", text)
    assert find(tmp_path) is None


def test_several_datasets_must_be_chosen_from(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        draw(tmp_path / "VOCdevkit" / year, "a")
    with pytest.raises(UserError, match=r"several Pascal VOC datasets \(VOC2007, VOC2012\); give one with --data_dir"):
        find(tmp_path / "VOCdevkit")


def test_masks_deep_in_a_folder_go_before_the_boxes_beside_them(tmp_path):
    root = tmp_path / "VOCdevkit/VOC2012"
    draw(root, "a")
    write(
        root / "Annotations/a.xml",
        "<annotation><filename>a.jpg</filename><object><name>cat</name></object></annotation>",
    )
    assert find(tmp_path).format == "Pascal VOC segmentation"
