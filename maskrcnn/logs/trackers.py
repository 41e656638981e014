"""Experiment trackers: Weights & Biases, MLflow, Comet, or a CSV file, by plain calls of their libraries.

Each library takes its account, server, project and offline mode from its own environment variables. The id of the run
is kept in the model folder, so that a resumed run goes to the same entry.
"""

import csv
import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maskrcnn.errors import UserError
from maskrcnn.input_files import MAX_ANNOTATION_BYTES, read_bytes, read_json
from maskrcnn.runtime.files import replacing

IDS_FILE = "trackers.json"  # in the model folder: the id of the run by the name of its tracker
CSV_FILE = "log.csv"
PROJECT = "maskrcnn"  # where the environment names none
PACKAGES = {"wandb": "wandb", "mlflow": "mlflow", "comet": "comet_ml", "csv": "csv"}

Images = Mapping[str, NDArray[np.uint8]]  # RGB [H, W, 3] by name


class Tracker(Protocol):
    """Something that is given the numbers of a run."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of a step."""
        ...

    def write_images(self, step: int, images: Images) -> None:
        """Writes images, where the tracker keeps them."""
        ...

    def close(self) -> None:
        """Ends the run's entry."""
        ...


def require(names: Sequence[str]) -> None:
    """Checks that the libraries of trackers are installed.

    Raises:
        UserError: one is not, or there is no tracker of that name.
    """
    for name in names:
        if name not in PACKAGES:
            raise UserError(f"--log {name}: no such tracker; known are {', '.join(PACKAGES)}")
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise UserError(f"--log {name}: {PACKAGES[name]} is not installed; run: pip install {PACKAGES[name]}")


def open_tracker(name: str, model_dir: Path, config: Mapping[str, Any]) -> Tracker:
    """Opens a tracker for the run in a model folder, or again if the run is resumed.

    Raises:
        UserError: its library is not installed, or refuses the run.
    """
    require([name])
    if name == "csv":
        return CsvTracker(model_dir / CSV_FILE)
    opened = {"wandb": WandbTracker, "mlflow": MlflowTracker, "comet": CometTracker}[name]
    ids = _read_ids(model_dir)
    try:
        tracker = opened(model_dir.resolve(), dict(config), ids.get(name))
    except Exception as error:  # each library has its own
        raise UserError(f"--log {name}: {error}; see the documentation of {PACKAGES[name]}") from error
    with replacing(model_dir / IDS_FILE) as path:
        path.write_text(json.dumps({**ids, name: tracker.id}, indent=2) + "\n", encoding="utf-8")
    return tracker


def _read_ids(model_dir: Path) -> dict[str, str]:
    path = model_dir / IDS_FILE
    if not path.exists():
        return {}
    ids = read_json(path, "ids of runs; delete it to start new entries")
    return ids if isinstance(ids, dict) else {}


class CsvTracker:
    """Appends to a CSV file; a row of the later of two equal steps counts, as in the log."""

    def __init__(self, path: Path):
        self.path = path
        self._names: list[str] = []
        if path.exists():
            try:
                self._names = next(csv.reader(read_bytes(path, MAX_ANNOTATION_BYTES).decode().splitlines()), [])
            except (UnicodeError, csv.Error) as error:
                raise UserError(f"{path}: not the table of a run ({error}); move it away") from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends a row; new names become columns at the end."""
        if new := [name for name in ("step", *values) if name not in self._names]:
            self._add_columns(new)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._names).writerow({"step": step, **values})

    def write_images(self, step: int, images: Images) -> None:
        """A table keeps none."""

    def close(self) -> None:
        """Each row was written at once."""

    def _add_columns(self, names: list[str]) -> None:
        rows: list[dict[str, str]] = []
        if self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        self._names = [*self._names, *names]
        with replacing(self.path) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._names)
            writer.writeheader()
            writer.writerows(rows)


class WandbTracker:
    """A run of Weights & Biases; ``WANDB_MODE=offline`` writes it to the model folder, for `wandb sync`."""

    def __init__(self, model_dir: Path, config: dict[str, Any], run_id: str | None):
        wandb = importlib.import_module("wandb")
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self._wandb = wandb
        self._run = wandb.init(
            project=project, name=model_dir.name, dir=str(model_dir), config=config, id=run_id, resume="allow"
        )
        self.id: str = self._run.id

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the values of a step."""
        self._run.log(dict(values), step=step)

    def write_images(self, step: int, images: Images) -> None:
        """Logs the images as one panel."""
        panel = [self._wandb.Image(image, caption=name) for name, image in images.items()]
        self._run.log({"predictions": panel}, step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


class MlflowTracker:
    """A run of MLflow, on the server of ``MLFLOW_TRACKING_URI``, by default in the working folder."""

    def __init__(self, model_dir: Path, config: dict[str, Any], run_id: str | None):
        mlflow = importlib.import_module("mlflow")
        self._mlflow = mlflow
        if "MLFLOW_EXPERIMENT_NAME" not in os.environ and "MLFLOW_EXPERIMENT_ID" not in os.environ:
            mlflow.set_experiment(PROJECT)
        self.id: str = mlflow.start_run(run_id=run_id, run_name=None if run_id else model_dir.name).info.run_id
        if run_id is None:  # parameters cannot be changed later
            mlflow.log_params({f"train.{name}": value for name, value in config.get("train", {}).items()})
            mlflow.log_dict(config, "config.json")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the values of a step."""
        self._mlflow.log_metrics(dict(values), step=step)

    def write_images(self, step: int, images: Images) -> None:
        """Logs each image as an artifact."""
        for name, image in images.items():
            self._mlflow.log_image(image, f"predictions/step-{step:08d}/{name}.png")

    def close(self) -> None:
        """Ends the run."""
        self._mlflow.end_run()


class CometTracker:
    """An experiment of Comet; ``COMET_START_ONLINE=0`` writes it to a file, for `comet upload`."""

    def __init__(self, model_dir: Path, config: dict[str, Any], run_id: str | None):
        comet_ml = importlib.import_module("comet_ml")
        self._experiment = comet_ml.start(project_name=PROJECT, experiment_key=run_id)
        self.id: str = self._experiment.get_key()
        self._experiment.set_name(model_dir.name)
        self._experiment.log_parameters(config)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the values of a step."""
        self._experiment.log_metrics(dict(values), step=step)

    def write_images(self, step: int, images: Images) -> None:
        """Logs the images."""
        for name, image in images.items():
            self._experiment.log_image(image, name=name, step=step)

    def close(self) -> None:
        """Ends the experiment."""
        self._experiment.end()
