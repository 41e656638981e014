"""Keras callbacks of a training run: progress bar, checkpoints, evaluations, and the end at a non-finite loss."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from maskrcnn.errors import UserError
from maskrcnn.logs.progress import ProgressBar, SpeedMeter
from maskrcnn.runtime.distribution import Devices
from maskrcnn.training.batches import TrainingData
from maskrcnn.training.checkpoint import CheckpointWriter, snapshot, write_arrays
from maskrcnn.training.evaluator import Evaluator
from maskrcnn.training.plan import Plan, State
from maskrcnn.training.session import Session
from maskrcnn.training.signals import Interruption
from maskrcnn.training.time_limit import EstimateDuration, StopAtTimeLimit

REFRESH_SECONDS = 0.5  # between two updates of the progress bar

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def training_callbacks(
    plan: Plan,
    state: State,
    data: TrainingData,
    evaluator: Evaluator,
    session: Session,
    others: Sequence[keras.callbacks.Callback],
) -> Iterator[list[keras.callbacks.Callback]]:
    """Yields the callbacks of a run in the order in which they must be called; the user's come before a checkpoint."""
    train, devices = evaluator.config.train, session.devices
    with (
        contextlib.closing(CheckpointWriter(session.checkpoints, train.keep)) as writer,
        ProgressBar(plan.total_steps, state.step, shown=devices.is_chief) as bar,
    ):
        yield [
            CountSteps(state),
            StopOnNonFinite(state, session.checkpoints, data.image_ids, devices),
            evaluator.log,
            ShowProgress(plan, state, bar, data.waited),
            EstimateDuration(plan, state),
            *others,
            StopOnLostFolder(session.check_folder),  # before what writes into it
            SaveCheckpoints(plan, state, writer, train.checkpoint_every, session.interruption, devices),
            EvaluateEpochs(plan, state, evaluator, every=train.evaluate_every, patience=train.patience),
            StopAtTimeLimit(train.max_time, devices),
        ]


class CountSteps(keras.callbacks.Callback):
    """Advances the state of the run; the first of its callbacks, since the others read the state."""

    def __init__(self, state: State):
        super().__init__()
        self.state = state

    def on_train_batch_end(self, batch, logs=None):
        self.state.step += 1


class StopOnLostFolder(keras.callbacks.Callback):
    """Ends a run whose folder is deleted, instead of training for hours to save into another folder of its name."""

    def __init__(self, check: Callable[[], None]):
        super().__init__()
        self.check = check

    def on_train_batch_end(self, batch, logs=None):
        self.check()

    def on_epoch_end(self, epoch, logs=None):
        self.check()


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends the run at the first loss that is infinite or not a number, and saves its variables for inspection.

    A gradient that overflows because of float16's loss scaling does not count: Keras skips that step and lowers the
    scale.

    Args:
        state: of the run.
        directory: of the file with the variables.
        image_ids: the ids of the images of a step, from 0.
        devices: of the run; the chief saves.

    Raises:
        UserError: names the loss, the step and the images.
    """

    def __init__(self, state: State, directory: Path, image_ids: Callable[[int], Sequence[int]], devices: Devices):
        super().__init__()
        self.state, self.directory, self.image_ids, self.devices = state, directory, image_ids, devices

    def on_train_batch_end(self, batch, logs=None):
        losses = dict(logs or {})
        wrong = [name for name, value in losses.items() if not math.isfinite(value)]
        if wrong:
            parts = [name for name in wrong if name != "loss"] or wrong  # the total follows from its parts
            raise UserError(self._report(parts, losses))

    def _report(self, parts: list[str], losses: Mapping[str, float]) -> str:
        step = self.state.step
        ids = [int(number) for number in self.image_ids(step - 1)]
        path = self.directory / f"not-finite-{step:08d}.npz"  # a name from which no run resumes
        entries = {"step": step, "losses": {name: repr(value) for name, value in losses.items()}, "image_ids": ids}
        if self.devices.is_chief:
            write_arrays(path, snapshot(self.model), entries)
        images = f" with the images {', '.join(map(str, ids))}" if ids else ""
        return (
            f"step {step}{images}: {' and '.join(parts)} is not finite; lower --learning_rate_values, lengthen "
            "the warm-up (the first of --learning_rate_boundaries), set --clip_norm, or train in float32; the "
            f"variables are in {path}"
        )


class ShowProgress(keras.callbacks.Callback):
    """Shows losses, learning rate, images a second and the time spent waiting for data in a progress bar."""

    def __init__(self, plan: Plan, state: State, bar: ProgressBar, waited: Callable[[], float]):
        super().__init__()
        self.plan, self.state, self.bar = plan, state, bar
        self.meter = SpeedMeter(plan.batch_size, waited)

    def on_epoch_begin(self, epoch, logs=None):
        self.meter.start_epoch()

    def on_train_batch_end(self, batch, logs=None):
        self.meter.step()
        step = self.state.step
        if not self.plan.is_epoch_end(step) and self.meter.seconds < REFRESH_SECONDS:
            return
        reading = self.meter.read(logs or {})
        values = {name.removesuffix("_loss"): f"{value:.3f}" for name, value in reading.losses.items()} | {
            "lr": f"{float(self.plan.schedule(step - 1)):.2g}",
            "img/s": f"{reading.images_per_second:.2f}",
            "data wait": f"{reading.data_wait:.0%}",
        }
        self.bar.show(step, f"epoch {self.plan.position(step)[0]}/{self.plan.epochs}", values)


class EvaluateEpochs(keras.callbacks.Callback):
    """Evaluates every N epochs, except after the last one, where the end of the run does.

    An evaluation that an earlier process was stopped before is made up for when `fit` begins. Validation data given to
    `fit` would not do: outside training the model returns detections, not losses.

    Args:
        plan: of the run.
        state: of the run.
        evaluator: evaluates, and knows which epochs have been evaluated.
        every: epochs between two evaluations; 0: none.
        patience: evaluations without a better mask AP after which training stops; 0: no limit.
    """

    def __init__(self, plan: Plan, state: State, evaluator: Evaluator, *, every: int, patience: int):
        super().__init__()
        self.plan, self.state, self.evaluator, self.every, self.patience = plan, state, evaluator, every, patience

    def on_train_begin(self, logs=None):
        epoch, begun = divmod(self.state.step, self.plan.steps_per_epoch)
        if not begun and self._is_due(epoch) and epoch not in self.evaluator.evaluated_epochs():
            self.evaluator.evaluate(epoch)

    def on_epoch_end(self, epoch, logs=None):
        if self._is_due(epoch + 1):
            self.evaluator.evaluate(epoch + 1)
            if self.patience and self.evaluator.evaluations_since_best() >= self.patience:
                logger.info("--patience %d: no better mask AP since; stopping", self.patience)
                self.model.stop_training = True

    def _is_due(self, epoch: int) -> bool:
        over = self.plan.is_epoch_end(self.state.step)  # a time limit may have cut the epoch short
        return over and bool(self.every) and 0 < epoch < self.plan.epochs and epoch % self.every == 0


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves the run at the end of each epoch, every N steps, and after the step in which it is interrupted.

    With several processes the chief saves; a signal, which may reach them in different steps, ends them at once.

    Args:
        plan: of the run.
        state: of the run.
        writer: of the checkpoints.
        every: steps between two checkpoints; 0: only at the end of each epoch.
        interruption: by Ctrl-C or SIGTERM.
        devices: of the run.
    """

    def __init__(
        self,
        plan: Plan,
        state: State,
        writer: CheckpointWriter,
        every: int,
        interruption: Interruption,
        devices: Devices,
    ):
        super().__init__()
        self.plan, self.state, self.writer, self.every = plan, state, writer, every
        self.interruption, self.devices = interruption, devices

    def on_train_batch_end(self, batch, logs=None):
        step = self.state.step
        self.interruption.unsaved = self.devices.world_size == 1
        self.writer.check()
        due = self.interruption.requested or (self.every and step % self.every == 0)
        if due and not self.plan.is_epoch_end(step):
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        self._save()

    def _save(self) -> None:
        if self.interruption.requested:
            self.interruption.noticed()
        check_finite(self.model, self.state.step)
        if self.devices.is_chief:
            self.writer.write(self.model, self.state)
        self.interruption.unsaved = False
        if self.interruption.requested:
            raise KeyboardInterrupt


def check_finite(model: keras.Model, step: int) -> None:
    """Keeps weights out of the checkpoints from which no run could resume.

    Raises:
        UserError: a weight is infinite or not a number.
    """
    for variable in model.trainable_variables:
        if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
            raise UserError(
                f"step {step}: after the update {variable.path} is not finite, and no checkpoint is saved; lower "
                "--learning_rate_values or set --clip_norm"
            )
