"""The detections of an evaluation as a file of COCO results, from which runs are compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.config import Category
from maskrcnn.data.coco.classes import index_categories
from maskrcnn.errors import UserError
from maskrcnn.evaluation.coco_metrics import CocoScorer
from maskrcnn.inference.detections import Detections
from maskrcnn.input_files import MAX_ANNOTATION_BYTES, read_json
from maskrcnn.runtime.files import replacing


def sibling(metrics_file: Path, name: str, suffix: str) -> Path:
    """The file of an evaluation beside its metrics: ``predictions_val.json`` for ``metrics_val.json``."""
    stem = metrics_file.stem
    rest = stem.removeprefix("metrics") if stem.startswith("metrics") else f"_{stem}"
    return metrics_file.with_name(f"{name}{rest}{suffix}")


def write_predictions(scorer: CocoScorer, path: Path) -> None:
    """Writes the detections of a scorer as COCO results."""
    names = {category["id"]: json.dumps(category["name"]) for category in scorer.ground_truth["categories"]}
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        separator = "["
        for (image_id, x, y, width, height, score, category), rle in zip(
            scorer.rows.tolist(), scorer.rles, strict=True
        ):
            counts = rle["counts"].decode("ascii").replace("\\", "\\\\")
            file.write(
                f'{separator}\n{{"image_id": {int(image_id)}, "category_id": {int(category)}, '
                f'"category_name": {names[int(category)]}, "bbox": [{x:.9g}, {y:.9g}, {width:.9g}, {height:.9g}], '
                f'"score": {score:.9g}, "segmentation": {{"size": {list(rle["size"])}, "counts": "{counts}"}}}}'
            )
            separator = ","
        file.write("[]\n" if separator == "[" else "\n]\n")


def read_predictions(path: Path, scorer: CocoScorer, image_ids: list[int] | None = None) -> None:
    """Adds the detections in a file of COCO results to a scorer.

    Args:
        path: the file.
        scorer: of the ground truth.
        image_ids: the images that were predicted, of which some may have no detection; None means all of them.

    Raises:
        UserError: the file cannot be read, is not a list of COCO results with masks, or has other images or categories.
    """
    results = read_json(path, "COCO results, as `maskrcnn eval` writes them", MAX_ANNOTATION_BYTES)
    try:
        rows = [(int(row["image_id"]), int(row["category_id"]), *row["bbox"], row["score"]) for row in results]
        rles = [{**row["segmentation"], "counts": row["segmentation"]["counts"].encode()} for row in results]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not COCO results with masks ({error!r}); run `maskrcnn eval` again") from error
    truth = scorer.ground_truth
    categories = index_categories({category["id"]: category["name"] for category in truth["categories"]})
    if unknown := {row[1] for row in rows} - {category.id for category in categories}:
        raise UserError(
            f"{path}: category {min(unknown)} is not in {scorer.annotation_file}; give predictions of the same dataset"
        )
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    of_image: dict[int, list[int]] = {image_id: [] for image_id in (sizes if image_ids is None else image_ids)}
    for i, row in enumerate(rows):
        of_image.setdefault(row[0], []).append(i)
    for image_id, found in of_image.items():
        chosen = [(rows[i], rles[i]) for i in found]
        scorer.add(image_id, _detections(chosen, sizes.get(image_id, (0, 0)), categories))


def _detections(
    found: list[tuple[tuple[Any, ...], Any]], size: tuple[int, int], categories: tuple[Category, ...]
) -> Detections:
    index = {category.id: category.index for category in categories}
    boxes = np.array([row[2:6] for row, _ in found], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    classes = np.array([index[row[1]] for row, _ in found], np.int32)
    scores = np.array([row[6] for row, _ in found], np.float32)
    return Detections(boxes.astype(np.float32), classes, scores, [rle for _, rle in found], size, categories)
