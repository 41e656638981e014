import pytest

from maskrcnn.runtime.distribution import Devices
from maskrcnn.training import time_limit
from maskrcnn.training.plan import Plan, State
from maskrcnn.training.time_limit import EstimateDuration, StopAtTimeLimit, format_duration


class Model:
    stop_training = False


@pytest.mark.parametrize(("minutes", "passed", "stops"), [(None, 1e9, False), (2.0, 119, False), (2.0, 120, True)])
def test_training_stops_when_the_time_is_over(monkeypatch, minutes, passed, stops):
    now = [1000.0]
    monkeypatch.setattr(time_limit.time, "monotonic", lambda: now[0])
    callback = StopAtTimeLimit(minutes, Devices())
    model = Model()
    callback.set_model(model)
    now[0] += passed
    callback.on_train_batch_end(0)
    callback.on_epoch_end(0)
    assert model.stop_training is stops


def test_the_estimate_leaves_out_the_first_steps(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(time_limit.time, "perf_counter", lambda: now[0])
    state = State(0, data_seed=1)
    callback = EstimateDuration(Plan(10, 100, 4, lambda step: 0.1), state)
    caplog.set_level("INFO", "maskrcnn")
    for step in range(20):
        now[0] += 60 if step < 2 else 0.5
        state.step += 1
        callback.on_train_batch_end(step)
    (record,) = caplog.records
    assert record.getMessage() == "0.50 s a step: about 8 min for the 988 steps that are left"


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (720, "12 min"), (12600, "3.5 h")])
def test_durations(seconds, text):
    assert format_duration(seconds) == text
