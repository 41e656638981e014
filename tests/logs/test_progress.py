"""Readings between two steps, worked out by hand, and the progress bar."""

import logging

import pytest

from maskrcnn.logs.progress import ProgressBar, SpeedMeter


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr("maskrcnn.logs.progress.time.perf_counter", lambda: now[0])
    return now


def test_readings_are_of_the_steps_since_the_last_one(clock):
    """Losses of 5, 3, 10 and 2, of which Keras gives the running means."""
    waited = [3.0]  # before
    meter = SpeedMeter(2, lambda: waited[0])
    meter.start_epoch()
    clock[0], waited[0] = 2.0, 3.5
    meter.step()
    meter.step()
    first = meter.read({"loss": 4.0})
    clock[0] = 6.0
    meter.step()
    meter.step()
    assert meter.seconds == 4.0
    second = meter.read({"loss": 5.0})
    assert first.losses == {"loss": pytest.approx(4.0)}  # (5 + 3) / 2
    assert second.losses == {"loss": pytest.approx(6.0)}  # (10 + 2) / 2, and not the mean of 5
    assert (first.images_per_second, second.images_per_second) == (2.0, 1.0)  # 4 images in 2 s, and in 4 s
    assert (first.data_wait, second.data_wait) == (0.25, 0.0)


def test_an_epoch_begins_anew(clock):
    meter = SpeedMeter(2, lambda: 0.0)
    for mean in (8.0, 1.0):
        meter.start_epoch()
        clock[0] += 1.0
        meter.step()
        assert meter.read({"loss": mean}).losses == {"loss": mean}


def test_progress_bar_shows_a_step_and_messages_above_it(capsys):
    handler, root = logging.StreamHandler(), logging.getLogger()
    root.addHandler(handler)
    with ProgressBar(8, 3) as bar:
        bar.show(4, "epoch 1/2", {"loss": "0.500"})
        root.warning("a message")
    root.removeHandler(handler)
    output = capsys.readouterr().err
    assert "3/8" in output.split("\r")[1]
    assert "a message\n" in output
    line = output.split("\r")[-1]
    for part in ("epoch 1/2", "4/8", "loss=0.500"):
        assert part in line
