"""NVIDIA's DLLogger line format, ``DLLL {json}``, so that tools that read its logs read ours."""

import datetime
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from maskrcnn.errors import UserError

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class LogOptions:
    """Where a run tells of itself."""

    file: str | Path | None = None  # DLLogger lines; None: mrcnn-dlll.json in the model's folder
    every: int = 100  # steps between two reports; reference
    warmup_steps: int = 100  # left out of the reported speed; reference
    tensorboard: str | Path | None = None  # folder of TensorBoard events
    graph: bool = False  # write TensorFlow's graph of the model there as well, or into the model's folder


class DLLLog:
    """Appends lines to a log file; each is complete on the disk when the call returns.

    A step is ``(epoch, batch)``, both from 1, ``(epoch,)`` for the summary of one, or ``()`` for that of the run.
    """

    def __init__(self, path: str | Path):
        """Opens the file.

        Raises:
            UserError: it cannot be written.
        """
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = self.path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise UserError(f"{self.path}: the log cannot be written ({error.strerror}); see --log_file") from error
        self._start = datetime.datetime.now()

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Writes the configuration of the run."""
        self.log("PARAMETER", values)

    def log(self, step: str | Sequence[int], data: Mapping[str, Any]) -> None:
        """Writes one line; numbers of the data must be plain Python numbers."""
        now = datetime.datetime.now()
        line = {
            "timestamp": str(now.timestamp()),
            "datetime": str(now),
            "elapsedtime": str((now - self._start).total_seconds()),
            "type": "LOG",
            "step": step if isinstance(step, str) else list(step),
            "data": dict(data),
        }
        self._file.write(f"DLLL {json.dumps(line)}\n")

    def close(self) -> None:
        self._file.close()


class BatchClock:
    """Times an evaluation: how long each batch takes, from one request to the next.

    Args:
        file: gets a line every so many batches.
        batch_size: images of a batch.
        every: batches between two lines.
        warmup_steps: batches that `speed` leaves out.
    """

    def __init__(self, file: DLLLog, batch_size: int, *, every: int, warmup_steps: int):
        self.file, self.batch_size, self.every, self.warmup_steps = file, batch_size, every, warmup_steps
        self._seconds: list[float] = []

    def watch(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same batches."""
        began = time.perf_counter()
        for number, batch in enumerate(batches, start=1):
            yield batch
            now = time.perf_counter()
            self._seconds.append(now - began)
            began = now
            if number % self.every == 0:
                self.file.log((1, number), describe_speed("predict", self.batch_size, self._seconds[-self.every :]))

    def speed(self) -> dict[str, float]:
        """Of the batches after the warm-up; empty if there are none."""
        return describe_speed("predict", self.batch_size, self._seconds[self.warmup_steps :])


def describe_speed(mode: str, batch_size: int, seconds: Sequence[float]) -> dict[str, float]:
    """Throughput (images/s), mean latency and its percentiles (s) of batches; empty if there are none."""
    if not seconds:
        return {}
    latencies = {f"{mode}_latency_{p}": float(np.percentile(seconds, p)) for p in PERCENTILES}
    mean = float(np.mean(seconds))
    return {f"{mode}_throughput": batch_size / mean, f"{mode}_latency": mean, **latencies}
