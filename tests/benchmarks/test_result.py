"""The form of a result, and the page that is made of results."""

import json

import pytest

from benchmarks import performance
from benchmarks.result import format_table, save_result

ROWS = [{"name": "a", "s": 0.123456, "n": 3}, {"name": "b", "s": 12345.6, "note": None}]


def test_table_has_the_columns_of_all_rows():
    assert format_table(ROWS).splitlines() == [
        "| name | s | n | note |",
        "| --- | --- | --- | --- |",
        "| a | 0.1235 | 3 |  |",
        "| b | 12,346 |  |  |",
    ]


def test_result_says_where_and_how_it_was_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setattr("sys.argv", ["-c", "/a/private/folder", "--steps", "3"])
    save_result(tmp_path / "new" / "x.json", "A title", ROWS, settings={"steps": 3})
    record = json.loads((tmp_path / "new" / "x.json").read_text())
    assert record["environment"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert record["machine"]["cores"] >= 1
    assert record["command"].startswith("python ")
    assert record["command"].endswith(" folder --steps 3")
    assert record["settings"] == {"steps": 3}
    assert record["rows"] == ROWS


@pytest.fixture
def pages(tmp_path, monkeypatch):
    trials = tmp_path / "docs" / "performance" / "trials.md"
    paths = {"ROOT": tmp_path, "RESULTS": tmp_path / "results", "PAGE": tmp_path / "docs" / "page.md", "TRIALS": trials}
    for name, value in paths.items():
        monkeypatch.setattr(performance, name, value)
    trials.parent.mkdir(parents=True)
    for name in performance.NOTES:
        (trials.parent / name).write_text(f"## Notes in {name}\n")
    return tmp_path / "docs" / "page.md", trials


def test_the_appendix_has_a_section_for_each_result(pages, tmp_path):
    page, trials = pages
    save_result(tmp_path / "results" / "x.json", "A title", ROWS)
    performance.main()
    assert "## A title\n\n| name |" in trials.read_text()
    assert "[x.json](../../results/x.json)" in trials.read_text()
    assert trials.read_text().endswith("## Notes in evaluation.md\n")
    assert "Nothing was measured on a GPU yet" in page.read_text()
    save_result(tmp_path / "results" / "gpu" / "y.json", "On a card", ROWS)
    performance.main()
    assert "## On a card" in trials.read_text()
    assert "Nothing was measured on a GPU" not in page.read_text()


def test_the_page_compares_with_torchvision(pages, tmp_path):
    problems = [{"what": "training", "batch": 1, "precision": name} for name in ("float32", "bfloat16")]
    times = [{"tensorflow": 4.52, "torchvision": 9.225}, {"tensorflow": 2.8, "torchvision": 8.2}]
    rows = [
        {**problem, "contestant": name, "s/step": seconds, "times torchvision": own["torchvision"] / seconds}
        for problem, own in zip(problems, times, strict=True)
        for name, seconds in own.items()
    ]
    save_result(tmp_path / "results" / "a.json", "A title", rows)
    runtimes = [{"runtime": "live", "processor s per image": 2.0}, {"runtime": "onnx", "processor s per image": 3.0}]
    save_result(tmp_path / "results" / "b.json", "A title", runtimes, size=[416, 672])
    save_result(
        tmp_path / "results" / "c.json", "A title", [{"quantity": "loader, a core", "value": 123.4, "unit": "x/s"}]
    )
    performance.main()
    lines = pages[0].read_text().splitlines()
    assert any("float32, 832x1344 | 4.5 s a step | 2.0 times as fast as torchvision's 9.2 s" in line for line in lines)
    assert any("bfloat16, 832x1344 | 2.8 s a step | 2.9 times as fast as torchvision's 8.2 s" in line for line in lines)
    assert any("onnx, 416x672 | 3 processor s an image | 1.50 times the live model's |" in line for line in lines)
    assert any("loader: training images of COCO, 832x1344 | 123 x/s |" in line for line in lines)
