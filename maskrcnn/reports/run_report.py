"""The report of a run as one HTML page: metrics, training curves, images, settings, machine."""

import datetime
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from maskrcnn.config import Config
from maskrcnn.evaluation.coco_metrics import KINDS, METRIC_NAMES, Metrics
from maskrcnn.reports.charts import draw_charts
from maskrcnn.reports.gallery import Figure
from maskrcnn.runtime.files import replacing
from maskrcnn.runtime.hardware import describe_machine

REPORT_FILE = "report.html"

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
    "classification": "on an object of another class",
    "localization": "of the right class, but overlaps the object too little",
    "both": "overlaps an object of another class too little",
    "duplicate": "a second detection of an object",
    "background": "where there is no object",
    "missed": "an object without any detection nearby",
}


@dataclass(frozen=True)
class Report:
    """The contents of a run's report."""

    config: Config
    history: Sequence[Mapping[str, float]] = ()  # see `maskrcnn.logs.history.read_history`
    metrics: Metrics | None = None  # see `maskrcnn.evaluation.coco_metrics.evaluate`
    title: str = "Mask R-CNN"
    facts: Mapping[str, str] = field(default_factory=dict)  # lines about the run, such as its time
    command: str | None = None  # the command of the run; None is that of this process
    analysis: Mapping[str, Any] | None = None  # see `maskrcnn.reports.evaluation_report.page_analysis`
    gallery: Sequence[Figure] = ()


def write_report(report: Report, out_dir: str | Path, *, file_name: str = REPORT_FILE) -> Path:
    """Writes a page without other files, and returns its path."""
    return render(
        "report.html",
        Path(out_dir) / file_name,
        title=report.title,
        analysis=report.analysis,
        gallery=report.gallery,
        metrics=report.metrics if report.metrics and "bbox" in report.metrics else None,
        kinds=KINDS,
        names=METRIC_NAMES,
        descriptions=DESCRIPTIONS,
        charts=draw_charts(report.history),
        facts={**machine_facts(), **report.facts},
        command=report.command or shlex.join(["maskrcnn", *sys.argv[1:]]),
        config=report.config.to_json(),
    )


def render(template: str, path: Path, **values: Any) -> Path:
    """Writes a page of a template and returns its path."""
    environment = Environment(loader=PackageLoader("maskrcnn.reports"), autoescape=True, undefined=StrictUndefined)
    environment.filters["score"] = lambda value: "-" if value is None else f"{value:.3f}"
    date = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    page = environment.get_template(template).render(date=date, **values)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


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
