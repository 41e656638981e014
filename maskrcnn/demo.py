"""The demonstration: draws the shapes dataset, trains a small model on it, and shows the result."""

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from maskrcnn.config import Config
from maskrcnn.data.shapes import write_shapes
from maskrcnn.evaluation.coco_metrics import Metrics
from maskrcnn.inference.run import infer_folder
from maskrcnn.logs.dllogger import LogOptions
from maskrcnn.reports.run_report import REPORT_FILE
from maskrcnn.runtime.hardware import describe_devices
from maskrcnn.training.options import RunOptions
from maskrcnn.training.run import train

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DemoData:
    """The shapes dataset of the demonstration."""

    train_images: int = 800
    val_images: int = 64
    image_size: int = 256  # px, both sides; the model sees them at 128 px


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
    """Draws, trains, evaluates and predicts in a folder; a run that was interrupted there is resumed.

    Args:
        out_dir: gets data/, the model, pictures/ and report.html.
        config: of the run; None is `demo_config`.
        data: number and size of the images.

    Returns:
        The metrics on the val split, which the model is not trained on.
    """
    began = time.perf_counter()
    out_dir, config, data = Path(out_dir), config or demo_config(), data or DemoData()
    data_dir = out_dir / "data"
    write_shapes(data_dir, **asdict(data))
    options = RunOptions(logs=LogOptions(every=10, warmup_steps=20))
    metrics = train(config, data_dir=data_dir, model_dir=out_dir, options=options)
    images = out_dir / "pictures"
    infer_folder(out_dir, images, data_dir=data_dir)
    minutes = (time.perf_counter() - began) / 60
    logger.info(
        "%.1f min on %s; see %s and the images in %s", minutes, describe_devices(), out_dir / REPORT_FILE, images
    )
    return metrics
