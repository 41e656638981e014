"""An exported file predicts as the model does, where neither Keras nor TensorFlow nor JAX can be imported."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.config import Category, Config
from maskrcnn.errors import UserError
from maskrcnn.export.options import FORMATS, ExportOptions
from maskrcnn.inference.exported import METADATA, ExportedModel, exported_files, load_exported
from maskrcnn.inference.predictor import Predictor

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

BLOCKED = """
import json, sys
for name in ("keras", "tensorflow", "jax", "onnx", "matplotlib", "hotcoco", "yaml", "jinja2", "contourpy"):
    sys.modules[name] = None
import numpy as np
from maskrcnn.inference.exported import load_exported
found = load_exported(sys.argv[1]).predict(sys.argv[2])
print(json.dumps({"boxes": found.boxes.tolist(), "names": found.names, "scores": found.scores.tolist(),
                  "counts": [rle["counts"].decode() for rle in found.rles]}))
"""


@pytest.fixture(scope="module")
def model_and_config():
    import dataclasses

    import keras

    from maskrcnn.model import MaskRCNN
    from tests.conftest import MICRO
    from tests.stand_in import remember_outputs

    keras.utils.set_random_seed(0)
    config = Config.tiny().override({**MICRO, "image.max_side": 96})
    config = dataclasses.replace(config, categories=(Category(1, 10, "cat"), Category(2, 25, "dog")))
    model = MaskRCNN(config)  # each class has a probability of about a third, above the threshold of scores
    model.compile(run_eagerly=keras.backend.backend() == "tensorflow")  # quicker than tracing it
    remember_outputs(model)
    return model, config


# Under JAX one format shows the way of the weights into a file; the others are written by the same steps.
OTHERS = [pytest.param(name, marks=pytest.mark.slow_under_jax) for name in ("model.xml", "model.tflite")]


@pytest.fixture(scope="module", params=["model.onnx", *OTHERS])
def exported(request, model_and_config, tmp_path_factory, few_check_images):
    from maskrcnn.export.run import export_model

    out = tmp_path_factory.mktemp("export") / request.param
    format = {".onnx": "onnx", ".xml": "openvino", ".tflite": "litert"}[out.suffix]
    for package in FORMATS[format].packages:
        pytest.importorskip(package)
    return export_model(model_and_config, out, ExportOptions(format, batch=2, size=(96, 64))).path


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 50, 3), np.uint8)).save(path)
    return path


@pytest.mark.slow_under_jax
def test_it_predicts_without_keras_what_the_model_predicts(exported, photo, model_and_config):
    command = [sys.executable, "-c", BLOCKED, str(exported), str(photo)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    expected = Predictor(*model_and_config).predict(photo)
    assert found["names"] == expected.names
    assert set(found["names"]) == {"cat", "dog"}
    np.testing.assert_allclose(found["boxes"], expected.boxes, atol=1e-3)
    np.testing.assert_allclose(found["scores"], expected.scores, atol=1e-5)


def test_any_number_of_images_is_run_in_batches_of_the_files_size(exported):
    predictor = load_exported(exported, threads=1)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (5, 96, 64, 3), np.uint8)
    batch = {"images": images, "image_sizes": np.array([[96, 64]] * 5)}
    together = predictor.model.predict_on_batch(batch)
    assert together["boxes"].shape == (5, 5, 4)
    alone = predictor.model.predict_on_batch({name: values[4:] for name, values in batch.items()})
    for name, values in together.items():
        np.testing.assert_allclose(values[4], alone[name][0], atol=1e-4)


def test_an_image_without_objects_gives_padding(exported):
    batch = {"images": np.zeros((1, 96, 64, 3), np.uint8), "image_sizes": np.zeros((1, 2))}
    outputs = load_exported(exported, threads=1).model.predict_on_batch(batch)
    assert outputs["masks"].shape[:2] == (1, 5)
    assert not any(values.any() for values in outputs.values())


def test_batches_are_filled_up_with_empty_images(tmp_path):
    runs = []

    def run(images, image_sizes):
        runs.append(image_sizes.tolist())
        values, valid = image_sizes.astype(np.float32), image_sizes > 0
        boxes, masks = np.repeat(values[..., None], 4, axis=2), values[..., None, None]
        return {"boxes": boxes, "classes": values, "scores": values, "masks": masks, "valid": valid}

    model = ExportedModel(run, (2, 8, None, 3), {}, tmp_path / "model.onnx", "")
    x = {"images": np.zeros((3, 8, 8, 3)), "image_sizes": np.array([[8, 7], [8, 6], [8, 5]])}
    assert model.predict_on_batch(x)["scores"].tolist() == [[8, 7], [8, 6], [8, 5]]
    assert runs == [[[8, 7], [8, 6]], [[8, 5], [0, 0]]]


def test_a_canvas_of_another_size_is_refused(tmp_path):
    model = ExportedModel(lambda *_: {}, (1, 64, 96, 3), {}, tmp_path / "model.onnx", "")
    with pytest.raises(UserError, match=r"model.onnx: takes images on a 64x96 px canvas, and this one needs 96x64"):
        model.predict_on_batch({"images": np.zeros((1, 96, 64, 3)), "image_sizes": np.zeros((1, 2))})


@pytest.mark.parametrize(
    ("name", "package"), [("model.onnx", "onnxruntime"), ("model.xml", "openvino"), ("model.tflite", "ai_edge_litert")]
)
def test_missing_damaged_and_other_files_are_refused(tmp_path, name, package):
    path = tmp_path / name
    pytest.importorskip(package)
    with pytest.raises(UserError, match="no such file"):
        load_exported(path)
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match="or damaged"):
        load_exported(path)
    with pytest.raises(UserError, match=r"unknown format; expected a file ending in \.onnx, \.xml, \.tflite"):
        load_exported(tmp_path / "model.pb")


def test_a_file_of_another_program_is_refused(tmp_path):
    helper = onnx.helper
    info = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2, 2, 3])
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2, 2, 3])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", [info], [result])
    path = tmp_path / "other.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(UserError, match="not written by `maskrcnn export`"):
        load_exported(path)


@pytest.mark.parametrize(
    ("file", "module", "extra"),
    [
        ("model.onnx", "onnxruntime", "runtime"),
        ("model.xml", "openvino", "openvino"),
        ("model.tflite", "ai_edge_litert.interpreter", "litert"),
        ("saved_model/saved_model.pb", "tensorflow", "tensorflow"),
    ],
)
def test_a_missing_runtime_is_named(tmp_path, monkeypatch, file, module, extra):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.touch()
    monkeypatch.setitem(sys.modules, module, None)
    package = module.partition(".")[0]
    with pytest.raises(UserError, match=rf"^{package} is not installed; run: pip install 'maskrcnn\[{extra}\]'"):
        load_exported(tmp_path / Path(file).parts[0])


@pytest.mark.parametrize("config", ["{", "[]", "1", '{"model": 3}', "[" * 1000], ids=len)
def test_a_config_that_is_none_is_named(tmp_path, monkeypatch, config):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    opened = ExportedModel(
        lambda *_: {}, (1, 64, 64, 3), dict.fromkeys(METADATA, "") | {"config": config}, path, "onnxruntime"
    )
    monkeypatch.setattr("maskrcnn.inference.exported._open_onnx", lambda path, threads: opened)
    with pytest.raises(UserError, match=r"model\.onnx: holds no valid config"):
        load_exported(path)


def test_the_files_of_an_exported_model(tmp_path):
    for name in ("m.onnx", "m.xml", "m.bin", "saved/saved_model.pb", "saved/variables/variables.index"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert exported_files(tmp_path / "m.onnx") == (tmp_path / "m.onnx",)
    assert exported_files(tmp_path / "m.xml") == (tmp_path / "m.bin", tmp_path / "m.xml")
    assert [path.name for path in exported_files(tmp_path / "saved")] == ["saved_model.pb", "variables.index"]
