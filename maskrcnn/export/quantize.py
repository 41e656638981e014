"""ONNX files whose convolutions and dense layers compute in 8-bit integers (QDQ), calibrated on images.

Weights get a scale for each output channel, activations one for each tensor. On a processor whose sums of 8-bit
products saturate, weights get 7 bits; with 8 a file would be less exact there.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from maskrcnn.export.reduced import BETWEEN, LAYERS, reduced_nodes
from maskrcnn.inference.exported import INT8, INT8_REDUCED
from maskrcnn.runtime.extras import import_extra
from maskrcnn.runtime.hardware import sums_int8_exactly


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
