"""The model folder: ``config.json`` and ``model.weights.h5``, all that evaluation and inference need."""

import logging
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from keras.backend import standardize_dtype

from maskrcnn.config import Config
from maskrcnn.errors import UserError, first_line
from maskrcnn.input_files import as_path, open_regular
from maskrcnn.model import MaskRCNN
from maskrcnn.runtime import backend, compiler
from maskrcnn.runtime.files import replacing
from maskrcnn.runtime.keras_patches import weights_file
from maskrcnn.weights.model_files import CONFIG_FILE, WEIGHTS_FILE, find_weights_file, load_model_config

logger = logging.getLogger(__name__)


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


def load_model(model_dir: str | Path, config: Config | None = None) -> tuple[MaskRCNN, Config]:
    """Loads the model of a folder, ready to predict, with its config; ``config`` replaces the saved one.

    Raises:
        UserError: the folder holds no model, or its two files do not belong together.
    """
    saved = load_model_config(model_dir)
    config = config or saved
    model = MaskRCNN(config)
    model_dir = as_path(model_dir)
    file = find_weights_file(model_dir)
    if file.parent != model_dir:
        without = " without its moving average" if saved.train.ema and file.suffix == ".npz" else ""
        place = file.relative_to(model_dir)
        logger.info("%s: the run has not finished; this is its model so far, %s%s", model_dir, place, without)
    load_weights(model, file)
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
    """Loads a Keras ``.weights.h5`` file, or the checkpoint of a run, into a model or a part of one.

    Raises:
        UserError: damaged, or weights of another architecture.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
    try:
        if path.suffix == ".npz":
            _assign_arrays(model, read_arrays(path))
            return
        with h5py.File(path) as store:
            _check_store(store, size)
        model.load_weights(path)
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(f"{path}: damaged, or weights of another architecture ({first_line(error)})") from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a run's checkpoint, which take no more memory than it has bytes.

    Raises:
        Exception: it is damaged, or not a checkpoint.
    """
    with open_regular(path) as stream, np.load(stream) as file:
        size = sum(entry.file_size for entry in file.zip.infolist())
        if size > stream.seek(0, 2):
            raise ValueError(f"{size} bytes of arrays in a smaller file")
        arrays = {name: file[name] for name in file.files}
    if not all(isinstance(array, np.ndarray) and array.dtype.kind in "biufU" for array in arrays.values()):
        raise ValueError("it holds something else than numbers")
    return arrays


def _assign_arrays(model: Any, arrays: dict[str, np.ndarray]) -> None:
    """Sets a model's variables, which a checkpoint numbers."""
    own = [array for name, array in arrays.items() if name.startswith("model-")]
    if [array.shape for array in own] != [tuple(variable.shape) for variable in model.variables]:
        raise ValueError("the shapes are others")
    for variable, array in zip(model.variables, own, strict=True):
        variable.assign(array.astype(standardize_dtype(variable.dtype)))


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
