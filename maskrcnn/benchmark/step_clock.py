"""A clock for `fit` that does not slow it down."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from maskrcnn.runtime.hardware import device_name

AHEAD = 2  # steps that the host dispatches to an accelerator before it waits for the first of them


class StepClock(keras.callbacks.CallbackList):
    """Records when the device finishes each step; `fit` takes it as its callbacks.

    Keras' own callback list converts the losses of each step to numbers, so the device idles until the host dispatches
    the next step. Here the losses stay on the device, and the host waits for an earlier step.

    Args:
        model: the model to fit.
        warmup_steps: steps that are not measured.
        began: called after the warm-up, between two steps.
        progress: is updated with each finished step.
    """

    def __init__(self, model: keras.Model, warmup_steps: int, began: Callable[[], None], progress: tqdm) -> None:
        super().__init__(add_history=True, model=model)  # `fit` returns the history
        self.ended: list[float] = []  # s, of each step
        self.warmup_steps, self.began, self.progress = warmup_steps, began, progress
        self._running: deque[Any] = deque()
        self._ahead = 0 if device_name() == "cpu" else AHEAD

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts the clock."""
        super().on_train_begin(logs)
        self.started = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Ends the warm-up."""
        if len(self.ended) + len(self._running) == self.warmup_steps:
            self._finish()
            self.began()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Waits for an earlier step."""
        assert logs is not None
        self._running.append(logs["loss"])
        self._finish(self._ahead if self.ended else 0)  # the first step, which compiles, is timed on its own

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Waits for all steps."""
        self._finish()
        super().on_epoch_end(epoch, logs)

    def _finish(self, left: int = 0) -> None:
        """Waits for all steps but the last ``left``."""
        while len(self._running) > left:
            float(self._running.popleft())
            self.ended.append(time.perf_counter())
            self.progress.update()

    @property
    def first_step(self) -> float:
        """Seconds of the first step, including compilation."""
        return self.ended[0] - self.started

    @property
    def seconds(self) -> list[float]:
        """Seconds of each step after the warm-up, from the end of the one before it."""
        first = max(self.warmup_steps, 1)
        return np.diff(self.ended[first - 1 :]).tolist()
