"""Models with generated weights, which find objects in any image, and running parts of a graph."""

import dataclasses
import functools
import importlib.util
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest

from maskrcnn.config import Category, Config
from maskrcnn.model import MaskRCNN
from maskrcnn.weights.variables import model_variables
from tests.stand_in import remember_outputs

if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")):
    collect_ignore_glob = ["test_*.py"]  # they are optional

GAINS = {
    "rpn/deltas": 0.04,
    "rpn/objectness": 4.0,
    "box_head/classes": 30.0,
    "box_head/deltas": 1.0,
    "mask_head/masks": 4.0,
}


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values that depend on the name only; batch norms are far from the identity."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    values = rng.standard_normal(shape).astype(np.float32)
    layer, _, leaf = name.rpartition("/")
    if leaf == "kernel":
        fan_in = shape[0] * shape[1] * shape[3] if "upsample" in name else np.prod(shape[:-1])
        return values * np.float32(np.sqrt(GAINS.get(layer.removesuffix("/conv"), 1.0) / fan_in))
    if leaf == "moving_variance":
        return 0.5 + np.abs(values)
    return 1.0 + 0.3 * values if leaf == "gamma" else 0.1 * values


@pytest.fixture(scope="module", autouse=True)
def _few_check_images(few_check_images):
    """The live model takes most of the time of an export."""


@pytest.fixture(scope="session")
def make_model() -> Callable[[Config], MaskRCNN]:
    """``make_model(config)``: a model with generated weights, the same one for each equal config; not to be changed."""

    @functools.cache
    def make(config: Config, policy: str) -> MaskRCNN:
        model = MaskRCNN(config, dtype=policy)
        for name, variable in model_variables(model).items():
            variable.assign(_values(name, tuple(variable.shape)))
        model.compile(run_eagerly=keras.backend.backend() == "tensorflow")  # quicker than tracing it
        remember_outputs(model)
        return model

    return lambda config, policy="float32": make(config, policy)


@pytest.fixture
def config(micro: Config) -> Config:
    """A small model of three classes, on canvases of 64x96 and 96x64 px."""
    categories = tuple(Category(index, 10 * index, f"class {index}") for index in range(1, 4))
    changed = micro.override({"image.max_side": 96, "box_head.detections": 12})
    return dataclasses.replace(changed, categories=categories)


@pytest.fixture(scope="session")
def weights_of() -> Callable[[MaskRCNN], dict[str, np.ndarray]]:
    def weights_of(model: MaskRCNN) -> dict[str, np.ndarray]:
        return {name: keras.ops.convert_to_numpy(variable) for name, variable in model_variables(model).items()}

    return weights_of


@pytest.fixture(scope="session")
def run_graph() -> Callable[..., list[np.ndarray]]:
    """``run_graph(build, **inputs)``: what the values that ``build(graph, **values)`` returns are."""
    import onnx
    import onnxruntime

    from maskrcnn.export.graph import Graph, Value

    def run(build: Callable[..., Sequence[Any]], **inputs: np.ndarray) -> list[np.ndarray]:
        graph = Graph()
        values = build(graph, **{name: Value(graph, name) for name in inputs})
        infos = [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in inputs.items()
        ]
        # The type of an output is not known before shapes are inferred; the cast makes it one.
        outputs = [graph.cast(value, np.float32).name for value in values]
        results = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
        model = graph.model(infos, results, {})
        return onnxruntime.InferenceSession(model.SerializeToString()).run(outputs, inputs)

    return run


def channels_first(values: Any) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(keras.ops.convert_to_numpy(values), -1, 1))
