import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from pycocotools import mask as mask_utils

from maskrcnn.config import Config
from maskrcnn.data import splits
from maskrcnn.data.coco.annotations import load_coco
from maskrcnn.data.folder import check_folder, convert_folder
from maskrcnn.data.loader.pipeline import train_dataset
from maskrcnn.data.records.rasterize import decode_mask
from maskrcnn.data.splits import find_coco, open_split
from maskrcnn.errors import UserError


def test_a_coco_folder_is_converted_into_its_tfrecords(coco):
    split = open_split(coco.root, "train")
    assert (split.name, split.num_examples, len(split.categories)) == ("train", 5, 3)
    assert split.records == [coco.root / "tfrecords" / "train-00000-of-00001.tfrecord"]
    assert split.annotation_file == coco.root / "tfrecords" / "train_annotations.json"


def test_the_converted_folder_alone_is_enough(coco, tmp_path):
    open_split(coco.root, "train")
    (coco.root / "tfrecords").rename(tmp_path / "records")
    split = open_split(tmp_path / "records", "train")
    assert split.num_examples == 5
    assert split.annotation_file == tmp_path / "records" / "train_annotations.json"


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train2017.json", "images/train2017"),
        ("annotations/instances_train.json", "images"),
        ("train.json", "images/train"),
        ("train.json", "."),
        ("train/_annotations.coco.json", "train"),
    ],
)
def test_layouts(coco, tmp_path, annotations, images):
    root = tmp_path / "other"
    shutil.copytree(coco.images, root / images)
    (root / annotations).parent.mkdir(parents=True, exist_ok=True)
    (root / annotations).write_bytes(coco.path.read_bytes())
    annotation_file, image_dir = find_coco(root, "train")
    assert annotation_file == root / annotations
    assert image_dir.resolve() == (root / images).resolve()


def test_roboflow_calls_it_valid(coco, tmp_path):
    shutil.copytree(coco.images, tmp_path / "other" / "valid")
    shutil.copy(coco.path, tmp_path / "other" / "valid" / "_annotations.coco.json")
    assert open_split(tmp_path / "other", "val").num_examples == 5


def test_a_folder_that_cannot_be_written_uses_the_cache(coco, tmp_path):
    (coco.root / "tfrecords").write_text("a file where the folder should be")  # root may write anywhere
    split = open_split(coco.root, "train", cache_dir=tmp_path / "model")
    assert split.records[0].parent == tmp_path / "model" / "tfrecords"
    with pytest.raises(UserError, match="cannot be written"):
        open_split(coco.root, "train")


def test_an_evaluation_file_replaces_the_annotations(coco, tmp_path):
    shutil.copy(coco.path, tmp_path / "other.json")
    assert open_split(coco.root, "train", eval_file=tmp_path / "other.json").annotation_file == tmp_path / "other.json"
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(UserError, match="not COCO annotations"):
        open_split(coco.root, "train", eval_file=tmp_path / "other.json")


def test_wrong_folders(coco, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        open_split(tmp_path / "absent", "train")
    with pytest.raises(UserError, match="is not a folder"):
        open_split(coco.path, "train")
    with pytest.raises(UserError, match=r"no val split found; looked for annotations/instances_val\*\.json, "):
        open_split(coco.root, "val")
    shutil.copy(coco.path, coco.path.with_name("instances_train2014.json"))
    with pytest.raises(UserError, match="several annotation files for train"):
        open_split(coco.root, "train")


def test_images_that_are_nowhere(coco):
    shutil.rmtree(coco.images)
    with pytest.raises(UserError, match=r"images of instances_train.json not found \(the first: 100.jpg\); looked in"):
        open_split(coco.root, "train")


def test_a_split_without_images(coco):
    coco.content.update(images=[], annotations=[])
    coco.write()
    with pytest.raises(UserError, match="lists no images"):
        open_split(coco.root, "train")


def test_an_empty_record_file(tmp_path):
    (tmp_path / "val.tfrecord").touch()
    with pytest.raises(UserError, match="the val split is empty"):
        open_split(tmp_path, "val")


def test_missing_shards(tmp_path):
    for shard in (0, 2):
        (tmp_path / f"train-{shard:05d}-of-00004.tfrecord").touch()
    with pytest.raises(UserError, match="shards 1, 3 of 4 of 'train' are missing"):
        open_split(tmp_path, "train")


def write_foreign_records(coco, folder, name="val", **changes):
    """What TF Model Garden's create_coco_tf_record.py and the replaced system's copy of it write."""
    dataset = load_coco(coco.path, coco.images)
    names = {category.id: category.name.encode() for category in dataset.categories}
    folder.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / f"{name}-00000-of-00001.tfrecord")) as writer:
        for image in dataset.images:
            annotations = dataset.annotations.get(image.id, ())
            boxes = np.array([annotation.box for annotation in annotations]).reshape(-1, 4)
            boxes = boxes / [image.width, image.height, image.width, image.height]
            masks = [decode_mask(annotation, image.height, image.width)[..., None] for annotation in annotations]
            features = {
                "image/height": [image.height],
                "image/width": [image.width],
                "image/filename": [image.file_name.encode()],
                "image/source_id": [str(image.id).encode()],
                "image/key/sha256": [b"0"],
                "image/encoded": [(coco.images / image.file_name).read_bytes()],
                "image/format": [b"jpeg"],
                "image/object/bbox/xmin": boxes[:, 0].tolist(),
                "image/object/bbox/ymin": boxes[:, 1].tolist(),
                "image/object/bbox/xmax": boxes[:, 2].tolist(),
                "image/object/bbox/ymax": boxes[:, 3].tolist(),
                "image/object/class/text": [names[annotation.category_id] for annotation in annotations],
                "image/object/class/label": [annotation.category_id for annotation in annotations],
                "image/object/is_crowd": [int(annotation.is_crowd) for annotation in annotations],
                "image/object/area": [annotation.area for annotation in annotations],
                "image/object/mask": [tf.io.encode_png(mask).numpy() for mask in masks],
                **changes,
            }
            writer.write(
                tf.train.Example(features=tf.train.Features(feature=to_features(features))).SerializeToString()
            )


def to_features(values):
    features = {}
    for key, value in values.items():
        name = key.rpartition("/")[2]
        floats, texts = ("xmin", "ymin", "xmax", "ymax", "area"), ("text", "mask", "encoded")
        empty = float if name in floats else bytes if name in texts else int
        kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(value[0]) if value else empty]
        features[key] = tf.train.Feature(**{kind: {"value": value}})
    return features


@pytest.fixture
def triangles(coco):
    """The COCO folder with masks that do not fill their boxes, and a crowd."""
    for entry in coco.content["annotations"]:
        entry["segmentation"] = [[4.5, 6, 24.5, 6, 14.5, 16]]
    coco.add_box(100, 7, [0, 0, 10, 10], iscrowd=1)
    coco.write()
    return coco


def test_foreign_records_give_the_same_batches_as_our_own(triangles, tmp_path):
    write_foreign_records(triangles, tmp_path / "foreign", "train")
    own, foreign = open_split(triangles.root, "train"), open_split(tmp_path / "foreign", "train")
    assert own.categories == foreign.categories
    np.testing.assert_array_equal(own.index.sizes, foreign.index.sizes)
    np.testing.assert_array_equal(own.index.image_ids, foreign.index.image_ids)
    batches = [train_dataset(split, Config.tiny(), batch_size=1, seed=0).take(8) for split in (own, foreign)]
    for first, second in zip(*(dataset.as_numpy_iterator() for dataset in batches), strict=True):
        for key in first:
            if key == "masks":
                assert (first[key] != second[key]).mean() < 0.05 / 16  # the rim of one object in sixteen slots
            else:
                np.testing.assert_allclose(first[key], second[key], rtol=1e-5, err_msg=key)


def test_annotations_are_made_of_foreign_records(triangles, tmp_path, monkeypatch):
    write_foreign_records(triangles, tmp_path / "foreign")
    split = open_split(tmp_path / "foreign", "val", cache_dir=tmp_path / "model")
    made = json.loads(split.annotation_file.read_text())
    assert {category["id"]: category["name"] for category in made["categories"]} == {0: "dog", 7: "cow", 90: "cat"}
    assert [image["id"] for image in made["images"]] == [100, 101, 102, 103, 104]
    assert [entry["iscrowd"] for entry in made["annotations"]] == [0, 1, 0, 0, 0]
    assert mask_utils.area(made["annotations"][0]["segmentation"]) == pytest.approx(100, rel=0.1)
    monkeypatch.setattr(splits, "write_annotations", None)  # the second time it is found
    assert open_split(tmp_path / "foreign", "val").annotation_file == split.annotation_file


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"image/height": []}, "no image/height"),
        ({"image/source_id": [b"a.jpg"]}, "image/source_id is not a whole number"),
        ({"image/object/mask": []}, "0 masks for 1 objects"),
        ({"image/encoded": []}, "no image/encoded"),
        ({"image/object/bbox/xmin": []}, "other than 1 boxes for 1 classes"),
    ],
)
def test_records_without_what_training_needs(coco, tmp_path, changes, problem):
    write_foreign_records(coco, tmp_path / "foreign", **changes)
    with pytest.raises(UserError, match=problem):
        open_split(tmp_path / "foreign", "val")
    assert problem in str(check_folder(tmp_path / "foreign", progress=False)[0])


def test_a_truncated_record_file_is_a_fault(coco, tmp_path):
    write_foreign_records(coco, tmp_path / "foreign")
    (file,) = (tmp_path / "foreign").iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match="truncated"):
        open_split(tmp_path / "foreign", "val")
    (fault,) = check_folder(tmp_path / "foreign", progress=False)
    assert "truncated" in fault.problem


def test_convert_and_check_take_whole_folders(coco):
    assert check_folder(coco.root, progress=False) == []
    shutil.copytree(coco.images, coco.root / "val")
    shutil.copy(coco.path, coco.path.with_name("instances_val.json"))
    converted = convert_folder(coco.root, progress=False)
    assert {name: len(found.index) for name, found in converted.items()} == {"train": 5, "val": 5}
    (coco.root / "val" / "102.jpg").unlink()
    (fault,) = check_folder(coco.root, progress=False)
    assert "102.jpg is missing" in fault.problem


def test_convert_and_check_name_a_wrong_folder(tmp_path):
    for function in (convert_folder, check_folder):
        with pytest.raises(UserError, match="no train split found"):
            function(tmp_path, progress=False)
        with pytest.raises(UserError, match="no such folder"):
            function(tmp_path / "absent", progress=False)
