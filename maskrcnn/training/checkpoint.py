"""Everything that a run needs to go on: variables of the model, of the optimizer and of the random generators.

A checkpoint is one file, ``step-00001200.npz``, written whole or not at all.
"""

import json
import os
import re
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from maskrcnn.errors import UserError
from maskrcnn.runtime.files import replacing

STATE = "state"  # the name of the JSON entry among the arrays


@dataclass(frozen=True)
class Reported:
    """What the log last told of an epoch that is not over."""

    seen: int = 0  # steps of the epoch up to then
    sums: dict[str, float] = field(default_factory=dict)  # of each loss over them


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands."""

    step: int  # batches trained on, and so the place in the data
    data_seed: int  # of the order of the data
    batch_size: int = 0  # images of a step on all devices
    metrics: list[float] = field(default_factory=list)  # Keras' running means of the epoch: totals and counts
    reported: Reported = field(default_factory=Reported)


class CheckpointWriter:
    """Writes checkpoints in the background, one at a time; what goes wrong there is raised by the next call.

    Args:
        directory: of the checkpoints.
        keep: the number of newest ones that stay.

    Raises:
        UserError: none would stay.
    """

    def __init__(self, directory: Path, keep: int):
        if keep < 1:
            raise UserError(f"--keep {keep}: at least one checkpoint must stay")
        self.directory, self.keep = directory, keep
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def write(self, model: keras.Model, checkpoint: Checkpoint) -> None:
        """Copies the state to the host, and leaves the rest to a thread."""
        self.wait()
        arrays = snapshot(model)
        self._writing = self._pool.submit(write_checkpoint, arrays, checkpoint, self.directory, keep=self.keep)

    def check(self) -> None:
        """Raises the error of a checkpoint that could not be written, if that is known by now."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Returns when the last checkpoint is on the disk.

        Raises:
            UserError: it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self._pool.shutdown()


def snapshot(model: keras.Model) -> dict[str, np.ndarray]:
    """Copies of all state on the host; the next step overwrites what the variables hold."""
    return {name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in _variables(model).items()}


def save_checkpoint(model: keras.Model, checkpoint: Checkpoint, directory: Path, *, keep: int = 2) -> None:
    """Writes a checkpoint of a compiled model and deletes all but the ``keep`` newest."""
    write_checkpoint(snapshot(model), checkpoint, directory, keep=keep)


def write_checkpoint(arrays: dict[str, np.ndarray], checkpoint: Checkpoint, directory: Path, *, keep: int) -> None:
    """Writes a snapshot; see `save_checkpoint`.

    Raises:
        UserError: there is no room for it, say; the earlier ones stay as they are.
    """
    path = directory / f"step-{checkpoint.step:08d}.npz"
    try:
        write_arrays(path, arrays, asdict(checkpoint))
    except OSError as error:
        kept = list_checkpoints(directory)
        goes_on = f"; the run goes on from {kept[-1].name}" if kept else ""
        reason = error.strerror or str(error)
        raise UserError(
            f"{path}: the checkpoint cannot be written ({reason}); make room and give the same command again{goes_on}"
        ) from error
    for old in list_checkpoints(directory)[:-keep]:
        old.unlink()


def write_arrays(path: Path, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays, **{STATE: np.array(json.dumps(state))})
        file.flush()
        os.fsync(file.fileno())  # the name must not be on the disk before the content is


def list_checkpoints(directory: Path) -> list[Path]:
    """Oldest first."""
    return sorted(path for path in directory.glob("step-*.npz") if re.fullmatch(r"step-\d+\.npz", path.name))


def restore_latest(model: keras.Model, directory: Path) -> Checkpoint | None:
    """Sets the model and its optimizer to the newest checkpoint that can be read; None if there is none at all.

    Raises:
        UserError: every checkpoint is damaged, or the newest is another architecture's.
    """
    paths = list_checkpoints(directory)
    for path in reversed(paths):
        try:
            with path.open("rb") as stream, np.load(stream) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            continue
        state = json.loads(str(arrays.pop(STATE)))
        _assign(model, arrays, path)
        return Checkpoint(**{**state, "reported": Reported(**state.get("reported", {}))})
    if paths:
        raise UserError(f"{directory}: no checkpoint can be read; delete the folder to start anew")
    return None


def running_means(model: keras.Model) -> list[float]:
    """The state of the model's metrics, all of which are means of scalars."""
    return [float(keras.ops.convert_to_numpy(variable)) for variable in model.metrics_variables]


def restore_means(model: keras.Model, values: list[float]) -> None:
    for variable, value in zip(model.metrics_variables, values, strict=True):
        variable.assign(value)


def _assign(model: keras.Model, arrays: dict[str, np.ndarray], path: Path) -> None:
    variables = _variables(model)
    if {name: tuple(variable.shape) for name, variable in variables.items()} != {
        name: array.shape for name, array in arrays.items()
    }:
        raise UserError(f"{path}: is of another model or optimizer; use the same settings or another --model_dir")
    for name, variable in variables.items():
        variable.assign(arrays[name].astype(keras.backend.standardize_dtype(variable.dtype)))


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """All state, by position: paths of variables are neither unique nor the same in a second model of a process."""
    optimizer = model.optimizer
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    return {
        **{f"model-{i:04d}": variable for i, variable in enumerate(model.variables)},
        **{f"optimizer-{i:04d}": variable for i, variable in enumerate(optimizer.variables)},
    }
