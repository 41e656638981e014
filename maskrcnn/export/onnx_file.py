"""An ONNX file, in any precision."""

from pathlib import Path

import onnx

from maskrcnn.config import Config
from maskrcnn.export.calibration import calibration_images, fill
from maskrcnn.export.keras_backbone import backbone_writer
from maskrcnn.export.onnx_model import InputShape, build_onnx
from maskrcnn.export.options import ExportOptions
from maskrcnn.export.precision import compute_in_half, quantize
from maskrcnn.model import MaskRCNN
from maskrcnn.weights.variables import variable_values


def write(model: MaskRCNN, config: Config, path: Path, options: ExportOptions) -> None:
    """Writes the file, not checked yet."""
    onnx.save(onnx_file(model, config, options), path)
    if options.int8:
        batches = calibration_images(options.int8, config, options.size)
        quantize(path, path, (fill(batch, options.batch or 1) for batch in batches))


def onnx_file(model: MaskRCNN, config: Config, options: ExportOptions, *, static: bool = False) -> onnx.ModelProto:
    """The model's ONNX file in float32 or half precision, see `build_onnx`."""
    height, width = options.size or (None, None)
    is_resnet = config.model.backbone.name is None and not model.custom_backbone
    backbone = None if is_resnet else backbone_writer(model.resnet)
    shape = InputShape(options.batch, height, width)
    built = build_onnx(config, variable_values(model), shape, backbone=backbone, static=static)
    return compute_in_half(built, options.precision) if options.half else built
