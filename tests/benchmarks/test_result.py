"""The form of a result, and the page that is made of results."""

import json

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


def test_page_has_a_section_for_each_result(tmp_path, monkeypatch):
    for name, value in {"ROOT": tmp_path, "RESULTS": tmp_path / "results", "PAGE": tmp_path / "page.md"}.items():
        monkeypatch.setattr(performance, name, value)
    (tmp_path / "docs" / "performance").mkdir(parents=True)
    for name in performance.NOTES:
        (tmp_path / "docs" / "performance" / name).write_text(f"## Notes in {name}\n")
    save_result(tmp_path / "results" / "x.json", "A title", ROWS)
    performance.main()
    page = (tmp_path / "page.md").read_text()
    assert "## A title\n\n| name |" in page
    assert "[x.json](../results/x.json)" in page
    assert "## On a GPU\n\nNot measured" in page
    assert page.endswith("## Notes in evaluation.md\n")
    save_result(tmp_path / "results" / "gpu" / "y.json", "On a card", ROWS)
    performance.main()
    page = (tmp_path / "page.md").read_text()
    assert "## On a card" in page
    assert "Not measured" not in page
