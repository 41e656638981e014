"""Detections are in each image's own pixels, whatever its canvas."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskrcnn.config import Category, Config
from maskrcnn.errors import UserError
from maskrcnn.imaging.mask_paste import decode_rles
from maskrcnn.inference.detections import Detections, read_source, to_original
from maskrcnn.inference.predictor import Predictor, image_batches, predict_batches

CATEGORIES = (Category(1, 10, "cat"), Category(2, 25, "dog"))
CONFIG = Config(model=Config.tiny().model, categories=CATEGORIES)  # canvas 128 x 128


class HalfImageModel:
    """Detects a cat in the left half of every image and a dog in its lower half; the third entry is padding."""

    def predict_on_batch(self, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert x["images"].dtype == np.uint8
        count = len(x["images"])
        boxes = np.zeros((count, 3, 4), np.float32)
        for i, (height, width) in enumerate(x["image_sizes"]):
            boxes[i, 0] = [0, 0, width / 2, height]
            boxes[i, 1] = [0, height / 2, width, height]
        return {
            "boxes": boxes,
            "classes": np.tile(np.array([1, 2, 0], np.int32), (count, 1)),
            "scores": np.tile(np.array([0.9, 0.4, 0.0], np.float32), (count, 1)),
            "masks": np.ones((count, 3, 28, 28), np.float32),
            "valid": np.tile([True, True, False], (count, 1)),
        }


def _batch(ids: list[int], sizes: list[tuple[int, int]], valid: list[bool]) -> dict[str, Any]:
    return {
        "images": np.zeros((len(ids), 128, 128, 3), np.uint8),
        "image_sizes": np.array([[64, 128]] * len(ids), np.float32),
        "image_ids": np.array(ids, np.int64),
        "original_sizes": np.array(sizes, np.int32),
        "image_valid": np.array(valid),
    }


def test_boxes_and_masks_are_in_the_images_own_pixels() -> None:
    detections = Predictor(HalfImageModel(), CONFIG).predict(np.zeros((50, 200, 3), np.uint8))
    np.testing.assert_allclose(detections.boxes, [[0, 0, 100, 50], [0, 25, 200, 50]], atol=1e-4)
    assert detections.names == ["cat", "dog"]
    masks = detections.masks
    assert masks.shape == (2, 50, 200)
    assert masks[0, 25, 50]
    assert not masks[0, 25, 150]
    assert not masks[1, 5, 50]
    assert masks[1, 45, 150]
    assert "2 in 200x50 px: cat 0.90, dog 0.40" in repr(detections)


def test_each_axis_has_its_own_ratio_and_boxes_stay_inside() -> None:
    outputs = {
        "boxes": np.array([[10, 10, 70, 40], [5, 5, 5, 5]], np.float32),
        "classes": np.array([1, 1]),
        "scores": np.array([0.5, 0.4]),
        "masks": np.ones((2, 28, 28), np.float32),
        "valid": np.array([True, False]),
    }
    detections = to_original(outputs, (32, 64), (96, 128), CATEGORIES)  # y by 3, x by 2
    np.testing.assert_allclose(detections.boxes, [[20, 30, 128, 96]])
    assert detections.image_size == (96, 128)


def test_predict_takes_files_arrays_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    pixels = np.zeros((30, 60, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    predictor = Predictor(HalfImageModel(), CONFIG)
    one = predictor.predict(path)
    several = predictor.predict([pixels, str(path)])
    assert len(several) == 2
    for other in several:
        np.testing.assert_array_equal(other.boxes, one.boxes)
        assert other.rles == one.rles


def test_every_form_of_an_image_gives_the_same_pixels(tmp_path: Path) -> None:
    gray = np.arange(60, dtype=np.uint8).reshape(6, 10)
    rgb = np.repeat(gray[..., None], 3, axis=2)
    rgba = np.concatenate([rgb, np.full((6, 10, 1), 7, np.uint8)], axis=2)
    path = tmp_path / "gray.png"
    Image.fromarray(gray).save(path)
    for source in (gray, gray[..., None], rgb, rgba, Image.fromarray(gray), Image.fromarray(rgba), path, str(path)):
        np.testing.assert_array_equal(read_source(source), rgb)


def test_a_pillow_image_is_turned_upright() -> None:
    image = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    image.getexif()[0x0112] = 6
    assert read_source(image).shape == (30, 20, 3)


def test_lists_are_predicted_in_batches_of_one_orientation() -> None:
    class CountingModel(HalfImageModel):
        def predict_on_batch(self, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            shapes.append(x["images"].shape[:3])
            return super().predict_on_batch(x)

    shapes: list[tuple[int, ...]] = []
    config = CONFIG.override({"image.min_side": 64, "image.max_side": 128})
    images = [np.zeros((20, 30, 3) if wide else (30, 20, 3), np.uint8) for wide in (1, 0, 1, 1, 1, 1)]
    detections = Predictor(CountingModel(), config).predict(images, batch_size=2)
    assert [found.image_size for found in detections] == [image.shape[:2] for image in images]
    # five landscape images in batches of two, the last one padded; one portrait image alone
    assert sorted(shapes) == [(1, 128, 64), (2, 64, 128), (2, 64, 128), (2, 64, 128)]


def test_a_batch_is_padded_only_after_full_ones() -> None:
    images = [(number, np.zeros((8, 8, 3), np.uint8)) for number in (4, 5, 6)]
    first, second = image_batches(images, CONFIG.model.image, 2)
    assert (first["image_ids"].tolist(), first["image_valid"].tolist()) == ([4, 5], [True, True])
    assert (second["image_ids"].tolist(), second["image_valid"].tolist()) == ([6, 6], [True, False])
    (alone,) = image_batches(images, CONFIG.model.image, 8)
    assert alone["images"].shape == (3, 128, 128, 3)


@pytest.mark.parametrize("shape", [(10,), (10, 10, 2), (0, 10, 3), (1, 10, 10, 3)])
def test_other_arrays_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"expected uint8 of \[height, width\], or \[height, width, channels\]"):
        Predictor(HalfImageModel(), CONFIG).predict(np.zeros(shape, np.uint8))
    with pytest.raises(UserError, match="of float64"):
        Predictor(HalfImageModel(), CONFIG).predict(np.zeros((10, 10, 3)))  # type: ignore[arg-type]


def test_coco_results_survive_json() -> None:
    detections = Predictor(HalfImageModel(), CONFIG).predict(np.zeros((50, 200, 3), np.uint8))
    results = json.loads(json.dumps(detections.to_coco(7)))
    assert [(r["image_id"], r["category_id"], r["score"]) for r in results] == [(7, 10, 0.9), (7, 25, 0.4)]
    assert [result["category_name"] for result in results] == ["cat", "dog"]
    assert results[1]["bbox"] == [0.0, 25.0, 200.0, 25.0]
    rle = {**results[0]["segmentation"], "counts": results[0]["segmentation"]["counts"].encode()}
    np.testing.assert_array_equal(decode_rles([rle], 50, 200)[0], detections.masks[0])


def test_classes_without_a_category_are_not_written() -> None:
    only_dogs = Config(model=CONFIG.model, categories=CATEGORIES[1:])
    detections = Predictor(HalfImageModel(), only_dogs).predict(np.zeros((50, 200, 3), np.uint8))
    assert [result["category_id"] for result in detections.to_coco(1)] == [25]
    assert detections.names == ["class 1", "dog"]


def test_no_detections_are_fine() -> None:
    none = Detections(
        np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, np.float32), [], (30, 40), CATEGORIES
    )
    assert none.masks.shape == (0, 30, 40)
    assert none.to_coco(1) == []
    assert repr(none) == "Detections(0 in 40x30 px)"
    assert none.draw(np.zeros((30, 40, 3), np.uint8)).size == (40, 30)


def test_above_keeps_the_score_itself() -> None:
    detections = Predictor(HalfImageModel(), CONFIG).predict(np.zeros((50, 200, 3), np.uint8))
    assert len(detections.above(0.5)) == 1
    assert len(detections.above(float(detections.scores[1]))) == 2


def test_batches_yield_every_image_once_in_order() -> None:
    batches = [
        _batch([3, 1], [(64, 128), (32, 64)], [True, True]),
        _batch([9, 9], [(128, 256), (128, 256)], [True, False]),  # the second one is padding
    ]
    predictions = list(predict_batches(HalfImageModel(), batches, CATEGORIES))
    assert [prediction.image_id for prediction in predictions] == [3, 1, 9]
    assert [prediction.detections.image_size for prediction in predictions] == [(64, 128), (32, 64), (128, 256)]
    np.testing.assert_allclose(predictions[1].detections.boxes[0], [0, 0, 32, 32])
    assert predictions[0].image.shape == (64, 128, 3)


def test_batches_are_read_as_they_are_needed() -> None:
    read = 0

    def batches() -> Any:
        nonlocal read
        for image_id in range(50):
            read += 1
            yield _batch([image_id], [(64, 128)], [True])

    predictions = predict_batches(HalfImageModel(), batches(), CATEGORIES)
    next(predictions)
    assert read == 2  # the next batch is predicted while this one is pasted; no more are held
    predictions.close()  # type: ignore[attr-defined]


def test_drawing_follows_the_threshold_and_the_choice_of_colors() -> None:
    image = np.full((50, 200, 3), 128, np.uint8)
    detections = Predictor(HalfImageModel(), CONFIG).predict(image)
    assert (np.asarray(detections.draw(image, 0.95)) == 128).all()
    only_cat = np.asarray(detections.draw(image)).astype(int)
    assert (only_cat[40, 150] == 128).all()
    both = np.asarray(detections.draw(image, 0.3)).astype(int)
    assert (both[40, 150] != 128).any()
    dog = detections.above(0.3)
    dog = Detections(dog.boxes[1:], dog.classes[1:], dog.scores[1:], dog.rles[1:], dog.image_size, CATEGORIES)
    by_class, by_instance = (np.asarray(dog.draw(image, 0.3, color_by=way)) for way in ("class", "instance"))
    np.testing.assert_array_equal(by_class[40, 150], both[40, 150])  # second class, and second instance of both
    assert (by_class[40, 150] != by_instance[40, 150]).any()
    assert (np.asarray(detections.draw(image, with_scores=False)) != only_cat).any()
