"""Evaluations of the model while it trains, and of the finished model."""

import contextlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn.config import Config
from maskrcnn.data.splits import Split
from maskrcnn.evaluation.coco_metrics import Metrics
from maskrcnn.evaluation.run import METRICS_FILE, Evaluation, evaluate_split, flatten, open_scorer, write_metrics
from maskrcnn.logs.history import read_evaluations, read_history
from maskrcnn.reports.evaluation_report import draw_first, explain
from maskrcnn.runtime import hardware
from maskrcnn.runtime.distribution import Devices
from maskrcnn.runtime.replicated import BatchPredictor
from maskrcnn.training.log import WriteLog
from maskrcnn.training.optimizer import averaged_weights
from maskrcnn.weights import model_files, model_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluator:
    """Evaluates the model of a run and logs its metrics; without a split it does nothing."""

    predictor: BatchPredictor
    config: Config
    split: Split | None
    log: WriteLog
    model_dir: Path
    devices: Devices
    data_dir: Path | None = None  # for those who compare runs

    def evaluate(self, epoch: int) -> Metrics:
        """The metrics after an epoch, from 1; a run with several evaluations keeps its best model."""
        if self.split is None:
            return {}
        model = self.predictor.model
        with averaged_weights(model):
            self.predictor.refresh()
            scorer = open_scorer(self.split)
            metrics = evaluate_split(self.predictor, self.config, self.split, devices=self.devices, scorer=scorer)
            if self.config.train.evaluate_every and self.devices.is_chief:
                keep_best(model, self.config, {**metrics, "epoch": epoch}, self.model_dir / model_files.BEST)
            self.log.write_metrics(epoch, flatten(metrics))
            if self.devices.is_chief:
                logger.info("%s", summarize(metrics, epoch))
                path = self.model_dir / METRICS_FILE
                evaluation = Evaluation(metrics, scorer, self.split, self.config, path, self.data_dir)
                metrics = explain(evaluation, read_history(self.log.file.path))
                if self.log.trackers:
                    self.log.write_images(epoch, draw_first(scorer, self.split, metrics["analysis"]["score_threshold"]))
        return metrics

    def evaluated_epochs(self) -> set[int]:
        """The epochs after which the run has been evaluated, by its log."""
        return {int(entry["epoch"]) for entry in self._evaluations()}

    def evaluations_since_best(self) -> int:
        """The number of evaluations after the one with the best mask AP, by the log."""
        scores = [entry.get("segm_AP", 0.0) for entry in self._evaluations()]
        return len(scores) - 1 - scores.index(max(scores)) if scores else 0

    def _evaluations(self) -> list[dict[str, float]]:
        return self.devices.broadcast_object(read_evaluations(self.log.file.path) if self.devices.is_chief else None)

    def finish(self, epoch: int) -> Metrics:
        """Saves the model after its last epoch, evaluates it and writes the metrics."""
        with averaged_weights(self.predictor.model):  # in every process: under JAX they compare what they set
            if self.devices.is_chief:
                model_folder.save_model(self.predictor.model, self.config, self.model_dir)
        memory = {f"peak_{where}_bytes": value for where, value in hardware.peak_memory()._asdict().items()}
        metrics = {**self.evaluate(epoch), "training": {**self.log.speed(), **memory}}
        self.log.file.log((), {**flatten(metrics), **metrics["training"]})
        if self.devices.is_chief:
            write_metrics(metrics, self.model_dir)
        self.devices.all_gather_object(None)  # no process ends before all have come this far
        return metrics


def summarize(metrics: Metrics, epoch: int) -> str:
    """The metrics after an epoch in one line: ``epoch 3: box AP 0.412, mask AP 0.371, mask AP50 0.602``."""
    named = (("box AP", "bbox", "AP"), ("mask AP", "segm", "AP"), ("mask AP50", "segm", "AP50"))
    values = [(title, metrics[kind].get(name)) for title, kind, name in named]
    return f"epoch {epoch}: " + ", ".join(f"{title} {'-' if v is None else f'{v:.3f}'}" for title, v in values)


def keep_best(model: Any, config: Config, metrics: Metrics, directory: Path) -> None:
    """Saves a model as the best one, with its metrics, unless the saved one has at least the same mask AP."""
    best = -1.0
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none yet
        best = float(json.loads((directory / METRICS_FILE).read_text(encoding="utf-8"))["segm"]["AP"] or 0.0)
    if (metrics["segm"]["AP"] or 0.0) > best:
        model_folder.save_model(model, config, directory)
        write_metrics(metrics, directory)  # last, since it marks the folder as complete
