"""The page of a comparison, in a browser."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.cli import main
from tests.evaluation.fabricated import FOUND, OBJECTS, SIDE, write_truth
from tests.evaluation.test_comparison import BETTER, write_run
from tests.reports.browser import inspect


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    data = tmp_path / "data"
    truth = write_truth(data / "annotations" / "instances_val.json")
    (data / "val").mkdir()
    for image_id in OBJECTS:
        Image.fromarray(np.full((SIDE, SIDE, 3), 60, np.uint8)).save(data / "val" / f"{image_id}.png")
    found = {"first": FOUND, "second": BETTER}
    return [write_run(tmp_path / name, truth, rows, data_dir=str(data)) for name, rows in found.items()]


SCRIPT = """
const pairs = () => all(".pair").filter((pair) => !pair.hidden).map((pair) => pair.querySelector("h3").textContent);
const group = document.querySelector('form[data-filters=".gallery .pair"]').elements.group;
const found = {all: pairs(), pictures: all(".pair svg").length};
group.value = "worse";
group.dispatchEvent(new Event("input", {bubbles: true}));
found.worse = pairs();
document.querySelector("#metrics th:last-child button").click();
found.sorted = all("#metrics tbody tr").map((row) => row.cells[3].dataset.value).filter(Boolean).map(Number);
document.querySelector(".pair:not([hidden]) .zoom").click();
found.zoomed = all("dialog[open] svg").length;
return found;
"""


def test_compare_writes_a_page_that_works(runs, tmp_path, capsys) -> None:
    page = tmp_path / "out" / "compare.html"
    assert main(["compare", *map(str, runs), "--bootstrap", "20", "--out", str(page)]) == 0
    output = capsys.readouterr().out
    assert "mask AP50" in output
    assert output.splitlines()[-1] == f"see {page}"
    assert json.loads(page.with_suffix(".json").read_text())["runs"] == ["first", "second"]
    found = inspect(page, SCRIPT, tmp_path)
    assert found["all"] == ["5.png +0.33", "4.png -1.00"]
    assert found["pictures"] == 4
    assert found["worse"] == ["4.png -1.00"]
    assert found["sorted"] == sorted(found["sorted"], reverse=True)
    assert found["zoomed"] == 1


def test_a_page_without_images_says_why(runs, tmp_path, caplog, capsys) -> None:
    command = ["compare", *map(str, runs), "--bootstrap", "0", "--out", str(tmp_path / "compare.html")]
    assert main([*command, "--data_dir", str(tmp_path / "gone")]) == 0
    assert "the page has no images: " in caplog.text
    assert "<image" not in (tmp_path / "compare.html").read_text()
    assert main(["compare", str(runs[0])]) == 2
    assert "give at least two runs" in capsys.readouterr().err
