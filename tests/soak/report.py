"""The weight of report.html: an evaluation of drawn images in simulation, explained.

    python -m tests.soak.report runs/report --images 5000       # 640x480 px, 7 to 30 objects each; less than 15 MB

The backgrounds are noise, which JPEG compresses least. Detections are the objects, moved, of another class or missed,
and random ones.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from maskrcnn.config import Config, DataConfig
from maskrcnn.data.splits import find_dataset
from maskrcnn.evaluation.coco_metrics import CocoScorer
from maskrcnn.evaluation.run import Evaluation
from maskrcnn.imaging.mask_paste import coco_mask
from maskrcnn.inference.detections import collect
from maskrcnn.reports.evaluation_report import explain

HEIGHT, WIDTH, CLASSES, MAX_MB = 480, 640, 80, 15


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--images", type=int, default=5000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    data = options.out_dir / "data"
    polygons = draw_dataset(data, options.images, rng)
    dataset = find_dataset(data, DataConfig(), cache_dir=options.out_dir)
    dataset.convert("val")
    split = dataset.open("val")
    scorer = CocoScorer(split.annotation_file)
    for image_id, objects in polygons.items():
        scorer.add(image_id, collect(list(detect(objects, rng)), (HEIGHT, WIDTH), split.categories))
    config = replace(Config(), categories=split.categories)
    path = options.out_dir / "metrics_val.json"
    explain(Evaluation(scorer.metrics(), scorer, split, config, path, data))
    size = (options.out_dir / "report_val.html").stat().st_size / 1e6
    objects = sum(map(len, polygons.values()))
    print(
        f"{options.images} images, {objects} objects, {len(scorer.rows)} detections: report_val.html has {size:.1f} MB"
    )
    assert size < MAX_MB


def draw_dataset(folder: Path, count: int, rng: np.random.Generator) -> dict[int, list[tuple[int, np.ndarray]]]:
    """A COCO dataset with a val split; the class and the polygon [N, 2] of each object of each image."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "val").mkdir(exist_ok=True)
    noise = rng.integers(0, 255, (60, 80, 3), np.uint8)
    grounds = [
        Image.fromarray(np.roll(noise, turn, axis=(0, 1))).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        for turn in range(20)
    ]
    polygons: dict[int, list[tuple[int, np.ndarray]]] = {}
    for image_id in range(1, count + 1):
        drawn = [draw_object(rng) for _ in range(rng.integers(7, 31))]
        polygons[image_id] = [one for one in drawn if np.ptp(one[1], axis=0).min() >= 3]
        image = grounds[image_id % len(grounds)].copy()
        for _, polygon in polygons[image_id]:
            ImageDraw.Draw(image).polygon([*map(tuple, polygon)], fill=tuple(rng.integers(0, 255, 3).tolist()))
        image.save(folder / "val" / f"{image_id:06d}.jpg", quality=85)
    everything = [(image_id, *one) for image_id, objects in polygons.items() for one in objects]
    annotations = [annotate(number, *one) for number, one in enumerate(everything, start=1)]
    size = {"height": HEIGHT, "width": WIDTH}
    images = [{"id": image_id, "file_name": f"{image_id:06d}.jpg", **size} for image_id in polygons]
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return polygons


def draw_object(rng: np.random.Generator) -> tuple[int, np.ndarray]:
    """A class, of which the first are frequent, and a star of 10 to 30 corners, partly outside the image."""
    side = np.exp(rng.normal(np.log(30), 0.8)).clip(6, 150)
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(10, 31)))
    radii = side * rng.uniform(0.6, 1, len(angles))
    star = rng.uniform(0, (WIDTH, HEIGHT)) + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    return int(min(rng.zipf(1.3), CLASSES)), star.clip(0, (WIDTH - 1, HEIGHT - 1))


def annotate(number: int, image_id: int, category_id: int, polygon: np.ndarray) -> dict:
    """The entry of an object."""
    (left, top), (width, height) = polygon.min(axis=0), np.ptp(polygon, axis=0)
    box, corners = [left, top, width, height], polygon.round(2).ravel().tolist()
    place = {"id": number, "image_id": image_id, "category_id": category_id}
    return place | {"bbox": box, "area": 0.6 * width * height, "iscrowd": 0, "segmentation": [corners]}


def detect(objects: list[tuple[int, np.ndarray]], rng: np.random.Generator):
    """Four of five objects, some twice, one in seven of another class, and up to eleven random ones."""
    for index, polygon in objects:
        for _ in range(0 if rng.random() < 0.2 else 1 + (rng.random() < 0.1)):
            found = index if rng.random() < 0.85 else int(rng.integers(1, CLASSES + 1))
            yield from encode(found, polygon + rng.integers(-6, 7, 2), rng.beta(5, 2))
    for _ in range(rng.integers(0, 12)):
        index, polygon = draw_object(rng)
        yield from encode(index, polygon, rng.beta(1.5, 5))


def encode(index: int, polygon: np.ndarray, score: float):
    """The box, class, score and mask of a polygon, unless nothing of it is left."""
    corners = polygon.clip(0, (WIDTH - 1, HEIGHT - 1)).ravel().tolist()
    rle = coco_mask.merge(coco_mask.frPyObjects([corners], HEIGHT, WIDTH))
    left, top, width, height = coco_mask.toBbox(rle)
    if width >= 1 and height >= 1:
        yield np.array([left, top, left + width, top + height], np.float32), index, float(score), rle


if __name__ == "__main__":
    main()
