"""Writes docs/performance.md and docs/performance/trials.md from the saved results (`make performance`)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.result import RESULTS, ROOT, Row, format_table
from benchmarks.side_by_side.__main__ import PROBLEM

Headline = tuple[str, str, str]  # what, measured, compared

PAGE = ROOT / "docs" / "performance.md"
TRIALS = ROOT / "docs" / "performance" / "trials.md"
NOTES = ("model.md", "loader.md", "evaluation.md")  # written by hand, in docs/performance/

INTRODUCTION = """# Performance

Each row was measured on the machine and day that it names; programs that are compared ran in turns on it, with the same
weights, images, objects and 100 detections. Compare them by their ratio. ResNet-50-FPN, batch 1,
float32 where no other precision is named.

"""
CLOSING = """
{gpu}

The [appendix](performance/trials.md) has all results with their machines and commands, and what was tried to get there.
`make performance` writes both pages and measures nothing.
"""
NO_GPU = "Nothing was measured on a GPU yet: `benchmarks/gpu.sh` fills `benchmarks/results/gpu/` and so these pages."
APPENDIX = """# Measurements and trials

Every table comes from a JSON file in `benchmarks/results/`, named below it with the command that wrote it. Times are
medians over all turns, which go A B A B. Processor seconds, of all cores together, are those of the turn with the
fewest. Peak memory includes the libraries.
"""
KINDS = ("box", "mask")  # of AP
PEERS = ("jax", "torchvision")  # which run beside exported files
QUANTITIES = {  # of the results that have a row a quantity, those for the page
    "COCO metrics of boxes and masks, after inference": "COCO metrics of 5,000 simulated images",
    "loader, a core": "loader: training images of COCO, 832x1344",
    "conversion": "conversion of COCO to records",
}


def main() -> None:
    """Writes both pages."""
    paths = sorted(RESULTS.glob("*.json")) + sorted(RESULTS.glob("gpu/*.json"))
    rows = [row for path in paths for row in headlines(path)]
    gpu = "" if (RESULTS / "gpu").is_dir() else NO_GPU
    PAGE.write_text(INTRODUCTION + format_table(rows) + "\n" + CLOSING.format(gpu=gpu), encoding="utf-8")
    notes = [(TRIALS.parent / name).read_text(encoding="utf-8") for name in NOTES]
    TRIALS.write_text("\n".join([APPENDIX, *map(section, paths), *notes]), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)} and {TRIALS.relative_to(ROOT)}")


def headlines(path: Path) -> list[Row]:
    """The rows of a result for the page; none for what only the appendix has."""
    record = json.loads(path.read_text(encoding="utf-8"))
    describe = next((found for column, found in BY_COLUMN.items() if column in record["rows"][0]), _quantities)
    machine = record["machine"]
    limits = [f", {name}={value}" for name, value in record["environment"].items() if name.endswith("MAX_CPU_ISA")]
    where = f"{machine['processor']}, {machine['cores']} cores{''.join(limits)}, {record['date']}, `{path.name}`"
    columns = ("what", "measured", "compared")
    return [{**dict(zip(columns, row, strict=True)), "where and when": where} for row in describe(record)]


def _beside(record: dict[str, Any]) -> Iterator[Headline]:
    """Ours beside its peer, where there is one."""
    peers = {_problem(row): row for row in record["rows"] if row["contestant"] == "torchvision"}
    for row in record["rows"]:
        if (peer := peers.get(_problem(row))) and row is not peer:
            what = f"{row['what']}, {row['contestant']}, {row['precision']}, 832x1344"
            times = f"{row['times torchvision']:.1f} times as fast as torchvision's {peer['s/step']:.1f} s"
            yield what, f"{row['s/step']:.1f} s a step", times


def _problem(row: Row) -> tuple[Any, ...]:
    return tuple(row[key] for key in PROBLEM)


def _learned(record: dict[str, Any]) -> Iterator[Headline]:
    """AP after whole trainings, beside the peer's, or the first's where there is no peer."""
    of = {
        row["contestant"]: " / ".join(f"{row[f'{kind} AP']:.3f} ± {row[f'{kind} AP, deviation']:.3f}" for kind in KINDS)
        for row in record["rows"]
    }
    peer = "torchvision" if "torchvision" in of else next(iter(of))
    other = of.pop(peer)
    for name, own in of.items():
        yield f"whole trainings, {name}", f"box / mask AP {own}", f"{peer}'s {other}"


def _exported(record: dict[str, Any]) -> Iterator[Headline]:
    """Exported files beside the live model, which comes first."""
    live, *others = record["rows"]
    for row in others:
        what = f"{'' if row['runtime'] in PEERS else 'exported file, '}{row['runtime']}"
        seconds = row["processor s per image"]
        ratio = f"{seconds / live['processor s per image']:.2f} times the live model's"
        yield f"{what}, {'x'.join(map(str, record['size']))}", f"{seconds:.2g} processor s an image", ratio


def _quantities(record: dict[str, Any]) -> Iterator[Headline]:
    for row in record["rows"]:
        if row.get("quantity") in QUANTITIES:
            yield QUANTITIES[row["quantity"]], f"{row['value']:.3g} {row['unit']}", ""


# A column that only one kind of result has -> its headlines
BY_COLUMN = {"box AP": _learned, "contestant": _beside, "runtime": _exported}


def section(path: Path) -> str:
    """A result in Markdown: its table, its machine and its command."""
    record = json.loads(path.read_text(encoding="utf-8"))
    machine, file = record["machine"], path.relative_to(ROOT)
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if name != "maskrcnn")
    variables = "".join(f"; {name}={value}" for name, value in record["environment"].items())
    return (
        f"## {record['title']}\n\n{format_table(record['rows'])}\n\n"
        f"{record['date']}, {machine['processor']}, {machine['cores']} cores, commit {machine['commit']}; "
        f"{versions}{variables}. `{record['command']}`, [{file.name}](../../{file})\n"
    )


if __name__ == "__main__":
    main()
