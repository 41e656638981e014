import keras
import numpy as np
import pytest

from maskrcnn.config import RoIAlignConfig
from maskrcnn.export.roi_align import RoIs, assign_levels, roi_align
from maskrcnn.ops.roi_align import assign_levels as assign_in_keras
from maskrcnn.ops.roi_align import multilevel_roi_align

pytestmark = pytest.mark.slow_under_jax  # compiles the live model; tests/inference/test_exported.py remains

BOXES = np.array(
    [
        [[3, 5, 40, 30], [0, 0, 500, 500], [100, 20, 400, 300], [-20, -20, 60, 700], [0, 0, 0, 0]],
        [[10, 10, 11, 10.5], [0, 0, 224, 224], [0, 0, 112, 112], [0, 0, 448, 448], [600, 600, 700, 700]],
    ],
    np.float32,
)  # all levels, outside the image, no area, and sides at which the level changes


def test_levels_equal_those_of_keras(run_graph):
    rng = np.random.default_rng(0)
    sides = np.concatenate([56.0 * 2.0 ** np.arange(-2, 5), rng.uniform(0, 1000, 500)]).astype(np.float32)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=-1)
    actual = run_graph(lambda graph, boxes: [assign_levels(graph, boxes)], boxes=boxes)[0]
    np.testing.assert_array_equal(actual, keras.ops.convert_to_numpy(assign_in_keras(boxes)))


@pytest.mark.parametrize("config", [RoIAlignConfig(), RoIAlignConfig(aligned=True), RoIAlignConfig(sampling_ratio=1)])
@pytest.mark.parametrize("first", [0, 3])  # from the third box on, some levels have none
def test_features_equal_those_of_keras(run_graph, config, first):
    rng = np.random.default_rng(1)
    boxes = BOXES[:, first:]
    pyramid = [
        rng.standard_normal((2, 512 // 2**level, 512 // 2**level, 3)).astype(np.float32) for level in range(2, 6)
    ]
    expected = multilevel_roi_align(
        pyramid, boxes, output_size=7, sampling_ratio=config.sampling_ratio, aligned=config.aligned
    )

    def build(graph, boxes, **levels):
        images = np.repeat(np.arange(2), boxes_each)
        pooled = roi_align(graph, list(levels.values()), RoIs(boxes, images), 7, config)
        return [pooled.in_order(graph, pooled.features)]

    boxes_each = boxes.shape[1]
    levels = {f"p{level}": np.moveaxis(features, -1, 1).copy() for level, features in enumerate(pyramid, start=2)}
    actual = run_graph(build, boxes=boxes.reshape(-1, 4), **levels)[0]
    actual = np.moveaxis(actual, 1, -1).reshape(expected.shape)
    np.testing.assert_allclose(actual, keras.ops.convert_to_numpy(expected), atol=2e-5)
