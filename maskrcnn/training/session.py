"""A session of training in one model folder: its lock, its signals, its devices, its data and its checkpoints."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskrcnn.config import Config
from maskrcnn.errors import UserError
from maskrcnn.input_files import as_path
from maskrcnn.runtime.distribution import Devices
from maskrcnn.runtime.files import claimed, remove_stale
from maskrcnn.training.checkpoint import list_checkpoints, restore_latest
from maskrcnn.training.options import RunOptions
from maskrcnn.training.plan import Plan, State
from maskrcnn.training.presets import Recipe
from maskrcnn.training.resume import CHECKPOINTS, base_config, freeze_config
from maskrcnn.training.signals import Interruption
from maskrcnn.training.splits import Splits, open_splits

logger = logging.getLogger(__name__)


class Session:
    """A context in which one run works in a model folder.

    It locks the folder, handles Ctrl-C and SIGTERM, enters the scope of the devices, and reports lost processes.

    Raises:
        UserError: another run works in the folder, or another process of this run is lost.
    """

    def __init__(self, model_dir: str | Path, devices: Devices):
        self.model_dir, self.devices = as_path(model_dir), devices
        self.checkpoints = self.model_dir / CHECKPOINTS
        self.check_folder: Callable[[], None] = lambda: None  # raises an error if the folder is deleted
        self.interruption = Interruption(has_checkpoint=lambda: bool(list_checkpoints(self.checkpoints)))

    def __enter__(self) -> "Session":
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.interruption)
            if self.devices.is_chief:
                self.check_folder = stack.enter_context(claimed(self.model_dir))
            stack.enter_context(self.devices.scope())
            stack.enter_context(self.devices.report_lost_process())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def open(self, config: Config | Recipe, data_dir: str | Path | None, options: RunOptions) -> Splits:
        """Opens the splits, and converts them first where that has not been done.

        Raises:
            UserError: data that cannot be opened, or with which the model cannot be evaluated.
        """
        with self.devices.main_process_first():
            return open_splits(base_config(config), data_dir, self.model_dir, options)

    def freeze(self, config: Config | Recipe, splits: Splits) -> Config:
        """The config with the categories of the data, saved in the folder; a recipe is completed first.

        A run that resumes keeps what its recipe chose at first, whatever the device is now.

        Raises:
            UserError: the folder holds another run, or a model without its checkpoints.
        """
        with self.devices.main_process_first():
            return freeze_config(config, splits, self.model_dir, write=self.devices.is_chief)

    def restore(self, model: Any, plan: Plan) -> State | None:
        """Sets the model and its optimizer to the last checkpoint; None if there is none.

        Raises:
            UserError: checkpoints that cannot be read, or of another number of images a step.
        """
        if self.devices.is_chief:
            remove_stale(self.checkpoints)
        state = restore_latest(model, self.checkpoints)
        if state and state.batch_size not in (0, plan.batch_size):
            raise UserError(
                f"{self.checkpoints}: the run has had {state.batch_size} images a step so far, not {plan.batch_size}; "
                "keep the product of --train_batch_size and the number of devices"
            )
        if len(set(self.devices.all_gather_object(state.step if state else None))) > 1:
            problem = "not all processes see the same checkpoints"
            raise UserError(f"{self.checkpoints}: {problem}; put --model_dir on a shared disk")
        return dataclasses.replace(state, batch_size=plan.batch_size) if state else None
