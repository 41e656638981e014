"""What happens beside the training step: evaluation, checkpoints, and the end of a run that went wrong."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from maskrcnn.errors import UserError
from maskrcnn.runtime.distribution import Devices
from maskrcnn.training.checkpoint import (
    Checkpoint,
    CheckpointWriter,
    restore_means,
    running_means,
    snapshot,
    write_arrays,
)
from maskrcnn.training.progress import Log, Plan
from maskrcnn.training.signals import Interruption


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends the run at the first loss that is infinite or not a number, and saves its state for inspection.

    A gradient that overflows because float16's loss is scaled is none: Keras skips that step and lowers the scale.

    Args:
        plan: of the run.
        writer: of the checkpoints, beside which the state is saved.
        image_ids: of the batch of a step, from 0.
        devices: of the run; one of its processes saves.

    Raises:
        UserError: names the loss, the step and the images.
    """

    def __init__(
        self, plan: Plan, writer: CheckpointWriter, image_ids: Callable[[int], Sequence[int]], devices: Devices
    ):
        super().__init__()
        self.step, self.writer, self.image_ids, self.devices = plan.first_step, writer, image_ids, devices

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        losses = dict(logs or {})
        wrong = [name for name, value in losses.items() if not math.isfinite(value)]
        if wrong:
            parts = [name for name in wrong if name != "loss"] or wrong  # the total follows from its parts
            raise UserError(self._report(parts, losses))

    def _report(self, parts: list[str], losses: Mapping[str, float]) -> str:
        ids = [int(number) for number in self.image_ids(self.step - 1)]
        path = self.writer.directory / f"not-finite-{self.step:08d}.npz"  # a name that no run resumes from
        state = {"step": self.step, "losses": {name: repr(value) for name, value in losses.items()}, "image_ids": ids}
        if self.devices.is_chief:
            write_arrays(path, snapshot(self.model), state)
        images = f" with the images {', '.join(map(str, ids))}" if ids else ""
        return (
            f"step {self.step}{images}: {' and '.join(parts)} is not finite; lower --learning_rate_values, lengthen "
            "the warm-up (the first of --learning_rate_boundaries), set --clip_norm, or train in float32; the state is "
            f"in {path}"
        )


class EvaluateEpochs(keras.callbacks.Callback):
    """Evaluates after every so many epochs, but for the last, which the run itself evaluates.

    Validation data given to `fit` would not do: outside training the model returns detections, not losses.
    """

    def __init__(self, plan: Plan, every: int, evaluate: Callable[[int], Any]):
        super().__init__()
        self.plan, self.every, self.evaluate = plan, every, evaluate

    def on_epoch_end(self, epoch, logs=None):
        if self.due(epoch + 1):
            self.evaluate(epoch + 1)

    def due(self, epoch: int) -> bool:
        """Whether there is an evaluation after an epoch, from 1."""
        return bool(self.every) and epoch > 0 and epoch % self.every == 0 and epoch < self.plan.epochs


class SaveCheckpoints(keras.callbacks.Callback):
    """Saves the run at the end of each epoch, every so many steps, and after the step in which it is interrupted.

    Args:
        plan: of the run.
        writer: of the checkpoints.
        start: what the run started from.
        devices: of the run. Of several processes the first one writes; a signal, which may reach them in different
            steps, ends them at once.
        every: steps between two checkpoints; 0: only at the end of each epoch.
        interruption: tells of Ctrl-C and SIGTERM.
        log: whose state the checkpoints hold too.
    """

    def __init__(
        self,
        plan: Plan,
        writer: CheckpointWriter,
        start: Checkpoint,
        devices: Devices,
        *,
        every: int,
        interruption: Interruption,
        log: Log,
    ):
        super().__init__()
        self.plan, self.writer, self.every, self.interruption, self.log = plan, writer, every, interruption, log
        self.start, self.devices = start, devices
        self.step = plan.first_step

    def on_epoch_begin(self, epoch, logs=None):
        if self.step == self.start.step and self.step % self.plan.steps_per_epoch and self.start.metrics:
            restore_means(self.model, self.start.metrics)  # Keras has just begun them anew

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self.interruption.unsaved = self.devices.world_size == 1
        self.writer.check()
        epoch_ends = self.step % self.plan.steps_per_epoch == 0  # the log of which must come first
        if not epoch_ends and (self.interruption.requested or (self.every and self.step % self.every == 0)):
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        self._save()

    def _save(self) -> None:
        if self.interruption.requested:
            self.interruption.noticed()
        self.log.flush()
        means = running_means(self.model)  # of all processes, so that each must take part
        _check_finite(self.model, self.step)
        checkpoint = replace(self.start, step=self.step, metrics=means, reported=self.log.reported)
        if self.devices.is_chief:
            self.writer.write(self.model, checkpoint)
        self.interruption.unsaved = False
        if self.interruption.requested:
            raise KeyboardInterrupt


def _check_finite(model: keras.Model, step: int) -> None:
    """Keeps weights out of the checkpoints from which no run could go on."""
    for variable in model.trainable_variables:
        if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
            raise UserError(
                f"step {step}: after the update {variable.path} is not finite, and no checkpoint is saved; lower "
                "--learning_rate_values or set --clip_norm"
            )
