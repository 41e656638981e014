"""The model folder: ``config.json`` and ``model.weights.h5``, all that eval, infer and export need."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from maskrcnn import backend
from maskrcnn.config import Config, load_config
from maskrcnn.errors import UserError
from maskrcnn.files import replacing
from maskrcnn.model import MaskRCNN

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.weights.h5"
# settings that may change between two runs on one folder: they leave what was trained so far as it is
FREE_SETTINGS = (
    "epochs", "evaluate_every", "eval_batch_size", "eval_samples", "xla", "eagerly", "precision", "keep",
    "checkpoint_every",
)  # fmt: skip


def save_config(config: Config, model_dir: str | Path) -> None:
    with replacing(Path(model_dir) / CONFIG_FILE) as path:
        path.write_text(config.to_json(), encoding="utf-8")


def save_model(model: MaskRCNN, config: Config, model_dir: str | Path) -> None:
    """Writes the model's folder; a reader never meets a half-written file.

    Raises:
        UserError: there is no room for it, say.
    """
    save_config(config, model_dir)
    optimizer = getattr(model, "optimizer", None)  # a model that was never compiled has none
    model.optimizer = None  # Keras would save its variables too, as large as the model
    try:
        with replacing(Path(model_dir) / WEIGHTS_FILE) as path:
            model.save_weights(path)
    except OSError as error:  # of HDF5, whose text is long
        file = Path(model_dir) / WEIGHTS_FILE
        reason = os.strerror(error.errno) if error.errno else str(error).strip().splitlines()[0]
        raise UserError(f"{file}: cannot be written ({reason}); make room and give the same command again") from error
    finally:
        model.optimizer = optimizer


def load_model_config(model_dir: str | Path) -> Config:
    """The config of a trained model's folder.

    Raises:
        UserError: the folder holds no model.
    """
    model_dir = Path(model_dir)
    if not (model_dir / WEIGHTS_FILE).is_file():
        raise UserError(f"{model_dir}: no {WEIGHTS_FILE} here; give a folder in which `maskrcnn train` has finished")
    return load_config(model_dir / CONFIG_FILE)


def load_model(model_dir: str | Path, config: Config | None = None) -> tuple[MaskRCNN, Config]:
    """The trained model of a folder, ready to predict, and its config; ``config`` replaces the saved one.

    Raises:
        UserError: the folder holds no model, or its two files do not belong together.
    """
    saved = load_model_config(model_dir)
    config = config or saved
    model = MaskRCNN(config)
    _load_weights(model, Path(model_dir) / WEIGHTS_FILE)
    model.compile(**backend.compile_options(xla=config.train.xla, eagerly=config.train.eagerly))
    return model, config


def load_backbone(model: MaskRCNN, path: Path) -> None:
    """Sets the backbone's variables from another model's folder, or from a Keras ``.weights.h5`` file of a backbone.

    Raises:
        UserError: nothing there, or a backbone of another architecture.
    """
    if path.is_dir():
        source = load_model(path)[0].resnet
        values, variables = source.get_weights(), model.resnet.weights
        if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
            raise UserError(f"{path}: its backbone is another; set backbone.depth and backbone.width as it has them")
        model.resnet.set_weights(values)
    elif path.is_file():
        _load_weights(model.resnet, path)
    else:
        raise UserError(f"{path}: no such file or folder; give --backbone_checkpoint a model folder or a .weights.h5")


def holds_run(model_dir: Path) -> bool:
    """Whether a run has begun in a folder, though it may not have saved anything yet."""
    return (model_dir / CONFIG_FILE).is_file()


def check_same_run(config: Config, model_dir: Path) -> None:
    """Makes sure that a run may go on in a folder where another may have been.

    Raises:
        UserError: that other one had other categories or settings.
    """
    if not (model_dir / CONFIG_FILE).is_file() or not any(
        (model_dir / name).exists() for name in (WEIGHTS_FILE, "checkpoints")
    ):
        return
    earlier = load_config(model_dir / CONFIG_FILE)
    if earlier.categories != config.categories:
        raise UserError(
            f"{model_dir}: holds a model of {len(earlier.categories)} classes ({_names(earlier)}), the data have "
            f"{len(config.categories)} ({_names(config)}); give another --model_dir"
        )
    before, now = _leaves(dataclasses.asdict(earlier)), _leaves(dataclasses.asdict(config))
    free = {f"train.{name}" for name in FREE_SETTINGS}
    changed = [
        f"{name} {before[name]} -> {now[name]}" for name in now if before[name] != now[name] and name not in free
    ]
    if changed:
        raise UserError(
            f"{model_dir}: holds a run with other settings ({', '.join(changed)}); "
            "give the same ones, or another --model_dir"
        )


def _load_weights(model: Any, path: Path) -> None:
    try:
        model.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not weights of this architecture, or damaged ({reason})") from error


def _names(config: Config) -> str:
    listed = ", ".join(category.name for category in config.categories[:5])
    return listed + (", ..." if len(config.categories) > 5 else "")


def _leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one of dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        leaves |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return leaves
