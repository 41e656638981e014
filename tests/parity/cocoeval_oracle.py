"""Compares the COCO metrics with those of pycocotools on random datasets; all must be equal to the last digit.

    python -m tests.parity.cocoeval_oracle [--sets 1000] [--out FILE]

The datasets have crowds, images without objects or detections, equal scores, objects of all sizes, more than 100
detections in an image, and images that are not evaluated. `tests/evaluation/test_coco_metrics.py` runs a few of them.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.result import save_result
from maskrcnn.config import Category
from maskrcnn.evaluation.coco_metrics import CocoScorer
from maskrcnn.inference.detections import Detections

Dataset = tuple[dict[str, list[Any]], dict[int, Detections]]  # COCO's lists, detections by image id


def random_dataset(seed: int) -> Dataset:
    """A small dataset and its detections; half of the seeds have whole pixels and scores of one digit, and so ties."""
    rng = np.random.default_rng(seed)
    ties = bool(rng.random() < 0.5)
    categories = tuple(Category(k, 3 * k, str(k)) for k in range(1, rng.integers(2, 7)))
    images, annotations, found = [], [], {}
    for image_id in range(10, 10 + int(rng.integers(1, 12))):
        height, width = (int(side) for side in rng.integers(40, 260, 2))
        images.append({"id": image_id, "file_name": "", "height": height, "width": width})
        boxes = np.stack([_box(rng, height, width, ties) for _ in range(rng.choice([0, 1, 4, 12]))] or [np.zeros(4)])
        boxes = boxes[boxes[:, 2] > 0]
        for box in boxes:
            rle = _rle(rng, height, width, box)
            area = float(coco_mask.area(rle)) if rng.random() < 0.8 else float(np.prod(box[2:] - box[:2]))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(rng.choice([category.id for category in categories])),
                    "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
                    "area": area,
                    "iscrowd": int(rng.random() < 0.15),
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
        if not found or rng.random() < 0.9:  # else the image is not evaluated
            found[image_id] = _detections(rng, boxes, (height, width), ties, categories)
    listed = [{"id": category.id, "name": category.name} for category in categories]
    return {"images": images, "annotations": annotations, "categories": listed}, found


def _detections(
    rng: np.random.Generator, truth: np.ndarray, size: tuple[int, int], ties: bool, categories: tuple[Category, ...]
) -> Detections:
    boxes = []
    for _ in range(rng.choice([0, 5, 30, 150, 250])):
        if len(truth) and rng.random() < 0.6:
            box = (truth[rng.integers(len(truth))] + rng.normal(0, 3, 4)).clip(0, [*size[::-1]] * 2)
            box[2:] = np.maximum(box[2:], box[:2])
            boxes.append(box.round() if ties else box)
        else:
            boxes.append(_box(rng, *size, ties))
    scores = rng.random(len(boxes)).round(1 if ties else 9).astype(np.float32)
    classes = rng.integers(1, len(categories) + 1, len(boxes)).astype(np.int32)
    rles = [_rle(rng, *size, box) for box in boxes]
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), classes, scores, rles, size, categories)


def _box(rng: np.random.Generator, height: int, width: int, whole: bool) -> np.ndarray:
    sides = np.exp(rng.uniform(np.log(3), np.log([width, height])))
    corner = rng.random(2) * ([width, height] - sides)
    box = np.concatenate([corner, corner + sides])
    return box.round() if whole else box


def _rle(rng: np.random.Generator, height: int, width: int, box: np.ndarray) -> Any:
    mask = np.zeros((height, width), np.uint8, order="F")
    x1, y1, x2, y2 = (int(side) for side in box)
    mask[y1:y2, x1:x2] = rng.random((y2 - y1, x2 - x1)) < 0.8
    return coco_mask.encode(mask)


def pycocotools_evaluation(content: dict[str, list[Any]], found: dict[int, Detections], kind: str) -> Any:
    """COCOeval by pycocotools, with the areas of detections defined as in `CocoScorer`."""
    results: list[dict[str, Any]] = []
    for image_id, detections in found.items():
        ids = {category.index: category.id for category in detections.categories}
        for box, index, score, rle in zip(
            detections.boxes.tolist(), detections.classes.tolist(), detections.scores, detections.rles, strict=True
        ):
            x1, y1, x2, y2 = box
            width, height = x2 - x1, y2 - y1
            results.append(
                {
                    "id": len(results) + 1,
                    "image_id": image_id,
                    "category_id": ids[index],
                    "score": float(score),
                    "bbox": [x1, y1, width, height],
                    "segmentation": rle,
                    "iscrowd": 0,
                    "area": width * height if kind == "bbox" else float(coco_mask.area(rle)),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation: Any = COCOeval(_index(content), _index({**content, "annotations": results}), kind)
        evaluation.params.imgIds = sorted(found)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _index(content: dict[str, list[Any]]) -> Any:
    coco: Any = COCO()
    coco.dataset = content
    coco.createIndex()
    return coco


def differences(dataset: Dataset, path: Path) -> list[str]:
    """The names of results that differ: stats, precision, recall and scores, each of boxes and masks."""
    content, found = dataset
    path.write_text(json.dumps(content))
    scorer = CocoScorer(path)
    for image_id, detections in found.items():
        scorer.add(image_id, detections)
    different = []
    for kind in ("bbox", "segm"):
        ours, theirs = scorer.evaluation(kind), pycocotools_evaluation(content, found, kind)
        pairs = {"stats": (ours.stats, theirs.stats)}
        pairs |= {name: (ours.eval[name], theirs.eval[name]) for name in ("precision", "recall", "scores")}
        different += [f"{kind} {name}" for name, pair in pairs.items() if not np.array_equal(*map(np.asarray, pair))]
    return different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1000, metavar="N", help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE")
    options = parser.parse_args()
    began, wrong = time.perf_counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.sets):
            found = differences(random_dataset(seed), Path(folder) / "val.json")
            wrong += bool(found)
            if found:
                print(f"seed {seed}: {', '.join(found)}")
    seconds = time.perf_counter() - began
    print(f"COCOeval: {wrong} of {options.sets} random datasets differ from pycocotools ({seconds:.0f} s)")
    if options.out:
        row = {"random datasets": options.sets, "datasets with a difference": wrong, "seconds": seconds}
        save_result(options.out, "COCOeval by hotcoco against pycocotools: stats, precision, recall and scores", [row])
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
