"""The detections of an evaluation as a file of COCO results, from which runs are compared."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskrcnn.data.coco.classes import index_categories
from maskrcnn.data.coco.segmentation import LARGEST, check_rle, encode_rle
from maskrcnn.errors import UserError
from maskrcnn.evaluation.coco_metrics import CocoScorer
from maskrcnn.imaging.mask_paste import RLE
from maskrcnn.inference.detections import Detections
from maskrcnn.input_files import MAX_ANNOTATION_BYTES, read_json
from maskrcnn.runtime.files import writing_list


def sibling(metrics_file: Path, name: str, suffix: str) -> Path:
    """The file of an evaluation beside its metrics: ``predictions_val.json`` for ``metrics_val.json``."""
    stem = metrics_file.stem
    rest = stem.removeprefix("metrics") if stem.startswith("metrics") else f"_{stem}"
    return metrics_file.with_name(f"{name}{rest}{suffix}")


def write_predictions(scorer: CocoScorer, path: Path) -> None:
    """Writes the detections of a scorer as COCO results."""
    names = {category["id"]: category["name"] for category in scorer.ground_truth["categories"]}
    with writing_list(path) as add:
        for (image_id, *place, category), rle in zip(scorer.rows.tolist(), scorer.rles, strict=True):
            *bbox, score = (float(f"{value:.9g}") for value in place)  # as exact as float32
            add(
                {
                    "image_id": int(image_id),
                    "category_id": int(category),
                    "category_name": names[int(category)],
                    "bbox": bbox,
                    "score": score,
                    "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
                }
            )


def read_predictions(path: Path, scorer: CocoScorer, image_ids: Sequence[int] | None = None) -> None:
    """Adds the detections in a file of COCO results to a scorer.

    Args:
        path: the file.
        scorer: of the ground truth.
        image_ids: the images that were predicted, of which some may have no detection; None means all of them.

    Raises:
        UserError: the file cannot be read, is not a list of COCO results with masks, or has other images or categories.
    """
    results = read_json(path, "COCO results, as `maskrcnn eval` writes them", MAX_ANNOTATION_BYTES)
    truth = scorer.ground_truth
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    try:
        ids, values, rles = _columns(results, sizes)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: not COCO results with masks ({error!r}); run `maskrcnn eval` again") from error
    categories = index_categories({category["id"]: category["name"] for category in truth["categories"]})
    if unknown := {*ids[:, 1].tolist()} - {category.id for category in categories}:
        raise UserError(
            f"{path}: category {min(unknown)} is not in {scorer.annotation_file}; give predictions of the same dataset"
        )
    of_image: dict[int, list[int]] = {image_id: [] for image_id in (sizes if image_ids is None else image_ids)}
    for i, image_id in enumerate(ids[:, 0].tolist()):
        of_image.setdefault(image_id, []).append(i)
    index = {category.id: category.index for category in categories}
    for image_id, found in of_image.items():
        boxes = values[found, :4]
        boxes[:, 2:] += boxes[:, :2]
        classes = np.array([index[i] for i in ids[found, 1].tolist()], np.int32)
        scores, size = values[found, 4].astype(np.float32), sizes.get(image_id, (0, 0))
        masks = [rles[i] for i in found]
        scorer.add(image_id, Detections(boxes.astype(np.float32), classes, scores, masks, size, categories))


def _columns(
    results: Any, sizes: dict[int, tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[RLE]]:
    """Ids of image and category [K, 2], boxes (xywh) with scores [K, 5], and masks [K] of COCO results.

    Raises:
        Exception: an entry lacks a field, or has one of another type, range or size.
    """
    if not isinstance(results, list):
        raise TypeError(f"a list is expected, not {type(results).__name__}")
    ids = np.array([(row["image_id"], row["category_id"]) for row in results], np.int64).reshape(len(results), 2)
    values = np.array([(*row["bbox"], row["score"]) for row in results], np.float64).reshape(len(results), 5)
    if not (np.abs(values) < LARGEST).all() or not ((values[:, 4] >= 0) & (values[:, 4] <= 1)).all():
        raise ValueError("a box without finite numbers, or a score that is not between 0 and 1")
    rles = []
    for row in results:
        rle, size = row["segmentation"], sizes.get(row["image_id"])
        check_rle(rle, size)
        rles.append(encode_rle(rle, *rle["size"]))
    return ids, values, rles
