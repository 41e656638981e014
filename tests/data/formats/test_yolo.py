import os
import re

import pytest

from maskrcnn.data.formats.yolo import find
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
)

TRIANGLE = [(8.0, 4.0), (56.0, 4.0), (32.0, 36.0)]  # px of an image of 64 x 40
SQUARE = [(10.0, 10.0), (30.0, 10.0), (30.0, 30.0), (10.0, 30.0)]


def polygon(class_id, points, width=64, height=40):
    return f"{class_id} " + " ".join(f"{x / width} {y / height}" for x, y in points)


def write(path, *lines, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def draw_split(images, labels, count=3, first=0):
    """``count`` images with a triangle (class 0) and a square (class 1); the last one has no label file."""
    for number in range(first, first + count):
        draw_image(images / f"{number}.jpg")
        if number < first + count - 1:
            write(labels / f"{number}.txt", polygon(0, TRIANGLE), polygon(1, SQUARE))


def test_data_yaml_of_another_machine(tmp_path):
    root = tmp_path / "data"
    draw_split(root / "train/images", root / "train/labels", 4)
    draw_split(root / "valid/images", root / "valid/labels", 3, 10)
    draw_split(root / "test/images", root / "test/labels", 2, 20)
    write(root / "data.yaml", "path: C:\\Users\\me\\seg", "train: /content/seg/train/images", "val: ../valid/images",
          "nc: 2", "names: ['cat', 'no']")  # fmt: skip
    dataset = find(root)
    splits = read_all(dataset)
    assert dataset.format == "YOLO segmentation"
    assert {name: len(split.content["images"]) for name, split in splits.items()} == {"train": 4, "val": 3, "test": 2}
    assert class_counts(splits["train"]) == {"cat": 3, "no": 3}
    assert class_counts(splits["val"]) == {"cat": 2, "no": 2}
    triangle, square = masks_of(splits["train"], "0.jpg")
    assert iou(square, rectangle_mask(10, 10, 30, 30)) == 1.0
    assert iou(triangle, polygon_mask(TRIANGLE)) > 0.97  # another rasterizer
    assert [split.notes for split in splits.values()] == [[], [], []]
    assert average_precision(splits["train"], tmp_path) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images/{}", "labels/{}"),
        ("{}/images", "{}/labels"),
        ("{}", "{}"),
        ("{}", "labels/{}"),
        ("obj_{}_data", "obj_{}_data"),
    ],
)
@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_layouts_without_yaml(tmp_path, images, labels, val):
    for name, count in (("train", 4), (val, 3)):
        draw_split(tmp_path / images.format(name), tmp_path / labels.format(name), count)
    splits = read_all(find(tmp_path))
    assert {name: len(split.content["annotations"]) for name, split in splits.items()} == {"train": 6, "val": 4}
    assert class_counts(splits["train"]) == {"class 0": 3, "class 1": 3}


@pytest.mark.parametrize("labels", ["labels", "images"])
def test_without_splits(tmp_path, labels):
    draw_split(tmp_path / "images", tmp_path / labels, 4)
    write(tmp_path / "classes.txt", "cat", "dog", end="\r\n")
    dataset = find(tmp_path)
    splits = read_all(dataset)
    assert list(splits) == ["all"]
    assert class_counts(splits["all"]) == {"cat": 3, "dog": 3}
    assert tmp_path / "classes.txt" in dataset.splits[0].list_files()


@pytest.mark.parametrize(
    "name", ["labels.txt", "names.txt", "coco.names", "data/obj.names", "labels/train2017/classes.txt"]
)
def test_lists_of_names(tmp_path, name):
    draw_split(tmp_path / "images/train2017", tmp_path / "labels/train2017", 4)
    assert class_counts(read_all(find(tmp_path))["train"]) == {"class 0": 3, "class 1": 3}
    file = write(tmp_path / name, "cat", "dog")
    dataset = find(tmp_path)
    split = read_all(dataset)["train"]
    assert class_counts(split) == {"cat": 3, "dog": 3}
    assert file in dataset.splits[0].list_files()
    assert split.notes == []


@pytest.mark.parametrize("line", ["", "./images/0.JPG", polygon(0, SQUARE)])
def test_without_a_list_of_names_a_line_says_how_to_name_classes(tmp_path, line):
    draw_split(tmp_path / "images", tmp_path / "labels")
    write(tmp_path / "names.txt", line)
    (note,) = read_all(find(tmp_path))["all"].notes
    said = "no list names the classes, which are called class 0, class 1; name them in a data.yaml, as in `names: ["
    assert note.startswith(said)


def test_labels_beside_images(tmp_path):
    draw_split(tmp_path, tmp_path, 3)
    write(tmp_path / "obj.names", "cat", "dog")
    assert class_counts(read_all(find(tmp_path))["all"]) == {"cat": 2, "dog": 2}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("names:\n- cat\n- dog", ["cat", "dog"]),
        ("names:\n  0: cat\n  1: yes", ["cat", "yes"]),
        ("names: {0: cat, 1: 'it''s'}", ["cat", "it's"]),
        ("names: [\n  'cat',   # a comment\n  dog,\n]", ["cat", "dog"]),
        ("names:\n  1: dog\n  7: cow", ["dog", "cow"]),
    ],
)
def test_names(tmp_path, names, expected):
    draw_split(tmp_path / "images/train", tmp_path / "labels/train", 2)
    write(tmp_path / "data.yaml", "train: images/train", names)
    (split,) = read_all(find(tmp_path)).values()
    assert [category["name"] for category in split.content["categories"]] == expected


def test_an_outer_folder_of_an_archive(tmp_path):
    for name, count in (("train", 4), ("valid", 3)):
        draw_split(tmp_path / f"seg-1/{name}/images", tmp_path / f"seg-1/{name}/labels", count)
    splits = read_all(find(tmp_path))
    assert {name: len(split.content["images"]) for name, split in splits.items()} == {"train": 4, "val": 3}


def test_a_path_of_windows_in_quotes(tmp_path):
    draw_split(tmp_path / "train", tmp_path / "train", 2)
    write(tmp_path / "data.yaml", 'path: "C:\\Users\\me"', 'train: "train"', "names: [cat, dog]")
    assert class_counts(read_all(find(tmp_path))["train"]) == {"cat": 1, "dog": 1}


def test_broken_yaml_is_an_error(tmp_path):
    draw_split(tmp_path / "images", tmp_path / "labels")
    write(tmp_path / "data.yaml", "names: [cat", "train: x")
    with pytest.raises(UserError, match=r"data\.yaml: not valid YAML \(line \d+\)"):
        find(tmp_path)


def test_split_as_a_list_of_files(tmp_path):
    draw_split(tmp_path / "images", tmp_path / "labels", 5)
    write(tmp_path / "data.yaml", "train: ./autosplit_train.txt", "val: autosplit_val.txt", "names: [cat, dog]")
    write(tmp_path / "autosplit_train.txt", "./images/0.jpg", "/elsewhere/images/1.jpg", "images\\4.jpg")
    write(tmp_path / "autosplit_val.txt", "./images/2.jpg")
    splits = read_all(find(tmp_path))
    assert [image["file_name"] for image in splits["train"].content["images"]] == [f"images/{n}.jpg" for n in (0, 1, 4)]
    assert [image["file_name"] for image in splits["val"].content["images"]] == ["images/2.jpg"]


def test_split_as_several_folders(tmp_path):
    draw_split(tmp_path / "a/images", tmp_path / "a/labels", 3)
    draw_split(tmp_path / "b/images", tmp_path / "b/labels", 2, 10)
    write(tmp_path / "data.yaml", "train:", "  - a/images", "  - b/images", "names: [cat, dog]")
    (split,) = read_all(find(tmp_path)).values()
    assert (len(split.content["images"]), class_counts(split)) == (5, {"cat": 3, "dog": 3})


def test_data_elsewhere_is_found_by_its_path(tmp_path):
    draw_split(tmp_path / "elsewhere/train", tmp_path / "elsewhere/train", 2)
    write(tmp_path / "data" / "data.yaml", f"path: {tmp_path}/elsewhere", "train: train", "names: [cat, dog]")
    (split,) = read_all(find(tmp_path / "data")).values()
    assert class_counts(split) == {"cat": 1, "dog": 1}


def test_a_path_of_a_split_is_not_taken_for_the_folder_of_all(tmp_path):
    for name in ("train", "val"):
        draw_split(tmp_path / "images" / name, tmp_path / "labels" / name, 3 if name == "train" else 2)
    write(tmp_path / "data.yaml", "train: /x/train/images", "val: /x/valid/images", "names: [cat, dog]")
    splits = read_all(find(tmp_path))
    assert {name: len(split.content["images"]) for name, split in splits.items()} == {"train": 3, "val": 2}


def test_boxes_have_no_segmentation(tmp_path):
    draw_image(tmp_path / "images/0.jpg")
    write(tmp_path / "labels/0.txt", "0 0.5 0.5 0.25 0.5", "1 0.05 0.5 0.2 0.2")
    dataset = find(tmp_path)
    assert dataset.format == "YOLO detection"
    first, second = read_all(dataset)["all"].content["annotations"]
    assert "segmentation" not in first
    assert first["bbox"] == [24.0, 10.0, 16.0, 20.0]
    assert second["bbox"] == pytest.approx([0, 16, 9.6, 8])  # clipped at the left


def test_keypoints_are_boxes(tmp_path):
    draw_image(tmp_path / "images/0.jpg")
    write(tmp_path / "labels/0.txt", "0 0.5 0.5 0.25 0.5 0.4 0.4 0.6 0.6")
    write(tmp_path / "data.yaml", "train: images", "kpt_shape: [2, 2]", "names: [cat]")
    dataset = find(tmp_path)
    (annotation,) = read_all(dataset)["train"].content["annotations"]
    assert (dataset.format, "segmentation" in annotation) == ("YOLO detection", False)


def test_forgiven_lines(tmp_path):
    """A closing repetition, spaces, CRLF, a byte order mark, coordinates slightly outside."""
    draw_image(tmp_path / "images/0.jpg")
    outside = [(-0.5, -0.5), (20.0, -0.5), (20.0, 20.0), (-0.5, 20.0)]
    lines = [polygon(0, [*SQUARE, SQUARE[0]]) + "  ", "", "  " + polygon(0, outside)]
    write(tmp_path / "classes.txt", "cat")
    write(tmp_path / "labels/0.txt", "\ufeff" + lines[0], *lines[1:], end="\r\n")
    split = read_all(find(tmp_path))["all"]
    square, clipped = masks_of(split, "0.jpg")
    assert len(split.content["annotations"][0]["segmentation"][0]) == 8
    assert iou(square, rectangle_mask(10, 10, 30, 30)) == 1.0
    assert iou(clipped, rectangle_mask(0, 0, 20, 20)) == 1.0
    assert split.notes == []


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("0 cat 0.1 0.2 0.3", "not numbers"),
        ("0 nan 0.1 0.2 0.3", "finite"),
        ("-1 0.5 0.5 0.1 0.1", "finite"),
        ("0.5 0.5 0.5 0.1 0.1", "finite"),
        ("0 0.5 0.5", "neither a box"),
        ("0 0.5 0.5 0.1 0.1 0.9", "neither a box"),
        ("0 8 4 56 4 32 36", "far outside 0 to 1"),
        ("7 0.1 0.1 0.5 0.1 0.5 0.5", r"no name \(2 names\)"),
        ("0 0.1 0.1 0.5 0.1 0.1 0.1", "without an area"),
        (polygon(0, TRIANGLE), "repeated"),
    ],
)
def test_bad_lines_are_counted(tmp_path, line, note):
    for number in range(2):
        draw_image(tmp_path / f"images/{number}.jpg")
        write(tmp_path / f"labels/{number}.txt", polygon(0, TRIANGLE), line)
    write(tmp_path / "data.yaml", "train: images", "names: [cat, dog]")
    split = read_all(find(tmp_path))["train"]
    assert class_counts(split) == {"cat": 2, "dog": 0}
    (text,) = split.notes
    assert f": 2 (first: {tmp_path}/labels/0.txt, line 2)" in text
    assert re.search(note, text)


def test_upright_size_counts(tmp_path):
    draw_image(tmp_path / "images/0.jpg", orientation=6)  # 64 x 40 px in the file, 40 x 64 upright
    write(tmp_path / "labels/0.txt", polygon(0, SQUARE, width=40, height=64))
    split = read_all(find(tmp_path))["all"]
    assert (split.content["images"][0]["height"], split.content["images"][0]["width"]) == (64, 40)
    assert iou(masks_of(split, "0.jpg")[0], rectangle_mask(10, 10, 30, 30, (64, 40))) == 1.0


def test_broken_image_is_noted(tmp_path):
    draw_split(tmp_path / "images", tmp_path / "labels", 3)
    write(tmp_path / "classes.txt", "cat", "dog")
    (tmp_path / "images/1.jpg").write_bytes(b"no image")
    split = read_all(find(tmp_path))["all"]
    assert len(split.content["images"]) == 2
    assert split.notes == [f"unreadable images skipped: 1 (first: {tmp_path}/images/1.jpg)"]


def test_linked_folder_of_images(tmp_path):
    draw_split(tmp_path / "real/images/train", tmp_path / "real/labels/train", 3)
    (tmp_path / "data").mkdir()
    for name in ("images", "labels"):
        os.symlink(tmp_path / "real" / name, tmp_path / "data" / name)
    assert len(read_all(find(tmp_path / "data"))["train"].content["annotations"]) == 4


def test_labels_are_read_only_on_demand(tmp_path):
    draw_split(tmp_path / "images", tmp_path / "labels", 4)
    dataset = find(tmp_path)
    write(tmp_path / "labels/3.txt", polygon(5, SQUARE))
    assert class_counts(read_all(dataset)["all"])["class 5"] == 1


@pytest.mark.parametrize("text", ["a cat on a mat", "12,34,56,78,cat", "1 20 30 40 50", ""])
def test_other_text_files_are_not_labels(tmp_path, text):
    draw_image(tmp_path / "0.jpg")
    write(tmp_path / "0.txt", text)
    assert find(tmp_path) is None


def test_an_empty_folder_is_nothing(tmp_path):
    assert find(tmp_path) is None


@pytest.mark.parametrize("file", ["data.yaml", "configs/seg.yaml", "seg/data.yaml"])
def test_data_yaml_beside_the_folder_that_it_names(tmp_path, file):
    for name, count in (("train", 4), ("val", 3), ("test", 2)):
        draw_split(tmp_path / f"seg/images/{name}", tmp_path / f"seg/labels/{name}", count)
    splits = [f"{name}: images/{name}" for name in ("train", "val", "test")]
    write(tmp_path / file, "path: ../datasets/seg", *splits, "names:", "  0: cat", "  1: dog")
    (tmp_path / "models").mkdir()
    found = read_all(find(tmp_path))
    assert {name: len(split.content["images"]) for name, split in found.items()} == {"train": 4, "val": 3, "test": 2}
    assert class_counts(found["train"]) == {"cat": 3, "dog": 3}


def test_folders_of_splits_count_however_deep_they_are(tmp_path):
    for name, count in (("train", 4), ("val", 3)):
        draw_split(tmp_path / f"a/b/{name}/images", tmp_path / f"a/b/{name}/labels", count)
    (tmp_path / "other").mkdir()
    splits = read_all(find(tmp_path))
    assert {name: len(split.content["images"]) for name, split in splits.items()} == {"train": 4, "val": 3}


@pytest.mark.parametrize("label", ["my_labels/{}.txt", "labels/{}.jpg.txt", "labels/{}.TXT", "txt/all/{}.txt"])
def test_the_only_label_file_of_a_name(tmp_path, label):
    for number in range(2):
        draw_image(tmp_path / f"my_images/{number}.jpg")
        write(tmp_path / label.format(number), polygon(0, TRIANGLE), polygon(1, SQUARE))
    draw_image(tmp_path / "my_images/empty.jpg")
    assert class_counts(read_all(find(tmp_path))["all"]) == {"class 0": 2, "class 1": 2}


def test_commas_between_numbers(tmp_path):
    draw_image(tmp_path / "images/0.jpg")
    write(tmp_path / "labels/0.txt", polygon(0, SQUARE).replace(" ", ", "))
    (mask,) = masks_of(read_all(find(tmp_path))["all"], "0.jpg")
    assert iou(mask, rectangle_mask(10, 10, 30, 30)) == 1.0
