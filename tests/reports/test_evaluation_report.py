"""The page of an evaluation in a browser: filters, order, toggles and enlargement work, and names do no harm."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskrcnn.config import Config
from maskrcnn.data.records.split import Split
from maskrcnn.data.splits import open_split
from maskrcnn.evaluation.predictions import sibling
from maskrcnn.evaluation.run import Evaluation
from maskrcnn.reports.evaluation_report import explain
from maskrcnn.reports.gallery import MAX_SIDE, svg_path, thumbnail
from tests.evaluation.fabricated import FOUND, OBJECTS, SIDE, scorer_of, write_truth
from tests.reports.browser import inspect

EVIL = ("""<script>alert('a"b')</script>""", "</script><img src=x onerror=alert(1)>")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five images with gray squares."""
    folder = tmp_path_factory.mktemp("data")
    write_truth(folder / "annotations" / "instances_val.json", names=EVIL)
    (folder / "val").mkdir()
    for image_id, squares in OBJECTS.items():
        pixels = np.full((SIDE, SIDE, 3), 60, np.uint8)
        for _, left, top in squares:
            pixels[top : top + 50, left : left + 50] = 180
        Image.fromarray(pixels).save(folder / "val" / f"{image_id}.png")
    return folder


@pytest.fixture(scope="module")
def explained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    split: Split = open_split(data, "val")
    assert split.annotation_file is not None
    scorer = scorer_of(split.annotation_file)
    folder = tmp_path_factory.mktemp("run")
    config = Config.tiny()
    evaluation = Evaluation(scorer.metrics(), scorer, split, config, folder / "metrics_val.json", data)
    return explain(evaluation), folder


SCRIPT = """
const visible = (selector) => all(selector).filter((item) => !item.hidden && item.getBoundingClientRect().width > 0);
const names = () => visible(".sheet figure").map((figure) => figure.id);
const put = (element, value) => {
  if (element.type === "checkbox") element.checked = value; else element.value = value;
  element.dispatchEvent(new Event("input", {bubbles: true}));
};
const found = {first: names(), paths: visible(".sheet path").length, width: document.documentElement.scrollWidth};
const tools = document.querySelector('form[data-filters=".sheet figure"]').elements;
put(tools.group, "labels");
found.labels = names();
put(tools.group, "");
put(tools.text, "5.png");
found.named = names();
put(tools.text, "");
put(tools.order, "-errors");
found.errors = names();
const box = (name) => document.querySelector(`[data-hides=${name}]`);
put(box("detections"), false);
found.truth = visible(".sheet path").map((path) => path.getAttribute("class"));
put(box("detections"), true);
put(box("truth"), false);
found.detections = visible(".sheet path").map((path) => path.getAttribute("class"));
put(box("truth"), true);
put(box("correct"), true);
found.wrong = visible(".sheet path").map((path) => path.getAttribute("class"));
const heading = document.querySelector("#classes th:nth-child(4) button");
const classes = () => all("#classes tbody tr").map((row) => Number(row.cells[3].dataset.value));
heading.click(); found.descending = classes();
heading.click(); found.ascending = classes();
document.querySelector("#image-1 .zoom").click();
found.zoomed = document.querySelectorAll("dialog[open] svg path").length;
document.querySelector("dialog").click();
found.closed = !document.querySelector("dialog[open]");
document.querySelector("#labels button[data-zoom]").click();
found.label = document.querySelector("dialog[open] p").textContent;
document.getElementById("theme").click();
found.theme = document.documentElement.dataset.theme;
const curve = document.querySelector("#pr-chart .curve"), before = curve.getAttribute("d");
const select = document.getElementById("curve-class");
found.curves = [...select.options].map((option) => option.value);
put(select, found.curves[1]);
found.redrawn = before !== curve.getAttribute("d");
found.injected = all("img").length;
return found;
"""


def test_the_page_works(explained, tmp_path) -> None:
    _, folder = explained
    found = inspect(folder / "report_val.html", SCRIPT, tmp_path)
    assert found["first"] == ["image-3", "image-1", "image-2", "image-5", "image-4"]  # lowest F1 first
    assert found["paths"] == sum(map(len, OBJECTS.values())) + 4  # detections from a score of 0.85
    assert found["width"] <= 800  # the browser's window
    assert found["labels"] == ["image-1"]
    assert found["named"] == ["image-5"]
    assert found["errors"][0] == "image-1"
    assert set(found["truth"]) == {"found", "missed"}
    assert set(found["detections"]) == {"right", "wrong"}
    assert sorted(found["wrong"]) == ["missed"] * 4 + ["wrong"]
    assert (found["descending"], found["ascending"]) == ([4, 3], [3, 4])
    assert (found["zoomed"], found["closed"]) == (4, True)
    assert found["label"].startswith("1.png")
    assert found["theme"] in ("light", "dark")
    assert found["curves"] == ["all classes", *EVIL]
    assert found["redrawn"]
    assert found["injected"] == 0


def test_files_of_an_evaluation(explained, data) -> None:
    metrics, folder = explained
    assert {path.name for path in folder.iterdir()} == {"report_val.html", "predictions_val.json"}
    found = json.loads((folder / "predictions_val.json").read_text())
    assert len(found) == sum(map(len, FOUND.values()))
    assert found[0].keys() == {"image_id", "category_id", "category_name", "bbox", "score", "segmentation"}
    assert {row["category_name"] for row in found} == set(EVIL)
    assert metrics["analysis"]["overall"]["F1"] == pytest.approx(6 / 11, abs=1e-4)
    assert metrics["data"]["data_dir"] == str(data.resolve())
    assert metrics["data"]["image_ids"] is None
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_file_names_follow_the_metrics() -> None:
    for name, expected in (("metrics_val", "report_val"), ("metrics", "report"), ("two", "report_two")):
        assert sibling(Path(f"runs/{name}.json"), "report", ".html") == Path(f"runs/{expected}.html")


def test_outlines_lie_on_the_edge_of_the_mask() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:20, 30:50] = True
    points = {tuple(map(float, point.split())) for point in svg_path(mask, 0.5).strip("MZ").split("L")}
    xs, ys = zip(*points, strict=True)
    assert (min(xs), max(xs), min(ys), max(ys)) == pytest.approx((15, 25, 5, 10), abs=0.3)
    assert svg_path(np.zeros((4, 4), bool), 1) == ""


def test_thumbnails_are_small() -> None:
    uri, scale = thumbnail(np.zeros((1500, 3000, 3), np.uint8))
    assert scale == MAX_SIDE / 3000
    assert len(uri) < 5000
    assert thumbnail(np.zeros((20, 30, 3), np.uint8))[1] == 1
