"""The example for CVAT gives its SDK polygons that it takes."""

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

from maskrcnn.inference.predictor import Predictor
from tests.inference.gray_objects import GrayModel, draw_objects, gray_config

pytestmark = pytest.mark.no_backend
cvat = pytest.importorskip("cvat_sdk.auto_annotation")


def test_objects_become_polygons(monkeypatch):
    monkeypatch.setattr("maskrcnn.load", lambda model: Predictor(GrayModel(), gray_config(64)))
    path = Path(__file__).parents[2] / "examples" / "cvat_function.py"
    specification = importlib.util.spec_from_file_location("cvat_function", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)

    class Context(cvat.DetectionFunctionContext):
        frame_name, conf_threshold, conv_mask_to_poly = "a.png", None, True

    function = module.create("model.onnx")
    assert [label.name for label in function.spec.labels] == ["dark", "light"]
    image = Image.fromarray(draw_objects(64, 64, [(20, 20, 12, 9), (45, 45, 10, 10)]))
    shapes = function.detect(Context(), image)
    assert [(shape.label_id, shape.type.value) for shape in shapes] == [(1, "polygon")] * 2
    assert sorted(max(shape.points) for shape in shapes) == pytest.approx([33, 55], abs=1)
