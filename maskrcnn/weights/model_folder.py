"""The model folder: ``config.json`` and ``model.weights.h5``, all that eval and infer need."""

import os
from pathlib import Path
from typing import Any

from maskrcnn.config import Config, load_config
from maskrcnn.errors import UserError
from maskrcnn.model import MaskRCNN
from maskrcnn.runtime import backend, compiler
from maskrcnn.runtime.files import replacing

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.weights.h5"


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
    model.compile(**compiler.compile_options(xla=config.train.xla, eagerly=config.train.eagerly))
    return model, config


def load_for_use(model_dir: str | Path, config: Config) -> MaskRCNN:
    """The trained model of a folder in the config's precision, with its seed set."""
    backend.set_precision(config.train.precision)
    if config.train.seed is not None:
        backend.set_seed(config.train.seed, xla=config.train.xla)
    return load_model(model_dir, config)[0]


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


def _load_weights(model: Any, path: Path) -> None:
    try:
        model.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not weights of this architecture, or damaged ({reason})") from error
