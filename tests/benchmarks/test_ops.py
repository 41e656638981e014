"""Each operation that is timed runs, at tiny sizes."""

import keras
import pytest

from benchmarks.op_cases import CASES, Sizes
from benchmarks.ops import compile_function


@pytest.mark.parametrize("name", ["match 279,552 anchors, sample 256", "roi_align 128 x 14x14 backward"])
def test_operation_runs_compiled(name):
    function, arguments = CASES[name](Sizes(1, height=64, width=96, channels=4, divisor=100))
    results = compile_function(function, keras.backend.backend())(*arguments)
    assert len(results) == (2 if name.startswith("match") else 4)
