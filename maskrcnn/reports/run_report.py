"""The report of a run as one HTML page: metrics, training curves, images, settings, machine."""

import base64
import datetime
import io
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from maskrcnn.config import Config
from maskrcnn.evaluation.coco_metrics import KINDS, METRIC_NAMES, Metrics, ground_truth_detections
from maskrcnn.imaging.read import load_image
from maskrcnn.inference.predictor import ImagePrediction
from maskrcnn.reports.charts import draw_charts
from maskrcnn.runtime.files import replacing
from maskrcnn.runtime.hardware import describe_machine

REPORT_FILE = "report.html"
MAX_SIDE = 640  # px of the longer side of an image; two fit side by side on a desktop screen
SMALL_SIDE = 320  # px; the shorter side of smaller images is enlarged to it, so that labels do not cover them

DESCRIPTIONS = {
    "AP": "mean over IoU 0.50 to 0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "small, below 32² px",
    "APm": "medium",
    "APl": "large, above 96² px",
    "AR1": "recall, 1 detection per image",
    "AR10": "10 detections",
    "AR100": "100 detections",
    "ARs": "recall, small",
    "ARm": "medium",
    "ARl": "large",
}


@dataclass(frozen=True)
class ReportImage:
    """An image with its detections drawn on it, and perhaps one with its ground truth."""

    name: str
    detections: Image.Image | Path
    ground_truth: Image.Image | Path | None = None


@dataclass(frozen=True)
class Report:
    """The contents of a run's report."""

    config: Config
    history: Sequence[Mapping[str, float]] = ()  # see `maskrcnn.logs.history.read_history`
    metrics: Metrics | None = None  # see `maskrcnn.evaluation.coco_metrics.evaluate`
    images: Sequence[ReportImage] = ()
    title: str = "Mask R-CNN"
    facts: Mapping[str, str] = field(default_factory=dict)  # lines about the run, such as its time
    command: str | None = None  # the command of the run; None is that of this process


def write_report(report: Report, out_dir: str | Path) -> Path:
    """Writes ``report.html``, a page without other files, and returns its path."""
    environment = Environment(loader=PackageLoader("maskrcnn.reports"), autoescape=True, undefined=StrictUndefined)
    environment.filters["score"] = lambda value: "-" if value is None else f"{value:.3f}"
    page = environment.get_template("report.html").render(
        title=report.title,
        date=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        metrics=report.metrics if report.metrics and "bbox" in report.metrics else None,
        kinds=KINDS,
        names=METRIC_NAMES,
        descriptions=DESCRIPTIONS,
        charts=draw_charts(report.history),
        images=[_embedded(image) for image in report.images],
        facts={**machine_facts(), **report.facts},
        command=report.command or shlex.join(["maskrcnn", *sys.argv[1:]]),
        config=report.config.to_json(),
    )
    path = Path(out_dir) / REPORT_FILE
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def compare_with_ground_truth(
    predictions: Iterable[ImagePrediction], annotation_file: str | Path, *, score_threshold: float = 0.5
) -> list[ReportImage]:
    """Draws predictions and, beside them, the ground truth."""
    truth = dict(ground_truth_detections(annotation_file))
    images = []
    for image_id, detections, image in predictions:
        height, width = detections.image_size
        original = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
        scale = max(1.0, SMALL_SIDE / min(height, width))
        found = detections.draw(original, score_threshold, scale=scale, color_by="class")
        expected = None
        if image_id in truth:
            expected = truth[image_id].draw(original, scale=scale, color_by="class", with_scores=False)
        images.append(ReportImage(f"image {image_id}", found, expected))
    return images


def machine_facts() -> dict[str, str]:
    """The versions and hardware of `maskrcnn.runtime.hardware.describe_machine`, for people."""
    machine = describe_machine()
    versions = [f"{name} {version}" for name, version in machine["versions"].items()]
    memory = f", {machine['memory_bytes'] / 1e9:.0f} GB" if machine["memory_bytes"] else ""
    return {
        "Software": ", ".join([f"Python {machine['python']}", *versions]),
        "Keras backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "System": machine["system"],
        "Processor": f"{machine['processor']}, {machine['cores']} usable cores{memory}",
    }


def _embedded(image: ReportImage) -> dict[str, str | None]:
    truth = None if image.ground_truth is None else _data_uri(image.ground_truth)
    return {"name": image.name, "detections": _data_uri(image.detections), "ground_truth": truth}


def _data_uri(source: Image.Image | Path) -> str:
    image = source.copy() if isinstance(source, Image.Image) else Image.fromarray(load_image(source))
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
