"""Files in 8-bit integers: which nodes are quantized, and how near the outputs are to the float file's."""

import dataclasses
import json
import logging

import numpy as np
import onnx
import pytest

from maskrcnn.cli import main
from maskrcnn.config import Config
from maskrcnn.data.splits import open_split
from maskrcnn.export import precision
from maskrcnn.export.calibration import calibration_images
from maskrcnn.export.onnx_file import onnx_file
from maskrcnn.export.options import ExportOptions
from maskrcnn.export.precision import FLOAT, LAYERS
from maskrcnn.inference import exported
from maskrcnn.inference.exported import load_exported
from maskrcnn.weights.model_folder import save_model
from tests.conftest import MICRO

pytestmark = pytest.mark.slow_under_jax  # compiles the live model; tests/inference/test_exported.py remains


@pytest.fixture(scope="module")
def model_dir(make_model, shapes_dir, tmp_path_factory):
    folder, categories = tmp_path_factory.mktemp("model"), open_split(shapes_dir, "val").categories
    config = dataclasses.replace(Config.tiny().override(MICRO), categories=categories)
    model = make_model(config)
    save_model(model, config, folder)
    onnx.save(onnx_file(model, config, ExportOptions()), folder / "float.onnx")
    return folder


@pytest.fixture(scope="module")
def batches(shapes_dir):
    return list(calibration_images(shapes_dir, Config.tiny().override(MICRO), None))


@pytest.fixture
def quantized(model_dir, batches, tmp_path):
    precision.quantize(model_dir / "float.onnx", tmp_path / "model.onnx", iter(batches))
    return tmp_path / "model.onnx"


def test_layers_compute_in_integers_but_for_the_last(quantized):
    model = onnx.load(quantized)
    producers = {output: node.op_type for node in model.graph.node for output in node.output}
    layers = [node for node in model.graph.node if node.op_type in LAYERS]
    integers = {node.name for node in layers if producers.get(node.input[1]) == "DequantizeLinear"}
    floats = {node.name for node in layers} - integers
    assert {name.rpartition("_")[0] if name[-1].isdigit() else name for name in floats} == set(FLOAT)
    assert {"resnet/stem", "box_head/dense1", "mask_head/upsample"} <= integers
    kernel = next(node.input[1] for node in model.graph.node if node.name == "resnet/stem")
    scale = next(node.input[1] for node in model.graph.node if node.output[0] == kernel)
    assert next(i.dims for i in model.graph.initializer if i.name == scale) == [8]  # one for each channel


def test_outputs_are_near_the_float_files_under_both_runtimes(quantized, model_dir, batches, tmp_path):
    from maskrcnn.export.openvino_file import convert_to_openvino

    pytest.importorskip("openvino")
    convert_to_openvino(quantized, tmp_path / "model.xml")
    assert "FakeQuantize" in (tmp_path / "model.xml").read_text()
    files = [load_exported(path) for path in (model_dir / "float.onnx", quantized, tmp_path / "model.xml")]
    expected, *others = [file.model.predict_on_batch(batches[0]) for file in files]
    for actual in others:
        assert abs(int(actual["valid"].sum()) - int(expected["valid"].sum())) <= 1
        np.testing.assert_allclose(actual["scores"][0, 0], expected["scores"][0, 0], atol=0.1)
    assert "weights_sha256" in files[1].model.metadata
    assert files[2].model.metadata["precision"] == files[1].model.metadata["precision"] != "float32"


def test_weights_have_seven_bits_where_sums_saturate(model_dir, batches, tmp_path, monkeypatch, caplog):
    for exact, largest in ((True, 127), (False, 64)):
        monkeypatch.setattr(precision, "sums_int8_exactly", lambda exact=exact: exact)
        precision.quantize(model_dir / "float.onnx", tmp_path / f"{exact}.onnx", iter(batches[:1]))
        kernels = [
            onnx.numpy_helper.to_array(array) for array in onnx.load(tmp_path / f"{exact}.onnx").graph.initializer
        ]
        assert max(np.abs(array.astype(int)).max() for array in kernels if array.dtype == np.int8) == largest
    monkeypatch.setattr(exported, "sums_int8_exactly", lambda: False)
    load_exported(tmp_path / "False.onnx")
    assert not caplog.text
    load_exported(tmp_path / "True.onnx")
    assert "True.onnx: made for processors that add 8-bit products exactly" in caplog.text


def test_export_eval_and_benchmark_from_the_command_line(model_dir, shapes_dir, capsys, caplog):
    with caplog.at_level(logging.INFO):
        assert main(f"export --model_dir {model_dir} --int8 {shapes_dir}".split()) == 0
    made = model_dir / "export" / "model.int8.onnx"
    assert capsys.readouterr().out == f"{made} finds nearly what the model finds\n"
    assert "calibration image 0, 64x64" in caplog.text
    assert main(f"eval --model {made} --data_dir {shapes_dir}".split()) == 0
    assert "3 images" in capsys.readouterr().out
    assert json.loads((made.parent / "model.int8.onnx.metrics_val.json").read_text())["images"] == 3
    assert main(f"eval --model {made} --model_dir {model_dir} --data_dir {shapes_dir}".split()) == 2
    assert "not allowed with argument" in capsys.readouterr().err
    out_file = model_dir / "out.jsonl"
    flags = f"--batch_size 2 --steps 2 --warmup_steps 1 --out_file {out_file}"
    assert main(f"benchmark inference --model {made} {flags}".split()) == 0
    record = json.loads(out_file.read_text())["configuration"]
    assert (record["backend"], record["batch_size"], record["canvas"]) == ("onnxruntime", 2, [64, 64])
    assert record["precision"].startswith("int8")
    assert main(f"benchmark inference --model {made} --model_dir {model_dir} {flags}".split()) == 2
    assert "give one of --model_dir and --model" in capsys.readouterr().err
