"""What a run tells of itself while it trains: a progress bar, and the log.

Keras reports each loss as its mean since the epoch began; the mean since any later step follows from two of those.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
from tqdm import tqdm

from maskrcnn.logs.dllogger import DLLLog
from maskrcnn.logs.throughput import describe_speed
from maskrcnn.training.checkpoint import Reported

REFRESH_SECONDS = 0.5  # between two updates of the progress bar


@dataclass(frozen=True)
class Plan:
    """How far a run goes, and from where; a step is one batch."""

    epochs: int
    steps_per_epoch: int
    batch_size: int  # images of a step, on all devices
    first_step: int  # steps done before, by the run that this one resumes
    schedule: Callable[[int], Any]  # learning rate of a step, from 0
    reported: Reported = field(default_factory=Reported)  # of an epoch that was begun

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class Progress:
    """The run up to a step; the means are over the steps since the last report."""

    step: int  # of the run, from 1
    epoch: int  # from 1
    batch: int  # of the epoch, from 1
    losses: dict[str, float]
    learning_rate: float
    images_per_second: float
    data_wait: float  # part of the time that was spent waiting for data, 0 to 1


class ScalarWriter(Protocol):
    """The part of `tensorboard.summary.Writer` that the log needs."""

    def add_scalar(self, tag: str, data: float, step: int) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class Reporter(keras.callbacks.Callback):
    """Base of what reports progress now and then: says `due` when, and `show` what.

    Args:
        plan: of the run.
        waited: seconds spent waiting for data so far.
    """

    def __init__(self, plan: Plan, waited: Callable[[], float]):
        super().__init__()
        self.plan = plan
        self.waited = waited
        self.step = plan.first_step

    def due(self) -> bool:
        raise NotImplementedError

    def show(self, progress: Progress) -> None:
        raise NotImplementedError

    @property
    def epoch_ends(self) -> bool:
        return self.step % self.plan.steps_per_epoch == 0

    def on_epoch_begin(self, epoch, logs=None):
        self._seen = self.step % self.plan.steps_per_epoch  # steps behind the means in `logs`
        self._begin(self.plan.reported if self._seen else Reported())

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self._seen += 1
        self._steps += 1
        if self.due():
            self.show(self._progress(logs or {}))

    def _begin(self, reported: Reported) -> None:
        self.reported = reported
        self._last_time, self._last_wait, self._steps = time.perf_counter(), self.waited(), 0

    def _progress(self, means: Mapping[str, float]) -> Progress:
        sums = {name: mean * self._seen for name, mean in means.items()}
        steps = self._seen - self.reported.seen
        seconds = max(time.perf_counter() - self._last_time, 1e-9)
        progress = Progress(
            step=self.step,
            epoch=(self.step - 1) // self.plan.steps_per_epoch + 1,
            batch=(self.step - 1) % self.plan.steps_per_epoch + 1,
            losses={name: (total - self.reported.sums.get(name, 0.0)) / steps for name, total in sums.items()},
            learning_rate=float(self.plan.schedule(self.step - 1)),
            images_per_second=self._steps * self.plan.batch_size / seconds,
            data_wait=min((self.waited() - self._last_wait) / seconds, 1.0),
        )
        self._begin(Reported(self._seen, sums))
        return progress


class ProgressBar(Reporter):
    """One line on the terminal: losses, learning rate, images a second, share of time spent waiting for data."""

    def __init__(self, plan: Plan, waited: Callable[[], float], *, shown: bool = True):
        super().__init__(plan, waited)
        self._bar = tqdm(
            total=plan.total_steps,
            initial=plan.first_step,
            desc="training",
            unit="step",
            dynamic_ncols=True,
            disable=not shown,
        )

    def due(self) -> bool:
        return self.epoch_ends or time.perf_counter() - self._last_time >= REFRESH_SECONDS

    def show(self, progress: Progress) -> None:
        losses = {name.removesuffix("_loss"): f"{value:.3f}" for name, value in progress.losses.items()}
        self._bar.set_description(f"epoch {progress.epoch}/{self.plan.epochs}", refresh=False)
        self._bar.set_postfix(
            {
                **losses,
                "lr": f"{progress.learning_rate:.2g}",
                "img/s": f"{progress.images_per_second:.2f}",
                "data wait": f"{progress.data_wait:.0%}",
            },
            refresh=False,
        )
        self._bar.update(progress.step - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class Log(Reporter):
    """Writes losses and speed to the log file, and to TensorBoard if asked.

    Args:
        plan: of the run.
        waited: seconds spent waiting for data so far.
        file: the log file.
        every: steps between two reports; there is one at each epoch's end too.
        warmup_steps: of this run, left out of `speed`.
        writer: of TensorBoard.
    """

    def __init__(
        self,
        plan: Plan,
        waited: Callable[[], float],
        *,
        file: DLLLog,
        every: int,
        warmup_steps: int,
        writer: ScalarWriter | None = None,
    ):
        super().__init__(plan, waited)
        self.file, self.every, self.warmup_steps, self.writer = file, every, warmup_steps, writer
        self._step_seconds: list[float] = []

    def due(self) -> bool:
        return self.step % self.every == 0 or self.epoch_ends

    def show(self, progress: Progress) -> None:
        data = {
            **progress.losses,
            "learning_rate": progress.learning_rate,
            "train_throughput": progress.images_per_second,
            "data_wait": progress.data_wait,
        }
        self.file.log((progress.epoch, progress.batch), data)
        self._write_scalars(data, progress.step)

    def evaluation(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Logs the metrics after an epoch, from 1."""
        self.file.log((epoch,), metrics)
        self._write_scalars(metrics, epoch * self.plan.steps_per_epoch)

    def _write_scalars(self, data: Mapping[str, float], step: int) -> None:
        if self.writer:
            for name, value in data.items():
                self.writer.add_scalar(name, value, step)

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self._step_began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        self._step_seconds.append(now - self._step_began)
        self._step_began = now
        super().on_train_batch_end(batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        self.file.log((epoch + 1,), logs or {})

    def flush(self) -> None:
        """Returns when what was reported so far is in the files: before a checkpoint says that it was."""
        if self.writer:
            self.writer.flush()

    def speed(self) -> dict[str, float]:
        """Throughput (images/s) and latency (s) of this run's steps after the warm-up; empty if there are none."""
        return describe_speed("train", self.plan.batch_size, self._step_seconds[self.warmup_steps :])

    def close(self) -> None:
        self.file.close()
        if self.writer:
            self.writer.close()
