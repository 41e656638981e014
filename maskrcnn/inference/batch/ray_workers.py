"""Workers that Ray Data starts, feeds with parts, and replaces when they die."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn.errors import UserError
from maskrcnn.inference.batch.part_file import predict_part
from maskrcnn.inference.batch.plan import Part
from maskrcnn.inference.views import Views
from maskrcnn.runtime.extras import import_extra

STORE_BYTES = 256 << 20  # of Ray's shared memory on this machine: only names of files and counts pass through it


@dataclass(frozen=True)
class Workers:
    """Processes of a Ray cluster."""

    count: int
    address: str | None = None  # of a running cluster, or "auto"; None starts one on this machine
    gpus: float = 0.0  # of each worker
    verbose: bool = False


class PartWorker:
    """A process with the model; Ray calls it with one part after another."""

    def __init__(self, model: str, settings: Mapping[str, Any], out_dir: str, views: Views) -> None:
        from maskrcnn.inference.sources import open_source  # imports Keras, in the worker only

        source = open_source(model)
        self._predictor = source.build(source.config.override(settings))
        self._out_dir, self._views = Path(out_dir), views

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Predicts the part of a row, unless a worker that died afterwards has written it."""
        part = Part(int(row["number"]), int(row["first_id"]), [str(name) for name in row["files"]])
        unreadable, problem = 0, ""
        if not (self._out_dir / part.file_name).exists():
            try:
                unreadable = predict_part(self._predictor, part, self._out_dir, self._views)
            except UserError as error:
                problem = str(error)
        return {"number": part.number, "unreadable": unreadable, "problem": problem}


def predict_with_ray(
    workers: Workers, parts: Sequence[Part], model: str, settings: Mapping[str, Any], out_dir: Path, views: Views
) -> Iterator[tuple[Part, int]]:
    """Yields each part with the number of its images that could not be read, as it is done.

    Raises:
        UserError: Ray is not installed or cannot be reached, or a worker's error of that kind.
    """
    if not parts:
        return
    ray, data = import_extra("ray"), import_extra("ray.data")
    by_number = {part.number: part for part in parts}
    with _running(ray, workers):
        data.DataContext.get_current().enable_progress_bars = False
        rows = [
            {"number": part.number, "first_id": part.first_id, "files": [_absolute(name) for name in part.files]}
            for part in parts
        ]
        place = os.path.abspath(model) if os.path.exists(model) else model  # workers start in other folders
        results = data.from_items(rows, override_num_blocks=len(rows)).map(
            PartWorker,
            fn_constructor_args=(place, settings, os.path.abspath(out_dir), views),
            concurrency=min(workers.count, len(rows)),
            num_cpus=1,
            num_gpus=workers.gpus,
        )
        for result in results.iter_rows():
            if result["problem"]:
                raise UserError(result["problem"])
            yield by_number[int(result["number"])], int(result["unreadable"])


def _absolute(name: str) -> str:
    return os.path.abspath(name) if os.path.exists(name) else name


@contextlib.contextmanager
def _running(ray: Any, workers: Workers) -> Iterator[None]:
    """Connects to a cluster, or starts one here, which ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    names = ("KERAS_BACKEND", "PYTHONPATH", "MASKRCNN_CACHE", "TF_CPP_MIN_LOG_LEVEL")
    variables = {name: os.environ[name] for name in names if name in os.environ}
    options: dict[str, Any] = {"address": workers.address}
    if workers.address is None:
        options = {"num_cpus": workers.count, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    try:
        ray.init(
            **options,
            runtime_env={"env_vars": variables},
            log_to_driver=workers.verbose,
            logging_level="INFO" if workers.verbose else "ERROR",
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"--ray {workers.address}: no cluster can be reached there ({error}); check it") from error
    try:
        yield
    finally:
        ray.shutdown()
