"""The history of a run, read from its training log."""

from pathlib import Path
from typing import Any

from maskrcnn.input_files import MAX_ANNOTATION_BYTES, parse_json, read_bytes
from maskrcnn.logs.dllogger import PREFIX

MAX_STEP = 1 << 40


def read_history(log_file: str | Path) -> list[dict[str, float]]:
    """The entries of a log, in the order of their steps.

    Entries of training steps have ``step`` (of the run, from 1), ``epoch``, the losses, ``learning_rate``,
    ``train_throughput`` (images/s) and ``data_wait``; evaluations have ``step``, ``epoch``, ``bbox_AP``, ``segm_AP``
    and so on. A resumed run may have logged steps again; the last entry of a step counts.

    Raises:
        UserError: the file cannot be read.
    """
    path = Path(log_file)
    lines = read_bytes(path, MAX_ANNOTATION_BYTES).decode(errors="replace").splitlines()
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
    """The step and the numbers of a line of an epoch; None for any other line, such as one truncated by a crash."""
    if not line.startswith(PREFIX):
        return None
    try:
        content = parse_json(line.removeprefix(PREFIX))
        step, data = content["step"], content["data"]
        numbers = {name: value for name, value in data.items() if isinstance(value, int | float)}
        is_step = len(step) in (1, 2) and all(type(number) is int and 0 < number < MAX_STEP for number in step)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return (step, numbers) if is_step else None
