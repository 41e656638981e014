"""Compares evaluations of the same images: metrics with bootstrap intervals, classes, images, settings."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import hotcoco

from maskrcnn.config import Config, load_config, ranges, typed_fields
from maskrcnn.data.splits import SplitName
from maskrcnn.errors import UserError
from maskrcnn.evaluation.analysis import Analysis, analyze
from maskrcnn.evaluation.coco_metrics import KINDS, METRIC_NAMES, CocoScorer, Metrics
from maskrcnn.evaluation.predictions import read_predictions, sibling
from maskrcnn.input_files import read_json

REMEDY = "run `maskrcnn eval --data_dir DIR --model_dir DIR` again, without --no_analysis"


@dataclass(frozen=True)
class Evaluated:
    """The images of an evaluation, as its file of metrics names them."""

    annotation_file: ranges.FilePath
    split: SplitName | None = None
    data_dir: ranges.FilePath | None = None
    image_ids: tuple[int, ...] | None = None  # None: all of the annotation file


@dataclass(frozen=True)
class Run:
    """An evaluated model with what its folder says of it."""

    name: str
    folder: Path
    data: Evaluated
    config: Config | None
    scorer: CocoScorer
    analysis: Analysis
    metrics: Metrics


@dataclass(frozen=True)
class Interval:
    """A metric of a run, and how far it is from the first run's."""

    value: float | None
    difference: float | None = None
    low: float | None = None  # of the difference, 95 %
    high: float | None = None

    @property
    def is_certain(self) -> bool:
        """Whether the interval of the difference does not contain 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Comparison:
    """Runs beside the first one."""

    runs: list[Run]
    metrics: dict[str, dict[str, list[Interval]]]  # by kind and name of the metric, for each run
    classes: list[dict[str, Any]]  # name, mask AP of each run, and the last one's difference
    images: list[dict[str, Any]]  # id, file name, F1 of each run, and the last one's difference; largest first
    settings: list[tuple[str, list[Any]]]  # name, value in each run; those that differ


def open_runs(
    paths: Sequence[str | Path], *, split: str | None = None, eval_file: str | Path | None = None
) -> list[Run]:
    """Reads evaluated models.

    Args:
        paths: folders of models that were evaluated or trained, or files with metrics in them.
        split: the split, where a model was evaluated on several; None is val, or else that of the training run.
        eval_file: the ground truth; None is that of the first run's evaluation.

    Raises:
        UserError: a folder without an evaluation, or evaluations of different images.
    """
    files = [_metrics_file(Path(path), split) for path in paths]
    evaluated = [_read(file) for file in files]
    truths = {one.annotation_file for one in evaluated}
    if eval_file is None and len(truths) > 1:
        listed = " and ".join(sorted(truths))
        raise UserError(f"{files[-1]}: the runs were evaluated on {listed}; give the ground truth with --eval_file")
    truth = Path(eval_file) if eval_file else Path(evaluated[0].annotation_file)
    if not truth.is_file():
        raise UserError(f"{truth}: the ground truth of {files[0]} is gone; give it with --eval_file")
    names = _names(files)
    runs = [_open(*row, truth) for row in zip(names, files, evaluated, strict=True)]
    for run, file in zip(runs, files, strict=True):
        if run.scorer.image_ids != runs[0].scorer.image_ids:
            counts = f"{len(run.scorer.image_ids)} images, {files[0]} has {len(runs[0].scorer.image_ids)}"
            raise UserError(f"{file}: evaluated on {counts} or others; evaluate both on the same split")
    return runs


def _names(files: list[Path]) -> list[str]:
    """The shortest endings of the folders' paths that tell the runs apart."""
    parts = [(*file.resolve().parent.parts, file.stem) for file in files]
    for count in range(1, max(map(len, parts))):
        names = ["/".join(part[-1 - count : -1]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(part[-2:]) for part in parts]


def _metrics_file(path: Path, split: str | None) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; give folders of models that `maskrcnn eval` has evaluated")
    names = [f"metrics_{split}.json"] if split else ["metrics_val.json", "metrics.json"]
    candidates = [path / name for name in names] + ([] if split else sorted(path.glob("metrics*.json")))
    explained = [file for file in candidates if file.is_file() and sibling(file, "predictions", ".json").is_file()]
    if explained:
        return explained[0]
    found = [file.name for file in candidates if file.is_file()]
    lacks = f"has {found[0]}, but not its detections" if found else f"has no {names[0]}"
    raise UserError(f"{path}: {lacks}; {REMEDY}")


def _read(file: Path) -> Evaluated:
    content = read_json(file, "metrics, as `maskrcnn eval` writes them")
    try:
        return typed_fields.build(Evaluated, content["data"])
    except (TypeError, KeyError, typed_fields.SettingError) as error:
        raise UserError(f"{file}: does not say which images were evaluated ({error}); {REMEDY}") from error


def _open(name: str, file: Path, data: Evaluated, truth: Path) -> Run:
    predictions, config_file = sibling(file, "predictions", ".json"), file.parent / "config.json"
    if not predictions.is_file():
        raise UserError(f"{file.parent}: has no {predictions.name}; {REMEDY}")
    scorer = CocoScorer(truth)
    read_predictions(predictions, scorer, data.image_ids)
    config = load_config(config_file) if config_file.is_file() else None
    return Run(name, file.parent, data, config, scorer, analyze(scorer), scorer.metrics())


def compare(runs: Sequence[Run], *, bootstrap: int = 200) -> Comparison:
    """Compares runs with the first one; ``bootstrap`` resamplings of the images give the intervals, 0 none."""
    metrics = {kind: _compare_metrics(runs, kind, bootstrap) for kind in KINDS}
    classes = [
        _row({"name": name}, [run.metrics["per_class"][name]["segm_AP"] for run in runs])
        for name in runs[0].metrics["per_class"]
    ]
    images = [
        _row({"id": first[0].id, "file_name": first[0].file_name}, [image.f1 for image in first])
        for first in zip(*(run.analysis.images for run in runs), strict=True)
    ]
    images.sort(key=lambda row: -abs(row["difference"]))
    return Comparison(list(runs), metrics, classes, images, _differing_settings(runs))


def _row(start: dict[str, Any], values: list[float | None]) -> dict[str, Any]:
    first, last = values[0], values[-1]
    return {**start, "values": values, "difference": None if first is None or last is None else last - first}


def _compare_metrics(runs: Sequence[Run], kind: str, bootstrap: int) -> dict[str, list[Interval]]:
    table = {name: [Interval(runs[0].metrics[kind][name])] for name in METRIC_NAMES}
    for run in runs[1:]:
        pair = runs[0].scorer.evaluation(kind), run.scorer.evaluation(kind)
        compared = hotcoco.compare(*pair, n_bootstrap=bootstrap, seed=0)
        for name, row in table.items():
            value = run.metrics[kind][name]
            if value is None or row[0].value is None:
                row.append(Interval(value))
                continue
            bounds = compared["ci"][name] if compared["ci"] else {"lower": None, "upper": None}
            row.append(Interval(value, value - row[0].value, bounds["lower"], bounds["upper"]))
    return table


def _differing_settings(runs: Sequence[Run]) -> list[tuple[str, list[Any]]]:
    rows = []
    for path in typed_fields.field_paths(Config):
        values = [attrgetter(path)(run.config) if run.config else "unknown" for run in runs]
        values = [list(value) if isinstance(value, tuple) else value for value in values]
        if any(value != values[0] for value in values) and path != "categories":
            rows.append((path.removeprefix("model."), values))
    return rows


def format_comparison(comparison: Comparison) -> str:
    """The comparison as a table for the terminal; * marks differences whose interval does not contain 0."""
    runs = comparison.runs
    width = max(8, *(len(run.name) for run in runs))
    head = "".join(f"  {run.name:>{width}}  {'difference (95 %)':<25}" for run in runs[1:])
    lines = [f"{'':<12}{runs[0].name:>{width}}{head}".rstrip()]
    for kind, word in KINDS.items():
        for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"):
            first, *others = comparison.metrics[kind][name]
            line = f"{word + ' ' + name:<12}{_text(first.value):>{width}}"
            for other in others:
                line += f"  {_text(other.value):>{width}}  {describe(other):<25}"
            lines.append(line.rstrip())
    lines += ["", *_table("class, mask AP", comparison.classes, "name", width), ""]
    changed = [row for row in comparison.images if abs(row["difference"]) > 0]
    better = sum(row["difference"] > 0 for row in changed)
    counts = f"{better} better, {len(changed) - better} worse in {runs[-1].name}, by F1"
    lines.append(f"{len(comparison.images)} images: {counts}")
    for name, values in comparison.settings:
        lines.append(f"{name}: {' / '.join(map(str, values))}")
    return "\n".join(lines)


def _table(title: str, rows: list[dict[str, Any]], key: str, width: int, most: int = 20) -> list[str]:
    """The rows with the largest differences."""
    ordered = sorted(rows, key=lambda row: -abs(row["difference"] or 0))[:most]
    first = max(len(title), *(len(row[key]) for row in ordered)) if ordered else len(title)
    lines = [f"{title:<{first}}"]
    for row in ordered:
        values = "".join(f"  {_text(value):>{width}}" for value in row["values"])
        change = "" if row["difference"] is None else f"  {row['difference']:+.3f}"
        lines.append(f"{row[key]:<{first}}{values}{change}")
    return lines


def describe(interval: Interval) -> str:
    """The difference with its interval: ``+0.021 (+0.004 to +0.040)*``."""
    if interval.difference is None:
        return ""
    text = f"{interval.difference:+.3f}"
    if interval.low is not None and interval.high is not None:
        text += f" ({interval.low:+.3f} to {interval.high:+.3f}){'*' * interval.is_certain}"
    return text


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison for ``compare.json``."""
    return {
        "runs": [run.name for run in comparison.runs],
        "metrics": {
            kind: {name: [dataclasses.asdict(interval) for interval in row] for name, row in table.items()}
            for kind, table in comparison.metrics.items()
        },
        "per_class": comparison.classes,
        "images": comparison.images,
        "settings": {name: values for name, values in comparison.settings},
    }
