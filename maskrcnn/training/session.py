"""A session of training in one model folder: its lock, its signals, its devices, its data and its checkpoints."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from maskrcnn.config import Config
from maskrcnn.data.loader.synthetic import SYNTHETIC_CATEGORIES
from maskrcnn.data.splits import Split, open_split
from maskrcnn.errors import UserError
from maskrcnn.evaluation.ground_truth import open_eval_split
from maskrcnn.logs.dllogger import LogOptions
from maskrcnn.runtime.distribution import Devices
from maskrcnn.runtime.files import claimed, remove_stale
from maskrcnn.training.checkpoint import list_checkpoints, restore_latest
from maskrcnn.training.plan import Plan, State
from maskrcnn.training.resume import CHECKPOINTS, freeze_config
from maskrcnn.training.signals import Interruption


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options of a run that do not change what is trained."""

    evaluate: bool = True  # on the val split, as often as the config says and at the end
    eval_file: str | Path | None = None  # COCO annotations to evaluate with, instead of those of the val split
    logs: LogOptions = dataclasses.field(default_factory=LogOptions)
    devices: Devices | None = None  # from `maskrcnn.runtime.distribution.connect`; None is all of this machine


class Splits(NamedTuple):
    """The splits of a run."""

    train: Split | None  # None: synthetic data
    val: Split | None  # None: no evaluation


class Session:
    """A context in which one run works in a model folder.

    It locks the folder, handles Ctrl-C and SIGTERM, enters the scope of the devices, and reports lost processes.

    Raises:
        UserError: another run works in the folder, or another process of this run is lost.
    """

    def __init__(self, model_dir: Path, devices: Devices):
        self.model_dir, self.devices = model_dir, devices
        self.checkpoints = model_dir / CHECKPOINTS
        self.interruption = Interruption(has_checkpoint=lambda: bool(list_checkpoints(self.checkpoints)))

    def __enter__(self) -> "Session":
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.interruption)
            if self.devices.is_chief:
                stack.enter_context(claimed(self.model_dir))
            stack.enter_context(self.devices.scope())
            stack.enter_context(self.devices.report_lost_process())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def open(self, config: Config, data_dir: str | Path | None, options: RunOptions) -> Splits:
        """Opens the splits, and converts them first where that has not been done.

        Raises:
            UserError: data that cannot be opened, or with which the model cannot be evaluated.
        """
        if not data_dir:
            return Splits(None, None)
        with self.devices.main_process_first():
            train = open_split(data_dir, "train", cache_dir=self.model_dir, skip_bad=config.data.skip_bad)
            if not options.evaluate:
                return Splits(train, None)
            config = dataclasses.replace(config, categories=train.categories)
            return Splits(train, open_eval_split(config, data_dir, self.model_dir, eval_file=options.eval_file))

    def freeze(self, config: Config, splits: Splits) -> Config:
        """The config with the categories of the data, saved in the folder.

        Raises:
            UserError: the folder holds another run, or a model without its checkpoints.
        """
        categories = splits.train.categories if splits.train else SYNTHETIC_CATEGORIES
        config = dataclasses.replace(config, categories=categories)
        with self.devices.main_process_first():
            freeze_config(config, self.model_dir, write=self.devices.is_chief)
        return config

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
