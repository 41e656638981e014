"""The report of a run, written again after each evaluation."""

from pathlib import Path

from maskrcnn.config import Config
from maskrcnn.data.loader.pipeline import eval_dataset
from maskrcnn.data.splits import Split
from maskrcnn.evaluation.coco_metrics import Metrics
from maskrcnn.inference.predictor import Model, predict_batches
from maskrcnn.logs.history import read_history
from maskrcnn.reports.run_report import Report, compare_with_ground_truth, write_report

REPORT_IMAGES = 16  # first images of the val split that the report shows, with their ground truth


def write_training_report(
    model: Model, config: Config, split: Split, metrics: Metrics, *, log_file: Path, model_dir: Path
) -> Path:
    """Writes ``report.html`` into the model folder: metrics, curves of the log, images of the val split.

    Args:
        model: predicts the images; with the averaged weights, if the run has them.
        config: of the run.
        split: the val split, with ground truth.
        metrics: of the last evaluation.
        log_file: the training log.
        model_dir: the model folder.
    """
    assert split.annotation_file is not None  # `open_eval_split` has checked it
    batches = eval_dataset(split, config, batch_size=config.train.eval_batch_size, num_samples=REPORT_IMAGES)
    images = compare_with_ground_truth(predict_batches(model, batches, config.categories), split.annotation_file)
    title = f"Mask R-CNN: {model_dir.resolve().name}"
    return write_report(Report(config, read_history(log_file), metrics, images, title), model_dir)
