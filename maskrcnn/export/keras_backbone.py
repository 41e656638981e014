"""Backbones built of Keras' layers, such as those of keras.applications, layer by layer.

Images are [B, H, W, C] in Keras and [B, C, H, W] in the graph. tf2onnx, which Keras' own export uses, needs TensorFlow.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from maskrcnn.errors import UserError
from maskrcnn.export.graph import Graph, Value

CHANNELS = (-1, 3)  # axes of Keras


def backbone_writer(model: keras.Model) -> Callable[[Graph, Value], list[Value]]:
    """A function that adds the model's nodes to a graph: normalized images -> its outputs."""

    def write(graph: Graph, images: Value) -> list[Value]:
        if not isinstance(model, keras.Function):
            raise UserError(_refusal(f"the backbone {model.name} is no functional model"))
        return model._run_through_graph([images], operation_fn=lambda layer: functools.partial(_write, graph, layer))

    return write


def _refusal(reason: str) -> str:
    return f"{reason}, which only the formats litert and saved_model take; add --format litert"


def _write(graph: Graph, layer: Any, *inputs: Any, **settings: Any) -> Any:
    """Calls the function of a layer's type with its inputs; masks and ``training`` don't matter here."""
    if isinstance(layer, keras.Model) and isinstance(layer, keras.Function):
        return backbone_writer(layer)(graph, inputs[0])
    table = LAYERS if isinstance(layer, layers.Layer) else OPERATIONS
    write = table.get(type(layer).__name__)
    values = inputs[0] if isinstance(inputs[0], list) else inputs
    written = write(graph, layer, *values) if write else None
    if written is None:
        raise UserError(_refusal(f"the backbone's layer {layer.name} is a {type(layer).__name__} of a kind"))
    activation = getattr(layer, "activation", None)
    return _activate(graph, layer, written) if activation is not None else written


def _activate(graph: Graph, layer: Any, x: Value) -> Value:
    name = layer.activation.__name__
    if name not in ACTIVATIONS:
        raise UserError(_refusal(f"the backbone's layer {layer.name} has the activation {name}"))
    return ACTIVATIONS[name](graph, x)


def _clip(graph: Graph, x: Value, limit: float) -> Value:
    return graph("Clip", x, 0.0, limit)


ACTIVATIONS: dict[str, Callable[[Graph, Value], Value]] = {
    "linear": lambda graph, x: x,
    "relu": lambda graph, x: graph("Relu", x),
    "relu6": lambda graph, x: _clip(graph, x, 6.0),
    "sigmoid": lambda graph, x: graph("Sigmoid", x),
    "silu": lambda graph, x: x * graph("Sigmoid", x),
    "hard_sigmoid": lambda graph, x: graph("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    "hard_silu": lambda graph, x: graph("HardSwish", x),
}


def _array(values: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(values), np.float32)


def _by_channel(values: Any) -> Any:
    """A scalar, or an array along Keras' last axis, as it is broadcast in the graph; values of the graph unchanged."""
    if isinstance(values, Value):
        return values
    array = _array(values)
    return array.reshape(-1, 1, 1) if array.size > 1 else array.reshape(())


def _window(layer: Any) -> dict[str, Any]:
    """Strides and padding of a convolution or a pooling."""
    padding = {"same": "SAME_UPPER", "valid": "VALID"}[layer.padding]
    return {"strides": list(layer.strides), "auto_pad": padding}


def _convolution(graph: Graph, layer: Any, x: Value) -> Value:
    kernel = _array(layer.kernel)  # [h, w, in, out] or, depthwise, [h, w, in, multiplier]
    depthwise = isinstance(layer, layers.DepthwiseConv2D)
    size, groups = kernel.shape[:2], kernel.shape[2] if depthwise else layer.groups
    kernel = kernel.transpose(2, 3, 0, 1).reshape(-1, 1, *size) if depthwise else kernel.transpose(3, 2, 0, 1)
    bias = [_array(layer.bias)] if layer.use_bias else []
    window = {**_window(layer), "dilations": list(layer.dilation_rate), "group": groups, "kernel_shape": list(size)}
    return graph("Conv", x, np.ascontiguousarray(kernel), *bias, name=layer.path, **window)


def _batch_norm(graph: Graph, layer: Any, x: Value) -> Value | None:
    if layer.axis not in CHANNELS:
        return None
    mean, variance = _array(layer.moving_mean), _array(layer.moving_variance)
    scale = _array(layer.gamma) if layer.scale else np.ones_like(mean)
    shift = _array(layer.beta) if layer.center else np.zeros_like(mean)
    return graph("BatchNormalization", x, scale, shift, mean, variance, epsilon=layer.epsilon)


def _relu(graph: Graph, layer: Any, x: Value) -> Value | None:
    if layer.negative_slope or layer.threshold:
        return None
    return graph("Relu", x) if layer.max_value is None else _clip(graph, x, float(layer.max_value))


def _pad(graph: Graph, layer: Any, x: Value) -> Value:
    (top, bottom), (left, right) = layer.padding
    return graph("Pad", x, np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))


def _pool(operator: str, graph: Graph, layer: Any, x: Value) -> Value:
    return graph(operator, x, kernel_shape=list(layer.pool_size), **_window(layer))


def _mean(graph: Graph, layer: Any, x: Value) -> Value:
    return graph("ReduceMean", x, axes=[2, 3], keepdims=int(layer.keepdims))


def _reshape(graph: Graph, layer: Any, x: Value) -> Value | None:
    """Of one value a channel only, as in squeeze-and-excitation."""
    return graph.reshape(x, 0, -1, 1, 1) if tuple(layer.target_shape[:2]) == (1, 1) else None


def _join(graph: Graph, layer: Any, *values: Value) -> Value | None:
    return graph("Concat", *values, axis=1) if layer.axis in CHANNELS else None


def _normalization(graph: Graph, layer: Any, x: Value) -> Value | None:
    deviation = np.maximum(np.sqrt(_array(layer.variance)), keras.config.epsilon())
    return None if layer.invert else (x - _by_channel(layer.mean)) / _by_channel(deviation)


def _flip(graph: Graph, operation: Any, x: Value) -> Value | None:
    if operation.axis not in CHANNELS:
        return None
    return graph("Gather", x, np.array([2, 1, 0]), axis=1)  # of the images


LAYERS: dict[str, Callable[..., Value | None]] = {
    "Activation": lambda graph, layer, x: x,  # its activation follows
    "Add": lambda graph, layer, *values: functools.reduce(lambda x, y: x + y, values),
    "AveragePooling2D": functools.partial(_pool, "AveragePool"),
    "BatchNormalization": _batch_norm,
    "Concatenate": _join,
    "Conv2D": _convolution,
    "DepthwiseConv2D": _convolution,
    "Dropout": lambda graph, layer, x: x,
    "GlobalAveragePooling2D": _mean,
    "MaxPooling2D": functools.partial(_pool, "MaxPool"),
    "Multiply": lambda graph, layer, *values: functools.reduce(lambda x, y: x * y, values),
    "Normalization": _normalization,
    "ReLU": _relu,
    "Rescaling": lambda graph, layer, x: x * _by_channel(layer.scale) + _by_channel(layer.offset),
    "Reshape": _reshape,
    "ZeroPadding2D": _pad,
}
OPERATIONS: dict[str, Callable[..., Value | None]] = {  # functions of keras.ops
    "Add": lambda graph, _, x, y: x + _by_channel(y),
    "Divide": lambda graph, _, x, y: x / _by_channel(y),
    "Flip": _flip,
    "Multiply": lambda graph, _, x, y: x * _by_channel(y),
    "Subtract": lambda graph, _, x, y: x - _by_channel(y),
    "TrueDivide": lambda graph, _, x, y: x / _by_channel(y),
}
