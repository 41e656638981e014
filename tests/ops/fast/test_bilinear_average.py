"""Averages and their hand-written gradient against sums over all pairs of samples; see also test_roi_align.py."""

import numpy as np
import pytest
from keras import ops

from maskrcnn.ops.fast.bilinear_average import BilinearSamples, average

IMAGES, ROWS, COLUMNS, CHANNELS, BOXES, BINS, SAMPLES = 2, 4, 5, 3, 3, 2, 4


@pytest.fixture
def problem(rng):
    """A table of 4 x 5 locations, samples of rows and columns, and the gradient of the outputs."""
    shape = (SAMPLES, IMAGES, BOXES, BINS)
    rows = BilinearSamples(COLUMNS * rng.integers(0, ROWS, shape).astype("int32"), rng.random(shape, "float32"))
    columns = BilinearSamples(rng.integers(0, COLUMNS, shape).astype("int32"), rng.random(shape, "float32"))
    table = rng.normal(size=(IMAGES, ROWS * COLUMNS, CHANNELS)).astype("float32")
    upstream = rng.normal(size=(IMAGES, BOXES, BINS, BINS, CHANNELS)).astype("float32")
    return table, rows, columns, upstream


def terms(rows, columns):
    """Index of a bin, the location that it reads, and its weight, for all pairs of samples."""
    for image, box, y, x, i, j in np.ndindex(IMAGES, BOXES, BINS, BINS, SAMPLES, SAMPLES):
        row, column = (i, image, box, y), (j, image, box, x)
        location = rows.locations[row] + columns.locations[column]
        yield (image, box, y, x), (image, location), rows.weights[row] * columns.weights[column]


def test_outputs_are_weighted_sums(run, problem):
    table, rows, columns, upstream = problem
    expected = np.zeros_like(upstream)
    for bin, location, weight in terms(rows, columns):
        expected[bin] += weight * table[location]
    actual = run(lambda t, *s: average(t, BilinearSamples(*s[:2]), BilinearSamples(*s[2:])), table, *rows, *columns)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_gradient_is_spread_over_the_locations_read(gradient, problem):
    table, rows, columns, upstream = problem
    expected = np.zeros_like(table)
    for bin, location, weight in terms(rows, columns):
        expected[location] += weight * upstream[bin]
    rows, columns = (BilinearSamples(*map(ops.convert_to_tensor, samples)) for samples in (rows, columns))
    slope = gradient(lambda t: ops.sum(average(t, rows, columns) * upstream), table)
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-5)
