"""ONNX files whose layers compute in float16, bfloat16 or 8-bit integers.

The layers that give the objectness, the classes and the boxes stay float32 (in half precision px would have 11 or 8
bits), and so does all that is neither a layer nor between two reduced ones: RoIAlign, suppression, decoding, softmax,
the masks' last layer.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from maskrcnn.inference.exported import INT8, INT8_REDUCED
from maskrcnn.runtime.extras import import_extra
from maskrcnn.runtime.hardware import sums_int8_exactly

LAYERS = ("Conv", "ConvTranspose", "Gemm")
BETWEEN = ("Relu", "Add", "MaxPool", "Resize")  # reduced if all of their inputs are, so that nothing is in between
FLOAT = ("rpn/objectness", "rpn/deltas", "box_head/classes", "box_head/deltas")


def reduced_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes of a file of `build_onnx` that may compute in reduced precision, in the graph's order."""
    producers = {output: node.name for node in model.graph.node for output in node.output}
    names: dict[str, None] = {}
    for node in model.graph.node:
        sources = [producers[name] for name in node.input if name in producers]
        is_layer = node.op_type in LAYERS and not node.name.startswith(FLOAT)
        is_between = node.op_type in BETWEEN and all(source in names for source in sources)
        if is_layer or (is_between and len(sources) == (2 if node.op_type == "Add" else 1)):
            names[node.name] = None
    return list(names)


def compute_in_half(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Another form of a file of `build_onnx`: its layers and their weights in "float16" or "bfloat16", between casts.

    The converters of ONNX Runtime and onnxconverter-common put casts around each operator, and the nodes in no valid
    order where single nodes are excluded.
    """
    half = getattr(TensorProto, precision.upper())
    dtype = helper.tensor_dtype_to_np_dtype(half)
    reduced = set(reduced_nodes(model))
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    halves = {output for node in graph.node if node.name in reduced for output in node.output}
    nodes: list[onnx.NodeProto] = []
    made: set[str] = set()

    def in_half(name: str) -> str:
        if name in constants:
            converted = f"{name}/half"
            if converted not in constants:
                array = numpy_helper.to_array(constants[name]).astype(dtype)
                constants[converted] = numpy_helper.from_array(array, converted)
            return converted
        return name if name in halves else cast(name, half)

    def cast(name: str, to: int) -> str:
        converted = f"{name}/cast"
        if converted not in made:
            nodes.append(helper.make_node("Cast", [name], [converted], name=converted, to=to))
            made.add(converted)
        return converted

    for node in graph.node:
        if node.name in reduced:
            values = 1 if node.op_type == "Resize" else len(node.input)  # the others are its scales
            inputs = [*map(in_half, node.input[:values]), *node.input[values:]]
        else:
            inputs = [cast(name, TensorProto.FLOAT) if name in halves else name for name in node.input]
        nodes.append(helper.make_node(node.op_type, inputs, node.output, node.name))
        nodes[-1].attribute.extend(node.attribute)
    used = {name for node in nodes for name in node.input}
    tensors = [tensor for name, tensor in constants.items() if name in used]
    return _with_nodes(model, nodes, tensors, precision)


def _with_nodes(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto], precision: str
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, model.graph.name, model.graph.input, model.graph.output, tensors)
    result = helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version, producer_name=model.producer_name
    )
    helper.set_model_props(result, {**{e.key: e.value for e in model.metadata_props}, "precision": precision})
    # Of bfloat16, the checker's types know no convolution before opset 22.
    onnx.checker.check_model(result, full_check=precision == "float16")
    return result


def quantize(source: Path, target: Path, batches: Iterator[dict[str, Any]]) -> None:
    """Writes the quantized form (QDQ) of a float32 file of `build_onnx`.

    Weights get a scale for each output channel, activations one for each tensor, by the ranges that they have on the
    batches of images and image_sizes. On a processor whose sums of 8-bit products saturate, weights get 7 bits; with 8
    a file would be less exact there.
    """
    reduce_range = not sums_int8_exactly()
    quantization = import_extra("onnxruntime.quantization")
    with _without_advice():
        quantization.quantize_static(
            source,
            target,
            _Reader(batches),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=[*LAYERS, *BETWEEN],
            nodes_to_quantize=reduced_nodes(onnx.load(source)),
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    model = onnx.load(target)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, {**metadata, "precision": INT8_REDUCED if reduce_range else INT8})
    onnx.save(model, target)


class _Reader:
    """Batches as ONNX Runtime asks for them; it is no `CalibrationDataReader`, whose module imports much."""

    def __init__(self, batches: Iterator[dict[str, Any]]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Hides ONNX Runtime's advice to run its preprocessing, whose steps the file does not need."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
