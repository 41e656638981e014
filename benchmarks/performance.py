"""Writes docs/performance.md (`make performance`): a section for each saved result, then docs/performance/*.md."""

import json
from pathlib import Path

from benchmarks.result import format_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
NOTES = ("model.md", "loader.md", "evaluation.md")  # written by hand, in docs/performance/

INTRODUCTION = """# Performance

Every table below comes from a JSON file in `benchmarks/results/`, named beside it with the command that wrote it.
Times hold for that machine and its instruction sets; compare programs that ran in turns by their ratio. `make
performance` writes this page and measures nothing.

`benchmarks.side_by_side` gives all contestants the same weights, images, objects, candidates, proposals and 100
detections (`benchmarks/side_by_side/problem.py`). Times are medians over all turns, which go A B A B. Processor
seconds, of all cores together, are those of the turn with the fewest. Peak memory includes the libraries.
"""
NO_GPU = "## On a GPU\n\nNot measured. `benchmarks/gpu.sh` fills `benchmarks/results/gpu/` and so this page.\n"


def main() -> None:
    """Writes the page."""
    paths = sorted(RESULTS.glob("*.json")) + sorted(RESULTS.glob("gpu/*.json"))
    parts = [INTRODUCTION, *map(section, paths)]
    if not (RESULTS / "gpu").is_dir():
        parts.append(NO_GPU)
    parts += [(ROOT / "docs" / "performance" / name).read_text(encoding="utf-8") for name in NOTES]
    PAGE.write_text("\n".join(parts), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")


def section(path: Path) -> str:
    """A result in Markdown: its table, its machine and its command."""
    record = json.loads(path.read_text(encoding="utf-8"))
    machine, file = record["machine"], path.relative_to(ROOT)
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if name != "maskrcnn")
    variables = "".join(f"; {name}={value}" for name, value in record["environment"].items())
    return (
        f"## {record['title']}\n\n{format_table(record['rows'])}\n\n"
        f"{record['date']}, {machine['processor']}, {machine['cores']} cores, commit {machine['commit']}; "
        f"{versions}{variables}. `{record['command']}`, [{file.name}](../{file})\n"
    )


if __name__ == "__main__":
    main()
