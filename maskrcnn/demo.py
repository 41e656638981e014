"""The demonstration: draws the shapes dataset, trains a small model on it, and shows what came of it."""

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from maskrcnn.config import Config
from maskrcnn.data.loader.pipeline import eval_dataset
from maskrcnn.data.shapes import write_shapes
from maskrcnn.evaluation.coco_metrics import Metrics
from maskrcnn.evaluation.eval_split import open_eval_split
from maskrcnn.evaluation.run import LOG_FILE
from maskrcnn.inference.predictor import predict_batches
from maskrcnn.inference.run import infer_folder
from maskrcnn.logs.dllogger import LogOptions
from maskrcnn.logs.history import read_history
from maskrcnn.reports.run_report import Report, compare_with_ground_truth, write_report
from maskrcnn.runtime.hardware import describe_devices
from maskrcnn.training.run import train
from maskrcnn.weights.model_folder import load_model

PICTURES = 16  # in the report

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DemoData:
    """The shapes dataset of the demonstration."""

    train_images: int = 800
    val_images: int = 64
    image_size: int = 256  # px, both sides; the model sees them at 128


def demo_config() -> Config:
    """A model and a recipe that learn the shapes in a few minutes on two CPU cores."""
    return Config.tiny().override(
        {
            "rpn.train_candidates": 100,
            "rpn.train_proposals": 60,
            "roi_align.sampling_ratio": 1,
            "box_head.samples": 32,
            "train.batch_size": 8,
            "train.epochs": 13,
            "train.optimizer": "adam",  # gets further than SGD in so few steps from scratch
            "train.clip_norm": 10.0,
            "train.learning_rate_values": (3e-3, 1e-3, 3e-4),
            "train.learning_rate_boundaries": (1.0, 7.0, 10.5),
            "train.seed": 0,
            "train.eval_batch_size": 8,
        }
    )


def run_demo(out_dir: str | Path, config: Config | None = None, data: DemoData | None = None) -> Metrics:
    """Draws, trains, evaluates and predicts in a folder; what an earlier run left there is gone on with.

    Args:
        out_dir: gets data/, the model, pictures/ and report.html.
        config: of the run; None is `demo_config`.
        data: how much to draw.

    Returns:
        The metrics on the val split, which the model has not seen.
    """
    began = time.perf_counter()
    out_dir, config, data = Path(out_dir), config or demo_config(), data or DemoData()
    data_dir = out_dir / "data"
    write_shapes(data_dir, **asdict(data))
    metrics = train(config, data_dir=data_dir, model_dir=out_dir, logs=LogOptions(every=10, warmup_steps=20))
    infer_folder(out_dir, out_dir / "pictures", data_dir=data_dir)
    minutes = (time.perf_counter() - began) / 60
    report = _write_report(out_dir, data_dir, metrics, {"Time": f"{minutes:.1f} min on {describe_devices()}"})
    logger.info("%.1f min; look at %s and the pictures in %s", minutes, report, out_dir / "pictures")
    return metrics


def _write_report(out_dir: Path, data_dir: Path, metrics: Metrics, facts: dict[str, str]) -> Path:
    model, config = load_model(out_dir)
    split = open_eval_split(config, data_dir, out_dir)
    batches = eval_dataset(split, config, batch_size=config.train.eval_batch_size, num_samples=PICTURES)
    assert split.annotation_file is not None  # `open_eval_split` has checked it
    images = compare_with_ground_truth(predict_batches(model, batches, config.categories), split.annotation_file)
    history = read_history(out_dir / LOG_FILE)
    title = "Mask R-CNN on drawn shapes"
    return write_report(Report(config, history, metrics, images, title, facts), out_dir)
