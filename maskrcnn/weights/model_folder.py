"""The model folder: ``config.json`` and ``model.weights.h5``, all that evaluation and inference need."""

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
    """Writes config.json."""
    with replacing(Path(model_dir) / CONFIG_FILE) as path:
        path.write_text(config.to_json(), encoding="utf-8")


def save_model(model: MaskRCNN, config: Config, model_dir: str | Path) -> None:
    """Writes config.json and the weights; readers never see a half-written file.

    Raises:
        UserError: the folder cannot be written, e.g. because the disk is full.
    """
    save_config(config, model_dir)
    optimizer = getattr(model, "optimizer", None)  # absent in a model that was never compiled
    model.optimizer = None  # Keras would save its variables too, which are as large as the model
    file = Path(model_dir) / WEIGHTS_FILE
    try:
        with replacing(file) as path:
            model.save_weights(path)
    except OSError as error:  # HDF5's messages are long
        reason = os.strerror(error.errno) if error.errno else str(error).strip().splitlines()[0]
        raise UserError(f"{file}: cannot be written ({reason}); free disk space and run the command again") from error
    finally:
        model.optimizer = optimizer


def load_model_config(model_dir: str | Path) -> Config:
    """Reads the config of a trained model.

    Raises:
        UserError: the folder holds no model.
    """
    model_dir = Path(model_dir)
    if not (model_dir / WEIGHTS_FILE).is_file():
        raise UserError(f"{model_dir}: no {WEIGHTS_FILE} here; give a folder in which `maskrcnn train` has finished")
    return load_config(model_dir / CONFIG_FILE)


def load_model(model_dir: str | Path, config: Config | None = None) -> tuple[MaskRCNN, Config]:
    """Loads the model of a folder, ready to predict, with its config; ``config`` replaces the saved one.

    Raises:
        UserError: the folder holds no model, or its two files do not belong together.
    """
    saved = load_model_config(model_dir)
    config = config or saved
    model = MaskRCNN(config)
    load_weights(model, Path(model_dir) / WEIGHTS_FILE)
    compile_for_use(model, config)
    return model, config


def load_for_use(model_dir: str | Path, config: Config) -> MaskRCNN:
    """Loads the model of a folder in the config's precision and with its seed."""
    prepare_backend(config)
    return load_model(model_dir, config)[0]


def prepare_backend(config: Config) -> None:
    """Sets the config's precision and seed, before a model is built."""
    backend.set_precision(config.train.precision)
    if config.train.seed is not None:
        backend.set_seed(config.train.seed, xla=config.train.xla)


def compile_for_use(model: MaskRCNN, config: Config) -> None:
    """Compiles a model to predict."""
    model.compile(**compiler.compile_options(xla=config.train.xla, eagerly=config.train.eagerly))


def load_weights(model: Any, path: Path) -> None:
    """Loads a Keras ``.weights.h5`` file into a model or a part of one.

    Raises:
        UserError: damaged, or weights of another architecture.
    """
    try:
        model.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: damaged, or weights of another architecture ({reason})") from error
