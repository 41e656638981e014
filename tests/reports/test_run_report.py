"""The report needs no other file, shows what it is given, and escapes names."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from maskrcnn.config import Config
from maskrcnn.evaluation.coco_metrics import METRIC_NAMES
from maskrcnn.reports.run_report import Report, write_report

VOID = {"meta", "img", "br", "input"}


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
    report = Report(
        Config.tiny(),
        history=[{"step": step, "loss": 1.0, "learning_rate": 0.1} for step in range(1, 5)],
        metrics=_metrics(circle=0.5, square=None),
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
        "Run",
    ]
    assert len(outline.addresses) == 2  # loss, learning rate
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
    assert "<script>alert" not in path.read_text()
    _outline(path)
