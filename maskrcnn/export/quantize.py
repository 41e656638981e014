"""ONNX files whose convolutions and dense layers compute in 8-bit integers (QDQ), calibrated on images.

Weights get a scale for each output channel, activations one for each tensor. On a processor whose sums of 8-bit
products saturate, weights get 7 bits; with 8 a file would be less exact there. The layers that give the objectness,
the classes and the boxes stay float, and so does all that is neither a layer nor between two quantized ones: RoIAlign,
suppression, decoding, softmax, the masks' last layer.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from maskrcnn.inference.exported import INT8, INT8_REDUCED
from maskrcnn.runtime.extras import import_extra
from maskrcnn.runtime.hardware import sums_int8_exactly

LAYERS = ("Conv", "ConvTranspose", "Gemm")
BETWEEN = ("Relu", "Add", "MaxPool", "Resize")  # quantized if all of their inputs are, so that no float is in between
FLOAT = ("rpn/objectness", "rpn/deltas", "box_head/classes", "box_head/deltas")


def quantize(source: Path, target: Path, batches: Iterator[dict[str, Any]]) -> None:
    """Writes the quantized form of a file of `build_onnx`.

    Args:
        source: the float32 file.
        target: the file to write.
        batches: images and image_sizes, whose activations give the ranges.
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
            nodes_to_quantize=quantized_nodes(onnx.load(source)),
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    model = onnx.load(target)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, {**metadata, "precision": INT8_REDUCED if reduce_range else INT8})
    onnx.save(model, target)


def quantized_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that compute in integers."""
    producers = {output: node.name for node in model.graph.node for output in node.output}
    names: dict[str, None] = {}
    for node in model.graph.node:
        sources = [producers[name] for name in node.input if name in producers]
        is_layer = node.op_type in LAYERS and not node.name.startswith(FLOAT)
        is_between = node.op_type in BETWEEN and all(source in names for source in sources)
        if is_layer or (is_between and len(sources) == (2 if node.op_type == "Add" else 1)):
            names[node.name] = None
    return list(names)


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
