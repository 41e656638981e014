"""Evaluates the model while it trains."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from maskrcnn.config import Config
from maskrcnn.data.splits import Split
from maskrcnn.evaluation.coco_metrics import Metrics
from maskrcnn.evaluation.run import METRICS_FILE, evaluate_split, flatten, write_metrics
from maskrcnn.model import MaskRCNN
from maskrcnn.runtime.distribution import Devices
from maskrcnn.runtime.replicated import BatchPredictor
from maskrcnn.training.optimizer import averaged_weights
from maskrcnn.training.progress import Log
from maskrcnn.weights.model_folder import save_model

BEST = "best"  # folder of the model with the best mask AP so far


@dataclass(frozen=True)
class Evaluator:
    """Evaluates a model in training, and logs it; without a split it does nothing."""

    predictor: BatchPredictor
    config: Config
    split: Split | None
    log: Log
    model_dir: Path
    devices: Devices

    def evaluate(self, epoch: int) -> Metrics:
        """The metrics after an epoch, from 1; where there are several such, the best model so far is kept."""
        if self.split is None:
            return {}
        model = self.predictor.model
        with averaged_weights(model):
            self.predictor.refresh()
            metrics = evaluate_split(self.predictor, self.config, self.split, devices=self.devices)
            if self.config.train.evaluate_every and self.devices.is_chief:
                keep_best(model, self.config, {**metrics, "epoch": epoch}, self.model_dir / BEST)
        self.log.evaluation(epoch, flatten(metrics))
        return metrics


def keep_best(model: MaskRCNN, config: Config, metrics: Metrics, directory: Path) -> None:
    """Saves a model as the best one, with its metrics, unless the one that is there has as good a mask AP."""
    best = -1.0
    with contextlib.suppress(OSError, ValueError, KeyError):  # none yet
        best = json.loads((directory / METRICS_FILE).read_text(encoding="utf-8"))["segm"]["AP"] or 0.0
    if (metrics["segm"]["AP"] or 0.0) > best:
        save_model(model, config, directory)
        write_metrics(metrics, directory)  # last: it vouches for the rest
