"""OpenVINO's files, made of an ONNX file."""

from pathlib import Path

import onnx
import openvino


def convert_to_openvino(onnx_path: Path, path: Path) -> None:
    """Writes ``path`` (.xml) and its weights (.bin beside it), with the ONNX file's metadata."""
    model = openvino.convert_model(str(onnx_path))
    for entry in onnx.load(onnx_path).metadata_props:
        model.set_rt_info(entry.value, ["maskrcnn", entry.key])
    openvino.save_model(model, str(path), compress_to_fp16=False)
