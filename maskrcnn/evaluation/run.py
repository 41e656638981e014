"""Evaluates a model folder on a dataset: what `maskrcnn eval` does."""

import contextlib
import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskrcnn.config import Category, Config
from maskrcnn.data.loader.pipeline import Shard, eval_dataset
from maskrcnn.data.splits import Split, SplitName, find_dataset
from maskrcnn.errors import UserError
from maskrcnn.evaluation.coco_metrics import KINDS, Metrics, evaluate
from maskrcnn.inference.predictor import Model
from maskrcnn.logs.dllogger import DLLLog, LogOptions
from maskrcnn.logs.throughput import BatchClock
from maskrcnn.runtime.distribution import Devices, connect
from maskrcnn.runtime.files import replacing
from maskrcnn.weights.model_folder import load_for_use, load_model_config

METRICS_FILE = "metrics.json"
LOG_FILE = "mrcnn-dlll.json"
logger = logging.getLogger(__name__)


def evaluate_folder(
    model_dir: str | Path,
    data_dir: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    eval_file: str | Path | None = None,
    logs: LogOptions | None = None,
) -> Metrics:
    """Evaluates a trained model on a dataset and writes metrics.json into the model's folder.

    The split is the one of the setting ``data.eval_split``; if it is not val, the file is ``metrics_NAME.json``.

    All devices of this machine share the images.

    Args:
        model_dir: of the model.
        data_dir: a dataset of any format that is understood.
        settings: dotted config fields that replace the saved ones, such as ``train.eval_batch_size``.
        eval_file: COCO annotations to compare with, instead of those of the val split.
        logs: where to log.

    Raises:
        UserError: no model, no data, or data of other categories.
    """
    logs = logs or LogOptions()
    config = load_model_config(model_dir).override(dict(settings or {}))
    devices = connect()
    name = config.data.eval_split
    split = open_val_split(config, data_dir, model_dir, name=name, eval_file=eval_file, announce=True)
    with devices.scope(), contextlib.closing(DLLLog(logs.file or Path(model_dir) / LOG_FILE)) as file:
        predictor = devices.predictor(load_for_use(model_dir, config))
        file.parameters(dataclasses.asdict(config))
        batch_size = config.train.eval_batch_size * devices.replicas
        clock = BatchClock(file, batch_size, every=logs.every, warmup_steps=logs.warmup_steps)
        metrics = evaluate_split(predictor, config, split, clock, devices)
        file.log((), {**flatten(metrics), **clock.speed()})
    write_metrics(metrics, model_dir, METRICS_FILE if name == "val" else f"metrics_{name}.json")
    return metrics


def open_val_split(
    config: Config,
    data_dir: str | Path,
    cache_dir: str | Path,
    *,
    name: SplitName = "val",
    eval_file: str | Path | None = None,
    announce: bool = False,
) -> Split:
    """The val split, or another, if a model of this config can be evaluated on it.

    ``eval_file`` replaces its annotations; if there is no val split, it is one. The first line that a user sees of the
    dataset is logged if ``announce`` is set.

    Raises:
        UserError: it cannot be opened, has no ground truth, or has other categories than the model.
    """
    dataset = find_dataset(data_dir, config.data, cache_dir=cache_dir)
    if eval_file is not None and name == "val" and (name not in dataset.names or dataset.held_out):
        options = dataclasses.replace(config.data, val_file=str(eval_file))
        dataset = find_dataset(data_dir, options, cache_dir=cache_dir)
    dataset.convert(name)
    split = dataset.open(name, eval_file=eval_file)
    for line in dataset.describe(name) if announce else ():
        logger.info("%s", line)
    if split.annotation_file is None:
        raise UserError(
            f"{data_dir}: the {name} split has no masks to compare with; give COCO annotations by --eval_file"
        )
    known = {(category.id, category.name) for category in config.categories}
    if not {(category.id, category.name) for category in split.categories} <= known:
        raise UserError(
            f"{data_dir}: its {name} split has the categories {names(split.categories)}, the model has "
            f"{names(config.categories)}; give the data that the model was trained for"
        )
    return split


def evaluate_split(
    model: Model, config: Config, split: Split, clock: BatchClock | None = None, devices: Devices | None = None
) -> Metrics:
    """COCO metrics on a split; on the first ``config.train.eval_samples`` images of it if that is set.

    Several ``devices`` share the images; each process then has the metrics of all.
    """
    train, devices = config.train, devices or Devices()
    shard, size = Shard(devices.rank, devices.world_size), train.eval_batch_size * devices.local_replicas
    batches = eval_dataset(split, config, batch_size=size, num_samples=train.eval_samples, shard=shard)
    if clock:
        batches = clock.watch(batches)
    num_images = min(split.num_examples, train.eval_samples or split.num_examples) // devices.world_size
    assert split.annotation_file is not None  # `open_val_split` has seen to it
    progress, merge = devices.is_chief, devices.all_gather_items
    return evaluate(
        model, batches, split.annotation_file, config, num_images=num_images, progress=progress, merge=merge
    )


def write_metrics(metrics: Metrics, model_dir: str | Path, name: str = METRICS_FILE) -> None:
    """Writes metrics as JSON into the model's folder."""
    with replacing(Path(model_dir) / name) as path:
        path.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def flatten(metrics: Metrics) -> dict[str, float]:
    """The metrics that are known, by names such as ``bbox_AP``, for logs."""
    return {
        f"{kind}_{name}": value for kind in KINDS for name, value in metrics.get(kind, {}).items() if value is not None
    }


def names(categories: Sequence[Category], *, most: int = 5) -> str:
    """``1 circle, 2 square, ... (80)``: ids and names of the first few."""
    listed = ", ".join(f"{category.id} {category.name}" for category in categories[:most])
    return f"{listed}, ... ({len(categories)} in all)" if len(categories) > most else listed or "none"
