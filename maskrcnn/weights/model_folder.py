"""The model folder: ``config.json`` and ``model.weights.h5``, all that evaluation and inference need."""

import os
from pathlib import Path
from typing import Any

import h5py

from maskrcnn.config import Config, load_config
from maskrcnn.errors import UserError
from maskrcnn.input_files import as_path, open_regular
from maskrcnn.model import MaskRCNN
from maskrcnn.runtime import backend, compiler
from maskrcnn.runtime.files import replacing
from maskrcnn.runtime.keras_patches import weights_file

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
    save_weights(model, Path(model_dir) / WEIGHTS_FILE)


def save_weights(model: Any, file: Path) -> None:
    """Writes the weights of a model or a part of one.

    Raises:
        UserError: the file cannot be written, e.g. because the disk is full.
    """
    with replacing(file) as path:
        path.write_bytes(weights_file(model))


def load_model_config(model_dir: str | Path) -> Config:
    """Reads the config of a trained model.

    Raises:
        UserError: the folder holds no model.
    """
    model_dir = as_path(model_dir)
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
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
    try:
        with h5py.File(path) as store:
            _check_store(store, size)
        model.load_weights(path)
    except Exception as error:  # a damaged file can fail in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: damaged, or weights of another architecture ({reason})") from error


def _check_store(store: h5py.Group, size: int) -> int:
    """Checks that all of a file's arrays lie in it, and returns how many of its ``size`` bytes are left.

    Raises:
        ValueError: a link, an array of another file, or more numbers than there are bytes.
    """
    for name in store:
        size -= 16  # of the entry, at least; so that groups in themselves come to an end
        if not isinstance(store.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link")
        item = store[name]
        if isinstance(item, h5py.Group):
            size = _check_store(item, size)
        elif isinstance(item, h5py.Dataset) and not item.external and not item.is_virtual:
            size -= item.size * item.dtype.itemsize if item.dtype.kind in "biufS" else size + 1
        else:
            raise ValueError(f"{name} is not an array of this file")
        if size < 0:
            raise ValueError(f"{name} is larger than the file, or has no numbers")
    return size
