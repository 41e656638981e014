"""Throughput, mean latency and latency percentiles of batches."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from maskrcnn.logs.dllogger import DLLLog

PERCENTILES = (50, 90, 95, 99)


class BatchClock:
    """Measures how long each batch of an evaluation takes, from one request to the next.

    Args:
        file: gets a line every ``every`` batches.
        batch_size: images of a batch.
        every: batches between two lines.
        warmup_steps: first batches, which `speed` excludes.
    """

    def __init__(self, file: DLLLog, batch_size: int, *, every: int, warmup_steps: int):
        self.file, self.batch_size, self.every, self.warmup_steps = file, batch_size, every, warmup_steps
        self._seconds: list[float] = []

    def watch(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yields the same batches."""
        began = time.perf_counter()
        for number, batch in enumerate(batches, start=1):
            yield batch
            now = time.perf_counter()
            self._seconds.append(now - began)
            began = now
            if number % self.every == 0:
                self.file.log((1, number), describe_speed("predict", self.batch_size, self._seconds[-self.every :]))

    def speed(self) -> dict[str, float]:
        """The speed of the batches after the warm-up; empty if there are none."""
        return describe_speed("predict", self.batch_size, self._seconds[self.warmup_steps :])


def describe_speed(mode: str, batch_size: int, seconds: Sequence[float]) -> dict[str, float]:
    """Throughput (images/s), mean latency and its percentiles (s) of batches; empty if there are none."""
    if not seconds:
        return {}
    latencies = {f"{mode}_latency_{p}": float(np.percentile(seconds, p)) for p in PERCENTILES}
    mean = float(np.mean(seconds))
    return {f"{mode}_throughput": batch_size / mean, f"{mode}_latency": mean, **latencies}
