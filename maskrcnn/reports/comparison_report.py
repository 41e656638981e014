"""The page of a comparison: metrics, classes, settings, and the images that got better or worse side by side."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn.config import DataConfig
from maskrcnn.data.splits import Split, find_dataset
from maskrcnn.errors import UserError
from maskrcnn.evaluation.coco_metrics import KINDS
from maskrcnn.evaluation.comparison import Comparison, Run, describe, to_json
from maskrcnn.evaluation.run import write_json
from maskrcnn.reports.evaluation_report import facts
from maskrcnn.reports.gallery import Figure, figures
from maskrcnn.reports.run_report import DESCRIPTIONS, render

SHOWN = 12  # images that got better, and as many that got worse

logger = logging.getLogger(__name__)


def write_comparison(comparison: Comparison, path: str | Path, *, data_dir: str | Path | None = None) -> Path:
    """Writes the page, and the numbers as JSON beside it; ``data_dir`` has the images, by default where they were."""
    path = Path(path)
    runs = comparison.runs
    better, worse = ([row for row in comparison.images if sign * row["difference"] > 0] for sign in (1, -1))
    changed = better[:SHOWN] + worse[:SHOWN]
    write_json(to_json(comparison), path.with_suffix(".json"))
    return render(
        "compare.html",
        path,
        title=" and ".join(run.name for run in runs),
        runs=runs,
        comparison=comparison,
        kinds=KINDS,
        descriptions=DESCRIPTIONS,
        describe=describe,
        changed=[(row, side) for row, side in zip(changed, _side_by_side(runs, changed, data_dir), strict=False)],
    )


def _side_by_side(runs: Sequence[Run], rows: list[dict[str, Any]], data_dir: str | Path | None) -> list[list[Figure]]:
    """For each image its figure of each run; nothing if the images cannot be read."""
    try:
        split = _open_images(runs[0], data_dir)
    except UserError as error:
        logger.warning("the page has no images: %s", error)
        return []
    chosen = [row["id"] for row in rows]
    columns = []
    for run in runs:
        outcomes = {image.id: image for image in run.analysis.images}
        captions = {image_id: facts(outcomes[image_id]) for image_id in chosen}
        columns.append(figures(run.scorer, run.analysis, split, {image_id: [] for image_id in chosen}, captions))
    return [list(side) for side in zip(*columns, strict=True)]


def _open_images(run: Run, data_dir: str | Path | None) -> Split:
    folder, name = data_dir or run.data.data_dir, run.data.split
    if not folder or not name:
        raise UserError("the runs do not say where they are; give --data_dir")
    options = run.config.data if run.config else DataConfig()
    dataset = find_dataset(folder, options, cache_dir=run.folder)
    dataset.convert(name)
    return dataset.open(name)
