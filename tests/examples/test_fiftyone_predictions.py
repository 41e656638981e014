"""The example for FiftyOne fills a field of each sample; a stand-in has the signatures of FiftyOne 1.22."""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.inference.predictor import Predictor
from tests.inference.gray_objects import GrayModel, draw_objects, gray_config

pytestmark = pytest.mark.no_backend
OBJECTS = [(20, 20, 12, 9), (45, 45, 10, 10)]


class Detection:
    def __init__(self, label, bounding_box, mask, confidence):
        self.label, self.bounding_box, self.mask, self.confidence = label, bounding_box, mask, confidence

    @classmethod
    def from_mask(cls, mask, label=None, **attributes):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        height, width = mask.shape
        box = [columns[0] / width, rows[0] / height, len(columns) / width, len(rows) / height]
        return cls(label, box, mask[window], **attributes)


class Detections:
    def __init__(self, detections):
        self.detections = detections


class Sample(dict):
    def __init__(self, filepath):
        self.filepath, self.saved = filepath, False


class Dataset:
    def __init__(self, samples):
        self.samples = samples

    def iter_samples(self, progress=False, autosave=False, batch_size=None, batching_strategy=None):
        for sample in self.samples:
            yield sample
            sample.saved = autosave


def test_samples_get_detections_with_masks(monkeypatch, tmp_path):
    stand_in = types.ModuleType("fiftyone")
    stand_in.Detection, stand_in.Detections = Detection, Detections
    monkeypatch.setitem(sys.modules, "fiftyone", stand_in)
    path = Path(__file__).parents[2] / "examples" / "fiftyone_predictions.py"
    specification = importlib.util.spec_from_file_location("fiftyone_predictions", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)

    Image.fromarray(draw_objects(64, 64, OBJECTS)).save(tmp_path / "a.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "empty.png")
    dataset = Dataset([Sample(str(tmp_path / name)) for name in ("a.png", "empty.png")])
    predictor = Predictor(GrayModel(), gray_config(64))
    module.add_predictions(dataset, predictor)
    assert all(sample.saved for sample in dataset.samples)
    found, none = (sample["predictions"].detections for sample in dataset.samples)
    assert none == []
    expected = predictor.predict(str(tmp_path / "a.png"))
    assert [one.label for one in found] == expected.names
    assert [one.confidence for one in found] == pytest.approx(expected.scores.tolist())
    for one, mask in zip(found, expected.masks, strict=True):
        left, top, width, height = (round(64 * value) for value in one.bounding_box)
        np.testing.assert_array_equal(one.mask, mask[top : top + height, left : left + width])
        assert one.mask.sum() == mask.sum()
