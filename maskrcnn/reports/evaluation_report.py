"""The page and the files of an evaluation: why the metrics are what they are."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskrcnn.data.splits import Split
from maskrcnn.evaluation.analysis import Analysis, Curve, ImageOutcome, analyze, doubtful, worst
from maskrcnn.evaluation.coco_metrics import CocoScorer, Metrics
from maskrcnn.evaluation.predictions import sibling, write_predictions
from maskrcnn.evaluation.run import Evaluation, evaluate_model, write_json
from maskrcnn.imaging.draw import Instance, color_of, draw_instances
from maskrcnn.imaging.mask_paste import decode_rles
from maskrcnn.reports.gallery import Figure, figures, read_images
from maskrcnn.reports.run_report import Report, write_report

FIRST, WORST, DOUBTFUL, SUSPICIOUS = 12, 24, 12, 24  # images on the page
MAX_CLASSES = 100  # with a curve on the page
CONFUSED = 24  # classes of the confusion matrix on the page
GRID = np.linspace(0, 1, 101)

logger = logging.getLogger(__name__)


def explain_folder(model: str | Path, data_dir: str | Path, **options: Any) -> Metrics:
    """Evaluates a model and explains the result; `maskrcnn.evaluation.run.evaluate_model` describes the arguments.

    The metrics get "analysis" and "data"; beside their file are the detections (``predictions_SPLIT.json``) and a page
    (``report_SPLIT.html``).
    """
    evaluation = evaluate_model(model, data_dir, **options)
    metrics = explain(evaluation)
    write_json(metrics, evaluation.path)
    return metrics


def explain(evaluation: Evaluation, history: Sequence[Mapping[str, float]] = ()) -> Metrics:
    """Writes the page and the detections beside the file of the metrics, and returns the metrics with their analysis.

    ``history`` has the curves of the training run, see `maskrcnn.logs.history.read_history`.
    """
    scorer, split, path = evaluation.scorer, evaluation.split, evaluation.path
    analysis = analyze(scorer)
    metrics = {**evaluation.metrics, "analysis": analysis.summary, "data": _data(evaluation)}
    predictions = sibling(path, "predictions", ".json")
    write_predictions(scorer, predictions)
    report = Report(
        evaluation.config,
        history,
        metrics,
        title=f"Mask R-CNN: {path.resolve().parent.name}, {split.name} split",
        analysis=page_analysis(analysis, scorer),
        gallery=gallery(analysis, scorer, split),
    )
    page = write_report(report, path.parent, file_name=sibling(path, "report", ".html").name)
    logger.info("explained in %s; detections in %s", page, predictions)
    return metrics


def draw_first(scorer: CocoScorer, split: Split, threshold: float, count: int = 8) -> dict[str, NDArray[np.uint8]]:
    """The first images [H, W, 3] with their detections from a score on, by name, for experiment trackers."""
    names = {category["id"]: category["name"] for category in scorer.ground_truth["categories"]}
    numbers = {category_id: position for position, category_id in enumerate(names)}
    rows, drawn = scorer.rows, {}
    for image_id, pixels in read_images(split, scorer.image_ids[:count]):
        instances = []
        for i in np.flatnonzero((rows[:, 0] == image_id) & (rows[:, 5] >= threshold)):
            box = np.concatenate([rows[i, 1:3], rows[i, 1:3] + rows[i, 3:5]]).astype(np.float32)
            mask, category_id = decode_rles([scorer.rles[i]], *pixels.shape[:2])[0], int(rows[i, 6])
            label = f"{names[category_id]} {rows[i, 5]:.2f}"
            instances.append(Instance(box, mask, label, color_of(numbers[category_id])))
        drawn[f"image {image_id}"] = np.asarray(draw_instances(pixels, instances))
    return drawn


def _data(evaluation: Evaluation) -> dict[str, Any]:
    """The images of an evaluation, so that it can be compared with another one later."""
    scorer = evaluation.scorer
    everything = len(scorer.image_ids) == len(scorer.ground_truth["images"])
    return {
        "data_dir": str(evaluation.data_dir.resolve()) if evaluation.data_dir else None,
        "split": evaluation.split.name,
        "annotation_file": str(scorer.annotation_file.resolve()),
        "image_ids": None if everything else scorer.image_ids,
    }


def gallery(analysis: Analysis, scorer: CocoScorer, split: Split) -> list[Figure]:
    """The first images, the worst ones, the most doubtful ones, and those with suspicious labels."""
    groups: dict[int, list[str]] = {}
    chosen = {
        "first": [image.id for image in analysis.images[:FIRST]],
        "worst": [image.id for image in worst(analysis.images)[:WORST]],
        "doubtful": [image.id for image in doubtful(analysis.images)[:DOUBTFUL]],
        "labels": list(dict.fromkeys(row["image_id"] for row in analysis.labels))[:SUSPICIOUS],
    }
    for group, image_ids in chosen.items():
        for image_id in image_ids:
            groups.setdefault(image_id, []).append(group)
    outcomes = {image.id: image for image in analysis.images}
    return figures(scorer, analysis, split, groups, {image_id: facts(outcomes[image_id]) for image_id in groups})


def facts(image: ImageOutcome) -> list[str]:
    """What a caption says of an image."""
    return [
        f"F1 {image.f1:.2f}",
        f"{image.missed} of {image.objects} missed",
        f"{image.wrong} wrong",
        f"{image.doubtful} doubtful",
    ]


def page_analysis(analysis: Analysis, scorer: CocoScorer) -> dict[str, Any]:
    """The analysis as the page shows it: the summary, all suspicious labels, curves on a grid, and confused classes."""
    names = {image["id"]: image["file_name"] or f"image {image['id']}" for image in scorer.ground_truth["images"]}
    curves = {"all classes": analysis.pooled, **dict(list(analysis.curves.items())[:MAX_CLASSES])}
    return {
        **analysis.summary,
        "label_errors": [{**row, "file_name": names[row["image_id"]]} for row in analysis.labels[:200]],
        "curves": {name: _sampled(curve) for name, curve in curves.items()},
        "objects": {name: curve.objects for name, curve in analysis.curves.items()},
        "matrix": _matrix(analysis.summary["confusion"]),
    }


def _sampled(curve: Curve) -> dict[str, list[float]]:
    """Precision over recall, as COCO interpolates it, and F1 over the threshold, each at 101 points."""
    envelope = np.append(np.maximum.accumulate(curve.precision[::-1])[::-1], 0.0)
    precision = envelope[np.searchsorted(curve.recall, GRID)]
    f1 = np.concatenate([[0.0], curve.f1])[np.searchsorted(-curve.scores, -GRID, side="right")]
    return {"precision": precision.round(3).tolist(), "f1": f1.round(3).tolist()}


def _matrix(confusion: dict[str, Any]) -> dict[str, Any]:
    """The classes with the most confusions, and rows of counts and their fractions of the row."""
    count = len(confusion["classes"])
    matrix = np.zeros((count + 1, count + 1), np.int64)
    for row, column, number in confusion["counts"]:
        matrix[row, column] = number
    wrong = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    shown = np.sort(np.argsort(-wrong[:count], kind="stable")[:CONFUSED])
    shown = np.append(shown, count)
    totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    labels = [*confusion["classes"], "nothing"]
    pairs = [
        (labels[row], labels[column], number)
        for row, column, number in sorted(confusion["counts"], key=lambda cell: -cell[2])
        if row != column and row < count and column < count
    ]
    return {
        "classes": [labels[i] for i in shown],
        "omitted": count + 1 - len(shown),
        "counts": matrix[np.ix_(shown, shown)].tolist(),
        "fractions": (matrix / totals)[np.ix_(shown, shown)].round(3).tolist(),
        "pairs": pairs[:20],
    }
