"""Winograd's convolution is the plain one."""

import numpy as np
import pytest
from keras import ops

from maskrcnn.ops.fast import winograd
from maskrcnn.ops.fast.winograd import convolve3x3

# Maps, height, width, and tiles of a strip: a map of one tile, one in one strip, some rows of tiles in each strip (the
# last one is not full), more columns than a strip should have tiles, several maps in each strip, and all maps in one.
SIZES = [(1, 3, 2, 8), (1, 8, 12, 64), (2, 18, 9, 6), (1, 9, 21, 2), (5, 6, 7, 8), (3, 5, 4, 100)]
CHANNELS, FILTERS = 3, 4


def convolve_naively(inputs, kernel):
    """Sums of products in float64."""
    padded = np.pad(inputs.astype("float64"), ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = inputs.shape[1:3]
    return sum(
        padded[:, row : row + height, column : column + width] @ kernel[row, column].astype("float64")
        for row in range(3)
        for column in range(3)
    )


@pytest.fixture(params=SIZES, ids=lambda size: "x".join(map(str, size)))
def problem(request, rng, monkeypatch):
    """Maps, a kernel, and the gradient of the outputs."""
    *sizes, strip = request.param
    monkeypatch.setattr(winograd, "STRIP", strip)
    shapes = (*sizes, CHANNELS), (3, 3, CHANNELS, FILTERS), (*sizes, FILTERS)
    return tuple(rng.normal(size=shape).astype("float32") for shape in shapes)


def test_outputs_are_sums_of_products(run, problem):
    inputs, kernel, _ = problem
    np.testing.assert_allclose(run(convolve3x3, inputs, kernel), convolve_naively(inputs, kernel), atol=2e-5)


def test_sizes_may_be_unknown_when_traced(run_unknown_sizes, problem):
    inputs, kernel, _ = problem
    outputs = run_unknown_sizes(lambda maps: convolve3x3(maps, kernel), inputs)
    np.testing.assert_allclose(outputs, convolve_naively(inputs, kernel), atol=2e-5)


def test_gradient_of_the_inputs(gradient, problem):
    inputs, kernel, upstream = problem
    slope = gradient(lambda maps: ops.sum(convolve3x3(maps, kernel) * upstream), inputs)
    expected = convolve_naively(upstream, kernel[::-1, ::-1].transpose(0, 1, 3, 2))
    np.testing.assert_allclose(slope, expected, atol=2e-5)


def test_gradient_of_the_kernel(gradient, problem):
    inputs, kernel, upstream = problem
    slope = gradient(lambda k: ops.sum(convolve3x3(inputs, k) * upstream), kernel)
    padded = np.pad(inputs.astype("float64"), ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = inputs.shape[1:3]
    for row in range(3):
        for column in range(3):
            part = padded[:, row : row + height, column : column + width]
            expected = np.einsum("bhwc,bhwd->cd", part, upstream)
            np.testing.assert_allclose(slope[row, column], expected, atol=1e-4)


def test_rounding_is_near_a_plain_convolutions(compute, rng):
    """Lavin's points, 0, +-1, +-2, would be at 6e-5 here, far above."""
    inputs = rng.normal(size=(1, 12, 12, 256)).astype("float32")
    kernel = (rng.normal(size=(3, 3, 256, 8)) / 48).astype("float32")  # outputs of variance 1
    error = np.abs(compute(convolve3x3, inputs, kernel) - convolve_naively(inputs, kernel)).max()
    assert error < 1.5e-5
