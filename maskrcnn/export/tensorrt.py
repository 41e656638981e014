"""An ONNX file for TensorRT, whose shapes are fixed but for the boxes that survive a suppression.

TensorRT's parser maps `RoiAlign` to its plugin ROIAlign_TRT and `NonMaxSuppression` to its layer INMSLayer. So the file
holds standard operators only, and is checked in ONNX Runtime, where nodes of TensorRT's plugins don't run.
https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md
"""

import dataclasses
from pathlib import Path

import onnx

from maskrcnn.config import Config
from maskrcnn.errors import UserError
from maskrcnn.export.onnx_file import onnx_file
from maskrcnn.export.options import ExportOptions
from maskrcnn.imaging.canvas import canvas_size
from maskrcnn.model import MaskRCNN

MAX_TOP_K = 3840  # TensorRT's limit


def write(model: MaskRCNN, config: Config, path: Path, options: ExportOptions) -> None:
    """Writes the file, not checked yet.

    Raises:
        UserError: the model takes canvases of two sizes and none was chosen, or more candidates than TensorRT sorts.
    """
    height, width = canvas_size(1, 1, config.model.image)
    if height != width and not options.size:
        raise UserError(f"the file takes one canvas size; add --size {height} {width} or --size {width} {height}")
    for name, count in (
        ("rpn.test_candidates", config.model.rpn.test_candidates),
        ("rpn.test_proposals", config.model.rpn.test_proposals),
        ("box_head.test_candidates", config.model.box_head.test_candidates),
    ):
        if count > MAX_TOP_K:
            raise UserError(f"{name} is {count}; TensorRT sorts {MAX_TOP_K} at most: set it in the model's config.json")
    options = dataclasses.replace(options, size=options.size or (height, width))
    onnx.save(onnx_file(model, config, options, static=True), path)
