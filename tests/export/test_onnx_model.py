"""The whole graph: what it takes, returns and tells about itself."""

import json

import numpy as np
import onnx
import pytest

from maskrcnn.config import Config
from maskrcnn.errors import UserError
from maskrcnn.export.metadata import hash_weights
from maskrcnn.export.onnx_model import InputShape, build_onnx

pytestmark = pytest.mark.slow_under_jax  # compiles the live model; tests/inference/test_exported.py remains


def shapes(values):
    return {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim] for value in values
    }


def test_a_file_tells_its_shapes_config_and_weights(config, make_model, weights_of):
    weights = weights_of(make_model(config))
    model = build_onnx(config, weights, InputShape(2, 64, 96))
    assert shapes(model.graph.input) == {"images": [2, 64, 96, 3], "image_sizes": [2, 2]}
    outputs = {"boxes": [2, 12, 4], "classes": [2, 12], "scores": [2, 12], "masks": [2, 12, 28, 28], "valid": [2, 12]}
    assert shapes(model.graph.output) == outputs
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert Config.from_dict(json.loads(found["config"])) == config
    assert json.loads(found["class_names"]) == {"1": "class 1", "2": "class 2", "3": "class 3"}
    assert "64 px" in found["resize"]
    assert found["weights_sha256"] == hash_weights(weights)
    assert [entry.version for entry in model.opset_import] == [17]
    assert not {"Loop", "If", "Scan"} & {node.op_type for node in model.graph.node}


def test_any_size_and_batch(config, make_model, weights_of):
    model = build_onnx(config, weights_of(make_model(config)), InputShape(None))
    assert shapes(model.graph.input) == {"images": ["batch", "height", "width", 3], "image_sizes": ["batch", 2]}


def test_the_hash_depends_on_each_weight(config, make_model, weights_of):
    weights = weights_of(make_model(config))
    changed = {**weights, "box_head/classes/bias": weights["box_head/classes/bias"] + 1}
    assert hash_weights(weights) != hash_weights(changed)


def test_weights_of_another_backbone_are_refused(config, make_model, weights_of):
    weights = weights_of(make_model(config))
    with pytest.raises(UserError, match="1 weights belong to no layer that can be exported, such as resnet/extra"):
        build_onnx(config, {**weights, "resnet/extra/kernel": np.zeros((1, 1), np.float32)}, InputShape())


def test_the_checker_sees_the_whole_graph(config, make_model, weights_of):
    model = build_onnx(config, weights_of(make_model(config)), InputShape())
    model.graph.node[10].input[0] = "nothing"
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model)
