"""The time of a run: an estimate after its first steps, and a limit (``--max_time``)."""

import logging
import time

import keras

from maskrcnn.runtime.distribution import Devices
from maskrcnn.training.plan import Plan, State

SKIPPED_STEPS = 2  # compiled in them, or still warming caches
TIMED_STEPS = 10  # behind the estimate

logger = logging.getLogger(__name__)


class EstimateDuration(keras.callbacks.Callback):
    """Logs, once the first steps have been timed, how long the rest of the run will take."""

    def __init__(self, plan: Plan, state: State):
        super().__init__()
        self.plan, self.state, self._steps, self._began = plan, state, 0, 0.0

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        if self._steps == SKIPPED_STEPS:
            self._began = time.perf_counter()
        elif self._steps == SKIPPED_STEPS + TIMED_STEPS:
            seconds = (time.perf_counter() - self._began) / TIMED_STEPS
            left = self.plan.total_steps - self.state.step
            if left > 0:
                duration = format_duration(left * seconds)
                logger.info("%.2f s a step: about %s for the %d steps that are left", seconds, duration, left)


class StopAtTimeLimit(keras.callbacks.Callback):
    """Ends the training when a time is over; the model is then saved and evaluated, and the same command resumes.

    Several processes stop together, at the end of an epoch.

    Args:
        minutes: since training began in this process; None for no limit.
        devices: of the run.
    """

    def __init__(self, minutes: float | None, devices: Devices):
        super().__init__()
        self.minutes, self.devices = minutes, devices
        self._began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if self.minutes is not None and self.devices.world_size == 1 and self._is_over():
            self._stop()

    def on_epoch_end(self, epoch, logs=None):
        if self.minutes is not None and self.devices.broadcast_object(self._is_over()):
            self._stop()

    def _is_over(self) -> bool:
        assert self.minutes is not None
        return time.monotonic() - self._began >= 60 * self.minutes

    def _stop(self) -> None:
        if not self.model.stop_training:
            logger.info("--max_time %g is over: stopping; the same command resumes", self.minutes)
        self.model.stop_training = True


def format_duration(seconds: float) -> str:
    """A duration in words: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
