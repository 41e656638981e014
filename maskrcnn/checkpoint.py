"""Everything that a run needs to go on: variables of the model, of the optimizer and of the random generators.

A checkpoint is one file, ``step-00001200.npz``, written whole or not at all.
"""

import json
import re
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

from maskrcnn.errors import UserError
from maskrcnn.files import replacing

KEPT = 2  # the newest, and the one before should the newest be damaged
STATE = "state"  # the name of the JSON entry among the arrays


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands."""

    step: int  # batches trained on
    data_seed: int  # of the order of the data


def save_checkpoint(model: keras.Model, checkpoint: Checkpoint, directory: Path) -> None:
    """Writes a checkpoint of a compiled model and deletes the older ones but one."""
    arrays = {name: keras.ops.convert_to_numpy(variable) for name, variable in _variables(model).items()}
    with replacing(directory / f"step-{checkpoint.step:08d}.npz") as path, path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays, **{STATE: np.array(json.dumps(asdict(checkpoint)))})
    for old in list_checkpoints(directory)[:-KEPT]:
        old.unlink()


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
        state = Checkpoint(**json.loads(str(arrays.pop(STATE))))
        _assign(model, arrays, path)
        return state
    if paths:
        raise UserError(f"{directory}: no checkpoint can be read; delete the folder to start anew")
    return None


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
