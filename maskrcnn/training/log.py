"""The log of a training run: losses, speed and metrics in DLLogger's format, for TensorBoard and other trackers."""

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras

from maskrcnn.config import Config
from maskrcnn.evaluation.run import LOG_FILE
from maskrcnn.logs.dllogger import DLLLog, LogOptions
from maskrcnn.logs.progress import SpeedMeter
from maskrcnn.logs.tensorboard import ScalarWriter
from maskrcnn.logs.throughput import describe_speed
from maskrcnn.logs.trackers import Images, Tracker, open_tracker
from maskrcnn.runtime import compiler
from maskrcnn.training.batches import TrainingData
from maskrcnn.training.plan import Plan, State

logger = logging.getLogger(__name__)


class WriteLog(keras.callbacks.Callback):
    """Writes losses and speed to the log file and to trackers; a tracker that fails is given up, and training goes on.

    Args:
        plan: of the run.
        state: of the run.
        options: how often to write, and how many steps of this process `speed` leaves out.
        waited: seconds spent waiting for data so far.
        file: the log file.
        trackers: TensorBoard and the like.
    """

    def __init__(
        self,
        plan: Plan,
        state: State,
        options: LogOptions,
        waited: Callable[[], float],
        file: DLLLog,
        trackers: Sequence[Tracker] = (),
    ):
        super().__init__()
        self.plan, self.state, self.options, self.file, self.trackers = plan, state, options, file, list(trackers)
        self.meter = SpeedMeter(plan.batch_size, waited)
        self._step_seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        """Restarts the clock."""
        self.meter.start_epoch()
        self._step_began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Measures a step, and writes an entry every N steps and at the end of an epoch."""
        now = time.perf_counter()
        self._step_seconds.append(now - self._step_began)
        self._step_began = now
        self.meter.step()
        step = self.state.step
        if step % self.options.every and not self.plan.is_epoch_end(step):
            return
        reading = self.meter.read(logs or {})
        self._write(self.plan.position(step), step, {
            **reading.losses,
            "learning_rate": float(self.plan.schedule(step - 1)),
            "train_throughput": reading.images_per_second,
            "data_wait": reading.data_wait,
        })  # fmt: skip

    def on_epoch_end(self, epoch, logs=None):
        """Writes the summary of an epoch."""
        self.file.log((epoch + 1,), logs or {})

    def write_metrics(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Writes the metrics after an epoch, from 1."""
        self._write((epoch,), epoch * self.plan.steps_per_epoch, metrics)

    def write_images(self, epoch: int, images: Images) -> None:
        """Gives the trackers images of the evaluation after an epoch, from 1."""
        self._track(lambda tracker: tracker.write_images(epoch * self.plan.steps_per_epoch, images))

    def speed(self) -> dict[str, float]:
        """Throughput (images/s) and latency (s) of this process's steps after the warm-up; empty if there are none."""
        return describe_speed("train", self.plan.batch_size, self._step_seconds[self.options.warmup_steps :])

    def close(self) -> None:
        """Closes the files."""
        self.file.close()
        self._track(lambda tracker: tracker.close())

    def _write(self, position: tuple[int, ...], step: int, values: Mapping[str, float]) -> None:
        self.file.log(position, values)
        self._track(lambda tracker: tracker.write(step, values))

    def _track(self, action: Callable[[Tracker], None]) -> None:
        for tracker in list(self.trackers):
            try:
                action(tracker)
            except Exception as error:  # each library has its own; a lost connection must not end a run
                logger.warning("%s is given up: %s", type(tracker).__name__, error)
                self.trackers.remove(tracker)


def open_log(
    config: Config, plan: Plan, state: State, data: TrainingData, options: LogOptions, model_dir: Path
) -> WriteLog:
    """The log of a run, which begins with its config; only the chief writes.

    Raises:
        UserError: a file that cannot be written.
    """
    is_chief = data.devices.is_chief
    file = DLLLog(options.file or model_dir / LOG_FILE) if is_chief else DLLLog(os.devnull)
    file.parameters(dataclasses.asdict(config))
    trackers: list[Tracker] = []
    if is_chief:
        trackers += [open_tracker(name, model_dir, dataclasses.asdict(config)) for name in options.trackers]
        trackers += [ScalarWriter(options.tensorboard)] if options.tensorboard else []
    return WriteLog(plan, state, options, data.waited, file, trackers)


def write_graph(model: keras.Model, data: TrainingData, directory: Path) -> None:
    """Writes TensorFlow's graph of the model for TensorBoard.

    Raises:
        UserError: the backend is not TensorFlow.
    """
    batch = next(iter(data.batches(0)))
    operations = compiler.write_graph(lambda inputs: model(inputs, training=True), batch, str(directory))
    common = ", ".join(f"{count} {name}" for name, count in operations.most_common(10))
    logger.info("graph of %d operations (%s, ...) written to %s", operations.total(), common, directory)
