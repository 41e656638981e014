"""Reports between two steps, worked out by hand."""

import pytest

from maskrcnn.logs.dllogger import DLLLog
from maskrcnn.logs.history import read_history
from maskrcnn.training.checkpoint import Reported
from maskrcnn.training.progress import Log, Plan, ProgressBar


def make_plan(first_step=0, epochs=2, steps_per_epoch=4, reported=None):
    return Plan(epochs, steps_per_epoch, 2, first_step, lambda step: step / 10, reported or Reported())


@pytest.fixture
def clock(monkeypatch):
    """Every look at the clock takes nothing; the test moves it."""
    now = [0.0]
    monkeypatch.setattr("maskrcnn.training.progress.time.perf_counter", lambda: now[0])
    return now


class Scalars:
    def __init__(self):
        self.values = []

    def add_scalar(self, tag, data, step):
        self.values.append((tag, data, step))

    def flush(self):
        pass

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
    """Two of four steps of the second epoch were done before, with losses 1 and 3, the first of them reported."""
    plan = make_plan(first_step=6, reported=Reported(1, {"loss": 1.0}))
    log = Log(plan, lambda: 0.0, file=DLLLog(tmp_path / "log"), every=3, warmup_steps=0)
    log.on_epoch_begin(1)
    for batch, mean in enumerate([3.0, 4.0]):  # of the steps' losses 1, 3, 5, 7 so far
        clock[0] += 1.0
        log.on_train_batch_end(batch, {"loss": mean})
    assert log.reported == Reported(4, {"loss": 16.0})
    log.close()
    (report,) = read_history(tmp_path / "log")
    assert (report["epoch"], report["step"]) == (2, 8)
    assert report["loss"] == pytest.approx(5.0)  # of the steps 2 to 4: (3 + 5 + 7) / 3
    assert report["train_throughput"] == pytest.approx(2.0)  # of this run's two steps alone


def test_progress_bar_shows_the_run(clock, capsys):
    bar = ProgressBar(make_plan(epochs=1), lambda: 0.0)
    run_epoch([bar], clock, [1.0, 2.0, 3.0, 4.0])
    bar.close()
    line = capsys.readouterr().err.split("\r")[-1]
    for part in ("epoch 1/1", "4/4", "loss=4.000", "lr=0.3", "img/s=2.00", "data wait=0%"):
        assert part in line
