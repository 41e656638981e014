"""The progress bar of a training run, and the meter of its losses and speed."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


class Reading(NamedTuple):
    """A run since the reading before."""

    losses: dict[str, float]  # means over the steps
    images_per_second: float
    data_wait: float  # fraction of the time that was spent waiting for data


class SpeedMeter:
    """Measures losses, speed and data wait between two readings.

    Keras reports each loss as its mean since `fit` began the epoch; the mean since a later step follows from two of
    those.

    Args:
        batch_size: images of a step.
        waited: seconds spent waiting for data so far.
    """

    def __init__(self, batch_size: int, waited: Callable[[], float]):
        self.batch_size, self.waited = batch_size, waited

    def start_epoch(self) -> None:
        """Begins anew, as Keras' means do."""
        self._seen = 0
        self._restart({})

    def step(self) -> None:
        """Counts a step."""
        self._seen += 1

    @property
    def seconds(self) -> float:
        """Seconds since the last reading."""
        return time.perf_counter() - self._read_at

    def read(self, means: Mapping[str, float]) -> Reading:
        """The steps since the last reading.

        Args:
            means: of the losses since the epoch began, as Keras gives them to callbacks.
        """
        sums = {name: mean * self._seen for name, mean in means.items()}
        steps, seconds = self._seen - self._read_steps, max(self.seconds, 1e-9)
        reading = Reading(
            losses={name: (total - self._read_sums.get(name, 0.0)) / steps for name, total in sums.items()},
            images_per_second=steps * self.batch_size / seconds,
            data_wait=min((self.waited() - self._read_wait) / seconds, 1.0),
        )
        self._restart(sums)
        return reading

    def _restart(self, sums: dict[str, float]) -> None:
        self._read_at, self._read_wait = time.perf_counter(), self.waited()
        self._read_steps, self._read_sums = self._seen, sums


class ProgressBar:
    """A context with one line on the terminal; messages that are logged meanwhile appear above it."""

    def __init__(self, total_steps: int, first_step: int, *, shown: bool = True):
        self._bar = tqdm(
            total=total_steps, initial=first_step, desc="training", unit="step", dynamic_ncols=True, disable=not shown
        )

    def __enter__(self) -> "ProgressBar":
        self._redirection = logging_redirect_tqdm()
        self._redirection.__enter__()
        return self

    def show(self, step: int, description: str, values: Mapping[str, str]) -> None:
        """Moves the bar to a step."""
        self._bar.set_description(description, refresh=False)
        self._bar.set_postfix(values, refresh=False)
        self._bar.update(step - self._bar.n)

    def __exit__(self, *error: Any) -> None:
        self._redirection.__exit__(*error)
        self._bar.close()
