"""The formats of exported files, and what may be chosen about a file."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maskrcnn.config import CANVAS_STRIDE, Config
from maskrcnn.errors import UserError, expect
from maskrcnn.input_files import as_path

if TYPE_CHECKING:
    from maskrcnn.model import MaskRCNN


@dataclass(frozen=True)
class Format:
    """A kind of file; ``write`` of its module makes it."""

    module: str  # of this package
    file: str  # its default name
    packages: tuple[str, ...]  # that write and check it
    half: str | None = "float16"  # the half precision in which it may compute
    int8: bool = False  # and in 8-bit integers
    any_batch: bool = True  # may take any number of images a run

    def write(self, model: "MaskRCNN", config: Config, path: Path, options: "ExportOptions") -> None:
        """Writes the file, and its weights beside it, not checked yet."""
        importlib.import_module(f"maskrcnn.export.{self.module}").write(model, config, path, options)


# The CPUs that OpenVINO is for multiply bfloat16 natively (AVX-512 BF16, AMX), and float16 no faster than float32.
FORMATS = {
    "onnx": Format("onnx_file", "model.onnx", ("onnx", "onnxruntime"), int8=True),
    "openvino": Format("openvino_file", "model.xml", ("onnx", "openvino"), half="bfloat16", int8=True),
    "litert": Format("litert", "model.tflite", ("tensorflow", "ai_edge_litert"), any_batch=False),
    "saved_model": Format("saved_model", "saved_model", ("tensorflow",), half=None),
    "tensorrt": Format("tensorrt", "model.tensorrt.onnx", ("onnx", "onnxruntime"), any_batch=False),
}


@dataclass(frozen=True)
class ExportOptions:
    """What kind of file to write."""

    format: str = "onnx"  # or another one of FORMATS
    batch: int | None = 1  # images a run; None is any number
    size: tuple[int, int] | None = None  # height and width of the canvas, px; None is any
    check_images: Sequence[str | Path] = ()  # images that the file is checked on; without any, drawn shapes
    int8: str | Path | None = None  # a dataset or a folder of images to calibrate on; None: no 8-bit integers
    half: bool = False  # layers compute in the format's half precision, boxes in float32

    def __post_init__(self) -> None:
        expect(self.batch, int | None, "batch")
        expect(self.check_images, list | tuple, "check_images")
        if self.size is not None and [type(side) for side in expect(self.size, list | tuple, "size")] != [int, int]:
            raise UserError(f"size {self.size!r}: expected height and width in pixels")
        if self.int8 is not None:
            as_path(self.int8)
        if expect(self.format, str, "format") not in FORMATS:
            raise UserError(f"format {self.format!r} is not one of {', '.join(FORMATS)}")
        for name in ("int8", "half"):
            if getattr(self, name) and not getattr(self.kind, name):
                able = [other for other, kind in FORMATS.items() if getattr(kind, name)]
                raise UserError(
                    f"{name} is not available for the format {self.format}; choose one of {', '.join(able)}"
                )
        if self.int8 and self.half:
            raise UserError("give one of int8 and half")
        if self.batch is None and not self.kind.any_batch:
            raise UserError(f"batch dynamic: the format {self.format} needs a number of images")
        if self.batch is not None and self.batch < 1:
            raise UserError(f"batch {self.batch}: expected at least 1 image")
        if self.size and any(side < CANVAS_STRIDE or side % CANVAS_STRIDE for side in self.size):
            height, width = self.size
            raise UserError(f"size {height}x{width}: expected multiples of {CANVAS_STRIDE}")

    @property
    def kind(self) -> Format:
        """The format's entry in FORMATS."""
        return FORMATS[self.format]

    @property
    def precision(self) -> str:
        """What the layers compute in: "float32", "float16", "bfloat16" or "int8"."""
        return "int8" if self.int8 else self.kind.half or "float32" if self.half else "float32"

    @property
    def file(self) -> str:
        """The file's default name."""
        name = Path(self.kind.file)
        precision = ".int8" if self.int8 else ".half" if self.half else ""
        return f"{name.stem}{precision}{name.suffix}"
