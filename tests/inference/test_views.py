"""Flipped and scaled variants of an image vote on its objects."""

import numpy as np
import pytest

from maskrcnn.imaging.mask_paste import coco_mask
from maskrcnn.inference.detections import Detections
from maskrcnn.inference.predictor import Predictor
from maskrcnn.inference.test_time_augmentation import merge_variants, mirrored
from tests.inference.gray_objects import CATEGORIES, GrayModel, draw_objects, gray_config

pytestmark = pytest.mark.no_backend


def _detections(boxes, scores, classes=None):
    masks = np.zeros((len(boxes), 40, 60), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    rles = [coco_mask.encode(np.asfortranarray(mask)) for mask in masks]
    classes = np.array(classes or [1] * len(boxes), int)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), classes, np.array(scores), rles, (40, 60), CATEGORIES)


def test_mirroring_twice_changes_nothing():
    found = _detections([(3, 4, 20, 30), (40, 0, 60, 40)], [0.9, 0.8])
    once = mirrored(found)
    np.testing.assert_array_equal(once.boxes, [[40, 4, 57, 30], [0, 0, 20, 40]])
    np.testing.assert_array_equal(once.masks, found.masks[:, :, ::-1])
    assert mirrored(once).rles == found.rles


def test_variants_vote_on_mask_box_and_score():
    variants = [_detections([(10, 10, 30, 30)], [0.9]), _detections([(10, 10, 30, 32)], [0.6]), _detections([], [])]
    merged = merge_variants(variants)
    np.testing.assert_allclose(merged.boxes, [[10, 10, 30, 30.8]], rtol=1e-6)
    assert coco_mask.area(merged.rles).tolist() == [400]  # the score of the larger mask has less than half
    np.testing.assert_allclose(merged.scores, [0.5])


def test_objects_of_one_variant_and_of_other_classes_stay_apart():
    first = _detections([(10, 10, 30, 30), (12, 10, 32, 30)], [0.9, 0.8])
    second = _detections([(10, 10, 30, 30)], [0.7], [2])
    merged = merge_variants([first, second])
    assert merged.names == ["dark", "dark", "light"]


class BrightModel(GrayModel):
    """Detects everything bright as one object, however scaling blurred it."""

    def predict_on_batch(self, x):
        return super().predict_on_batch({"images": (np.asarray(x["images"]) >= 100) * np.uint8(200)})


@pytest.mark.parametrize("tile", [None, 64])
def test_an_augmented_image_has_the_same_object(tile):
    image = draw_objects(80, 130, [(64, 40, 10, 14)]) * 20
    found = Predictor(BrightModel(), gray_config(64)).predict(image, tile=tile, overlap=0.4, augment=True)
    (mask,) = found.above(0.5).masks
    truth = image[..., 0] > 0
    assert (mask & truth).sum() / (mask | truth).sum() >= 0.85
    assert found.names == ["light"]
