"""The report needs no other file, shows what it is given, and escapes names."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from maskrcnn.config import Category, Config
from maskrcnn.evaluation.coco_metrics import METRIC_NAMES
from maskrcnn.inference.detections import Detections
from maskrcnn.inference.predictor import ImagePrediction
from maskrcnn.reports.run_report import Report, ReportImage, compare_with_ground_truth, write_report

VOID = {"meta", "img", "br"}


class Outline(HTMLParser):
    """Checks that tags nest, and collects headings and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)


def _metrics(**classes: float | None) -> dict[str, Any]:
    row = dict.fromkeys(METRIC_NAMES, 0.25) | {"APs": None}
    per_class = {name: {"bbox_AP": value, "segm_AP": value} for name, value in classes.items()}
    return {"bbox": row, "segm": row | {"AP": 0.4321}, "images": 64, "per_class": per_class}


def _outline(path: Path) -> Outline:
    outline = Outline()
    outline.feed(path.read_text(encoding="utf-8"))
    assert not outline.open
    return outline


def test_a_full_report_needs_no_other_file(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 500), "red").save(tmp_path / "found.png")
    report = Report(
        Config.tiny(),
        history=[{"step": step, "loss": 1.0, "learning_rate": 0.1} for step in range(1, 5)],
        metrics=_metrics(circle=0.5, square=None),
        images=[ReportImage("image 7", tmp_path / "found.png", Image.new("RGB", (60, 40)))],
        title="Shapes",
        facts={"Training time": "3 min"},
        command="maskrcnn demo",
    )
    path = write_report(report, tmp_path / "run")
    outline = _outline(path)
    assert outline.headings == [
        "Shapes",
        "COCO metrics",
        "Training",
        "Classes",
        "Detections",
        "image 7",
        "Run",
    ]
    assert len(outline.addresses) == 4
    assert all(address.startswith("data:image/") for address in outline.addresses)
    page = path.read_text()
    for text in ("0.432", "64", "maskrcnn demo", "3 min", "circle", "numpy ", "min_side"):
        assert text in page
    assert "None" not in re.sub(r"<pre>.*</pre>", "", page, flags=re.DOTALL)
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["report.html"]


def test_empty_sections_are_omitted(tmp_path: Path) -> None:
    outline = _outline(write_report(Report(Config.tiny(), metrics={"training": {}}), tmp_path))
    assert outline.headings == ["Mask R-CNN", "Run"]


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    path = write_report(Report(Config.tiny(), metrics=_metrics(**{"<script>alert(1)</script>": 0.1})), tmp_path)
    assert "<script>" not in path.read_text()
    _outline(path)


def test_detections_are_beside_the_ground_truth(tmp_path: Path) -> None:
    annotations = tmp_path / "val.json"
    annotations.write_text(
        '{"images": [{"id": 7, "file_name": "7.png", "height": 80, "width": 160}],'
        '"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [20, 20, 40, 40],'
        '"segmentation": [[20, 20, 60, 20, 60, 60, 20, 60]]}], "categories": [{"id": 3, "name": "box"}]}'
    )
    mask = np.zeros((80, 160), np.uint8, order="F")
    mask[20:60, 100:140] = 1
    detections = Detections(
        np.array([[100, 20, 140, 60]], np.float32),
        np.array([1], np.int32),
        np.array([0.9], np.float32),
        [coco_mask.encode(mask)],
        (80, 160),
        (Category(1, 3, "box"),),
    )
    seen = np.full((40, 80, 3), 128, np.uint8)  # half as large as the image
    predictions = [ImagePrediction(7, detections, seen), ImagePrediction(8, detections, seen)]
    first, second = compare_with_ground_truth(predictions, annotations)
    assert isinstance(first.detections, Image.Image)
    assert isinstance(first.ground_truth, Image.Image)
    assert first.detections.size == first.ground_truth.size == (640, 320)  # enlarged 4 times
    found, there = np.asarray(first.detections).astype(int), np.asarray(first.ground_truth).astype(int)
    assert (found[160, 480] != 128).any()
    assert (found[160, 160] == 128).all()
    np.testing.assert_array_equal(there[160, 160], found[160, 480])  # one class, one color
    assert second.ground_truth is None
