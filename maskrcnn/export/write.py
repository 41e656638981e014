"""Writes a model in the format that was asked for."""

from pathlib import Path
from typing import TYPE_CHECKING

from maskrcnn.config import Config
from maskrcnn.export.calibration import calibration_images, fill

if TYPE_CHECKING:
    import onnx

    from maskrcnn.export.run import ExportOptions
    from maskrcnn.model import MaskRCNN


def onnx_file(model: "MaskRCNN", config: Config, options: "ExportOptions") -> "onnx.ModelProto":
    """The model's ONNX file, not checked yet."""
    from keras import ops

    from maskrcnn.export.onnx_model import InputShape, build_onnx
    from maskrcnn.weights.variables import model_variables

    weights = {name: ops.convert_to_numpy(variable) for name, variable in model_variables(model).items()}
    height, width = options.size or (None, None)
    return build_onnx(config, weights, InputShape(options.batch, height, width))


def write_file(model: "MaskRCNN", config: Config, path: Path, options: "ExportOptions") -> None:
    """Writes the file, and its weights beside it, not checked yet."""
    if options.format == "saved_model":
        from maskrcnn.export.saved_model import write_saved_model

        height, width = options.size or (None, None)
        write_saved_model(model, config, path, (options.batch, height, width))
        return
    import onnx

    onnx_path = path.with_suffix(".onnx")
    onnx.save(onnx_file(model, config, options), onnx_path)
    if options.int8:
        from maskrcnn.export.quantize import quantize

        batches = calibration_images(options.int8, config, options.size)
        quantize(onnx_path, onnx_path, (fill(batch, options.batch or 1) for batch in batches))
    if options.format == "openvino":
        from maskrcnn.export.openvino_file import convert_to_openvino

        convert_to_openvino(onnx_path, path)
        onnx_path.unlink()
