"""Ground truth and detections without a model: squares, and detections with each kind of error."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn.config import Category
from maskrcnn.evaluation.coco_metrics import CocoScorer
from maskrcnn.inference.detections import Detections

SIDE = 200
CATEGORIES = (Category(1, 7, "cat"), Category(2, 9, "dog"))
CAT, DOG = 1, 2
Square = tuple[int, int, int]  # class, left, top; 50 px wide
Found = tuple[int, int, int, float]  # the same with a score

OBJECTS: dict[int, list[Square]] = {
    1: [(CAT, 10, 10), (DOG, 100, 100)],
    2: [(CAT, 10, 10), (CAT, 100, 10)],
    3: [(DOG, 50, 50)],
    4: [],
    5: [(CAT, 10, 10), (DOG, 100, 100)],
}
FOUND: dict[int, list[Found]] = {
    1: [(CAT, 10, 10, 0.9), (CAT, 100, 100, 0.97)],  # right; a dog called a cat
    2: [(CAT, 30, 10, 0.72), (CAT, 100, 10, 0.95), (CAT, 100, 10, 0.6)],  # IoU 30/70; right; a duplicate
    3: [(CAT, 70, 50, 0.5)],  # IoU 30/70 with a dog
    4: [(DOG, 100, 100, 0.55)],  # background
    5: [(DOG, 100, 100, 0.85)],  # right, and a cat is missed
}


def write_truth(
    path: Path, objects: dict[int, list[Square]] = OBJECTS, names: tuple[str, ...] = ("cat", "dog")
) -> Path:
    annotations: list[dict[str, Any]] = []
    for image_id, squares in objects.items():
        for index, left, top in squares:
            right, bottom = left + 50, top + 50
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": CATEGORIES[index - 1].id,
                    "bbox": [left, top, 50, 50],
                    "area": 2500,
                    "iscrowd": 0,
                    "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                }
            )
    images = [{"id": i, "file_name": f"{i}.png", "height": SIDE, "width": SIDE} for i in objects]
    categories = [{"id": category.id, "name": name} for category, name in zip(CATEGORIES, names, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def detections(found: list[Found]) -> Detections:
    boxes, rles = [], []
    for _, left, top, _ in found:
        mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
        mask[top : top + 50, left : left + 50] = 1
        boxes.append((left, top, left + 50, top + 50))
        rles.append(coco_mask.encode(mask))
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([row[0] for row in found], np.int32),
        np.array([row[3] for row in found], np.float32),
        rles,
        (SIDE, SIDE),
        CATEGORIES,
    )


def scorer_of(path: Path, found: dict[int, list[Found]] = FOUND) -> CocoScorer:
    scorer = CocoScorer(path)
    for image_id, rows in found.items():
        scorer.add(image_id, detections(rows))
    return scorer
