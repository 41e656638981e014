"""The log in DLLogger's format: one JSON object a line."""

import contextlib
import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from maskrcnn.errors import UserError
from maskrcnn.runtime.files import replacing

PREFIX = "DLLL "


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
        """Writes one line; numbers of the data must be plain Python numbers.

        Raises:
            UserError: there is no room for it, say.
        """
        now = datetime.datetime.now()
        line = {
            "timestamp": str(now.timestamp()),
            "datetime": str(now),
            "elapsedtime": str((now - self._start).total_seconds()),
            "type": "LOG",
            "step": step if isinstance(step, str) else list(step),
            "data": dict(data),
        }
        try:
            self._file.write(f"{PREFIX}{json.dumps(line)}\n")
        except OSError as error:
            reason = f"the log cannot be written ({error.strerror})"
            raise UserError(f"{self.path}: {reason}; make room and give the same command again") from error

    def close(self) -> None:
        with contextlib.suppress(OSError):  # of a line that `log` could not write either
            self._file.close()


def cut_log(path: Path, *, step: int, steps_per_epoch: int, epochs: int) -> None:
    """Takes out of a log what a resumed run will tell again: all that came after ``step`` steps, and the last summary.

    Evaluations after all the ``epochs`` are taken out too: the end of a run always evaluates. A last line that was cut
    short by a crash goes as well.
    """
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        if line.startswith(PREFIX):
            try:
                content = json.loads(line.removeprefix(PREFIX))
            except ValueError:
                continue
            place, data = content.get("step"), content.get("data", {})
            if isinstance(place, list) and not _stays(place, data, step, steps_per_epoch, epochs):
                continue
        kept.append(line if line.endswith("\n") else "")
    with replacing(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def _stays(place: list[int], data: Mapping[str, Any], step: int, steps_per_epoch: int, epochs: int) -> bool:
    if not place:  # the summary of a run
        return False
    if len(place) == 1:
        is_last_evaluation = place[0] >= epochs and "loss" not in data
        return place[0] * steps_per_epoch <= step and not is_last_evaluation
    return (place[0] - 1) * steps_per_epoch + place[1] <= step
