"""Checkpoints: the variables of the model, of the optimizer and of the random generators, and the state of the run.

A checkpoint is one file, ``step-00001200.npz``, written whole or not at all.
"""

import json
import logging
import os
import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import keras
import numpy as np

from maskrcnn.config import typed_fields
from maskrcnn.errors import UserError
from maskrcnn.input_files import parse_json
from maskrcnn.runtime.files import REMEDY, replacing
from maskrcnn.training.plan import State
from maskrcnn.weights.model_folder import read_arrays

STATE = "state"  # the name of the JSON entry among the arrays
logger = logging.getLogger(__name__)


class CheckpointWriter:
    """Writes checkpoints in the background, one at a time; an error there is raised by the next call.

    Args:
        directory: of the checkpoints.
        keep: number of checkpoints kept, the newest ones; at least 1.
    """

    def __init__(self, directory: Path, keep: int):
        self.directory, self.keep = directory, keep
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def write(self, model: keras.Model, state: State) -> None:
        """Copies the variables to the host and has a thread write them."""
        self.wait()
        arrays, entries = snapshot(model), asdict(state)
        self._writing = self._pool.submit(write_checkpoint, arrays, entries, self.directory, keep=self.keep)

    def check(self) -> None:
        """Raises the error of a checkpoint that could not be written, once it is known."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Waits until the last checkpoint is on the disk.

        Raises:
            UserError: it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Waits as `wait` does, and ends the thread."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()


def snapshot(model: keras.Model) -> dict[str, np.ndarray]:
    """Copies of all variables on the host; the next step overwrites the originals."""
    return {name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in _variables(model).items()}


def save_checkpoint(model: keras.Model, state: State, directory: Path, *, keep: int = 2) -> None:
    """Writes a checkpoint of a compiled model and deletes all but the ``keep`` newest."""
    write_checkpoint(snapshot(model), asdict(state), directory, keep=keep)


def write_checkpoint(arrays: dict[str, np.ndarray], state: dict[str, Any], directory: Path, *, keep: int) -> None:
    """Writes a snapshot with the entries of its `State`, and deletes all but the ``keep`` newest checkpoints.

    Raises:
        UserError: it cannot be written, e.g. the disk is full; earlier checkpoints are kept.
    """
    kept = list_checkpoints(directory)
    source = f", which resumes from {kept[-1].name}" if kept else ""
    remedy = f"free disk space and give the same command again{source}"
    write_arrays(directory / f"step-{state['step']:08d}.npz", arrays, state, remedy)
    for old in list_checkpoints(directory)[:-keep]:
        old.unlink(missing_ok=True)


def write_arrays(path: Path, arrays: dict[str, np.ndarray], state: dict[str, Any], remedy: str = REMEDY) -> None:
    """Writes arrays and a JSON entry to an ``.npz`` file, whole or not at all."""
    with replacing(path, remedy) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays, **{STATE: np.array(json.dumps(state))})
        file.flush()
        os.fsync(file.fileno())  # the name must not be on the disk before the content is


def list_checkpoints(directory: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(path for path in directory.glob("step-*.npz") if re.fullmatch(r"step-\d+\.npz", path.name))


def restore_latest(model: keras.Model, directory: Path) -> State | None:
    """Sets the model and its optimizer to the newest checkpoint that can be read; None if there is none at all.

    Raises:
        UserError: every checkpoint is damaged, or the newest is of another architecture.
    """
    paths = list_checkpoints(directory)
    for path in reversed(paths):
        try:
            arrays, state = read_checkpoint(path)
        except Exception as error:  # a damaged file can fail in any way
            logger.warning("%s: cannot be read (%s); trying the checkpoint before it", path, error or type(error))
            continue
        _assign(model, arrays, path)
        return state
    if paths:
        raise UserError(f"{directory}: no checkpoint can be read; delete the folder to start from scratch")
    return None


def read_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], State]:
    """The arrays and the state in a file, which take no more memory than it has bytes.

    Raises:
        Exception: it is damaged, or not a checkpoint.
    """
    arrays = read_arrays(path)
    entries = parse_json(str(arrays.pop(STATE)))  # those of earlier versions hold more
    state = typed_fields.build(
        State, {field.name: entries[field.name] for field in fields(State) if field.name in entries}
    )
    if path.stem != f"step-{state.step:08d}":
        raise ValueError(f"it holds step {state.step}")
    return arrays, state


def _assign(model: keras.Model, arrays: dict[str, np.ndarray], path: Path) -> None:
    variables = _variables(model)
    if {name: tuple(variable.shape) for name, variable in variables.items()} != {
        name: array.shape for name, array in arrays.items()
    }:
        raise UserError(f"{path}: of another model or optimizer; give the same settings, or another --model_dir")
    for name, variable in variables.items():
        variable.assign(arrays[name].astype(keras.backend.standardize_dtype(variable.dtype)))


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """All variables, by position: their paths are neither unique nor the same in a second model of a process."""
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    return {
        **{f"model-{i:04d}": variable for i, variable in enumerate(model.variables)},
        **{f"optimizer-{i:04d}": variable for i, variable in enumerate(optimizer.variables)},
    }
