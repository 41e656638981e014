"""TensorFlow's SavedModel: written from both backends, read without Keras, with a signature for encoded images."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

import maskrcnn
from maskrcnn.config import Category, Config
from maskrcnn.errors import UserError
from maskrcnn.export.options import ExportOptions
from maskrcnn.export.run import export_model
from maskrcnn.inference.predictor import Predictor
from tests.conftest import MICRO

pytestmark = pytest.mark.slow_under_jax  # TensorFlow starts in another process


@pytest.fixture(scope="module")
def source(make_model):
    config = Config.tiny().override(MICRO)
    config = dataclasses.replace(config, categories=(Category(1, 10, "cat"), Category(2, 25, "dog")))
    return make_model(config), config


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "saved_model"
    out.mkdir()
    (out / "old").touch()
    return export_model(source, out, ExportOptions("saved_model", batch=None)).path


@pytest.fixture(scope="module")
def predictor(folder):
    return maskrcnn.load(folder)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_it_replaces_an_earlier_folder_and_predicts_what_the_model_predicts(folder, predictor, photo, source):
    assert sorted(path.name for path in folder.parent.iterdir()) == ["saved_model"]
    assert not (folder / "old").exists()
    assert b"_XlaMustCompile" not in (folder / "saved_model.pb").read_bytes()
    found, expected = predictor.predict(photo), Predictor(*source).predict(photo)
    assert found.names == expected.names
    assert len(found) > 0
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_an_image_without_objects_gives_padding(predictor):
    batch = {"images": np.zeros((1, 64, 64, 3), np.uint8), "image_sizes": np.zeros((1, 2))}
    assert not any(values.any() for values in predictor.model.predict_on_batch(batch).values())


def test_encoded_images_are_resized_as_the_predictor_does(folder, predictor, photo):
    import tensorflow as tf

    encoded = tf.saved_model.load(str(folder)).signatures["encoded"]
    for size in ((90, 50), (50, 90), (700, 40)):
        image = Image.open(photo).resize(size)
        image.save(file := io.BytesIO(), "PNG")
        outputs, expected = encoded(encoded=tf.constant(file.getvalue())), predictor.predict(image)
        valid = outputs["valid"].numpy()
        assert outputs["image_size"].numpy().tolist() == [size[1], size[0]]
        np.testing.assert_allclose(outputs["scores"].numpy()[valid], expected.scores, atol=1e-5)
        limits = np.array(size * 2, np.float32)
        np.testing.assert_allclose(np.clip(outputs["boxes"].numpy()[valid], 0, limits), expected.boxes, atol=1e-2)


@pytest.mark.slow  # a second whole export; the backbone alone is in test_keras_backbone
def test_a_backbone_of_keras_is_exported(make_model, tmp_path):
    config = Config.tiny().override({**MICRO, "backbone.name": "MobileNetV3Small"})
    config = dataclasses.replace(config, categories=(Category(1, 10, "cat"), Category(2, 25, "dog")))
    exported = export_model((make_model(config), config), tmp_path / "saved_model", ExportOptions("saved_model"))
    assert max(row.detections for row in exported.differences) > 0


def test_other_and_damaged_folders_are_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"something else")
    with pytest.raises(UserError, match="not written by `maskrcnn export`, or damaged"):
        maskrcnn.load(tmp_path)
    with pytest.raises(
        UserError, match="int8 is not available for the format saved_model; choose one of onnx, openvino"
    ):
        ExportOptions("saved_model", int8=tmp_path)
