"""Pixels and C2..C5 equal those of the Keras model."""

import keras
import numpy as np
import pytest

from maskrcnn.config import ImageConfig
from maskrcnn.export.backbone import normalize, resnet
from maskrcnn.export.folding import FoldedWeights
from maskrcnn.model.mask_rcnn import normalize as normalize_in_keras

pytestmark = pytest.mark.slow_under_jax  # compiles the live model; tests/inference/test_exported.py remains


@pytest.mark.parametrize("bgr", [False, True])
def test_pixels_are_normalized_inside_the_image_and_zero_outside(run_graph, bgr):
    config = ImageConfig(bgr=bgr)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 10, 3), np.uint8)
    image_sizes = np.array([[8, 10], [5, 7], [0, 0]], np.float32)
    actual = run_graph(
        lambda graph, images, image_sizes: [normalize(graph, images, image_sizes, config)],
        images=images,
        image_sizes=image_sizes,
    )[0]
    expected = keras.ops.convert_to_numpy(normalize_in_keras(images, image_sizes, config))
    np.testing.assert_allclose(actual.transpose(0, 2, 3, 1), expected, atol=1e-5)
    assert not actual[2].any()


@pytest.mark.parametrize(("depth", "stride_in_1x1"), [(18, False), (34, False), (50, False), (50, True), (101, False)])
def test_features_equal_those_of_the_keras_backbone(run_graph, config, make_model, weights_of, depth, stride_in_1x1):
    config = config.override({"backbone.depth": depth, "backbone.stride_in_1x1": stride_in_1x1})
    model = make_model(config)
    weights = FoldedWeights(weights_of(model), config.model.norm.epsilon)
    images = np.random.default_rng(0).standard_normal((1, 64, 96, 3)).astype(np.float32)
    actual = run_graph(
        lambda graph, images: resnet(graph, weights, images, config.model.backbone), images=images.transpose(0, 3, 1, 2)
    )
    for mine, expected in zip(actual, model.resnet(images), strict=True):
        expected = np.asarray(expected)
        np.testing.assert_allclose(mine.transpose(0, 2, 3, 1), expected, atol=1e-4 * expected.std())
    assert not [name for name in weights.unread() if name.startswith("resnet")]
