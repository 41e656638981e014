"""Evaluates a model folder or an exported file on a split of a dataset: the work of ``maskrcnn eval``."""

import contextlib
import dataclasses
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn.config import Config
from maskrcnn.data.loader.pipeline import Shard, eval_dataset
from maskrcnn.data.splits import Split
from maskrcnn.evaluation.coco_metrics import KINDS, CocoScorer, Metrics, evaluate
from maskrcnn.evaluation.eval_split import open_eval_split
from maskrcnn.inference.predictor import Model
from maskrcnn.inference.sources import is_exported, load
from maskrcnn.logs.dllogger import DLLLog, LogOptions
from maskrcnn.logs.throughput import BatchClock
from maskrcnn.runtime.distribution import Devices, connect
from maskrcnn.runtime.files import replacing
from maskrcnn.weights.model_folder import load_for_use, load_model_config

METRICS_FILE = "metrics.json"  # of a training run; `evaluate_folder` leaves it alone
LOG_FILE = "mrcnn-dlll.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation."""

    metrics: Metrics
    scorer: CocoScorer  # has the detections
    split: Split
    config: Config
    path: Path  # of the file with the metrics
    data_dir: Path | None = None


def evaluate_folder(model: str | Path, data_dir: str | Path, **options: Any) -> Metrics:
    """Returns the metrics of `evaluate_model`, which describes the arguments."""
    return evaluate_model(model, data_dir, **options).metrics


def evaluate_model(
    model: str | Path,
    data_dir: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    eval_file: str | Path | None = None,
    out_file: str | Path | None = None,
    logs: LogOptions | None = None,
) -> Evaluation:
    """Evaluates a trained model on a split and writes the metrics; all devices of this machine share the images.

    Args:
        model: the model's folder, or a file of `maskrcnn export`.
        data_dir: the dataset.
        settings: dotted config fields that replace the saved ones, such as ``data.eval_split``;
            ``train.eval_samples`` is not taken from the training run.
        eval_file: COCO annotations to compare with, instead of those of the split.
        out_file: file for the metrics; None is ``metrics_SPLIT.json`` in the model's folder, or
            ``FILE.metrics_SPLIT.json`` beside an exported file.
        logs: where to log.

    Raises:
        UserError: no model, no data, or ground truth of other images or categories.
    """
    logs = LogOptions.of(logs)
    exported, path = load(model) if is_exported(model) else None, Path(model)
    config = exported.config if exported else load_model_config(path)
    config = config.override({"train.eval_samples": None}).override({} if settings is None else settings)
    devices = Devices() if exported else connect()
    name, folder = config.data.eval_split, path.parent if exported else path
    split = open_eval_split(config, data_dir, folder, name=name, eval_file=eval_file, announce=True)
    with devices.scope(), contextlib.closing(DLLLog(logs.file or folder / LOG_FILE)) as file:
        predictor = exported.model if exported else devices.predictor(load_for_use(path, config))
        file.parameters(dataclasses.asdict(config))
        batch_size = config.train.eval_batch_size * devices.replicas
        clock = BatchClock(file, batch_size, every=logs.every, warmup_steps=logs.warmup_steps)
        scorer = open_scorer(split)
        metrics = evaluate_split(predictor, config, split, clock, devices, scorer)
        file.log((), {**flatten(metrics), **clock.speed()})
    prefix = f"{path.name}." if exported else ""
    out = Path(out_file) if out_file else folder / f"{prefix}metrics_{name}.json"
    write_json(metrics, out)
    logger.info("metrics written to %s", out)
    return Evaluation(metrics, scorer, split, config, out, Path(data_dir))


def open_scorer(split: Split) -> CocoScorer:
    """A scorer of a split that `open_eval_split` has opened."""
    assert split.annotation_file is not None  # `open_eval_split` has checked it
    return CocoScorer(split.annotation_file)


def evaluate_split(
    model: Model,
    config: Config,
    split: Split,
    clock: BatchClock | None = None,
    devices: Devices | None = None,
    scorer: CocoScorer | None = None,
) -> Metrics:
    """Returns the COCO metrics on a split, or on its first ``config.train.eval_samples`` images if that is set.

    Several ``devices`` share the images, and each process returns the metrics of all of them. A ``scorer`` of the split
    has the detections afterwards.
    """
    train, devices = config.train, devices or Devices()
    shard, size = Shard(devices.rank, devices.world_size), train.eval_batch_size * devices.local_replicas
    batches = eval_dataset(split, config, batch_size=size, num_samples=train.eval_samples, shard=shard)
    if clock:
        batches = clock.watch(batches)
    num_images = min(split.num_examples, train.eval_samples or split.num_examples) // devices.world_size
    scorer = scorer or open_scorer(split)
    return evaluate(model, batches, scorer, config, num_images=num_images, devices=devices)


def write_metrics(metrics: Metrics, model_dir: str | Path) -> None:
    """Writes the metrics of a training run into its folder."""
    write_json(metrics, Path(model_dir) / METRICS_FILE)


def write_json(metrics: Metrics, path: Path) -> None:
    """Writes metrics to a file, each list of numbers on one line."""
    text = re.sub(r"\[[-\d.,\se]+\]", lambda numbers: " ".join(numbers[0].split()), json.dumps(metrics, indent=2))
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def flatten(metrics: Metrics) -> dict[str, float]:
    """The metrics that are defined, under names such as ``bbox_AP``, for logs."""
    return {
        f"{kind}_{name}": value for kind in KINDS for name, value in metrics.get(kind, {}).items() if value is not None
    }
