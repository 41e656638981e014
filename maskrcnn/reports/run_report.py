"""A run as one HTML page: scores, training curves, pictures, settings, machine."""

import base64
import datetime
import importlib.metadata
import io
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from maskrcnn.config import Config
from maskrcnn.evaluation.coco_metrics import KINDS, NAMES, Metrics, ground_truth_detections
from maskrcnn.inference.predictor import ImagePrediction
from maskrcnn.reports.charts import draw_charts
from maskrcnn.runtime.files import replacing

REPORT_FILE = "report.html"
PICTURE_SIDE = 640  # px of an embedded picture's longer side at most; two fit beside each other on a desktop screen
SMALL_SIDE = 320  # px; smaller images are enlarged to it, so that labels do not cover them
PACKAGES = ("maskrcnn", "keras", "tensorflow", "jax", "numpy", "pycocotools")

DESCRIPTIONS = {
    "AP": "mean over IoU 0.50 to 0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "small, below 32² px",
    "APm": "medium",
    "APl": "large, above 96² px",
    "AR1": "recall, 1 detection an image",
    "AR10": "10 detections",
    "AR100": "100 detections",
    "ARs": "recall, small",
    "ARm": "medium",
    "ARl": "large",
}


@dataclass(frozen=True)
class Picture:
    """An image with what was found in it, and perhaps with what is there."""

    name: str
    prediction: Image.Image | Path
    ground_truth: Image.Image | Path | None = None


def write_report(
    out_dir: str | Path,
    *,
    config: Config,
    history: Sequence[Mapping[str, float]] = (),
    metrics: Metrics | None = None,
    pictures: Sequence[Picture] = (),
    title: str = "Mask R-CNN",
    facts: Mapping[str, str] | None = None,
    command: str | None = None,
) -> Path:
    """Writes ``report.html``, which needs no other file.

    Args:
        out_dir: where to.
        config: of the run.
        history: of the training, see `maskrcnn.logs.history.read_history`.
        metrics: see `maskrcnn.evaluation.coco_metrics.evaluate`.
        pictures: to show.
        title: of the page.
        facts: more lines about the run, such as its time or devices.
        command: that made the run; None takes this process' own.

    Returns:
        The file's path.
    """
    environment = Environment(loader=PackageLoader("maskrcnn.reports"), autoescape=True, undefined=StrictUndefined)
    environment.filters["score"] = lambda value: "-" if value is None else f"{value:.3f}"
    page = environment.get_template("report.html").render(
        title=title,
        date=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        metrics=metrics if metrics and "bbox" in metrics else None,
        kinds=KINDS,
        names=NAMES,
        descriptions=DESCRIPTIONS,
        charts=draw_charts(history),
        pictures=[_embedded(picture) for picture in pictures],
        facts={**describe_machine(), **(facts or {})},
        command=command or shlex.join(["maskrcnn", *sys.argv[1:]]),
        config=json.dumps(json.loads(config.to_json()), indent=2),
    )
    with replacing(Path(out_dir) / REPORT_FILE) as path:
        path.write_text(page, encoding="utf-8")
    return Path(out_dir) / REPORT_FILE


def compare_pictures(
    predictions: Iterable[ImagePrediction], annotation_file: str | Path, *, score_threshold: float = 0.5
) -> list[Picture]:
    """Pictures of predictions beside the ground truth."""
    truth = dict(ground_truth_detections(annotation_file))
    pictures = []
    for image_id, detections, image in predictions:
        height, width = detections.image_size
        original = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
        scale = max(1.0, SMALL_SIDE / min(height, width))
        found = detections.draw(original, score_threshold, scale=scale, color_by="class")
        there = None
        if image_id in truth:
            there = truth[image_id].draw(original, scale=scale, color_by="class", with_scores=False)
        pictures.append(Picture(f"image {image_id}", found, there))
    return pictures


def describe_machine() -> dict[str, str]:
    """Versions and hardware."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "Software": ", ".join([f"Python {platform.python_version()}", *versions]),
        "Keras backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "System": platform.platform(),
        "Processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores usable",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _embedded(picture: Picture) -> dict[str, str | None]:
    truth = None if picture.ground_truth is None else _data_uri(picture.ground_truth)
    return {"name": picture.name, "prediction": _data_uri(picture.prediction), "ground_truth": truth}


def _data_uri(picture: Image.Image | Path) -> str:
    image = picture.copy() if isinstance(picture, Image.Image) else Image.open(picture).convert("RGB")
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
