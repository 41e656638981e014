"""Backbones of keras.applications: strides, preprocessing, frozen parts, and saving."""

import dataclasses
import importlib

import keras
import numpy as np
import pytest
from keras import ops

from maskrcnn.config import Category, Config
from maskrcnn.errors import UserError
from maskrcnn.model import MaskRCNN
from maskrcnn.model.backbones import PREPROCESSING, _preprocess, build_backbone, load_imagenet
from maskrcnn.model.mask_rcnn import normalize
from maskrcnn.weights.model_folder import load_model, save_model
from maskrcnn.weights.transfer import load_backbone


def config_of(name: str, **settings) -> Config:
    return Config.tiny().override({"backbone.name": name, **settings})


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("name", "channels"),
    [("MobileNetV2", [24, 32, 96, 160]), ("ResNet50", [256, 512, 1024, 2048]), ("ConvNeXtTiny", [96, 192, 384, 768])],
)
def test_outputs_have_the_strides_of_c2_to_c5(name, channels):
    backbone = build_backbone(config_of(name).model)
    shapes = backbone.compute_output_shape((1, 64, 96, 3))
    assert [tuple(shape) for shape in shapes] == [
        (1, 64 // stride, 96 // stride, number) for stride, number in zip((4, 8, 16, 32), channels, strict=True)
    ]


@pytest.mark.parametrize("family", PREPROCESSING)
def test_preprocessing_is_that_of_the_family(family):
    image = np.random.default_rng(0).uniform(0, 255, (1, 4, 5, 3)).astype(np.float32)
    expected = importlib.import_module(f"keras.applications.{family}").preprocess_input(image.copy())
    actual = ops.convert_to_numpy(_preprocess(ops.convert_to_tensor(image), PREPROCESSING[family]))
    np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.slow_under_jax
def test_the_models_normalization_is_undone():
    config = config_of("MobileNetV2").model
    backbone = build_backbone(config)
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    actual = backbone(normalize(image, np.array([[32.0, 32.0]]), config.image))
    expected = backbone.get_layer("features")(image / 127.5 - 1)
    for level, values in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(level), ops.convert_to_numpy(values), atol=1e-3)


def test_frozen_parts():
    def trainable(**settings) -> set[str]:
        backbone = build_backbone(config_of("MobileNetV2", **settings).model)
        return {variable.path.partition("/")[0] for variable in backbone.trainable_variables}

    everything = trainable(**{"backbone.freeze_at": 0, "norm.train": True})
    assert {"Conv1", "bn_Conv1", "block_2_project", "block_3_expand", "block_15_project_BN"} <= everything
    partly = trainable(**{"backbone.freeze_at": 2, "norm.train": False})
    assert {"block_3_expand", "block_15_project"} <= partly
    assert not {"Conv1", "block_2_project", "block_15_project_BN"} & partly


def test_a_model_is_saved_and_loaded_like_any_other(micro, tmp_path):
    config = dataclasses.replace(micro.override({"backbone.name": "MobileNetV2"}), categories=(Category(1, 1, "a"),))
    model = MaskRCNN(config)
    save_model(model, config, tmp_path)
    copy, saved = load_model(tmp_path)
    assert saved == config
    for value, expected in zip(copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)
    other = MaskRCNN(config)
    load_backbone(other, tmp_path)
    np.testing.assert_array_equal(other.resnet.get_weights()[0], model.resnet.get_weights()[0])


def test_imagenet_weights_are_copied_or_named(micro, tmp_path, monkeypatch):
    source = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(224, 224, 3))
    source.save_weights(tmp_path / "mobilenet.weights.h5")
    module = importlib.import_module(keras.applications.MobileNetV2.__module__)
    monkeypatch.setattr(module.file_utils, "get_file", lambda *_, **__: str(tmp_path / "mobilenet.weights.h5"))
    model = MaskRCNN(micro.override({"backbone.name": "MobileNetV2"}))
    load_backbone(model, "imagenet")
    np.testing.assert_array_equal(model.resnet.get_weights()[0], source.get_weights()[0])

    def fail(*_, **__):
        raise Exception("URL fetch failure on https://storage: [Errno -2] Name or service not known")

    monkeypatch.setattr(module.file_utils, "get_file", fail)
    with pytest.raises(UserError, match=r"ImageNet weights of MobileNetV2: cannot be downloaded \(URL fetch failure"):
        load_imagenet(model.resnet, "MobileNetV2")
    with pytest.raises(UserError, match=r"imagenet is for backbone\.name"):
        load_backbone(MaskRCNN(micro), "imagenet")


def test_unknown_names_and_bgr_are_refused():
    with pytest.raises(UserError, match="no suitable model 'ConvNextTiny'; try ConvNeXtTiny"):
        build_backbone(config_of("ConvNextTiny").model)
    with pytest.raises(UserError, match="takes RGB images"):
        build_backbone(config_of("MobileNetV2", **{"image.bgr": True}).model)
