"""Writes docs/performance.md and its plots from what was measured before (`make performance`); measures nothing.

The numbers come from benchmarks/results/*.json, the changes from docs/performance/*.md, written by hand: for each one
what was predicted, what was measured, and what came of it.
"""

import json
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks import kernels, side_by_side

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "performance.md"
FRAGMENTS = ROOT / "docs" / "performance"  # Markdown by hand, and the plots

INTRODUCTION = """# How fast it is

Times of a CPU hold for the machine named beside them; what carries over is the ratio, measured in turns within one run.
The first sections have a JSON file in `benchmarks/results/` for every number and the command that wrote it; the later
ones, of what was changed and tried, name it where there is one. Other numbers there were taken once, in passing, to
choose between two ways. This page is made of those files and texts by `make performance`, which measures nothing.
"""
SECTIONS = {  # file of docs/performance -> its title; others follow in alphabetical order
    "model.md": "The model: what was slow, and what became of it",
    "loader.md": "The loader",
    "evaluation.md": "Evaluation",
}


def main() -> int:
    parts = [INTRODUCTION, *comparisons(), *growth(), *command_start(), *operations(), *gpu(), *fragments()]
    PAGE.write_text("\n".join(parts), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


def comparisons() -> Iterator[str]:
    """Side by side with torchvision, on each device that was measured."""
    paths = sorted(RESULTS.glob("side_by_side_*.json"))
    if not paths:
        return
    yield "## Beside torchvision\n"
    yield (
        "ResNet-50-FPN, 91 classes; the same weights, images, objects, candidates, proposals and 100 detections "
        "(`benchmarks/peers/problem.py`). Medians over all turns, which went A B A B; peak memory includes the "
        "libraries. Processor seconds, of all cores together, are those of the quietest turn.\n"
    )
    for path in paths:
        record = load(path)
        height, width = record["size"]
        yield side_by_side.format_table(record["runs"]) + "\n"
        yield (
            f"{record['device']}, {height}x{width}, {record['steps']} steps after {record['warmup_steps']} in each "
            "turn. "
            f"{on(record)} `python -m benchmarks.side_by_side`, {link(path)}\n"
        )


def growth() -> Iterator[str]:
    """How time and memory grow with the batch."""
    for path in sorted(RESULTS.glob("growth_*.json")):
        record = load(path)
        picture = FRAGMENTS / f"{path.stem}.png"
        plot_growth(record, picture)
        yield f"## Growth with the batch: {record['device']}\n"
        yield f"At most linear means that the time of an image stays level or falls. {on(record)}\n"
        yield f"![Time of an image and peak memory by batch size](performance/{picture.name})\n"
        yield side_by_side.format_table(record["runs"]) + "\n"
        yield f"{link(path)}\n"


def plot_growth(record: dict[str, Any], path: Path) -> None:
    rows = [row for row in side_by_side.summarize(record["runs"]) if "seconds" in row]
    figure, (times, memory) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for what in dict.fromkeys(row["what"] for row in rows):
        for name in dict.fromkeys(row["contestant"] for row in rows):
            own = [row for row in rows if (row["what"], row["contestant"]) == (what, name)]
            sizes = [row["batch_size"] for row in own]
            label = f"{what}, {name}"
            times.plot(sizes, [row["seconds"] / row["batch_size"] for row in own], marker="o", label=label)
            peaks = [(row["device_bytes"] or row["host_bytes"]) / 1e9 for row in own]
            memory.plot(sizes, peaks, marker="o", label=label)
    for axes, title in ((times, "seconds an image"), (memory, "peak memory, GB")):
        axes.set(xlabel="batch size", title=title, ylim=(0, None), xticks=sorted({row["batch_size"] for row in rows}))
        axes.grid(alpha=0.3)
    if rows:
        times.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def command_start() -> Iterator[str]:
    """How long `maskrcnn --help` takes."""
    path = RESULTS / "help.json"
    if path.is_file():
        record = load(path)
        seconds = record["seconds"]
        yield "## Start of the program\n"
        yield (
            f"`maskrcnn --help`: median {statistics.median(seconds):.3f} s of {len(seconds)} runs, the slowest "
            f"{max(seconds):.3f} s (target: 0.2 s). {on(record)} `python -m benchmarks.help_time`, {link(path)}\n"
        )


def operations() -> Iterator[str]:
    """The operations one by one: the latest file, and the one from before the changes."""
    for path in sorted(RESULTS.glob("ops*.json")):
        record = load(path)
        columns = record["milliseconds"]
        when = ", before the changes below" if path.stem.endswith("_before") else ""
        yield f"## Single operations{when}: {record['batch_size']} image, {record['precision']}\n"
        yield f"Milliseconds, compiled, at the sizes of the 832x1344 model. {on(record)}\n"
        yield f"| operation | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}"
        for name in next(iter(columns.values())):
            yield f"| {name} | {' | '.join(f'{column[name]:.2f}' for column in columns.values())} |"
        for name, value in record["host_milliseconds"].items():
            yield f"\n{name} (NumPy, one core): {value:.1f} ms."
        yield f"\n`python -m benchmarks.ops`, {link(path)}\n"


def gpu() -> Iterator[str]:
    """What benchmarks/gpu.sh saved."""
    folder = RESULTS / "gpu"
    found = sorted(folder.glob("*.json"))
    yield "## On a GPU\n"
    if not found:
        yield "Not measured yet: no file in `benchmarks/results/gpu/`. `benchmarks/gpu.sh` fills this section.\n"
        return
    yield "Written by `benchmarks/gpu.sh` in one run.\n"
    for path in found:
        record = load(path)
        yield f"### {path.stem.replace('_', ' ')}, {record['device']}\n"
        if "milliseconds_a_step" in record:
            yield f"Batch {record['batch_size']}, {record['precision']}.\n"
            yield kernels.format_table(record["milliseconds_a_step"]) + "\n"
            continue
        if path.stem.endswith("growth"):
            plot_growth(record, FRAGMENTS / f"gpu_{path.stem}.png")
            yield f"![By batch size](performance/gpu_{path.stem}.png)\n"
        yield side_by_side.format_table(record["runs"]) + f"\n\n{link(path)}\n"


def fragments() -> Iterator[str]:
    """What was changed, as written by hand."""
    present = sorted(path.name for path in FRAGMENTS.glob("*.md"))
    for name in [*(name for name in SECTIONS if name in present), *(name for name in present if name not in SECTIONS)]:
        text = (FRAGMENTS / name).read_text(encoding="utf-8").strip()
        title = SECTIONS.get(name, name.removesuffix(".md").replace("_", " ").capitalize())
        if text.startswith("# "):  # a page of its own: its titles go one level down
            yield re.sub(r"^#", "##", text, flags=re.MULTILINE) + "\n"
        else:
            yield f"## {title}\n\n{text}\n"


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def on(record: dict[str, Any]) -> str:
    """The machine, in a sentence."""
    machine = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if name != "maskrcnn")
    return f"Measured on {machine['processor']}, {machine['cores']} cores, commit {machine['commit']}; {versions}."


def link(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return f"[{relative.name}](../{relative})"


if __name__ == "__main__":
    sys.exit(main())
