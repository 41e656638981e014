"""The clock of `fit`."""

import keras
import numpy as np
import pytest
from tqdm import tqdm

from maskrcnn.benchmark.step_clock import StepClock


@pytest.mark.parametrize("ahead", [0, 2])
def test_clock_times_each_step_after_the_warm_up(ahead, monkeypatch):
    """Also when the host runs ahead of the device, as on an accelerator."""
    monkeypatch.setattr("maskrcnn.benchmark.step_clock.device_name", lambda: "cpu" if ahead == 0 else "an accelerator")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    began = []
    with tqdm(total=7, disable=True) as progress:
        clock = StepClock(model, 2, lambda: began.append(len(clock.ended)), progress)
        batches = ((np.ones((2, 3)), np.ones((2, 1))) for _ in range(100))
        history = model.fit(batches, steps_per_epoch=7, epochs=1, callbacks=clock, shuffle=False, verbose=0)
    assert began == [2]  # both steps of the warm-up were finished, and no other was begun
    assert len(clock.ended) == 7
    assert len(clock.seconds) == 5
    assert clock.ended == sorted(clock.ended)
    assert sum(clock.seconds) == pytest.approx(clock.ended[-1] - clock.ended[1])
    assert clock.first_step > 0
    assert list(history.history) == ["loss"]
