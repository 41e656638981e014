"""Writes docs/performance.md and docs/performance/trials.md from the saved results (`make performance`)."""

import json
from pathlib import Path
from typing import Any

from benchmarks.result import Row, format_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
TRIALS = ROOT / "docs" / "performance" / "trials.md"
NOTES = ("model.md", "loader.md", "evaluation.md")  # written by hand, in docs/performance/

INTRODUCTION = """# Performance

Each row was measured on the machine and day that it names; programs that are compared ran in turns on it, with the same
weights, images, objects and 100 detections. Compare them by their ratio. ResNet-50-FPN, float32, batch 1.

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
    rows = record["rows"]
    if "box AP" in rows[0]:
        found = _learned(rows)
    elif "contestant" in rows[0]:
        found = _beside(rows)
    elif "runtime" in rows[0]:
        live, size = rows[0]["processor s per image"], "x".join(map(str, record["size"]))
        found = [
            (
                f"{'' if row['runtime'] in PEERS else 'exported file, '}{row['runtime']}, {size}",
                f"{row['processor s per image']:.2g} processor s an image",
                f"{row['processor s per image'] / live:.2f} times the live model's",
            )
            for row in rows[1:]
        ]
    else:
        found = [
            (QUANTITIES[row["quantity"]], f"{row['value']:.3g} {row['unit']}", "")
            for row in rows
            if row.get("quantity") in QUANTITIES
        ]
    machine = record["machine"]
    limit = ", ".join(
        f"{name}={value}" for name, value in record["environment"].items() if name.endswith("MAX_CPU_ISA")
    )
    where = f"{machine['processor']}, {machine['cores']} cores{f', {limit}' if limit else ''}, {record['date']}"
    return [
        {"what": what, "measured": value, "compared": ratio, "where and when": f"{where}, `{path.name}`"}
        for what, value, ratio in found
    ]


def _beside(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Ours beside its peer, where there is one."""
    peers = {row["what"]: row for row in rows if row["contestant"] == "torchvision"}
    return [
        (
            f"{row['what']}, {row['contestant']}, 832x1344",
            f"{row['s/step']:.1f} s a step",
            f"{row['times torchvision']:.1f} times as fast as torchvision's {peers[row['what']]['s/step']:.1f} s",
        )
        for row in rows
        if row["what"] in peers and row["contestant"] != "torchvision"
    ]


def _learned(rows: list[Row]) -> list[tuple[str, str, str]]:
    """AP after whole trainings, beside the peer's."""
    of = {
        row["contestant"]: [f"{row[f'{kind} AP']:.3f} ± {row[f'{kind} AP, deviation']:.3f}" for kind in KINDS]
        for row in rows
    }
    return [
        (
            f"whole trainings, {name}",
            f"box / mask AP {' / '.join(own)}",
            f"torchvision's {' / '.join(of['torchvision'])}",
        )
        for name, own in of.items()
        if name != "torchvision"
    ]


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
