"""Exports a model to a file that is checked before it is kept: what `maskrcnn export` does."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrcnn.config import Config
from maskrcnn.errors import UserError, given_or_default
from maskrcnn.export.calibration import calibration_images, cropped, read_images
from maskrcnn.export.check import TOLERANCES, Difference, check_file, format_differences, refuse
from maskrcnn.export.options import ExportOptions
from maskrcnn.inference.exported import load_exported
from maskrcnn.input_files import as_path
from maskrcnn.runtime.extras import import_extra
from maskrcnn.runtime.files import creating

if TYPE_CHECKING:
    from maskrcnn.model import MaskRCNN

EXPORT_DIR = "export"  # in the model's folder

logger = logging.getLogger(__name__)


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
        out: the file; None is ``export/model.onnx``, ``export/model.int8.xml`` and so on in the model folder.
            OpenVINO's weights are in a ``.bin`` file beside it; a SavedModel is a folder.
        options: the format, the shape of its inputs and its precision.

    Raises:
        UserError: no model, an unknown format, a package that is missing, or a file that differs from the live model,
            of which nothing is left.
    """
    options = given_or_default(options, ExportOptions, "options")
    for package in options.kind.packages + (("onnxruntime",) if options.int8 else ()):
        import_extra(package)
    path = _output_path(source, out, options)
    model, config = _open(source)
    tolerance = TOLERANCES[options.precision]
    with _temporary_folder(path) as folder:
        written = folder / path.name
        options.kind.write(model, config, written, options)
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
    if out is None:
        if isinstance(source, tuple):
            raise UserError("no file to write to; give out")
        return as_path(source) / EXPORT_DIR / options.file
    path, suffix = as_path(out), Path(options.file).suffix
    if path.suffix != suffix:
        raise UserError(f"{path}: expected a file name ending in {suffix} for {options.format}")
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
