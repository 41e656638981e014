import dataclasses
import json
import logging
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pycocotools import mask as mask_utils

from maskrcnn.config import Config, DataConfig
from maskrcnn.data.check import check_folder
from maskrcnn.data.coco.annotations import load_coco
from maskrcnn.data.loader.pipeline import train_dataset
from maskrcnn.data.records.rasterize import decode_mask
from maskrcnn.data.splits import NoSplitError, find_dataset, open_split
from maskrcnn.errors import UserError


def add_split(coco, name):
    """Another split with the same images and annotations."""
    shutil.copytree(coco.images, coco.root / name)
    return shutil.copy(coco.path, coco.path.with_name(f"instances_{name}.json"))


def opened(coco, name="train", **options):
    dataset = coco.dataset(**options)
    dataset.convert(name, progress=False)
    return dataset.open(name)


def test_a_coco_folder_is_converted_into_its_tfrecords(coco):
    split = opened(coco)
    assert (split.name, split.num_examples, len(split.categories)) == ("train", 5, 3)
    assert split.records == [coco.root / "tfrecords" / "train-00000-of-00001.tfrecord"]
    assert split.annotation_file == coco.root / "tfrecords" / "train_annotations.json"


def test_opening_does_not_convert(coco):
    with pytest.raises(UserError, match="the train split is not converted"):
        coco.dataset().open("train")
    assert not (coco.root / "tfrecords").exists()


def test_a_second_start_reads_no_annotations(coco, monkeypatch):
    opened(coco)
    monkeypatch.setattr("maskrcnn.data.formats.coco.read_coco_json", None)
    dataset = coco.dataset()
    dataset.convert("train")
    assert dataset.open("train").num_examples == 5
    assert dataset.describe("train") == ["COCO, 5 images, 3 classes"]


def test_the_converted_folder_alone_is_enough(coco, tmp_path):
    opened(coco)
    (coco.root / "tfrecords").rename(tmp_path / "records")
    split = open_split(tmp_path / "records", "train")
    assert split.num_examples == 5
    assert split.annotation_file == tmp_path / "records" / "train_annotations.json"


def test_a_folder_that_cannot_be_written_uses_the_cache(coco, tmp_path):
    (coco.root / "tfrecords").write_text("a file where the folder should be")  # root may write anywhere
    dataset = dataclasses.replace(coco.dataset(), cache_dir=tmp_path / "model")
    dataset.convert("train", progress=False)
    assert dataset.open("train").records[0].parent == tmp_path / "model" / "tfrecords"
    with pytest.raises(UserError, match="cannot be written"):
        coco.dataset().convert("train", progress=False)


def test_val_is_held_out_where_it_is_missing(coco):
    dataset = coco.dataset(val_fraction=0.4)
    dataset.convert("train", "val", progress=False)
    train, val = dataset.open("train"), dataset.open("val")
    assert sorted([*train.index.image_ids, *val.index.image_ids]) == [100, 101, 102, 103, 104]
    assert val.num_examples >= 1
    first, second = dataset.describe("train", "val")
    assert first == f"COCO, {train.num_examples} + {val.num_examples} images, 3 classes"
    assert second.startswith(f"no val split there: {val.num_examples} of 5 images held out for it")
    assert "--val_fraction 0.4" in second


def test_train_is_the_same_whether_val_is_asked_for_or_not(coco, tmp_path):
    alone, both = coco.dataset(val_fraction=0.4), coco.dataset(val_fraction=0.4)
    alone.convert("train", out_dir=tmp_path / "alone", progress=False)
    both.convert("train", "val", progress=False)
    actual = alone.open("train", out_dir=tmp_path / "alone").index.image_ids
    np.testing.assert_array_equal(actual, both.open("train").index.image_ids)


def test_another_fraction_converts_again(coco):
    assert opened(coco, val_fraction=0.5).num_examples < opened(coco).num_examples == 5


def test_a_test_split_is_one_of_its_own(coco):
    add_split(coco, "test")
    dataset = coco.dataset(val_fraction=0.2)
    assert dataset.names == ("train", "val", "test")
    dataset.convert("test", progress=False)
    assert dataset.open("test").num_examples == 5
    dataset.convert("train", "val", progress=False)
    assert dataset.describe("train", "val")[0] == "COCO, 4 + 1 + 5 images, 3 classes"


def test_files_can_be_named(coco, tmp_path):
    add_split(coco, "val")
    other = shutil.copy(coco.path, coco.root / "mine.json")
    dataset = coco.dataset(train_file="mine.json")
    assert dataset.names == ("train",)  # only named files count
    assert dataset.sources["train"].origin == other
    assert coco.dataset(test_file=str(other)).names == ("train", "val", "test")
    shutil.move(coco.images, tmp_path / "elsewhere")
    shutil.rmtree(coco.root / "val")
    split = opened(coco, image_dir=str(tmp_path / "elsewhere"), train_file="mine.json")
    assert split.num_examples == 5
    with pytest.raises(UserError, match=r"--val_file absent\.json: no such path"):
        coco.dataset(val_file="absent.json")


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
    with pytest.raises(NoSplitError, match=r"no test split found \(there: train, val\); name .* --test_file"):
        open_split(coco.root, "test")
    with pytest.raises(NoSplitError, match=r"--val_file or hold out a part of train with --val_fraction"):
        coco.dataset().convert("val")
    with pytest.raises(UserError, match="--val_fraction 1"):
        coco.dataset(val_fraction=1.0)


def test_one_image_cannot_be_divided(coco):
    coco.content.update(images=coco.content["images"][:1], annotations=coco.content["annotations"][:1])
    coco.write()
    dataset = coco.dataset(val_fraction=0.5)
    dataset.convert("train", progress=False)
    assert dataset.open("train").num_examples == 1
    with pytest.raises(UserError, match="the val split is empty"):
        dataset.convert("val", progress=False)


def test_problems_are_reported_once(coco, caplog):
    coco.add_box(100, 7, [1, 1, 0, 0], segmentation=[[1, 1, 5, 1, 5, 5]])
    coco.write()
    with caplog.at_level(logging.INFO, "maskrcnn"):
        coco.dataset(val_fraction=0.5).convert("train", "val", progress=False)
    assert [record.message for record in caplog.records] == [
        "repaired: annotation 5: degenerate box [1, 1, 0, 0]; taken from its mask (instances_train.json)"
    ]


def test_what_dataset_it_is_comes_before_what_is_wrong_with_it(coco, caplog):
    coco.add_box(100, 7, [1, 1, 0, 0], segmentation=[[1, 1, 5, 1, 5, 5]])
    coco.write()
    for count in (3, 2):  # the second time without reading annotations
        with caplog.at_level(logging.INFO, "maskrcnn"):
            coco.dataset(val_fraction=0.5).convert("train", "val", progress=False, announce=True)
        words = [record.message.split()[0].strip(",:") for record in caplog.records]
        assert words == ["COCO", "no", "repaired"][:count]
        caplog.clear()


def test_an_empty_record_file(tmp_path):
    (tmp_path / "val.tfrecord").touch()
    with pytest.raises(UserError, match="the val split is empty"):
        open_split(tmp_path, "val")


def test_missing_shards(tmp_path):
    for shard in (0, 2):
        (tmp_path / f"train-{shard:05d}-of-00004.tfrecord").touch()
    with pytest.raises(UserError, match="shards 1, 3 of 4 of 'train' are missing"):
        open_split(tmp_path, "train")


def test_named_files_cannot_join_records(coco, tmp_path):
    (tmp_path / "train.tfrecord").touch()
    with pytest.raises(UserError, match="holds TFRecords"):
        find_dataset(tmp_path, DataConfig(val_file=str(coco.path)))


def write_third_party_records(coco, folder, name="val", **changes):
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


def test_third_party_records_give_the_same_batches_as_our_own(triangles, tmp_path):
    write_third_party_records(triangles, tmp_path / "third_party", "train")
    own, third_party = opened(triangles), open_split(tmp_path / "third_party", "train")
    assert own.categories == third_party.categories
    np.testing.assert_array_equal(own.index.sizes, third_party.index.sizes)
    np.testing.assert_array_equal(own.index.image_ids, third_party.index.image_ids)
    np.testing.assert_array_equal(own.index.objects, third_party.index.objects)
    batches = [train_dataset(split, Config.tiny(), batch_size=1, seed=0).take(8) for split in (own, third_party)]
    for first, second in zip(*(dataset.as_numpy_iterator() for dataset in batches), strict=True):
        for key in first:
            if key == "masks":
                assert (first[key] != second[key]).mean() < 0.05 / 16  # the rim of one object in sixteen slots
            else:
                np.testing.assert_allclose(first[key], second[key], rtol=1e-5, err_msg=key)


def test_annotations_are_made_of_third_party_records(triangles, tmp_path, monkeypatch):
    write_third_party_records(triangles, tmp_path / "third_party")
    split = open_split(tmp_path / "third_party", "val", cache_dir=tmp_path / "model")
    made = json.loads(split.annotation_file.read_text())
    assert {category["id"]: category["name"] for category in made["categories"]} == {0: "dog", 7: "cow", 90: "cat"}
    assert [image["id"] for image in made["images"]] == [100, 101, 102, 103, 104]
    assert [entry["iscrowd"] for entry in made["annotations"]] == [0, 1, 0, 0, 0]
    assert mask_utils.area(made["annotations"][0]["segmentation"]) == pytest.approx(100, rel=0.1)
    monkeypatch.setattr("maskrcnn.data.records.split.write_annotations", None)  # the second time it is found
    assert open_split(tmp_path / "third_party", "val").annotation_file == split.annotation_file


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"image/height": []}, "are no size of an image"),
        ({"image/source_id": [b"a.jpg"]}, "image/source_id is not a whole number"),
        ({"image/object/mask": []}, "0 masks for 1 objects"),
        ({"image/encoded": []}, "0 values of image/encoded"),
        ({"image/object/bbox/xmin": []}, "other than 1 boxes for 1 classes"),
    ],
)
def test_records_without_what_training_needs(coco, tmp_path, changes, problem):
    write_third_party_records(coco, tmp_path / "third_party", **changes)
    with pytest.raises(UserError, match=problem):
        open_split(tmp_path / "third_party", "val")
    assert problem in check_folder(tmp_path / "third_party", progress=False).errors[0]


def test_a_truncated_record_file_is_found_by_the_check(coco, tmp_path):
    write_third_party_records(coco, tmp_path / "third_party")
    (file,) = (tmp_path / "third_party").iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match="truncated"):
        open_split(tmp_path / "third_party", "val")
    assert "truncated" in check_folder(tmp_path / "third_party", progress=False).errors[0]


def test_annotations_of_no_split_beside_a_split_are_left_out_and_said(tmp_path, caplog):
    for number, folder in enumerate(("train", "train", "val", "extra")):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", (40, 30)).save(tmp_path / folder / f"{number}.jpg")
        shape = {"label": "cat", "points": [[1, 1], [20, 1], [20, 20]], "shape_type": "polygon"}
        content = {"shapes": [shape], "imagePath": f"{number}.jpg", "imageHeight": 30, "imageWidth": 40}
        (tmp_path / folder / f"{number}.json").write_text(json.dumps(content))
    dataset = find_dataset(tmp_path, DataConfig())
    assert dataset.names == ("train", "val")
    assert "some annotations belong to none of the splits there; they are left out" in caplog.text
