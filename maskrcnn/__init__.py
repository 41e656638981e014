"""Mask R-CNN for Keras 3: `maskrcnn.load("runs/demo").predict("photo.jpg")`.

Names are imported when first used (PEP 562), so that `import maskrcnn` is fast and the backend can still be chosen.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskrcnn.config import Category, Config, load_config
    from maskrcnn.errors import UserError
    from maskrcnn.evaluation.run import evaluate_folder
    from maskrcnn.export.options import ExportOptions
    from maskrcnn.export.run import export_model
    from maskrcnn.inference.detections import Detections
    from maskrcnn.inference.predictor import Predictor
    from maskrcnn.inference.run import InferOptions, infer_folder
    from maskrcnn.inference.sources import load
    from maskrcnn.model import MaskRCNN
    from maskrcnn.reports.evaluation_report import explain_folder
    from maskrcnn.training.options import RunOptions, Start
    from maskrcnn.training.presets import Recipe
    from maskrcnn.training.run import train

__all__ = [
    "Config",
    "Category",
    "load_config",
    "UserError",
    "MaskRCNN",
    "train",
    "Recipe",
    "Start",
    "RunOptions",
    "evaluate_folder",
    "explain_folder",
    "infer_folder",
    "InferOptions",
    "load",
    "export_model",
    "ExportOptions",
    "Predictor",
    "Detections",
]
__version__ = "0.1.0"

# TensorFlow reads this when it is imported, and by default leaves oneDNN off on processors without VNNI instructions,
# where a training step then takes twice as long (README.md). The user's own setting holds.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_HOMES = {
    "Config": "config",
    "Category": "config",
    "load_config": "config",
    "UserError": "errors",
    "MaskRCNN": "model",
    "train": "training.run",
    "Recipe": "training.presets",
    "Start": "training.options",
    "RunOptions": "training.options",
    "evaluate_folder": "evaluation.run",
    "explain_folder": "reports.evaluation_report",
    "infer_folder": "inference.run",
    "InferOptions": "inference.run",
    "export_model": "export.run",
    "ExportOptions": "export.options",
    "load": "inference.sources",
    "Predictor": "inference.predictor",
    "Detections": "inference.detections",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'maskrcnn' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"maskrcnn.{_HOMES[name]}"), name)
    except ImportError as error:
        from maskrcnn.errors import UserError, describe_missing

        missing = describe_missing(error)
        if missing is None:
            raise
        raise UserError(missing) from error
    globals()[name] = value  # a submodule of the same name (train, evaluate) is shadowed by its function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
