"""Explains COCO metrics: where AP is lost, which classes are confused, which images and labels to look at.

Matching, the shares of lost AP (TIDE, arXiv:2008.08115), the confusion matrix, calibration and suspicious labels are
hotcoco's; curves, thresholds and the ranking of images follow from its matches at IoU 0.5. COCOeval matches detections
in descending order of score, so the matches of those above a threshold do not depend on the others.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskrcnn.evaluation.coco_metrics import KINDS, CocoScorer

IOU = 0.5
ERRORS = {  # hotcoco's names and ours
    "Cls": "classification",
    "Loc": "localization",
    "Both": "both",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
}
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, math.inf)}  # areas, px; COCO
CROWDING = ((1, 1), (2, 4), (5, 9), (10, 19), (20, math.inf))  # objects in an image
DOUBT = 0.15  # detections within this distance of the score threshold are doubtful
LISTED = 20  # images and suspicious labels in the summary


class Curve(NamedTuple):
    """The trade-off between precision and recall over the score threshold; entries in descending order of score."""

    scores: NDArray[np.float64]  # [N] thresholds
    precision: NDArray[np.float64]  # [N]
    recall: NDArray[np.float64]  # [N]
    f1: NDArray[np.float64]  # [N]
    objects: int  # to find

    def best(self) -> dict[str, float] | None:
        """The threshold with the best F1, rounded down, and what it gives; None without a detection."""
        if not len(self.scores):
            return None
        at = int(np.argmax(self.f1))
        values = {"F1": self.f1[at], "precision": self.precision[at], "recall": self.recall[at]}
        threshold = math.floor(self.scores[at] * 1e4) / 1e4  # above it are the same detections
        return {"score": threshold, **{name: round(float(value), 4) for name, value in values.items()}}


class ImageOutcome(NamedTuple):
    """How an image did at the score threshold."""

    id: int
    file_name: str
    objects: int
    missed: int
    wrong: int  # detections without an object
    doubtful: int  # detections with a score near the threshold
    f1: float


@dataclass(frozen=True)
class Analysis:
    """An evaluation explained; masks decide wherever the kind is not named."""

    summary: dict[str, Any]  # for metrics.json
    threshold: float  # the score with the best F1 over all classes
    curves: Mapping[str, Curve]  # by name of the classes that have objects
    pooled: Curve  # of all classes
    images: list[ImageOutcome]
    labels: list[dict[str, Any]]  # suspicious ones, see `_labels`
    matched: frozenset[int]  # rows of `CocoScorer.rows` that found an object
    found: frozenset[int]  # ids of annotations that were found at the threshold


def analyze(scorer: CocoScorer) -> Analysis:
    """Explains the evaluation of the images that a scorer has."""
    masks, truth = scorer.evaluation("segm"), scorer.ground_truth
    matches = masks.image_diagnostics(iou_thr=IOU)
    rows = scorer.rows
    counted = np.zeros(len(rows), bool)  # neither in a crowd nor beyond 100 in an image
    correct = np.zeros(len(rows), bool)
    for number, status in matches["dt_status"].items():  # detections are numbered from 1
        counted[number - 1], correct[number - 1] = True, status == "tp"
    objects = [entry for entry in truth["annotations"] if entry["id"] in matches["gt_status"] and not entry["iscrowd"]]
    curves = _curves(rows[counted], correct[counted], objects, truth["categories"])
    pooled = draw_curve(rows[counted, 5], correct[counted], len(objects))
    overall = pooled.best()
    threshold = overall["score"] if overall else 0.5
    images = _images(scorer, rows[counted], correct[counted], objects, threshold)
    labels = _labels(masks.image_diagnostics(iou_thr=IOU, score_thr=max(threshold, 0.5))["label_errors"])
    summary = {
        "iou_threshold": IOU,
        "score_threshold": threshold,
        "overall": overall,
        "errors": {kind: _errors(scorer.evaluation(kind)) for kind in KINDS},
        "thresholds": {name: curve.best() for name, curve in curves.items()},
        "confusion": _confusion(masks, threshold),
        "calibration": _calibration(masks),
        "by_size": _by_size(scorer, objects, matches["gt_match"]),
        "by_crowding": _by_crowding(masks, images),
        "worst_images": [_entry(image) for image in worst(images)[:LISTED]],
        "doubtful_images": [_entry(image) for image in doubtful(images)[:LISTED]],
        "label_errors": labels[:LISTED],
    }
    matched = frozenset(np.flatnonzero(correct).tolist())
    found = frozenset(number for number, row in matches["gt_match"].items() if rows[row - 1, 5] >= threshold)
    return Analysis(summary, threshold, curves, pooled, images, labels, matched, found)


def describe(summary: dict[str, Any]) -> str:
    """The most important lines of a summary."""
    errors = summary["errors"]["segm"]["lost"]
    costly = sorted((name for name in errors if errors[name] > 0), key=lambda name: -errors[name])
    lines = [
        "mask AP50 lost to: "
        + (", ".join(f"{name} {errors[name]:.3f}" for name in costly) or "no single kind of error")
    ]
    if summary["overall"]:
        values = ", ".join(f"{name} {summary['overall'][name]:.2f}" for name in ("F1", "precision", "recall"))
        lines.append(f"best score threshold: {summary['score_threshold']:.2f} ({values})")
    if summary["label_errors"]:
        images = dict.fromkeys(str(row["image_id"]) for row in summary["label_errors"])
        lines.append(f"suspicious labels in the images {', '.join(list(images)[:5])}{', ...' * (len(images) > 5)}")
    return "\n".join(lines)


def draw_curve(scores: NDArray[Any], correct: NDArray[np.bool_], objects: int) -> Curve:
    """The curve of detections [N] that are right or wrong, among ``objects`` objects; one entry for equal scores."""
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(correct[order])
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.zeros(0, int)
    taken, hits = last + 1, hits[last]
    return Curve(scores[last], hits / taken, hits / max(objects, 1), 2 * hits / (taken + objects), objects)


def worst(images: list[ImageOutcome]) -> list[ImageOutcome]:
    """The images with an error, lowest F1 first, then most errors."""
    wrong = [image for image in images if image.missed or image.wrong]
    return sorted(wrong, key=lambda image: (image.f1, -image.missed - image.wrong, image.id))


def doubtful(images: list[ImageOutcome]) -> list[ImageOutcome]:
    """The images with doubtful detections, most of them first."""
    return sorted(
        (image for image in images if image.doubtful), key=lambda image: (-image.doubtful, image.f1, image.id)
    )


def _curves(
    rows: NDArray[Any], correct: NDArray[np.bool_], objects: list[dict[str, Any]], categories: list[dict[str, Any]]
) -> dict[str, Curve]:
    counts = Counter(entry["category_id"] for entry in objects)
    curves = {}
    for category in categories:
        chosen = rows[:, 6] == category["id"]
        if counts[category["id"]]:
            curves[category["name"]] = draw_curve(rows[chosen, 5], correct[chosen], counts[category["id"]])
    return curves


def _images(
    scorer: CocoScorer,
    rows: NDArray[Any],
    correct: NDArray[np.bool_],
    objects: list[dict[str, Any]],
    threshold: float,
) -> list[ImageOutcome]:
    names = {image["id"]: image["file_name"] for image in scorer.ground_truth["images"]}
    there = Counter(entry["image_id"] for entry in objects)
    kept = rows[:, 5] >= threshold
    right, wrong = (Counter(rows[kept & chosen, 0].tolist()) for chosen in (correct, ~correct))
    near = Counter(rows[np.abs(rows[:, 5] - threshold) <= DOUBT, 0].tolist())
    outcomes = []
    for number in scorer.image_ids:
        count, hits, errors = there[number], right[number], wrong[number]
        f1 = 2 * hits / (count + hits + errors) if count + errors else 1.0
        file_name = names[number] or f"image {number}"
        outcomes.append(ImageOutcome(number, file_name, count, count - hits, errors, near[number], f1))
    return outcomes


def _entry(image: ImageOutcome) -> dict[str, Any]:
    return {**image._asdict(), "f1": round(image.f1, 4)}


def _errors(evaluation: Any) -> dict[str, Any]:
    """AP50, and for each kind of error the AP50 that it costs and how many there are; TIDE fixes one at a time."""
    errors = evaluation.tide_errors(pos_thr=IOU, bg_thr=0.1)
    return {
        "AP50": round(max(errors["ap_base"], 0.0), 4),
        "lost": {ours: round(errors["delta_ap"][name], 4) for name, ours in ERRORS.items()},
        "counts": {ours: errors["counts"][name] for name, ours in ERRORS.items()},
    }


def _confusion(evaluation: Any, threshold: float) -> dict[str, Any]:
    """Counts [true class, predicted class, number] where there are any; the index after the last class: nothing."""
    confusion = evaluation.confusion_matrix(iou_thr=IOU, min_score=threshold)
    matrix = confusion["matrix"]
    rows, columns = np.nonzero(matrix)
    cells = zip(rows.tolist(), columns.tolist(), matrix[rows, columns].tolist(), strict=True)
    return {"classes": confusion["cat_names"], "counts": [list(cell) for cell in cells]}


def _calibration(evaluation: Any) -> dict[str, Any]:
    """The expected and the largest calibration error, and [lowest score, detections, mean score, precision] of bins."""
    found = evaluation.calibration(n_bins=10, iou_threshold=IOU)
    bins = [
        [round(row["bin_lower"], 2), row["count"], round(row["avg_confidence"], 4), round(row["avg_accuracy"], 4)]
        for row in found["bins"]
        if row["count"]
    ]
    return {"ECE": round(found["ece"], 4), "MCE": round(found["mce"], 4), "bins": bins}


def _by_size(scorer: CocoScorer, objects: list[dict[str, Any]], found: Mapping[int, int]) -> list[dict[str, Any]]:
    """Objects by area: how many, the fraction found at any score, and AP."""
    stats = {kind: dict(zip(SIZES, scorer.evaluation(kind).stats[3:6], strict=True)) for kind in KINDS}
    groups = []
    for name, (low, high) in SIZES.items():
        ids = [entry["id"] for entry in objects if low <= entry["area"] < high]
        values = {f"{kind}_AP": _known(stats[kind][name]) for kind in KINDS}
        fraction = round(sum(number in found for number in ids) / len(ids), 4) if ids else None
        groups.append({"group": name, "objects": len(ids), "found": fraction, **values})
    return groups


def _by_crowding(evaluation: Any, images: list[ImageOutcome]) -> list[dict[str, Any]]:
    """Images by their number of objects: how many, mask AP, and F1 at the threshold."""
    groups = {}
    for low, high in CROWDING:
        name = f"{low}" if low == high else f"{low} or more" if high == math.inf else f"{low} to {high}"
        members = [image for image in images if low <= image.objects <= high]
        if members:
            groups[name] = members
    scores = evaluation.slice_by({name: [image.id for image in members] for name, members in groups.items()})
    return [
        {
            "group": name,
            "images": len(members),
            "segm_AP": _known(scores[name]["AP"]),
            "mean_F1": round(float(np.mean([image.f1 for image in members])), 4),
        }
        for name, members in groups.items()
    ]


def _labels(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Labels that a confident detection contradicts, the most confident first.

    ``type`` is ``wrong_label`` (an object is annotated there, of another class) or ``missing_annotation``.
    """
    return [
        {
            "image_id": row["image_id"],
            "type": row["type"],
            "predicted": row["dt_category"],
            "annotated": row["gt_category"],
            "score": round(row["dt_score"], 4),
            "detection": row["dt_id"] - 1,
            "annotation": row["gt_id"],
        }
        for row in sorted(candidates, key=lambda row: (-row["dt_score"], row["dt_id"]))
    ]


def _known(value: float) -> float | None:
    return None if value < 0 else round(float(value), 4)
