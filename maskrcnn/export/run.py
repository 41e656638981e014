"""Exports a model to a file that is checked before it is kept: what `maskrcnn export` does."""

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrcnn.config import CANVAS_STRIDE, Config
from maskrcnn.errors import UserError
from maskrcnn.export.calibration import calibration_images, cropped, read_images
from maskrcnn.export.check import INT8, Difference, Tolerance, check_file, format_differences, refuse
from maskrcnn.export.write import write_file
from maskrcnn.inference.exported import load_exported
from maskrcnn.input_files import as_path
from maskrcnn.runtime.extras import import_extra
from maskrcnn.runtime.files import creating

if TYPE_CHECKING:
    from maskrcnn.model import MaskRCNN

PACKAGES = {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino"), "saved_model": ("tensorflow",)}
EXPORT_DIR = "export"  # in the model's folder
FILES = {"onnx": "model.onnx", "openvino": "model.xml", "saved_model": "saved_model"}  # by format

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportOptions:
    """What kind of file to write."""

    format: str = "onnx"  # or another one of FILES
    batch: int | None = 1  # images a run; None is any number
    size: tuple[int, int] | None = None  # height and width of the canvas, px; None is any
    check_images: Sequence[str | Path] = ()  # images that the file is checked on; without any, drawn shapes
    int8: str | Path | None = None  # a dataset or a folder of images to calibrate on; None: float32

    def __post_init__(self) -> None:
        if self.format not in FILES:
            raise UserError(f"format {self.format!r} is not one of {', '.join(FILES)}")
        if self.batch is not None and self.batch < 1:
            raise UserError(f"batch {self.batch}: expected at least 1 image")
        if self.size and any(side < CANVAS_STRIDE or side % CANVAS_STRIDE for side in self.size):
            height, width = self.size
            raise UserError(f"size {height}x{width}: expected multiples of {CANVAS_STRIDE}")
        if self.int8 and self.format == "saved_model":
            raise UserError("int8 is for the formats onnx and openvino")


@dataclass(frozen=True)
class Exported:
    """A file that was checked."""

    path: Path
    differences: list[Difference]


def export_model(
    source: "str | Path | tuple[MaskRCNN, Config]",
    out: str | Path | None = None,
    options: ExportOptions | None = None,
) -> Exported:
    """Writes a model as one file that runs without Keras, if it finds what the live model finds.

    Args:
        source: a model folder, or a float32 model and its config.
        out: the file; None is ``export/model.onnx`` or ``export/model.xml`` in the model folder, or
            ``model.int8.onnx`` and so on. OpenVINO's weights are in a ``.bin`` file beside it; a SavedModel is a
            folder.
        options: the format and the shape of its inputs.

    Raises:
        UserError: no model, an unknown format, a package that is missing, or a file that differs from the live model,
            of which nothing is left.
    """
    options = options or ExportOptions()
    for package in PACKAGES[options.format] + (("onnxruntime",) if options.int8 else ()):
        import_extra(package)
    path = _output_path(source, out, options)
    model, config = _open(source)
    if options.format != "saved_model" and (config.model.backbone.name or model.custom_backbone):
        name = config.model.backbone.name or "a Keras model of your own"
        raise UserError(f"the backbone is {name}, and {options.format} takes a ResNet only; add --format saved_model")
    tolerance = INT8 if options.int8 else Tolerance()
    with _temporary_folder(path) as folder:
        written = folder / path.name
        write_file(model, config, written, options)
        exported: Any = load_exported(written).model
        images = read_images(options.check_images)
        if options.int8 and not images:
            images = cropped(calibration_images(options.int8, config, options.size))
        differences = check_file(exported, model, config, images, tolerance)
        logger.info("%s", format_differences(differences, tolerance))
        refuse(differences, tolerance, path)
        for file in sorted(folder.iterdir()):  # model.bin before model.xml
            if file.is_dir() and (path.parent / file.name).exists():
                os.replace(path.parent / file.name, folder / "before")
            os.replace(file, path.parent / file.name)
    return Exported(path, differences)


def _output_path(source: Any, out: str | Path | None, options: ExportOptions) -> Path:
    name = Path(FILES[options.format])
    if out is None:
        if isinstance(source, tuple):
            raise UserError("no file to write to; give out")
        return as_path(source) / EXPORT_DIR / (name.with_suffix(f".int8{name.suffix}") if options.int8 else name)
    path = Path(out)
    if path.suffix != name.suffix:
        raise UserError(f"{path}: expected a file name ending in {name.suffix} for {options.format}")
    return path


def _open(source: "str | Path | tuple[MaskRCNN, Config]") -> "tuple[MaskRCNN, Config]":
    if not isinstance(source, tuple):
        from maskrcnn.weights.model_folder import load_model  # imports Keras

        return load_model(source)
    model, config = source
    if model.compute_dtype != "float32":
        raise UserError(f"the model computes in {model.compute_dtype}; load it in float32 to export it")
    return model, config


@contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """A folder beside ``path``, removed at the end with all that is left in it."""
    with creating(path.parent):
        folder = path.with_name(f".{os.getpid()}.{path.stem}")
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)
