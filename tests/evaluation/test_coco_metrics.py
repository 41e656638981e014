"""Scores worked out by hand, and the ground truth, which must score 1."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from maskrcnn.config import Category, Config
from maskrcnn.errors import UserError
from maskrcnn.evaluation.coco_metrics import (
    CocoScorer,
    evaluate,
    format_metrics,
)
from maskrcnn.inference.detections import Detections
from tests.ground_truth import evaluate_ground_truth, ground_truth_detections
from tests.parity.cocoeval_oracle import differences, random_dataset

HEIGHT, WIDTH = 100, 120
CATEGORIES = (Category(1, 7, "cat"), Category(2, 90, "dog"), Category(3, 91, "newt"))


def _polygon(x1: float, y1: float, x2: float, y2: float) -> list[list[float]]:
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def _object(image_id: int, category_id: int, box: tuple[float, ...], **changes: Any) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
        "segmentation": _polygon(*box),
    } | changes


def _write(path: Path, objects: list[dict[str, Any]], images: tuple[int, ...] = (1, 2)) -> Path:
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in images],
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(objects)],  # 0 is an id too
        "categories": [{"id": category.id, "name": category.name} for category in CATEGORIES],
    }
    path.write_text(json.dumps(content))
    return path


def _detections(*found: tuple[int, float, tuple[int, int, int, int]], masks: Any = None) -> Detections:
    """(class, score, box) with the whole box as mask, unless ``masks`` names other rectangles."""
    rles = []
    for x1, y1, x2, y2 in masks or [box for _, _, box in found]:
        mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
        mask[y1:y2, x1:x2] = 1
        rles.append(coco_mask.encode(mask))
    return Detections(
        np.array([box for _, _, box in found], np.float32).reshape(-1, 4),
        np.array([index for index, _, _ in found], np.int32),
        np.array([score for _, score, _ in found], np.float32),
        rles,
        (HEIGHT, WIDTH),
        CATEGORIES,
    )


def test_the_ground_truth_scores_one(tmp_path: Path) -> None:
    ring = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    ring[10:60, 10:60] = 1
    ring[20:50, 20:50] = 0
    packed = coco_mask.encode(ring)
    runs = np.diff(np.flatnonzero(np.diff(ring.ravel(order="F"), prepend=0)), prepend=0).tolist()
    runs.append(HEIGHT * WIDTH - sum(runs))
    text = {"size": [HEIGHT, WIDTH], "counts": packed["counts"].decode()}
    plain = {"size": [HEIGHT, WIDTH], "counts": runs}
    objects = [
        _object(1, 7, (3.5, 4.25, 20.1, 40.9)),
        _object(1, 7, (30, 30, 100, 90)),
        _object(1, 90, (10, 10, 60, 60), segmentation=text, area=1600),
        _object(2, 90, (10, 10, 60, 60), segmentation=plain, area=1600),
        _object(2, 7, (70, 5, 119, 95), iscrowd=1, segmentation=plain),
    ]
    del objects[0]["area"], objects[0]["iscrowd"], objects[0]["bbox"]  # optional in the wild
    metrics = evaluate_ground_truth(_write(tmp_path / "val.json", objects, images=(1, 2, 3)))
    for kind in ("bbox", "segm"):
        for name in ("AP", "AP50", "AP75", "AR100"):
            assert metrics[kind][name] == pytest.approx(1)
    assert metrics["images"] == 3
    assert metrics["per_class"]["newt"] == {"bbox_AP": None, "segm_AP": None}
    assert metrics["per_class"]["dog"]["segm_AP"] == pytest.approx(1)


def test_crowds_are_not_detections(tmp_path: Path) -> None:
    path = _write(tmp_path / "val.json", [_object(2, 7, (70, 5, 119, 95), iscrowd=1), _object(2, 90, (1, 2, 30, 40))])
    found = dict(ground_truth_detections(path))
    assert len(found[1]) == 0
    assert found[2].names == ["dog"]
    np.testing.assert_array_equal(found[2].boxes, [[1, 2, 30, 40]])


def test_average_precision_by_hand(tmp_path: Path) -> None:
    scorer = CocoScorer(_write(tmp_path / "val.json", [_object(1, 7, (10, 10, 60, 60))]))
    scorer.add(1, _detections((1, 0.9, (10, 10, 60, 41)), masks=[(10, 10, 60, 53)]))
    metrics = scorer.metrics()
    # box IoU 31/50 = 0.62 counts at 3 of 10 thresholds (0.5, 0.55, 0.6); mask IoU 43/50 = 0.86 at 8
    assert metrics["bbox"]["AP"] == pytest.approx(0.3)
    assert metrics["segm"]["AP"] == pytest.approx(0.8)
    assert (metrics["bbox"]["AP50"], metrics["bbox"]["AP75"], metrics["segm"]["AP75"]) == pytest.approx((1, 0, 1))
    assert metrics["bbox"]["APl"] is None
    assert metrics["per_class"]["cat"] == pytest.approx({"bbox_AP": 0.3, "segm_AP": 0.8})


def test_a_second_detection_of_one_object_is_wrong(tmp_path: Path) -> None:
    first, second = (10, 10, 60, 60), (70, 10, 110, 60)
    scorer = CocoScorer(_write(tmp_path / "val.json", [_object(1, 7, first), _object(1, 7, second)]))
    scorer.add(1, _detections((1, 0.9, first), (1, 0.8, first), (1, 0.7, second)))
    # precision 1 up to recall 0.5 (51 of 101 points), 2/3 beyond it
    assert scorer.metrics()["bbox"]["AP"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_an_image_without_detections_counts_and_one_not_added_does_not(tmp_path: Path) -> None:
    cats = [_object(image_id, 7, (10, 10, 60, 60)) for image_id in (1, 2, 3)]
    scorer = CocoScorer(_write(tmp_path / "val.json", cats, images=(1, 2, 3)))
    scorer.add(1, _detections((1, 0.9, (10, 10, 60, 60))))
    scorer.add(2, _detections())
    metrics = scorer.metrics()
    assert metrics["images"] == 2
    assert metrics["bbox"]["AR100"] == pytest.approx(0.5)
    assert metrics["bbox"]["AP"] == pytest.approx(51 / 101)  # recalls 0, 0.01 .. 0.5 of 101


def test_no_detections_score_zero_and_give_valid_json(tmp_path: Path) -> None:
    scorer = CocoScorer(_write(tmp_path / "val.json", [_object(1, 7, (10, 10, 60, 60))]))
    scorer.add(1, _detections())
    metrics = scorer.metrics()
    assert metrics["bbox"]["AP"] == metrics["segm"]["AP50"] == 0
    assert metrics["bbox"]["APs"] is None
    assert metrics["per_class"]["dog"]["bbox_AP"] is None
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_classes_must_match_and_unknown_ones_are_ignored(tmp_path: Path) -> None:
    scorer = CocoScorer(_write(tmp_path / "val.json", [_object(1, 90, (10, 10, 60, 60))]))
    scorer.add(1, _detections((1, 0.9, (10, 10, 60, 60)), (17, 0.9, (10, 10, 60, 60))))
    assert scorer.metrics()["bbox"]["AP"] == 0
    scorer = CocoScorer(scorer.annotation_file)
    scorer.add(1, _detections((2, 0.9, (10, 10, 60, 60))))
    assert scorer.metrics()["bbox"]["AP"] == pytest.approx(1)


def test_the_masks_area_decides_what_is_small(tmp_path: Path) -> None:
    scorer = CocoScorer(_write(tmp_path / "val.json", [_object(1, 7, (10, 10, 60, 60))]))
    # a wrong mask of 10 x 10 px in a box of 50 x 50: among medium masks it does not count, among medium boxes it does
    wrong = (60, 40, 110, 90)
    scorer.add(1, _detections((1, 0.9, wrong), (1, 0.8, (10, 10, 60, 60)), masks=[(60, 40, 70, 50), (10, 10, 60, 60)]))
    metrics = scorer.metrics()
    assert metrics["segm"]["APm"] == pytest.approx(1)
    assert metrics["bbox"]["APm"] == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(6))
def test_every_number_is_that_of_pycocotools_to_the_last_digit(tmp_path: Path, seed: int) -> None:
    assert differences(random_dataset(seed), tmp_path / "val.json") == []


def test_unknown_and_repeated_images_are_refused(tmp_path: Path) -> None:
    scorer = CocoScorer(_write(tmp_path / "val.json", []))
    with pytest.raises(UserError, match=r"val\.json: no image with id 5"):
        scorer.add(5, _detections())
    scorer.add(1, _detections())
    with pytest.raises(UserError, match="two images have id 1"):
        scorer.add(1, _detections())


def test_files_that_are_not_coco_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json"):
        CocoScorer(tmp_path / "none.json")
    for text in ("[1, 2]", "{", '{"images": []}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UserError, match=r"bad\.json"):
            CocoScorer(tmp_path / "bad.json")


def test_invalid_annotations_are_skipped(tmp_path: Path) -> None:
    objects = [
        _object(1, 7, (10, 10, 60, 60)),
        _object(1, 7, (70, 10, 80, 60), segmentation=[[70, 10, 80, 60]]),  # pycocotools would take it for a box
        _object(1, 7, (70, 10, 80, 60), segmentation=[]),
        _object(1, 7, (70, 10, 70, 60)),
        _object(44, 7, (10, 10, 60, 60)),
    ]
    scorer = CocoScorer(_write(tmp_path / "val.json", objects))
    scorer.add(1, _detections((1, 0.9, (10, 10, 60, 60))))
    assert scorer.metrics()["segm"]["AP"] == pytest.approx(1)


class BrightBoxModel:
    """Detects the box around the bright pixels of each image as a cat."""

    def predict_on_batch(self, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        boxes = np.zeros((len(x["images"]), 1, 4), np.float32)
        for i, image in enumerate(x["images"]):
            rows, columns = np.nonzero(image[..., 0])
            boxes[i, 0] = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        count = len(boxes)
        return {
            "boxes": boxes,
            "classes": np.ones((count, 1), np.int32),
            "scores": np.full((count, 1), 0.8, np.float32),
            "masks": np.ones((count, 1, 28, 28), np.float32),
            "valid": np.ones((count, 1), np.bool_),
        }


def test_evaluate_scores_every_image_in_its_own_pixels(tmp_path: Path) -> None:
    # the canvas has 2 px for 1 of the image; the last entry of the last batch is padding
    boxes = {1: (10, 20, 60, 80), 2: (0, 0, 100, 40), 3: (30, 30, 120, 100)}
    path = _write(tmp_path / "val.json", [_object(i, 7, box) for i, box in boxes.items()], images=(1, 2, 3))

    def batch(ids: list[int], valid: list[bool]) -> dict[str, Any]:
        images = np.zeros((2, 224, 256, 3), np.uint8)
        for image, image_id in zip(images, ids, strict=True):
            x1, y1, x2, y2 = (2 * value for value in boxes[image_id])
            image[y1:y2, x1:x2] = 200
        return {
            "images": images,
            "image_sizes": np.array([[200, 240]] * 2, np.float32),
            "image_ids": np.array(ids),
            "original_sizes": np.array([[HEIGHT, WIDTH]] * 2, np.int32),
            "image_valid": np.array(valid),
        }

    batches = [batch([2, 3], [True, True]), batch([1, 1], [True, False])]
    metrics = evaluate(BrightBoxModel(), batches, path, Config(categories=CATEGORIES))
    assert metrics["images"] == 3
    assert metrics["bbox"]["AP"] == pytest.approx(1)
    assert metrics["segm"]["AP"] > 0.9  # pasted masks lose a little at the rim
    with pytest.raises(UserError, match="no image"):
        evaluate(BrightBoxModel(), [], path, Config(categories=CATEGORIES))


def test_the_table_shows_defined_values(tmp_path: Path) -> None:
    table = format_metrics(evaluate_ground_truth(_write(tmp_path / "val.json", [_object(1, 7, (10, 10, 60, 60))])))
    lines = table.splitlines()
    assert lines[0].split()[:4] == ["AP", "AP50", "AP75", "APs"]
    assert lines[1].split()[:5] == ["box", "1.000", "1.000", "1.000", "-"]
    assert any(line.split() == ["newt", "-", "-"] for line in lines)
    assert lines[-1] == "2 images"
