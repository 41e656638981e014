"""Backbones of Keras' layers in a graph give what Keras gives."""

import keras
import numpy as np
import pytest

from maskrcnn.config import Config
from maskrcnn.errors import UserError
from maskrcnn.export.keras_backbone import backbone_writer
from maskrcnn.export.options import ExportOptions
from maskrcnn.export.run import export_model
from maskrcnn.model.backbones import build_backbone
from tests.export.conftest import channels_first

pytestmark = pytest.mark.slow_under_jax
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    [
        "MobileNetV3Small",
        "EfficientNetB0",
        *[
            pytest.param(name, marks=SLOW)
            for name in (
                "DenseNet121",
                "EfficientNetV2B0",
                "MobileNet",
                "MobileNetV2",
                "ResNet50V2",
                "ResNet50",
                "VGG16",
            )
        ],
    ],
)
def test_families_of_keras_applications(run_graph, name):
    model = build_backbone(Config().override({"backbone.name": name}).model)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("moving_mean", "moving_variance", "gamma", "beta")):
            variable.assign(np.abs(1 + 0.2 * rng.standard_normal(variable.shape)))
    images = rng.standard_normal((2, 64, 96, 3)).astype(np.float32)
    expected = [channels_first(value) for value in model(images, training=False)]
    actual = run_graph(lambda graph, images: backbone_writer(model)(graph, images), images=channels_first(images))
    assert [value.shape[2:] for value in actual] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    for mine, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4 * np.abs(theirs).max())


def test_a_whole_model_equals_the_live_one(config, make_model, tmp_path):
    config = config.override({"backbone.name": "MobileNetV3Small"})
    exported = export_model((make_model(config), config), tmp_path / "model.onnx", ExportOptions(size=(64, 96)))
    assert max(row.detections for row in exported.differences) > 5


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (keras.layers.LayerNormalization(name="norm"), "layer norm is a LayerNormalization of a kind"),
        (keras.layers.ReLU(negative_slope=0.1, name="leaky"), "layer leaky is a ReLU of a kind"),
        (keras.layers.Activation("gelu", name="act"), "layer act has the activation gelu"),
    ],
)
def test_other_layers_are_named_with_the_remedy(run_graph, layer, message):
    images = keras.Input((None, None, 3))
    model = keras.Model(images, [layer(images)])
    with pytest.raises(UserError, match=f"{message}.*, which only the formats litert and saved_model take"):
        run_graph(backbone_writer(model), images=np.zeros((1, 3, 8, 8), np.float32))
