"""Trackers call the libraries that they are named after; tiny ones stand in for those."""

import csv
import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskrcnn.errors import UserError
from maskrcnn.logs.trackers import CsvTracker, open_tracker, require

IMAGE = np.zeros((4, 6, 3), np.uint8)
CONFIG = {"train": {"epochs": 3}}


class Recorder:
    """Records the calls of its methods and those of what they return."""

    def __init__(self, calls: list[tuple[Any, ...]], **answers: Any):
        self._calls, self._answers = calls, answers

    def __getattr__(self, name: str) -> Any:
        if name in self._answers and not callable(self._answers[name]):
            return self._answers[name]

        def record(*values: Any, **options: Any) -> Any:
            self._calls.append((name, *values, *options.items()))
            return self._answers[name](**options) if name in self._answers else None

        return record


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The calls of all three libraries."""
    made: list[tuple[Any, ...]] = []
    run = Recorder(made, id="w1")
    info = types.SimpleNamespace(info=types.SimpleNamespace(run_id="m1"))
    experiment = Recorder(made, get_key=lambda: "c1")
    libraries = {
        "wandb": Recorder(made, init=lambda **_: run, Image=lambda caption: f"<{caption}>"),
        "mlflow": Recorder(made, start_run=lambda **_: info),
        "comet_ml": Recorder(made, start=lambda **_: experiment),
    }
    for name, library in libraries.items():
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.__getattr__ = library.__getattr__  # type: ignore[method-assign]
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    return made


def use(name: str, folder: Path) -> None:
    tracker = open_tracker(name, folder, CONFIG)
    tracker.write(5, {"loss": 0.5})
    tracker.write_images(5, {"image 7": IMAGE})
    tracker.close()


def test_weights_and_biases(calls, tmp_path) -> None:
    use("wandb", tmp_path / "m")
    init, log, image, images, finish = calls
    where = {"dir": str(tmp_path / "m"), "project": "maskrcnn", "name": "m", "config": CONFIG}
    assert dict(init[1:]) == {**where, "id": None, "resume": "allow"}
    assert log == ("log", {"loss": 0.5}, ("step", 5))
    assert image[1] is IMAGE
    assert images == ("log", {"predictions": ["<image 7>"]}, ("step", 5))
    assert finish == ("finish",)
    calls.clear()
    use("wandb", tmp_path / "m")
    assert dict(calls[0][1:])["id"] == "w1"  # the resumed run goes to the same entry


def test_mlflow(calls, tmp_path) -> None:
    use("mlflow", tmp_path / "m")
    assert calls[:-2] == [
        ("set_experiment", "maskrcnn"),
        ("start_run", ("run_id", None), ("run_name", "m")),
        ("log_params", {"train.epochs": 3}),
        ("log_dict", CONFIG, "config.json"),
        ("log_metrics", {"loss": 0.5}, ("step", 5)),
    ]
    assert calls[-2][1] is IMAGE
    assert calls[-2][2:] == ("predictions/step-00000005/image 7.png",)
    assert calls[-1] == ("end_run",)
    calls.clear()
    use("mlflow", tmp_path / "m")
    assert calls[1] == ("start_run", ("run_id", "m1"), ("run_name", None))
    assert "log_params" not in [call[0] for call in calls]


def test_comet(calls, tmp_path) -> None:
    use("comet", tmp_path / "m")
    assert calls[0] == ("start", ("project_name", "maskrcnn"), ("experiment_key", None))
    assert ("log_metrics", {"loss": 0.5}, ("step", 5)) in calls
    assert [call[0] for call in calls][-2:] == ["log_image", "end"]
    calls.clear()
    use("comet", tmp_path / "m")
    assert dict(calls[0][1:])["experiment_key"] == "c1"


def test_a_library_that_refuses_is_one_line(calls, tmp_path, monkeypatch) -> None:
    def refuse(**_: Any) -> None:
        raise ConnectionError("no route to the server")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse, raising=False)
    with pytest.raises(UserError, match="--log wandb: no route to the server; see the documentation of wandb"):
        open_tracker("wandb", tmp_path, CONFIG)
    assert not list(tmp_path.iterdir())


def test_missing_libraries_and_unknown_names(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "comet_ml" else True)
    with pytest.raises(UserError, match="--log comet: comet_ml is not installed; run: pip install comet_ml"):
        require(["csv", "comet"])
    with pytest.raises(UserError, match="--log excel: no such tracker; known are wandb, mlflow, comet, csv"):
        require(["excel"])


def test_csv_rows_and_new_columns_survive_a_resumed_run(tmp_path) -> None:
    path = tmp_path / "log.csv"
    tracker = CsvTracker(path)
    tracker.write(1, {"loss": 0.5})
    tracker.write(2, {"loss": 0.25})
    tracker.write_images(2, {"image 7": IMAGE})
    again = open_tracker("csv", tmp_path, CONFIG)
    again.write(2, {"bbox_AP": 0.125})
    again.close()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "2"]
    assert [row["loss"] for row in rows] == ["0.5", "0.25", ""]
    assert [row["bbox_AP"] for row in rows] == ["", "", "0.125"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["log.csv"]
