"""Times of steps: percentiles, and a clock of `fit` that does not slow it down."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from maskrcnn.runtime.hardware import device_name

PERCENTILES = (50, 90, 95, 99)
AHEAD = 2  # steps that the host may give an accelerator before it waits for the first of them


def summarize(seconds: Sequence[float]) -> dict[str, float]:
    """Mean and true percentiles: the time below which so many of 100 steps stayed."""
    if not seconds:
        return {}
    return {
        "mean": float(np.mean(seconds)),
        **{f"{percent}%": float(np.percentile(seconds, percent)) for percent in PERCENTILES},
    }


class StepClock(keras.callbacks.CallbackList):
    """Given to `fit` as its callbacks, records when the device finished each step.

    A callback of the usual kind gets losses as numbers, so that the host waits for each step and gives the device
    nothing to do meanwhile. Here the losses stay on the device, and the host waits for the step before the last one.

    Args:
        model: that is fitted.
        warmup_steps: after which `began` is called.
        began: called when the warm-up is over, between two steps.
        progress: shows each finished step.
    """

    def __init__(self, model: keras.Model, warmup_steps: int, began: Callable[[], None], progress: tqdm) -> None:
        super().__init__(add_history=True, model=model)  # `fit` returns the history
        self.ended: list[float] = []  # s, of each step
        self.warmup_steps, self.began, self.progress = warmup_steps, began, progress
        self._running: deque[Any] = deque()
        self._ahead = 0 if device_name() == "cpu" else AHEAD

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self.started = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if len(self.ended) + len(self._running) == self.warmup_steps:
            self._finish()
            self.began()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        assert logs is not None
        self._running.append(logs["loss"])
        self._finish(self._ahead if self.ended else 0)  # the first step is timed by itself: it is compiled in it

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._finish()
        super().on_epoch_end(epoch, logs)

    def _finish(self, left: int = 0) -> None:
        """Waits until all but ``left`` steps are done."""
        while len(self._running) > left:
            float(self._running.popleft())
            self.ended.append(time.perf_counter())
            self.progress.update()

    @property
    def first_step(self) -> float:
        """Seconds of the first step, compilation included."""
        return self.ended[0] - self.started

    @property
    def seconds(self) -> list[float]:
        """Of each step after the warm-up, from the end of the step before it."""
        first = max(self.warmup_steps, 1)
        return np.diff(self.ended[first - 1 :]).tolist()
