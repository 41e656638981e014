import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pycocotools.coco import COCO

from maskrcnn.config import DataConfig
from maskrcnn.data.records import convert
from maskrcnn.data.records.existing import read_converted
from maskrcnn.data.records.tfrecord import RecordReader, record_spans
from maskrcnn.data.splits import find_dataset
from maskrcnn.errors import UserError


def run(coco, out_dir, **options):
    coco.dataset(**options).convert("train", out_dir=out_dir, progress=False)
    converted = read_converted(out_dir, "train", None)
    assert converted is not None
    return converted


def read_example(index, number):
    data = RecordReader(index.files).read(index.spans[number])
    return tf.train.Example.FromString(data).features.feature


def test_records_hold_what_the_annotations_say(coco, tmp_path):
    converted = run(coco, tmp_path / "out")
    assert converted.index.image_ids.tolist() == [100, 101, 102, 103, 104]
    assert converted.index.sizes.tolist() == [[40, 64], [64, 40], [48, 48], [30, 60], [60, 30]]
    features = read_example(converted.index, 1)
    assert features["image/encoded"].bytes_list.value[0] == (coco.images / "101.jpg").read_bytes()
    assert features["image/source_id"].bytes_list.value[0] == b"101"
    assert list(features["image/object/class/label"].int64_list.value) == [0]
    assert list(features["image/object/class/text"].bytes_list.value) == [b"dog"]
    assert features["image/object/bbox/xmin"].float_list.value[0] == pytest.approx(4.5 / 40)
    assert features["image/object/bbox/ymax"].float_list.value[0] == pytest.approx(16 / 64)
    assert features["image/object/area"].float_list.value[0] == 200
    assert features["image/object/mask_bits"].bytes_list.value[0] == b"\xff" * 1568
    assert not read_example(converted.index, 2)["image/object/class/label"].int64_list.value


def test_spans_are_those_that_tensorflow_reads(coco, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "SHARD_IMAGES", 2)
    index = run(coco, tmp_path / "out").index
    assert [file.name for file in index.files] == [f"train-0000{n}-of-00003.tfrecord" for n in range(3)]
    expected = list(tf.data.TFRecordDataset([str(file) for file in index.files]).as_numpy_iterator())
    assert [RecordReader(index.files).read(span) for span in index.spans] == expected


def test_the_annotations_beside_the_records_serve_cocoeval(coco, tmp_path):
    coco.content["annotations"][0].update(id=0)
    del coco.content["annotations"][1]["area"]
    coco.write()
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(str(run(coco, tmp_path / "out").annotation_file))
    assert sorted(annotations.anns) == [1, 2, 3, 4]  # COCOeval takes 0 for "not matched"
    assert annotations.anns[2]["area"] == 200
    assert annotations.loadCats([0])[0]["name"] == "dog"
    assert annotations.annToMask(annotations.anns[1]).sum() == pytest.approx(200, abs=10)


def test_a_second_start_finds_the_records(coco, tmp_path, monkeypatch):
    first = run(coco, tmp_path / "out")
    os.utime(coco.path)  # a copied file has another time and the same content
    monkeypatch.setattr("maskrcnn.data.splits.read_splits", None)
    second = run(coco, tmp_path / "out")
    np.testing.assert_array_equal(first.index.spans, second.index.spans)
    assert first.categories == second.categories


def test_a_changed_source_is_converted_again(coco, tmp_path):
    run(coco, tmp_path / "out")
    coco.content["images"].pop()
    coco.content["annotations"].pop()
    coco.write()
    assert len(run(coco, tmp_path / "out").index) == 4


def test_fewer_shards_replace_more(coco, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "SHARD_IMAGES", 2)
    run(coco, tmp_path / "out")
    coco.content["images"], coco.content["annotations"] = coco.content["images"][:2], coco.content["annotations"][:2]
    coco.write()
    run(coco, tmp_path / "out")
    records = sorted(file.name for file in (tmp_path / "out").glob("*.tfrecord"))
    assert records == ["train-00000-of-00001.tfrecord"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_conversion_resumes_with_its_finished_shards(coco, tmp_path, monkeypatch, error):
    monkeypatch.setattr(convert, "SHARD_IMAGES", 2)
    whole = run(coco, tmp_path / "whole")
    prepared, serialize = [], convert.serialize

    def fail(image, names):
        if image.entry.id == 103:
            raise error
        return serialize(image, names)

    monkeypatch.setattr(convert, "serialize", fail)
    with pytest.raises((KeyboardInterrupt, UserError)):
        run(coco, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".train.partial"]
    left = sorted(path.name for path in (tmp_path / "out" / ".train.partial").iterdir())
    assert left == ["train-00000-of-00003.tfrecord", "train-00000-of-00003.tfrecord.json"]
    assert read_converted(tmp_path / "out", "train", None) is None

    monkeypatch.setattr(convert, "serialize", lambda image, names: prepared.append(image) or serialize(image, names))
    run(coco, tmp_path / "out")
    assert sorted(image.entry.id for image in prepared) == [102, 103, 104]
    assert_same_folder(tmp_path / "out", tmp_path / "whole")
    assert len(whole.index) == 5


def assert_same_folder(left, right):
    names = sorted(path.name for path in left.iterdir())
    assert names == sorted(path.name for path in right.iterdir())
    for name in names:
        assert (left / name).read_bytes() == (right / name).read_bytes(), name


@pytest.mark.parametrize("change", ["annotations", "image", "record"])
def test_finished_shards_of_other_data_are_made_anew(coco, tmp_path, monkeypatch, change):
    monkeypatch.setattr(convert, "SHARD_IMAGES", 2)

    def stop(*_):
        raise KeyboardInterrupt

    publish = convert._publish
    monkeypatch.setattr(convert, "_publish", stop)
    with pytest.raises(KeyboardInterrupt):
        run(coco, tmp_path / "out")
    monkeypatch.setattr(convert, "_publish", publish)
    if change == "annotations":
        coco.content["annotations"][0]["category_id"] = 0
        coco.write()
    elif change == "image":
        (coco.images / "100.jpg").write_bytes((coco.images / "100.jpg").read_bytes() + b"\0")
    else:
        shard = tmp_path / "out" / ".train.partial" / "train-00000-of-00003.tfrecord"
        shard.write_bytes(shard.read_bytes()[:-1])
    run(coco, tmp_path / "out")
    run(coco, tmp_path / "whole")
    assert_same_folder(tmp_path / "out", tmp_path / "whole")


def test_a_killed_conversion_resumes_to_the_same_records(coco, tmp_path, monkeypatch):
    """Killed by SIGKILL as soon as the first shard is there."""
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from maskrcnn.config import DataConfig\n"
        "from maskrcnn.data.records import convert\n"
        "from maskrcnn.data.splits import find_dataset\n"
        "convert.SHARD_IMAGES = 2\n"
        "serialize = convert.serialize\n"
        "convert.serialize = lambda image, names: time.sleep(0.3 * (image.entry.id > 102)) or serialize(image, names)\n"
        "dataset = find_dataset(sys.argv[1], DataConfig(val_fraction=0))\n"
        "dataset.convert('train', out_dir=Path(sys.argv[2]), progress=False)\n"
    )
    out_dir, arguments = tmp_path / "out", [str(coco.root), str(tmp_path / "out")]
    with subprocess.Popen([sys.executable, "-c", script, *arguments]) as process:
        manifest = out_dir / ".train.partial" / "train-00000-of-00003.tfrecord.json"
        while not manifest.is_file() and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not list(out_dir.glob("*.tfrecord"))
    monkeypatch.setattr(convert, "SHARD_IMAGES", 2)
    run(coco, out_dir)
    run(coco, tmp_path / "whole")
    assert_same_folder(out_dir, tmp_path / "whole")


def test_without_its_index_a_conversion_does_not_count(coco, tmp_path):
    run(coco, tmp_path / "out")
    (tmp_path / "out" / "train.json").unlink()
    assert read_converted(tmp_path / "out", "train", None) is None


def test_a_truncated_image_is_skipped_until_it_is_replaced(coco, tmp_path, caplog):
    path = coco.images / "103.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:-300])
    converted = run(coco, tmp_path / "out")
    assert converted.index.image_ids.tolist() == [100, 101, 102, 104]
    assert len(json.loads(converted.annotation_file.read_text())["annotations"]) == 3
    assert "skipped: image 103: the image is damaged or truncated" in caplog.text
    path.write_bytes(whole)
    assert len(run(coco, tmp_path / "out").index) == 5


def test_too_many_truncated_images_stop_the_conversion(coco, tmp_path):
    for number in (101, 103):
        path = coco.images / f"{number}.jpg"
        path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match="2 of 5 images cannot be used"):
        run(coco, tmp_path / "out" / "tfrecords")
    assert not (tmp_path / "out").exists()
    assert len(run(coco, tmp_path / "out", skip_bad=True).index) == 3
    assert len(run(coco, tmp_path / "out", skip_bad=True).index) == 3
    with pytest.raises(UserError):  # it is more than is skipped by default
        run(coco, tmp_path / "out")


def test_objects_of_each_image_are_counted_without_crowds(coco, tmp_path):
    coco.add_box(100, 7, [1, 1, 5, 5])
    coco.add_box(101, 7, [1, 1, 5, 5], iscrowd=1)
    coco.write()
    assert run(coco, tmp_path / "out").index.objects.tolist() == [2, 1, 0, 1, 1]


def test_a_truncated_record_file_is_named(coco, tmp_path):
    (file,) = run(coco, tmp_path / "out").index.files
    whole = file.read_bytes()
    for cut in (1, 5, len(whole) // 2, len(whole) - 3):
        file.write_bytes(whole[:-cut])
        with pytest.raises(UserError, match=r"train-00000-of-00001.tfrecord: record \d: the file is truncated"):
            record_spans((file,))
    file.write_bytes(b"this is not a record file at all")
    with pytest.raises(UserError, match="not a TFRecord"):
        run(coco, tmp_path / "out")


def test_a_replaced_image_is_converted_again(coco, caplog):
    before = opened(coco)
    path = coco.images / "101.jpg"
    Image.fromarray(np.zeros((64, 40, 3), np.uint8)).save(path)
    with caplog.at_level("INFO", "maskrcnn"):
        after = opened(coco)
    assert "101.jpg: replaced since its conversion; the train split is converted again" in caplog.text
    assert before.index.spans.tolist() != after.index.spans.tolist()


def test_inverted_masks_are_found_when_they_are_read(coco):
    index = opened(coco).index
    number = int(np.argmax(index.objects))
    path, span = index.files[0], index.spans[number]
    data = bytearray(path.read_bytes())
    for place in range(span[1] + span[2] - 900, span[1] + span[2] - 100):
        data[place] ^= 255
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"is damaged .its checksum differs.; delete the folder and convert"):
        RecordReader(index.files).read(span)


def opened(coco):
    dataset = coco.dataset()
    dataset.convert("train", progress=False)
    return dataset.open("train")


def test_names_that_are_not_utf8_are_skipped_or_converted_once(tmp_path, caplog):
    odd = os.fsdecode(b"caf\xe9")
    shape = {"label": "cat", "points": [[2, 2], [40, 2], [40, 30]], "shape_type": "polygon"}
    try:
        for stem in ("a", "b", odd):
            Image.new("RGB", (64, 48)).save(tmp_path / f"{stem}.jpg")
    except OSError:
        pytest.skip("the file system takes Unicode only")
    for name, image in (("a", "a.jpg"), (odd, "b.jpg"), ("c", f"{odd}.jpg")):
        content = {"shapes": [shape], "imagePath": image, "imageHeight": 48, "imageWidth": 64}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    for _ in range(2):
        dataset = find_dataset(tmp_path, DataConfig(val_fraction=0.0))
        caplog.clear()
        dataset.convert("train", progress=False)
        assert dataset.open("train").num_examples == 2
    assert not caplog.records  # the second start finds the records
