"""The record of a measurement: one line of JSON with the machine, the configuration and the results."""

import dataclasses
import datetime
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.config import Config
from maskrcnn.errors import UserError
from maskrcnn.imaging.canvas import canvas_size
from maskrcnn.runtime import backend, hardware
from maskrcnn.runtime.compiler import compile_options
from maskrcnn.runtime.files import writing

Record = dict[str, Any]
PERCENTILES = (50, 90, 95, 99)


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """The extent and the inputs of a measurement."""

    steps: int = 200  # measured; as in NVIDIA's implementation, which this one replaces
    warmup_steps: int = 100  # before those; as there
    data_dir: str | Path | None = None  # None: synthetic images
    model_dir: str | Path | None = None  # of a trained model, for inference; gets the records of COCO data
    model_file: str | Path | None = None  # of `maskrcnn export`, for inference; instead of a live model
    backbone_checkpoint: str | Path | None = None  # for training; does not change the speed

    def __post_init__(self) -> None:
        if self.steps < 1 or self.warmup_steps < 1:
            raise UserError(
                "--steps and --warmup_steps must be at least 1: the first step compiles and is not measured"
            )


def make_record(
    kind: str, config: Config, options: BenchmarkOptions, results: Record, engine: Record | None = None
) -> Record:
    """The record of a measurement on the current machine; ``engine`` is `keras_engine` unless a file was measured."""
    train = config.train
    return {
        "kind": kind,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": hardware.describe_machine(),
        "device": hardware.device_name(),
        "configuration": {
            **(engine or keras_engine(config)),
            "batch_size": train.batch_size if kind == "training" else train.eval_batch_size,
            "canvas": list(canvas_size(1, 2, config.model.image)),
            "classes": config.num_classes,
            "data": "synthetic" if options.data_dir is None else Path(options.data_dir).name,
            "steps": options.steps,
            "warmup_steps": options.warmup_steps,
            "model": dataclasses.asdict(config.model),
        },
        "results": results,
    }


def keras_engine(config: Config) -> Record:
    """What computes a live model."""
    train = config.train
    xla = compile_options(xla=train.xla, eagerly=train.eagerly)["jit_compile"]
    return {"backend": backend.active_backend(), "precision": train.precision, "xla": xla}


def append_record(record: Record, path: str | Path) -> None:
    """Appends a record to a file as a line of JSON.

    Raises:
        UserError: the file cannot be written.
    """
    path = Path(path)
    with writing(path, "choose another --out_file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


class Window:
    """Peak memory and time spent waiting for data, of the measured steps alone.

    Args:
        waiting: the seconds waited so far.
    """

    def __init__(self, waiting: Callable[[], float]) -> None:
        self._waiting, self._waited = waiting, 0.0
        self._before = hardware.peak_memory()

    def begin(self) -> None:
        """Ends the warm-up."""
        self._waited, self._before = self._waiting(), hardware.peak_memory()
        hardware.reset_peak_memory()

    @property
    def waited(self) -> float:
        """Seconds waited since `begin`."""
        return self._waiting() - self._waited

    def peak_memory(self) -> dict[str, int | None]:
        """Bytes: of the host in the whole run and in the measured steps, and of the device."""
        now, steps = hardware.peak_memory(), hardware.peak_resident()
        host = max((peak for peak in (now.host, self._before.host, steps) if peak), default=None)
        return {"host": host, "host_in_steps": steps, "device": now.device}


def startup(built: float, first_step: float, seconds: list[float]) -> dict[str, float]:
    """Seconds of building the model, of the first step, and the part of that for compiling."""
    compiling = max(first_step - statistics.median(seconds), 0.0)
    return {"build_seconds": built, "first_step_seconds": first_step, "compile_seconds": compiling}


def summarize(seconds: Sequence[float]) -> dict[str, float]:
    """Mean and percentiles of step times; empty if there are none."""
    if not seconds:
        return {}
    return {
        "mean": float(np.mean(seconds)),
        **{f"{percent}%": float(np.percentile(seconds, percent)) for percent in PERCENTILES},
    }
