"""LiteRT's file: a signature for each canvas, weights once, operators of the runtime only."""

import json
import zipfile

import numpy as np
import pytest

from maskrcnn.errors import UserError
from maskrcnn.export.options import ExportOptions
from maskrcnn.export.run import export_model
from maskrcnn.inference.exported import load_exported

litert = pytest.importorskip("ai_edge_litert.interpreter")
pytestmark = pytest.mark.slow_under_jax


@pytest.fixture(scope="module")
def exported(micro_config, make_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "model.tflite"
    model = make_model(micro_config)
    return export_model((model, micro_config), out, ExportOptions("litert")), model.count_params()


@pytest.fixture(scope="module")
def micro_config():
    import dataclasses

    from maskrcnn.config import Category, Config
    from tests.conftest import MICRO

    # From 128 channels on, the live model's convolutions are Winograd's, whose loops the file must not have.
    config = Config.tiny().override({**MICRO, "image.max_side": 96, "fpn.channels": 128})
    return dataclasses.replace(config, categories=(Category(1, 10, "cat"), Category(2, 25, "dog")))


def test_it_equals_the_live_model_on_both_canvases(exported):
    rows = exported[0].differences
    assert [row.image.rpartition(", ")[2] for row in rows] == ["64x96"] * 3 + ["96x64"] * 3
    assert max(row.detections for row in rows) > 3


def test_canvases_share_the_weights_and_the_runtimes_own_operators(exported):
    path, weights = exported[0].path, exported[1]
    interpreter = litert.Interpreter(str(path))
    assert set(interpreter.get_signature_list()) == {"64x96", "96x64"}
    assert not [entry for entry in interpreter._get_ops_details() if entry["op_name"].startswith("Flex")]
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("maskrcnn.json"))["precision"] == "float32"
    assert 4 * weights < path.stat().st_size < 6 * weights


def test_another_canvas_is_refused(exported):
    batch = {"images": np.zeros((1, 32, 32, 3)), "image_sizes": np.zeros((1, 2))}
    message = r"model\.tflite: takes images on 64x96 and 96x64 px, and this one needs 32x32; export the model again"
    with pytest.raises(UserError, match=message):
        load_exported(exported[0].path).model.predict_on_batch(batch)
