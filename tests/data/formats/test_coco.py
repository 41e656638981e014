"""COCO JSON in the layouts of the tools that export it."""

import json
import shutil

import pytest

from maskrcnn.data.formats import coco as coco_format
from maskrcnn.data.formats.found_dataset import UNSPLIT
from maskrcnn.errors import UserError
from tests.data.formats.drawing import class_counts, draw_image, read_all

LAYOUTS = {  # annotation file -> folder of the images, name of the split
    "annotations/instances_train2017.json": ("train2017", "train"),
    "annotations/instances_val2017.json": ("images/val2017", "val"),
    "annotations/instances_train.json": ("images", "train"),
    "train.json": ("images/train", "train"),
    "val.json": (".", "val"),
    "validation.json": ("imgs", "val"),
    "train/_annotations.coco.json": ("train", "train"),  # Roboflow
    "valid/_annotations.coco.json": ("valid", "val"),
    "test/_annotations.coco.json": ("test/images", "test"),
    "annotations/instances_default.json": ("images", UNSPLIT),  # CVAT
    "result.json": ("images", UNSPLIT),  # Label Studio
    "anything at all.json": (".", UNSPLIT),
    "labels/my_coco.json": ("JPEGImages", UNSPLIT),
    "export/annotations/train.json": ("export/train", "train"),
    "Train/labels.json": ("Train", "train"),
}


def arrange(coco, root, file, images):
    shutil.copytree(coco.images, root / images, dirs_exist_ok=True)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_bytes(coco.path.read_bytes())


@pytest.mark.parametrize("file", LAYOUTS)
def test_layouts(coco, tmp_path, file):
    root, (images, name) = tmp_path / "other", LAYOUTS[file]
    arrange(coco, root, file, images)
    (split,) = coco_format.find(root).splits
    assert (split.name, split.origin, split.list_files()) == (name, root / file, [root / file])
    raw = split.read()
    assert raw.image_dir.resolve() == (root / images).resolve()
    assert raw.content == coco.content
    assert raw.notes == []


@pytest.mark.parametrize(
    ("file", "info", "tool"),
    [
        ("train/_annotations.coco.json", {}, "Roboflow COCO"),
        ("train.json", {"description": "Exported from roboflow.com"}, "Roboflow COCO"),
        ("annotations/instances_default.json", {}, "CVAT COCO"),
        ("result.json", {"contributor": "Label Studio"}, "Label Studio COCO"),
        ("train.json", {}, "COCO"),
    ],
)
def test_the_tool_is_named(coco, tmp_path, file, info, tool):
    coco.content = {"info": info, **coco.content}
    coco.write()
    arrange(coco, tmp_path / "other", file, "images")
    assert coco_format.find(tmp_path / "other").format == tool


def test_each_split_has_its_own_images_though_names_are_equal(coco, tmp_path):
    root = tmp_path / "other"
    for folder in ("train", "valid", "test"):
        arrange(coco, root, f"{folder}/_annotations.coco.json", folder)
    for split in coco_format.find(root).splits:
        assert split.read().image_dir == split.origin.parent


def test_other_files_are_left_alone(coco, tmp_path):
    root = tmp_path / "other"
    arrange(coco, root, "annotations/instances_train2017.json", "train2017")
    for name in ("captions_train2017", "person_keypoints_train2017", "image_info_test2017"):
        shutil.copy(coco.path, root / "annotations" / f"{name}.json")
    (root / "package.json").write_text('{"name": "images"}')
    (root / "tfrecords").mkdir()
    shutil.copy(coco.path, root / "tfrecords" / "train_annotations.json")
    (split,) = coco_format.find(root).splits
    assert split.origin.name == "instances_train2017.json"


def test_the_file_of_all_images_gives_way_to_splits(coco, tmp_path):
    root = tmp_path / "other"
    for file in ("all.json", "train.json", "val.json"):
        arrange(coco, root, file, "images")
    assert sorted(split.name for split in coco_format.find(root).splits) == ["train", "val"]


def test_a_large_file_is_recognized_by_its_ends(coco, tmp_path):
    coco.content = {"info": "x" * 100_000, **coco.content, "licenses": ["y" * 100_000]}
    coco.write()
    arrange(coco, tmp_path / "middle", "data.json", "images")
    assert coco_format.find(tmp_path / "middle") is None  # the lists are where nobody looks
    coco.content["licenses"] = []
    coco.write()
    arrange(coco, tmp_path / "end", "data.json", "images")
    assert coco_format.find(tmp_path / "end") is not None


def test_files_that_cannot_be_told_apart(coco, tmp_path):
    for file in ("a.json", "b.json"):
        arrange(coco, tmp_path / "other", file, "images")
    (split,) = coco_format.find(tmp_path / "other").splits
    listed = (
        r"none of which names its split \(a.json, b.json\) list the same images, such as 100.jpg; choose with --train"
    )
    with pytest.raises(UserError, match=listed):
        split.read()


def write_part(file, image_dir, first, names, height=40):
    """One of several files of a split, with ids of its own: two images with an object of each class."""
    categories = [{"id": id, "name": name} for id, name in enumerate(names, start=7)]
    images = [{"id": id, "file_name": f"{first + id}.png", "height": height, "width": 64 + id + first} for id in (1, 2)]
    entry = {"id": 1, "iscrowd": 0, "bbox": [1, 1, 8, 8], "segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]}
    pairs = [(image, category) for image in images for category in categories]
    annotations = [{**entry, "image_id": image["id"], "category_id": category["id"]} for image, category in pairs]
    for image in images:
        draw_image(image_dir / image["file_name"], height, image["width"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


@pytest.mark.parametrize(
    ("files", "images", "firsts"),
    [
        (("annotations/part1.json", "annotations/part2.json"), ("images", "images"), (0, 10)),
        (("a/instances_default.json", "b/instances_default.json"), ("a/images", "b/images"), (0, 0)),  # CVAT's tasks
    ],
)
def test_files_of_different_images_are_parts_of_one_split(tmp_path, files, images, firsts):
    for number, (file, folder, first) in enumerate(zip(files, images, firsts, strict=True)):
        write_part(
            tmp_path / file, tmp_path / folder, first, ("cat", "dog") if number else ("dog", "bird"), 40 + number
        )
    dataset = coco_format.find(tmp_path)
    (split,) = read_all(dataset).values()
    assert class_counts(split) == {"dog": 4, "bird": 2, "cat": 2}
    names = [f"{folder}/{first + id}.png" for folder, first in zip(images, firsts, strict=True) for id in (1, 2)]
    assert [entry["file_name"] for entry in split.content["images"]] == names
    assert [entry["image_id"] for entry in split.content["annotations"]] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert split.notes == [f"2 annotation files read as one split: {', '.join(files)}"]
    assert dataset.splits[0].list_files() == [tmp_path / file for file in files]


def test_many_files_of_one_image_each(tmp_path):
    for number in range(50):
        write_part(tmp_path / f"{number}.json", tmp_path, 2 * number, ("cat",))
    (split,) = read_all(coco_format.find(tmp_path)).values()
    assert class_counts(split) == {"cat": 100}


def test_entries_of_parts_that_refer_to_nothing_stay_wrong(tmp_path):
    for first, name in ((0, "a"), (10, "b")):
        write_part(tmp_path / f"{name}.json", tmp_path, first, ("cat",))
        content = json.loads((tmp_path / f"{name}.json").read_text())
        content["annotations"][0]["image_id"] = 4  # a number of the joined images
        content["annotations"][1]["category_id"] = 1
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (found,) = coco_format.find(tmp_path).splits
    annotations = found.read().content["annotations"]
    assert [entry["image_id"] for entry in annotations] == [None, 2, None, 4]
    assert [entry["category_id"] for entry in annotations] == [7, None, 7, None]


def test_keypoints_with_masks_are_taken_if_there_is_nothing_else(coco, tmp_path):
    arrange(coco, tmp_path / "other", "annotations/person_keypoints_default.json", "images")
    (split,) = coco_format.find(tmp_path / "other").splits
    assert split.read().content == coco.content


def test_a_folder_of_one_json_an_image_is_not_coco(tmp_path):
    for number in range(60):
        (tmp_path / f"{number}.json").write_text(json.dumps({"shapes": [], "imagePath": f"{number}.jpg"}))
    assert coco_format.find(tmp_path) is None


def test_a_second_file_whose_images_are_absent(coco):
    other = {
        **coco.content,
        "images": [{**entry, "file_name": f"no_{n}.jpg"} for n, entry in enumerate(coco.content["images"])],
    }
    coco.path.rename(coco.root / "annotations.json")
    (coco.root / "annotations_unofficial.json").write_text(json.dumps(other))
    (split,) = coco_format.find(coco.root).splits
    said = r"of annotations_unofficial.json is there .*, or leave that file out: --train_file annotations.json$"
    with pytest.raises(UserError, match=said):
        split.read()
    (coco.root / "annotations.json").rename(coco.root / "a_val.json")
    (coco.root / "annotations_unofficial.json").rename(coco.root / "b_val.json")
    (split,) = coco_format.find(coco.root).splits
    with pytest.raises(UserError, match=r"leave that file out: --val_file a_val.json$"):
        split.read()


def test_images_that_are_nowhere(coco):
    shutil.rmtree(coco.images)
    (split,) = coco_format.find(coco.root).splits
    with pytest.raises(UserError, match=r"none of the 5 images .* \(the first: 100.jpg\); give the folder that holds"):
        split.read()


@pytest.mark.parametrize(
    ("names", "folders", "said"),
    [
        (("a.heic", "b.heic"), (), r"none of the 2 images of x.json can be read .*; convert .heic files to JPEG, PNG"),
        (
            ("a.png", "b.png"),
            ("left", "right"),
            r"has a file name of its own there .* --image_dir, such as .*left",
        ),
    ],
)
def test_why_no_image_is_found(tmp_path, names, folders, said):
    images = [{"id": id, "file_name": name} for id, name in enumerate(names)]
    (tmp_path / "x.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    for place in (tmp_path / folder / name for folder in folders for name in names):
        draw_image(place)
    with pytest.raises(UserError, match=said):
        coco_format.find(tmp_path).splits[0].read()


def test_images_go_before_drawings_of_the_same_name(coco, tmp_path):
    arrange(coco, tmp_path / "other", "x.json", "raw")
    shutil.copytree(coco.images, tmp_path / "other/visualized")
    (split,) = coco_format.find(tmp_path / "other").splits
    assert split.read().image_dir == tmp_path / "other/raw"


def test_an_archive_beside_the_annotations_is_named(coco):
    shutil.rmtree(coco.images)
    (coco.root / "train.tar.gz").touch()
    (split,) = coco_format.find(coco.root).splits
    with pytest.raises(UserError, match=r"unpack train\.tar\.gz"):
        split.read()


def test_versions_in_folders_of_their_own_are_chosen_by_folder(coco, tmp_path):
    for version in ("instance_version", "material_version"):  # TrashCan
        arrange(coco, tmp_path / "dataset", f"{version}/instances_train.json", f"{version}/train")
    (split,) = coco_format.find(tmp_path / "dataset").splits
    with pytest.raises(UserError, match=r"or give one of their folders with --data_dir, such as .*instance_version"):
        split.read()


def test_images_named_by_address_only(coco, tmp_path):
    for entry in coco.content["images"]:  # LVIS
        entry["coco_url"] = f"http://images.cocodataset.org/train2017/{entry.pop('file_name')}"
    coco.write()
    arrange(coco, tmp_path / "lvis", "lvis_v1_train.json", "train2017")
    (split,) = coco_format.find(tmp_path / "lvis").splits
    raw = split.read()
    assert [entry["file_name"] for entry in raw.content["images"]][:2] == ["train2017/100.jpg", "train2017/101.jpg"]
    assert raw.notes == []


def test_lists_may_be_objects_and_text_utf16(coco):
    expected = coco.content["annotations"]
    coco.content["annotations"] = {str(entry["id"]): entry for entry in expected}  # LIVECell
    coco.path.write_text(json.dumps(coco.content), encoding="utf-16")
    (split,) = coco_format.find(coco.root).splits
    assert split.read().content["annotations"] == expected


def test_classes_may_be_names_by_id(coco):
    names = {str(entry["id"]): entry["name"] for entry in coco.content["categories"]}
    coco.content["categories"] = names
    coco.write()
    (split,) = coco_format.find(coco.root).splits
    assert split.read().content["categories"] == [{"id": id, "name": name} for id, name in names.items()]


def test_other_json_with_such_a_list_is_not_coco(tmp_path):
    (tmp_path / "instances.json").write_text(
        json.dumps({"videos": [{"file_names": ["a.jpg"]}], "annotations": [], "categories": []})
    )
    (tmp_path / "train.json").write_text(json.dumps({"images": ["a.jpg", "b.jpg"]}))
    assert coco_format.find(tmp_path) is None
