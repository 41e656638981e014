"""COCO ground truth as the detections of a perfect model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.data.coco.classes import index_categories
from maskrcnn.data.coco.ground_truth import load_ground_truth
from maskrcnn.evaluation.coco_metrics import CocoScorer, Metrics
from maskrcnn.inference.detections import Detections


def ground_truth_detections(annotation_file: str | Path) -> Iterator[tuple[int, Detections]]:
    """Yields each image id with its ground truth as detections of score 1; crowds are skipped.

    Raises:
        UserError: the file is missing or is not COCO JSON.
    """
    content = load_ground_truth(Path(annotation_file))
    categories = index_categories({category["id"]: category["name"] for category in content["categories"]})
    index = {category.id: category.index for category in categories}
    of_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in content["annotations"]:
        if not annotation["iscrowd"] and annotation["category_id"] in index:
            of_image.setdefault(annotation["image_id"], []).append(annotation)
    for image in content["images"]:
        objects = of_image.get(image["id"], [])
        boxes = np.array([a["bbox"] for a in objects], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        classes = np.array([index[a["category_id"]] for a in objects], np.int32)
        rles = [a["segmentation"] for a in objects]
        size = int(image["height"]), int(image["width"])
        scores = np.ones(len(objects), np.float32)
        yield int(image["id"]), Detections(boxes.astype(np.float32), classes, scores, rles, size, categories)


def evaluate_ground_truth(annotation_file: str | Path) -> Metrics:
    """Returns the metrics of the ground truth compared with itself, which are 1.0 wherever there is an object."""
    scorer = CocoScorer(annotation_file)
    for image_id, detections in ground_truth_detections(annotation_file):
        scorer.add(image_id, detections)
    return scorer.metrics()
