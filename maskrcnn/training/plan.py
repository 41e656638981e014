"""The plan of a run, and how far the run has come."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from maskrcnn.config import TrainConfig, ranges
from maskrcnn.config.typed_fields import between
from maskrcnn.data.splits import Split
from maskrcnn.runtime.hardware import describe_devices
from maskrcnn.training.schedule import make_schedule

SYNTHETIC_STEPS = 100  # steps of an epoch of synthetic data, by default
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The length of a run and its learning rates; a step is one batch."""

    epochs: int
    steps_per_epoch: int
    batch_size: int  # images of a step, on all devices
    schedule: Callable[[int], Any]  # learning rate of a step, from 0

    @property
    def total_steps(self) -> int:
        """The number of steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    def position(self, step: int) -> tuple[int, int]:
        """The epoch of a step and its number in that epoch; all three count from 1."""
        epoch, batch = divmod(step - 1, self.steps_per_epoch)
        return epoch + 1, batch + 1

    def is_epoch_end(self, step: int) -> bool:
        """Whether ``step`` steps are whole epochs."""
        return step % self.steps_per_epoch == 0


@dataclass
class State:
    """How far a run has come; a checkpoint holds it beside the variables."""

    step: Annotated[int, between(0, 10**12)]  # batches trained on so far, and so the position in the data
    data_seed: ranges.Seed  # of the order of the data
    batch_size: Annotated[int, between(0, 10**9)] = 0  # images of a step, on all devices; 0 if unknown


def make_plan(config: TrainConfig, split: Split | None, replicas: int) -> Plan:
    """The plan of a run on ``replicas`` devices; without a split, on synthetic data.

    Raises:
        UserError: a schedule that is not valid.
    """
    batch_size = config.batch_size * replicas
    one_pass = max(1, split.num_examples // batch_size) if split else SYNTHETIC_STEPS
    steps_per_epoch = config.steps_per_epoch or one_pass
    schedule = make_schedule(config, steps_per_epoch=steps_per_epoch, devices=replicas)
    return Plan(config.epochs, steps_per_epoch, batch_size, schedule)


def announce(plan: Plan, state: State, split: Split | None, model_dir: Path) -> None:
    """Logs what the run is going to do."""
    images = "random images"
    if split:
        images = f"{_count(split.num_examples, 'image')} of {_count(len(split.categories), 'class', 'classes')}"
    length = f"{_count(plan.epochs, 'epoch')} of {_count(plan.steps_per_epoch, 'step')}"
    logger.info("training on %s: %s, %s", images, length, describe_devices())
    if state.step >= plan.total_steps:
        logger.info(
            "step %d of %d: this run is finished; train it longer with more --epochs, or start another run from it "
            "with --weights %s --model_dir NEW",
            state.step,
            plan.total_steps,
            model_dir,
        )
    elif state.step:
        logger.info("resuming from step %d of %d", state.step, plan.total_steps)


def _count(number: int, singular: str, plural: str | None = None) -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
