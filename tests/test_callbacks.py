"""Reports between two steps, worked out by hand; stops; interrupts."""

import math
import os
import signal

import pytest

from maskrcnn.callbacks import EvaluateEpochs, Log, Plan, ProgressBar, SaveCheckpoints, StopOnNonFinite
from maskrcnn.checkpoint import list_checkpoints
from maskrcnn.dlll import DLLLog
from maskrcnn.errors import UserError
from maskrcnn.history import read_history


def make_plan(first_step=0, epochs=2, steps_per_epoch=4):
    return Plan(epochs, steps_per_epoch, batch_size=2, first_step=first_step, schedule=lambda step: step / 10)


@pytest.fixture
def clock(monkeypatch):
    """Every look at the clock takes nothing; the test moves it."""
    now = [0.0]
    monkeypatch.setattr("maskrcnn.callbacks.time.perf_counter", lambda: now[0])
    return now


class Scalars:
    def __init__(self):
        self.values = []

    def add_scalar(self, tag, data, step):
        self.values.append((tag, data, step))

    def close(self):
        pass


def run_epoch(callbacks, clock, losses, epoch=0, seconds=1.0):
    """Plays an epoch as `fit` does, with the losses' means so far."""
    for callback in callbacks:
        callback.on_epoch_begin(epoch)
    for number in range(len(losses)):
        clock[0] += seconds
        for callback in callbacks:
            callback.on_train_batch_end(number, {"loss": sum(losses[: number + 1]) / (number + 1)})


def test_log_reports_means_since_the_last_report(tmp_path, clock):
    waited = [0.0]
    scalars = Scalars()
    log = Log(make_plan(), lambda: waited[0], file=DLLLog(tmp_path / "log"), every=2, warmup_steps=1, writer=scalars)
    waited[0] = 0.5  # of the first report's 2 s
    run_epoch([log], clock, [5.0, 3.0, 10.0, 2.0])
    log.evaluation(1, {"bbox_AP": 0.5})
    first, second, evaluation = read_history(tmp_path / "log")
    assert (first["epoch"], first["step"], second["step"]) == (1, 2, 4)
    assert first["loss"] == pytest.approx(4.0)  # (5 + 3) / 2
    assert second["loss"] == pytest.approx(6.0)  # (10 + 2) / 2, and not the epoch's mean of 5
    assert first["learning_rate"] == pytest.approx(0.1)  # of the second step, whose number is 1
    assert first["train_throughput"] == pytest.approx(2.0)  # 4 images in 2 s
    assert second["data_wait"] == 0.0
    assert evaluation["bbox_AP"] == 0.5
    assert ("loss", pytest.approx(6.0), 4) in scalars.values
    assert ("bbox_AP", 0.5, 4) in scalars.values
    assert log.speed()["train_throughput"] == pytest.approx(2.0)
    log.close()


def test_data_wait_is_a_part_of_the_time(tmp_path, clock):
    waited = [3.0]  # before
    log = Log(make_plan(), lambda: waited[0], file=DLLLog(tmp_path / "log"), every=4, warmup_steps=100)
    log.on_epoch_begin(0)
    for step in range(4):
        clock[0] += 1.0
        waited[0] += 0.25
        log.on_train_batch_end(step, {"loss": 1.0})
    log.close()
    assert read_history(tmp_path / "log")[0]["data_wait"] == pytest.approx(0.25)
    assert log.speed() == {}  # four steps, all of the warm-up


def test_resumed_run_counts_on(tmp_path, clock):
    """Two of four steps of the second epoch were done before; Keras counts the rest from 0."""
    log = Log(make_plan(first_step=6), lambda: 0.0, file=DLLLog(tmp_path / "log"), every=1, warmup_steps=0)
    run_epoch([log], clock, [1.0, 3.0], epoch=1)
    log.close()
    text = (tmp_path / "log").read_text()
    assert '"step": [2, 3]' in text
    assert '"step": [2, 4]' in text
    assert [entry["loss"] for entry in read_history(tmp_path / "log")] == [1.0, pytest.approx(3.0)]


def test_progress_bar_shows_the_run(clock, capsys):
    bar = ProgressBar(make_plan(epochs=1), lambda: 0.0)
    run_epoch([bar], clock, [1.0, 2.0, 3.0, 4.0])
    bar.close()
    line = capsys.readouterr().err.split("\r")[-1]
    for part in ("epoch 1/1", "4/4", "loss=4.000", "lr=0.3", "img/s=2.00", "data wait=0%"):
        assert part in line


def test_non_finite_loss_is_named_with_its_step():
    callback = StopOnNonFinite(make_plan(first_step=4))
    callback.on_train_batch_end(0, {"loss": 1.0, "box_loss": 1.0})
    with pytest.raises(UserError, match=r"step 6: box_loss is not finite"):
        callback.on_train_batch_end(1, {"loss": math.nan, "box_loss": math.inf, "mask_loss": 1.0})


@pytest.mark.parametrize(("every", "expected"), [(0, []), (1, [1, 2, 3]), (2, [2])])
def test_evaluation_every_so_many_epochs_but_not_after_the_last(every, expected):
    epochs = []
    callback = EvaluateEpochs(make_plan(epochs=4), every, epochs.append)
    for epoch in range(4):
        callback.on_epoch_end(epoch)
    assert epochs == expected


@pytest.fixture
def handler():
    """Ctrl-C as Python has it, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_interrupt_saves_at_the_end_of_the_step(tmp_path, micro, stand_in, handler):
    model = stand_in(micro)
    model.compile("sgd")
    with SaveCheckpoints(make_plan(), tmp_path, data_seed=0) as callback:
        callback.set_model(model)
        callback.on_train_batch_end(0)
        os.kill(os.getpid(), signal.SIGINT)  # in the middle of the second step
        assert not list_checkpoints(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            callback.on_train_batch_end(1)
        with pytest.raises(KeyboardInterrupt):  # a second one does not wait
            os.kill(os.getpid(), signal.SIGINT)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000002.npz"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_ignored_signals_stay_ignored(tmp_path, handler):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with SaveCheckpoints(make_plan(), tmp_path, data_seed=0) as callback:
        os.kill(os.getpid(), signal.SIGINT)
        assert not callback.interrupted
