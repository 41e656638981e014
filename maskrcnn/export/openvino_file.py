"""OpenVINO's files, made of an ONNX file."""

from pathlib import Path

import onnx
import openvino

from maskrcnn.config import Config
from maskrcnn.export import onnx_file
from maskrcnn.export.options import ExportOptions
from maskrcnn.model import MaskRCNN


def write(model: MaskRCNN, config: Config, path: Path, options: ExportOptions) -> None:
    """Writes ``path`` (.xml) and its weights (.bin beside it), not checked yet."""
    onnx_path = path.with_suffix(".onnx")
    onnx_file.write(model, config, onnx_path, options)
    convert_to_openvino(onnx_path, path)
    onnx_path.unlink()


def convert_to_openvino(onnx_path: Path, path: Path) -> None:
    """Writes ``path`` (.xml) and its weights (.bin beside it), with the ONNX file's metadata and precisions."""
    model = openvino.convert_model(str(onnx_path))
    for entry in onnx.load(onnx_path).metadata_props:
        model.set_rt_info(entry.value, ["maskrcnn", entry.key])
    openvino.save_model(model, str(path), compress_to_fp16=False)
