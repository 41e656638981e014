"""The history of a run, read from its training log."""

import json
from pathlib import Path
from typing import Any

from maskrcnn.errors import UserError
from maskrcnn.logs.dllogger import PREFIX


def read_history(log_file: str | Path) -> list[dict[str, float]]:
    """The entries of a log, in the order of their steps.

    Entries of training steps have ``step`` (of the run, from 1), ``epoch``, the losses, ``learning_rate``,
    ``train_throughput`` (images/s) and ``data_wait``; evaluations have ``step``, ``epoch``, ``bbox_AP``, ``segm_AP``
    and so on. A resumed run may have logged steps again; the last entry of a step counts.

    Raises:
        UserError: the file cannot be read.
    """
    path = Path(log_file)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the log of a training run") from error
    entries: list[tuple[tuple[int, float], dict[str, Any]]] = []
    for step, data in filter(None, map(_parse, lines)):
        is_evaluation = len(step) == 1
        if ("bbox_AP" if is_evaluation else "loss") not in data:  # summaries of epochs, entries of other commands
            continue
        key = (step[0], float("inf") if is_evaluation else step[1])  # an evaluation follows its epoch's last step
        while entries and entries[-1][0] >= key:
            entries.pop()
        entries.append((key, data))
    steps_per_epoch = max((int(batch) for (_, batch), _ in entries if batch != float("inf")), default=1)
    return [
        {**data, "epoch": epoch, "step": (epoch - 1) * steps_per_epoch + int(min(batch, steps_per_epoch))}
        for (epoch, batch), data in entries
    ]


def read_evaluations(log_file: str | Path) -> list[dict[str, float]]:
    """The evaluations in a log, in order of their epochs; see `read_history`."""
    return [entry for entry in read_history(log_file) if "bbox_AP" in entry]


def _parse(line: str) -> tuple[list[int], dict[str, Any]] | None:
    """The step and the data of a line of an epoch; None for any other line, such as one truncated by a crash."""
    if not line.startswith(PREFIX):
        return None
    try:
        content = json.loads(line.removeprefix(PREFIX))
    except ValueError:
        return None
    step, data = content.get("step"), content.get("data")
    return (step, data) if isinstance(step, list) and len(step) in (1, 2) and isinstance(data, dict) else None
