"""Each image has one row, whatever is killed and started again."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.cli import main
from maskrcnn.errors import UserError
from maskrcnn.imaging.mask_paste import coco_mask
from maskrcnn.inference.batch import plan, run
from maskrcnn.inference.batch.plan import plan_parts
from maskrcnn.inference.batch.run import BatchOptions, infer_batch
from maskrcnn.inference.predictor import Predictor
from maskrcnn.inference.sources import ModelSource
from tests.inference.gray_objects import GrayModel, draw_objects, gray_config

parquet = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.no_backend


@pytest.fixture(autouse=True)
def _gray_model(monkeypatch, tmp_path):
    config = gray_config(64)

    def open_source(model):
        path = Path(model)
        if not path.exists():
            path = tmp_path / f"model_{path.name}"
            path.write_text(path.name)
        return ModelSource(config, lambda own: Predictor(GrayModel(), own), (path,))

    monkeypatch.setattr(run, "open_source", open_source)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """22 images, of which one is damaged and one empty."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(22):
        ellipses = [] if number == 3 else [(20 + number, 30, 9, 6 + number % 5)]
        Image.fromarray(draw_objects(64, 64, ellipses)).save(folder / f"{number:02d}.png")
    (folder / "07.png").write_bytes(b"no image")
    return folder


def rows_of(folder):
    return [row for path in sorted(folder.glob("part-*.parquet")) for row in parquet.read_table(path).to_pylist()]


def test_rows_are_coco_results_of_each_image(images, tmp_path):
    result = infer_batch("m", tmp_path / "out", [images], options=BatchOptions(part_images=5))
    assert (result.images, result.unreadable, result.parts, result.missing) == (22, 1, 5, 0)
    rows = rows_of(tmp_path / "out")
    assert [row["image_id"] for row in rows] == list(range(1, 23))
    assert [row["file_name"] for row in rows] == sorted(map(str, images.iterdir()))
    assert [len(row["detections"]) for row in rows] == [number not in (3, 7) for number in range(22)]
    assert [row["image_id"] for row in rows if row["error"]] == [8]
    assert "07.png" in rows[7]["error"]
    found = rows[10]["detections"][0]
    truth = draw_objects(64, 64, [(30, 30, 9, 6)])[..., 0] > 0
    mask = coco_mask.decode(found["segmentation"]).astype(bool)
    assert (mask & truth).sum() / (mask | truth).sum() > 0.9
    assert (found["category_name"], rows[10]["height"], rows[10]["width"]) == ("dark", 64, 64)


def test_shards_divide_the_parts_and_others_are_reported_missing(images, tmp_path):
    results = [
        infer_batch("m", tmp_path, [images], options=BatchOptions(part_images=5, shard=(index, 3)))
        for index in range(3)
    ]
    assert [(result.images, result.parts, result.missing) for result in results] == [(10, 2, 3), (7, 2, 1), (5, 1, 0)]
    assert [row["image_id"] for row in rows_of(tmp_path)] == list(range(1, 23))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", ["images", "write", "rename"])
def test_a_killed_run_is_completed_by_the_next(images, tmp_path, monkeypatch, at):
    """A process that is killed leaves at most a temporary file, which no reader sees and the last run removes."""
    turns = itertools.count()

    def dies(original):
        def call(*arguments, **options):
            if next(turns) == 2:
                raise Killed
            return original(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        if at == "images":
            patch.setattr(Predictor, "predict_images", dies(Predictor.predict_images))
        else:
            name = {"write": "fsync", "rename": "replace"}[at]
            patch.setattr(plan.os, name, dies(getattr(plan.os, name)))
        with pytest.raises(Killed):
            infer_batch("m", tmp_path, [images], options=BatchOptions(part_images=5))
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("part-*")}
    assert len(before) in (1, 2)
    result = infer_batch("m", tmp_path, [images], options=BatchOptions(part_images=5))
    assert result.images == 22 - 5 * len(before)
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("part-*")}.items()
    assert [row["image_id"] for row in rows_of(tmp_path)] == list(range(1, 23))
    assert not list(tmp_path.glob(".*"))


def test_results_of_two_plans_are_not_mixed(images, tmp_path):
    infer_batch("m", tmp_path, [images], options=BatchOptions(part_images=5, shard=(0, 5)))
    with pytest.raises(UserError, match=r"_plan\.json: .* of another plan \(different parts\); give another --out_dir"):
        infer_batch("m", tmp_path, [images], options=BatchOptions(part_images=4))
    with pytest.raises(UserError, match="different images and parts"):
        infer_batch("m", tmp_path, [images / "00.png"], options=BatchOptions(part_images=5))
    with pytest.raises(UserError, match="different settings"):
        infer_batch("m", tmp_path, [images], settings={"train.seed": 2}, options=BatchOptions(part_images=5))
    with pytest.raises(UserError, match="different model"):
        infer_batch("n", tmp_path, [images], options=BatchOptions(part_images=5))


def test_a_changed_model_is_another_plan(images, tmp_path):
    for content in (b"1", b"2"):
        (tmp_path / "m.onnx").write_bytes(content)
        if content == b"1":
            infer_batch(tmp_path / "m.onnx", tmp_path / "out", [images])
    with pytest.raises(UserError, match="different model"):
        infer_batch(tmp_path / "m.onnx", tmp_path / "out", [images])


def test_the_command(images, tmp_path, capsys):
    command = ["batch", str(images), "--model", "m.onnx", "--out_dir", str(tmp_path / "out"), "--part_images", "8"]
    assert main([*command, "--shard", "1/2"]) == 0
    assert "predicted 8 images; 1 parts are in" in capsys.readouterr().out
    assert main(command) == 1
    assert "predicted 14 images, of which 1 could not be read; 3 parts" in capsys.readouterr().out
    assert main(command) == 0
    assert "predicted 0 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--shard 2/2", "--shard 2/2: shards of 2 are numbered from 0 to 1"),
        ("--shard 1", "--shard 1: expected I/N"),
        ("--weights x", "give one of --model_dir, --weights and --model"),
    ],
)
def test_wrong_flags_end_in_one_line(images, tmp_path, capsys, flags, message):
    command = ["batch", str(images), "--model", "m.onnx", "--out_dir", str(tmp_path / "out"), *flags.split()]
    assert main(command) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not (tmp_path / "out").exists()


def test_videos_are_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.mp4: a video; give it to `maskrcnn infer`"):
        plan_parts([tmp_path / "a.mp4"], 10)


def test_http_images_are_downloaded_once_a_part(images, tmp_path):
    from tests.file_server import FileServer

    with FileServer() as server:
        server.files["/a.png"] = (images / "00.png").read_bytes()
        predictor = Predictor(GrayModel(), gray_config(64))
        parts = plan_parts([f"{server.url}/a.png", f"{server.url}/b.png"], 10)
        assert run.predict_part(predictor, parts[0], tmp_path, run.Views()) == 1
    first, second = rows_of(tmp_path)
    assert len(first["detections"]) == 1
    assert "404" in second["error"]
    assert np.isnan(second["height"] or np.nan)
