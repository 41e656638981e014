"""Times the evaluation of a simulated COCO val split, without a model: 5,000 images with 100 detections each.

    python -m benchmarks.evaluation [--images 5000] [--out benchmarks/results/evaluation.json]

The ground truth has the statistics of COCO val 2017: 36,781 objects of 80 classes with a long tail, 1 in 80 a crowd.
Two in five detections are objects found with some error, the others are random boxes.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result import Row, make_parser, report
from maskrcnn.config import Category
from maskrcnn.evaluation.coco_metrics import CocoScorer
from maskrcnn.inference.predictor import predict_batches
from maskrcnn.runtime.hardware import peak_resident

IMAGES = 5000  # COCO val 2017
OBJECTS_PER_IMAGE = 36781 / 5000
CROWDS = 446 / 36781
CLASSES = 80
DETECTIONS = 100
MASK = 28
SIZES = ((480, 640), (640, 480), (427, 640), (640, 427), (375, 500), (640, 640))  # height, width
BATCH = 8
CATEGORIES = tuple(Category(index, index, f"class {index}") for index in range(1, CLASSES + 1))


@dataclass(frozen=True)
class Scene:
    """One image's objects: boxes [G, 4] xyxy px, classes [G], polygons."""

    height: int
    width: int
    boxes: np.ndarray
    classes: np.ndarray
    polygons: list[list[float]]


def draw_scene(rng: np.random.Generator) -> Scene:
    """Objects with COCO's distribution of classes and sizes (two in five below 32 x 32 px, a quarter above 96 x 96)."""
    height, width = SIZES[rng.integers(len(SIZES))]
    count = min(rng.geometric(1 / (OBJECTS_PER_IMAGE + 1)) - 1, 60)
    side = np.exp(rng.normal(np.log(42), 1.1, count)).clip(3, 600)
    aspect = np.exp(rng.normal(0, 0.4, count))
    sides = np.stack([side * aspect, side / aspect], axis=1).clip(3, [width, height])
    corners = rng.uniform(0, 1, (count, 2)) * ([width, height] - sides)
    classes = np.minimum(rng.zipf(1.3, count), CLASSES)  # class 1 has a quarter of them, as persons do
    polygons = [_polygon(rng, corner, size) for corner, size in zip(corners, sides, strict=True)]
    return Scene(height, width, np.concatenate([corners, corners + sides], axis=1), classes, polygons)


def _polygon(rng: np.random.Generator, corner: np.ndarray, sides: np.ndarray) -> list[float]:
    """The outline of a star with 10 to 40 points in a box."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(10, 41)))
    radius = rng.uniform(0.6, 1.0, len(angles)) / 2
    points = corner + sides * (0.5 + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    return points.round(2).ravel().tolist()


def write_annotations(scenes: list[Scene], path: Path, rng: np.random.Generator) -> int:
    """The ground truth as COCO JSON; returns the number of objects."""
    annotations: list[dict[str, Any]] = []
    for image_id, scene in enumerate(scenes, start=1):
        for (x1, y1, x2, y2), category, polygon in zip(scene.boxes, scene.classes, scene.polygons, strict=True):
            entry = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": int(category),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1) * 0.6,
                "iscrowd": int(rng.random() < CROWDS),
                "segmentation": [polygon],
            }
            annotations.append(entry)
    images = [
        {"id": image_id, "file_name": f"{image_id}.jpg", "height": scene.height, "width": scene.width}
        for image_id, scene in enumerate(scenes, start=1)
    ]
    categories = [{"id": category.id, "name": category.name} for category in CATEGORIES]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return len(annotations)


def detect(scene: Scene, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A model's output for a scene: 100 detections in the image's own pixels, in descending order of score."""
    found = rng.integers(0, max(len(scene.boxes), 1), DETECTIONS)
    hit = (rng.random(DETECTIONS) < 0.4) & (len(scene.boxes) > 0)
    sides = np.exp(rng.normal(np.log(60), 1.0, (DETECTIONS, 2))).clip(4, 600)
    corners = rng.uniform(0, 1, (DETECTIONS, 2)) * [scene.width, scene.height] * 0.9
    boxes = np.concatenate([corners, corners + sides], axis=1)
    classes = np.minimum(rng.zipf(1.3, DETECTIONS), CLASSES)
    if len(scene.boxes):
        near = scene.boxes[found]
        jitter = rng.normal(0, 0.08, near.shape) * np.tile(near[:, 2:] - near[:, :2], 2)
        boxes, classes = np.where(hit[:, None], near + jitter, boxes), np.where(hit, scene.classes[found], classes)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    boxes = boxes.clip(0, [scene.width, scene.height] * 2)
    scores = rng.beta(1, 4, DETECTIONS) + hit * rng.uniform(0, 0.5, DETECTIONS)
    order = np.argsort(-scores)
    return {
        "boxes": boxes[order].astype(np.float32),
        "classes": classes[order].astype(np.int32),
        "scores": scores[order].clip(0.05, 1).round(4).astype(np.float32),  # rounded, so that some are equal
        "masks": _masks(rng)[order],
        "valid": np.ones(DETECTIONS, bool),
    }


def _masks(rng: np.random.Generator) -> np.ndarray:
    """Soft blobs [D, M, M] with wavy edges."""
    grid = (np.arange(MASK) + 0.5) / MASK * 2 - 1
    angle, radius = np.arctan2(grid[:, None], grid), np.hypot(grid[:, None], grid)
    waves = rng.integers(2, 7, (DETECTIONS, 1, 1))
    edge = 0.85 + 0.15 * np.sin(waves * angle + rng.uniform(0, 6, (DETECTIONS, 1, 1)))
    return (1 / (1 + np.exp(-8 * (edge - radius)))).astype(np.float32)


class SceneModel:
    """Stands in for the model: returns detections drawn for the batch."""

    def __init__(self) -> None:
        self.outputs: dict[str, np.ndarray] = {}
        self.seconds = 0.0  # spent on drawing, which no evaluation does

    def batches(self, scenes: list[Scene], rng: np.random.Generator) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(scenes), BATCH):
            began = time.perf_counter()
            group = scenes[start : start + BATCH]
            drawn = [detect(scene, rng) for scene in group]
            self.outputs = {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}
            sizes = np.array([(scene.height, scene.width) for scene in group])
            self.seconds += time.perf_counter() - began
            yield {
                "images": np.zeros((len(group), 1, 1, 3), np.uint8),
                "image_sizes": sizes.astype(np.float32),
                "image_ids": np.arange(start + 1, start + 1 + len(group)),
                "original_sizes": sizes.astype(np.int32),
                "image_valid": np.ones(len(group), bool),
            }

    def predict_on_batch(self, x: Any) -> dict[str, np.ndarray]:
        return self.outputs


def measure(images: int) -> list[Row]:
    """Times and memory, and the metrics, which depend on the code alone."""
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng) for _ in range(images)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "val.json"
        objects = write_annotations(scenes, path, rng)
        before, began = _peak_gib(), time.perf_counter()
        scorer = CocoScorer(path)
        read = time.perf_counter() - began
    model = SceneModel()
    began, cpu = time.perf_counter(), time.process_time()
    for prediction in predict_batches(model, model.batches(scenes, rng), CATEGORIES):
        scorer.add(prediction.image_id, prediction.detections)
    pasted = time.perf_counter() - began - model.seconds
    cpu, collected, began = time.process_time() - cpu - model.seconds, _peak_gib(), time.perf_counter()
    metrics = scorer.metrics()
    scored = time.perf_counter() - began
    values = [
        ("images", images, ""),
        ("objects", objects, ""),
        ("detections", images * DETECTIONS, ""),
        ("ground truth read", read, "s"),
        ("masks pasted and encoded", pasted, "s"),
        ("masks pasted and encoded, processor time", cpu, "s"),
        ("COCO metrics of boxes and masks", scored, "s"),
        ("peak memory before", before, "GiB"),
        ("peak memory, detections collected", collected, "GiB"),
        ("peak memory at the end", _peak_gib(), "GiB"),
        *((f"{kind} {name}", value, "") for kind in ("bbox", "segm") for name, value in metrics[kind].items()),
    ]
    return [dict(zip(("quantity", "value", "unit"), row, strict=True)) for row in values]


def _peak_gib() -> float:
    return (peak_resident() or 0) / 2**30


def main() -> None:
    """Runs the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=IMAGES, metavar="N", help="default: %(default)s")
    options = parser.parse_args()
    report(options.out, f"Evaluation: {options.images:,} simulated images", measure(options.images))


if __name__ == "__main__":
    main()
