"""The log in DLLogger's format: one JSON object a line."""

import contextlib
import datetime
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from maskrcnn.errors import UserError, expect
from maskrcnn.runtime.files import writing

PREFIX = "DLLL "


@dataclass(frozen=True)
class LogOptions:
    """Where and how often a run logs."""

    file: str | Path | None = None  # DLLogger lines; None: mrcnn-dlll.json in the model folder
    every: int = 100  # steps between two entries; reference
    warmup_steps: int = 100  # excluded from the reported speed; reference
    tensorboard: str | Path | None = None  # folder for TensorBoard's event files
    graph: bool = False  # also write TensorFlow's graph of the model there, or into the model folder
    trackers: tuple[str, ...] = ()  # names of experiment trackers, see `maskrcnn.logs.trackers`

    @classmethod
    def of(cls, logs: "LogOptions | None") -> "LogOptions":
        """The options that a caller gives; None are the defaults."""
        return cls() if logs is None else expect(logs, cls, "logs")


class DLLLog:
    """Appends lines to a log file; each is on the disk when the call returns.

    A step is ``(epoch, batch)``, both from 1, ``(epoch,)`` for the summary of an epoch, or ``()`` for that of the run.
    """

    def __init__(self, path: str | Path):
        """Opens the file.

        Raises:
            UserError: it cannot be written.
        """
        self.path = Path(path)
        if self.path.is_fifo():  # to open it would wait for a reader
            raise UserError(f"{path}: cannot be written (a pipe); see --log_file")
        with writing(path, "see --log_file"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = self.path.open("a", encoding="utf-8", buffering=1)
        self._start = time.monotonic()  # the clock may be set

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Writes the configuration of the run."""
        self.log("PARAMETER", values)

    def log(self, step: str | Sequence[int], data: Mapping[str, Any]) -> None:
        """Writes one line; numbers in the data must be plain Python numbers.

        Raises:
            UserError: the line cannot be written, e.g. the disk is full.
        """
        now = datetime.datetime.now()
        line = {
            "timestamp": str(now.timestamp()),
            "datetime": str(now),
            "elapsedtime": str(round(time.monotonic() - self._start, 6)),
            "type": "LOG",
            "step": step if isinstance(step, str) else list(step),
            "data": dict(data),
        }
        with writing(self.path, "free disk space and give the same command again"):
            self._file.write(f"{PREFIX}{json.dumps(line)}\n")

    def close(self) -> None:
        """Closes the file."""
        with contextlib.suppress(OSError):  # for a line that `log` could not write either
            self._file.close()
