"""Log files in DLLogger's format, as a history."""

import json
from pathlib import Path
from typing import Any

import pytest

from maskrcnn.errors import UserError
from maskrcnn.logs.history import read_history


def _line(step: Any, **data: Any) -> str:
    return "DLLL " + json.dumps({"timestamp": "1", "type": "LOG", "step": step, "data": data}) + "\n"


def test_steps_are_counted_over_epochs_and_evaluations_follow_them(tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    log.write_text(
        _line("PARAMETER", model={})
        + _line([1, 5], loss=4.0, learning_rate=0.1)
        + _line([1, 10], loss=3.0)
        + _line([1], loss=3.5)  # Keras' summary of an epoch
        + _line([1], bbox_AP=0.1, segm_AP=0.2)
        + _line([2, 5], loss=2.0)
        + _line([2, 10], loss=1.0)
        + _line([2], loss=1.5)
        + _line([], bbox_AP=0.5)
    )
    history = read_history(log)
    assert [(entry["epoch"], entry["step"]) for entry in history] == [(1, 5), (1, 10), (1, 10), (2, 15), (2, 20)]
    assert history[0] == {"epoch": 1, "step": 5, "loss": 4.0, "learning_rate": 0.1}
    assert history[2]["segm_AP"] == 0.2


def test_the_last_entry_of_a_repeated_step_counts(tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    steps = [(1, 5, 5.0), (1, 10, 4.0), (2, 5, 3.0), (1, 10, 3.9), (2, 5, 2.9)]
    log.write_text("".join(_line([epoch, batch], loss=loss) for epoch, batch, loss in steps))
    assert [entry["loss"] for entry in read_history(log)] == [5.0, 3.9, 2.9]


def test_other_lines_are_skipped(tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    log.write_text("hello\n" + _line([1, 1], loss=1.0) + _line([1, 2], loss=0.5)[:40] + "\n")
    assert len(read_history(log)) == 1
    log.write_text("")
    assert read_history(log) == []
    with pytest.raises(UserError, match=r"none\.json: no such file"):
        read_history(tmp_path / "none.json")
