"""Statistics of step times."""

import pytest

from maskrcnn.benchmark.record import summarize

pytestmark = pytest.mark.no_backend


def test_true_percentiles_not_bounds_on_the_mean():
    seconds = [1.0] * 90 + [10.0] * 10
    found = summarize(seconds)
    assert found["mean"] == pytest.approx(1.9)
    assert found["50%"] == 1.0
    assert found["95%"] == found["99%"] == 10.0
    assert summarize([]) == {}
