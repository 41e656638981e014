"""NVIDIA's DLLogger line format, ``DLLL {json}``, so that tools that read its logs read ours."""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from maskrcnn.errors import UserError


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
