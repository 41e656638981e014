"""Callbacks of a run: the log, stops, evaluations and checkpoints."""

import json
import math
import os
import signal

import numpy as np
import pytest

from maskrcnn.errors import UserError
from maskrcnn.logs.dllogger import DLLLog, LogOptions
from maskrcnn.logs.history import read_history
from maskrcnn.runtime.distribution import Devices
from maskrcnn.training.callbacks import CountSteps, EvaluateEpochs, SaveCheckpoints, StopOnNonFinite
from maskrcnn.training.checkpoint import CheckpointWriter, list_checkpoints, restore_latest
from maskrcnn.training.log import WriteLog
from maskrcnn.training.plan import Plan, State
from maskrcnn.training.signals import Interruption


def make_plan(epochs=2, steps_per_epoch=4):
    return Plan(epochs, steps_per_epoch, batch_size=2, schedule=lambda step: step / 10)


@pytest.fixture
def model(micro, stand_in):
    model = stand_in(micro)
    model.compile("sgd")
    return model


@pytest.fixture
def writer(tmp_path):
    writer = CheckpointWriter(tmp_path / "checkpoints", keep=9)
    yield writer
    writer.close()


def end_step(state, callback, batch=0, logs=None):
    CountSteps(state).on_train_batch_end(batch)
    callback.on_train_batch_end(batch, logs)


class Scalars:
    def __init__(self):
        self.values = []

    def write(self, step, values):
        self.values.append((step, dict(values)))

    def close(self):
        self.values.append("closed")


def test_log_entries_every_n_steps_and_at_the_end_of_an_epoch(tmp_path, monkeypatch):
    """A run that resumed after one of four steps, with losses of 1, 3 and 8."""
    clock, state, scalars = [0.0], State(1, data_seed=5), Scalars()
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    options = LogOptions(every=3, warmup_steps=1)
    log = WriteLog(make_plan(), state, options, lambda: 0.0, DLLLog(tmp_path / "log"), [scalars])
    log.on_epoch_begin(0)
    for batch, mean in enumerate([1.0, 2.0, 4.0]):
        clock[0] += 1.0
        end_step(state, log, batch, {"loss": mean})
    log.on_epoch_end(0, {"loss": 4.0})
    log.write_metrics(1, {"bbox_AP": 0.5})
    assert log.speed()["train_throughput"] == 2.0
    log.close()
    first, second, evaluation = read_history(tmp_path / "log")
    assert (first["step"], second["step"], evaluation["step"]) == (3, 4, 4)
    assert (first["loss"], second["loss"]) == (2.0, 8.0)
    assert first["learning_rate"] == 0.2  # of the third step, whose number is 2
    assert first["train_throughput"] == 2.0
    assert [value[0] for value in scalars.values[:-1]] == [3, 4, 4]
    assert scalars.values[-2:] == [(4, {"bbox_AP": 0.5}), "closed"]


def test_non_finite_loss_is_named_with_its_step_and_images(model, writer):
    state = State(4, data_seed=5)
    callback = StopOnNonFinite(state, writer.directory, lambda step: [10 * step, 7], Devices())
    callback.set_model(model)
    end_step(state, callback, 0, {"loss": 1.0, "box_loss": 1.0})
    with pytest.raises(UserError, match=r"step 6 with the images 50, 7: box_loss is not finite.*not-finite-00000006"):
        end_step(state, callback, 1, {"loss": math.nan, "box_loss": math.inf, "mask_loss": 1.0})
    with np.load(writer.directory / "not-finite-00000006.npz") as saved:
        assert json.loads(str(saved["state"]))["image_ids"] == [50, 7]
        assert any(np.array_equal(saved[name], model.get_weights()[0]) for name in saved.files)
    assert restore_latest(model, writer.directory) is None  # no run resumes from it


class Evaluations:
    """Stands for the evaluator."""

    def __init__(self, *evaluated):
        self.epochs = list(evaluated)

    def evaluate(self, epoch):
        self.epochs.append(epoch)

    def evaluated_epochs(self):
        return set(self.epochs)


@pytest.mark.parametrize(("every", "expected"), [(0, []), (1, [1, 2, 3]), (2, [2])])
def test_evaluation_every_n_epochs_but_not_after_the_last(every, expected):
    evaluations = Evaluations()
    state = State(0, data_seed=5)
    callback = EvaluateEpochs(make_plan(epochs=4), state, evaluations, every=every, patience=0)
    callback.on_train_begin()
    for epoch in range(4):
        state.step += 4
        callback.on_epoch_end(epoch)
    assert evaluations.epochs == expected


def test_no_evaluation_after_an_epoch_that_was_cut_short():
    evaluations = Evaluations()
    EvaluateEpochs(make_plan(), State(3, data_seed=5), evaluations, every=1, patience=0).on_epoch_end(0)
    assert evaluations.epochs == []


@pytest.mark.parametrize(("since_best", "stops"), [(1, False), (2, True)])
def test_patience_stops_after_evaluations_without_a_better_one(model, since_best, stops):
    evaluations = Evaluations()
    evaluations.evaluations_since_best = lambda: since_best
    callback = EvaluateEpochs(make_plan(), State(4, data_seed=5), evaluations, every=1, patience=2)
    callback.set_model(model)
    model.stop_training = False
    callback.on_epoch_end(0)
    assert model.stop_training is stops


@pytest.mark.parametrize(
    ("step", "evaluated", "expected"), [(4, [], [1]), (4, [1], [1]), (5, [], []), (8, [1], [1]), (0, [], [])]
)
def test_an_evaluation_that_was_missed_is_made_up_for(step, evaluated, expected):
    """Two epochs of four steps; the last evaluation is the end of the run's."""
    evaluations = Evaluations(*evaluated)
    EvaluateEpochs(make_plan(), State(step, data_seed=5), evaluations, every=1, patience=0).on_train_begin()
    assert evaluations.epochs == expected


@pytest.fixture
def handler():
    """Python's default handler of Ctrl-C, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def make_callback(model, writer, interruption, every=0):
    state = State(0, data_seed=5)
    callback = SaveCheckpoints(make_plan(), state, writer, every, interruption, Devices())
    callback.set_model(model)
    return state, callback


def names(writer):
    writer.wait()
    return [path.name for path in list_checkpoints(writer.directory)]


def test_interrupt_saves_at_the_end_of_the_step(model, writer, handler):
    with Interruption() as interruption:
        state, callback = make_callback(model, writer, interruption)
        end_step(state, callback, 0)
        os.kill(os.getpid(), signal.SIGINT)  # in the middle of the second step
        assert not names(writer)
        with pytest.raises(KeyboardInterrupt):
            end_step(state, callback, 1)
        with pytest.raises(KeyboardInterrupt):  # a second one does not wait
            os.kill(os.getpid(), signal.SIGINT)
    assert names(writer) == ["step-00000002.npz"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_interrupt_in_the_last_step_of_an_epoch_waits_for_the_end_of_the_epoch(model, writer, handler):
    with Interruption() as interruption:
        state, callback = make_callback(model, writer, interruption)
        for batch in range(3):
            end_step(state, callback, batch)
        os.kill(os.getpid(), signal.SIGINT)
        end_step(state, callback, 3)
        assert not names(writer)  # the log has no summary of the epoch yet
        with pytest.raises(KeyboardInterrupt):
            callback.on_epoch_end(0)
    assert names(writer) == ["step-00000004.npz"]


def test_every_n_steps_and_at_the_end_of_the_epoch(model, writer):
    state, callback = make_callback(model, writer, Interruption(), every=3)
    for batch in range(4):
        end_step(state, callback, batch)
    callback.on_epoch_end(0)
    assert names(writer) == ["step-00000003.npz", "step-00000004.npz"]
    assert restore_latest(model, writer.directory) == State(4, data_seed=5)


def test_weights_that_are_not_finite_are_not_saved(model, writer):
    _, callback = make_callback(model, writer, Interruption())
    model.trainable_variables[0].assign(np.full((3, 1), np.nan))
    with pytest.raises(UserError, match=r"step 0: after the update .*kernel is not finite"):
        callback.on_epoch_end(0)
    assert not names(writer)


def test_a_tracker_that_fails_is_given_up(tmp_path, caplog):
    class Lost(Scalars):
        def write(self, step, values):
            raise ConnectionError("no route")

    kept = Scalars()
    log = WriteLog(make_plan(), State(1, 5), LogOptions(), lambda: 0.0, DLLLog(tmp_path / "log"), [Lost(), kept])
    for _ in range(2):
        log.write_metrics(1, {"bbox_AP": 0.5})
    log.close()
    assert kept.values == [*[(4, {"bbox_AP": 0.5})] * 2, "closed"]
    assert caplog.messages == ["Lost is given up: no route"]
