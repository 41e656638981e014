import numpy as np
import pytest

from maskrcnn.export.folding import FoldedWeights
from maskrcnn.export.fpn import fpn

pytestmark = pytest.mark.slow_under_jax  # compiles the live model; tests/inference/test_exported.py remains


@pytest.mark.parametrize("norm", [False, True])
def test_pyramid_equals_that_of_the_keras_layer(run_graph, config, make_model, weights_of, norm):
    config = config.override({"fpn.norm": norm})
    model = make_model(config)
    weights = FoldedWeights(weights_of(model), config.model.norm.epsilon)
    rng = np.random.default_rng(0)
    shapes = [output.shape[-1] for output in model.resnet.outputs]
    features = [  # a canvas of 96x160: P6 is 2x3 of the 3x5 of P5
        rng.standard_normal((2, 96 // 2**level, 160 // 2**level, channels)).astype(np.float32)
        for level, channels in enumerate(shapes, start=2)
    ]
    actual = run_graph(
        lambda graph, **c: fpn(graph, weights, list(c.values())),
        **{f"c{level}": feature.transpose(0, 3, 1, 2) for level, feature in enumerate(features, start=2)},
    )
    assert actual[-1].shape[2:] == (2, 3)
    for mine, expected in zip(actual, model.fpn(features), strict=True):
        np.testing.assert_allclose(mine.transpose(0, 2, 3, 1), np.asarray(expected), atol=1e-5)
