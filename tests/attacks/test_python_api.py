"""Wrong types and values in calls from Python: each ends in one line, before anything is computed or written."""

import os

import numpy as np
import pytest
from PIL import Image

import maskrcnn
from maskrcnn import Config, ExportOptions, InferOptions, Recipe, RunOptions, Start, UserError
from maskrcnn.inference.detections import Detections
from maskrcnn.inference.predictor import Predictor

NO_PATHS = {
    "None": None, "int": 5, "zero": 0, "nan": float("nan"), "true": True, "bytes": b"abc", "empty": "", "nul": "a\0b",
    "surrogate": "\udcff", "long": "a" * 5000, "list": [], "dict": {}, "object": object(), "function": len,
    "class": dict, "array": np.zeros(3), "complex": 1j,
}  # fmt: skip
NO_FILES = {"missing": "no/such/place", "device": "/dev/null", "folder": ".", "url": "http://[", "lines": "a\nb"}
OTHERS = {name: value for name, value in NO_PATHS.items() if name not in ("None", "list", "dict", "empty", "zero")}


def each(values):
    return pytest.mark.parametrize("value", values.values(), ids=values)


@pytest.fixture(autouse=True)
def _nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.rglob("*")) == []


def refused(call):
    with pytest.raises(UserError) as error:
        call()
    line = str(error.value)
    assert line.isprintable()
    assert len(line) < 1010


def detections():
    none = np.zeros(0, np.float32)
    return Detections(none.reshape(0, 4), none.astype(np.int32), none, [], (20, 30), ())


@each({**NO_PATHS, **NO_FILES})
def test_models(value):
    refused(lambda: maskrcnn.load(value))
    refused(lambda: maskrcnn.export_model(value))
    refused(lambda: maskrcnn.evaluate_folder(value, "data"))
    refused(lambda: maskrcnn.infer_folder(value, "out", paths=["a.jpg"]))
    refused(lambda: maskrcnn.load_config(value))


@each({**NO_PATHS, **NO_FILES})
def test_images(value):
    predictor = Predictor(None, Config.tiny())
    refused(lambda: predictor.predict(value)) if not isinstance(value, list) else None
    refused(lambda: list(predictor.predict([value])))
    refused(lambda: detections().draw(value))


@each({
    "gray floats": np.zeros((8, 8)), "channels": np.zeros((8, 8, 5), np.uint8), "empty": np.zeros((0, 8, 3), np.uint8),
    "batch": np.zeros((1, 8, 8, 3), np.uint8), "objects": np.array([[None]]), "text": np.array([["a"]]),
    "complex": np.zeros((8, 8, 3), complex), "nan": np.full((8, 8, 3), np.nan), "bool": np.zeros((8, 8), bool),
    "scalar": np.array(5, np.uint8), "floating": Image.new("F", (8, 8)), "no pixels": Image.new("RGB", (0, 0)),
})  # fmt: skip
def test_pixels(value):
    refused(lambda: Predictor(None, Config.tiny()).predict(value))
    refused(lambda: detections().draw(value))


@each({name: value for name, value in NO_PATHS.items() if name != "None"})
def test_folders(value):
    refused(lambda: maskrcnn.train(Config.tiny(), data_dir=value, model_dir="model"))
    refused(lambda: maskrcnn.train(Config.tiny(), data_dir="data", model_dir=value))
    refused(lambda: maskrcnn.evaluate_folder("model", value))
    refused(lambda: maskrcnn.infer_folder("model", value, paths=["a.jpg"]))
    refused(lambda: maskrcnn.export_model("model", value))
    refused(lambda: detections().save(value, np.zeros((20, 30, 3), np.uint8)))
    refused(lambda: maskrcnn.train(Config.tiny(), data_dir="data", model_dir="m", start=Start(weights=value)))
    refused(lambda: RunOptions(eval_file=value))
    refused(lambda: ExportOptions(int8=value))


@each(OTHERS)
def test_objects(value):
    refused(lambda: maskrcnn.train(value, data_dir="data", model_dir="model"))
    refused(lambda: maskrcnn.train(Config.tiny(), data_dir="data", model_dir="model", start=value))
    refused(lambda: maskrcnn.train(Config.tiny(), data_dir="data", model_dir="model", options=value))
    refused(lambda: maskrcnn.train(Config.tiny(), data_dir="data", model_dir="model", callbacks=value))
    refused(lambda: maskrcnn.infer_folder("model", "out", paths=["a.jpg"], options=value))
    refused(lambda: maskrcnn.infer_folder("model", "out", paths=["a.jpg"], settings=value))
    refused(lambda: maskrcnn.infer_folder("model", "out", paths=value))
    refused(lambda: maskrcnn.export_model("model", options=value))
    refused(lambda: maskrcnn.evaluate_folder("model", "data", logs=value))
    refused(lambda: detections().save("out", np.zeros((20, 30, 3), np.uint8), value))
    refused(lambda: Config.tiny().override(value))
    refused(lambda: RunOptions(logs=value))
    refused(lambda: Recipe(preset=value))
    refused(lambda: Recipe(settings=value))
    refused(lambda: Recipe(pretrained=value))


@each({
    "format": {"format": "pdf"}, "no format": {"format": None}, "list": {"format": []}, "batch 0": {"batch": 0},
    "batch text": {"batch": "x"}, "batch float": {"batch": 1.5}, "odd": {"size": (33, 64)}, "one side": {"size": 5},
    "sides": {"size": (64,)}, "letters": {"size": ("a", "b")}, "nan": {"size": (float("nan"), 64)},
    "images": {"check_images": 5}, "image": {"check_images": "a.jpg"},
})  # fmt: skip
def test_export_options(value):
    refused(lambda: ExportOptions(**value))


@each({
    "high": {"score_threshold": 2}, "nan": {"score_threshold": float("nan")}, "text": {"score_threshold": "x"},
    "none": {"score_threshold": None}, "views": {"views": 5}, "video": {"video": 5},
})  # fmt: skip
def test_infer_options(value):
    refused(lambda: InferOptions(**value))


@each({**OTHERS, "list": [[]], "dict": {"x": {}}, "infinite": float("inf"), "huge": 10**400, "json": "[[[["})
@pytest.mark.parametrize(
    "name", ["train.epochs", "image.min_side", "rpn.nms_iou", "train.learning_rate_values", "norm"]
)
def test_settings(name, value):
    if (name, value) in (("train.epochs", 5), ("image.min_side", 5)) if isinstance(value, int) else False:
        pytest.skip("is right")
    refused(lambda: Config.tiny().override({name: value}))


def test_a_pipe_is_no_model():
    os.mkfifo("pipe")
    refused(lambda: maskrcnn.load("pipe"))
    refused(lambda: maskrcnn.load_config("pipe"))
    os.remove("pipe")
