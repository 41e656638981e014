"""Stops, evaluations and checkpoints while a model trains."""

import json
import math
import os
import signal

import numpy as np
import pytest

from maskrcnn.errors import UserError
from maskrcnn.logs.dllogger import DLLLog
from maskrcnn.runtime.distribution import Devices
from maskrcnn.training.callbacks import EvaluateEpochs, SaveCheckpoints, StopOnNonFinite
from maskrcnn.training.checkpoint import Checkpoint, CheckpointWriter, list_checkpoints, restore_latest
from maskrcnn.training.progress import Log, Plan
from maskrcnn.training.signals import Interruption


def make_plan(first_step=0, epochs=2, steps_per_epoch=4):
    return Plan(epochs, steps_per_epoch, batch_size=2, first_step=first_step, schedule=lambda step: step / 10)


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


def test_non_finite_loss_is_named_with_its_step_and_images(model, writer):
    callback = StopOnNonFinite(make_plan(first_step=4), writer, lambda step: [10 * step, 7], Devices())
    callback.set_model(model)
    callback.on_train_batch_end(0, {"loss": 1.0, "box_loss": 1.0})
    with pytest.raises(UserError, match=r"step 6 with the images 50, 7: box_loss is not finite.*not-finite-00000006"):
        callback.on_train_batch_end(1, {"loss": math.nan, "box_loss": math.inf, "mask_loss": 1.0})
    with np.load(writer.directory / "not-finite-00000006.npz") as saved:
        assert json.loads(str(saved["state"]))["image_ids"] == [50, 7]
        assert any(np.array_equal(saved[name], model.get_weights()[0]) for name in saved.files)
    assert restore_latest(model, writer.directory) is None  # it is nothing to go on from


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


@pytest.fixture
def log(tmp_path):
    log = Log(make_plan(), lambda: 0.0, file=DLLLog(tmp_path / "log"), every=100, warmup_steps=0)
    log.on_epoch_begin(0)
    yield log
    log.close()


def make_callback(model, writer, log, interruption, every=0):
    start = Checkpoint(0, data_seed=5)
    callback = SaveCheckpoints(make_plan(), writer, start, Devices(), every=every, interruption=interruption, log=log)
    callback.set_model(model)
    callback.on_epoch_begin(0)
    return callback


def names(writer):
    writer.wait()
    return [path.name for path in list_checkpoints(writer.directory)]


def test_interrupt_saves_at_the_end_of_the_step(model, writer, log, handler):
    with Interruption() as interruption:
        callback = make_callback(model, writer, log, interruption)
        callback.on_train_batch_end(0)
        os.kill(os.getpid(), signal.SIGINT)  # in the middle of the second step
        assert not names(writer)
        with pytest.raises(KeyboardInterrupt):
            callback.on_train_batch_end(1)
        with pytest.raises(KeyboardInterrupt):  # a second one does not wait
            os.kill(os.getpid(), signal.SIGINT)
    assert names(writer) == ["step-00000002.npz"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_interrupt_in_an_epochs_last_step_waits_for_the_epochs_end(model, writer, log, handler):
    with Interruption() as interruption:
        callback = make_callback(model, writer, log, interruption)
        for batch in range(3):
            callback.on_train_batch_end(batch)
        os.kill(os.getpid(), signal.SIGINT)
        callback.on_train_batch_end(3)
        assert not names(writer)  # the log's summary of the epoch is not there yet
        with pytest.raises(KeyboardInterrupt):
            callback.on_epoch_end(0)
    assert names(writer) == ["step-00000004.npz"]


def test_every_so_many_steps_and_at_the_end_of_the_epoch(model, writer, log):
    callback = make_callback(model, writer, log, Interruption(), every=3)
    for batch in range(4):
        callback.on_train_batch_end(batch)
    callback.on_epoch_end(0)
    assert names(writer) == ["step-00000003.npz", "step-00000004.npz"]
    assert restore_latest(model, writer.directory).data_seed == 5


def test_weights_that_are_not_finite_are_no_checkpoint(model, writer, log):
    callback = make_callback(model, writer, log, Interruption())
    model.trainable_variables[0].assign(np.full((3, 1), np.nan))
    with pytest.raises(UserError, match=r"step 0: after the update .*kernel is not finite"):
        callback.on_epoch_end(0)
    assert not names(writer)


def test_running_means_go_on_where_the_checkpoint_left_them(model, writer, log):
    model.loss_trackers["box_loss"].update_state(3.0)
    callback = make_callback(model, writer, log, Interruption(), every=2)
    callback.on_train_batch_end(0)
    callback.on_train_batch_end(1)
    writer.wait()
    start = restore_latest(model, writer.directory)
    model.reset_metrics()
    plan = make_plan(first_step=2)
    resumed = SaveCheckpoints(plan, writer, start, Devices(), every=0, interruption=Interruption(), log=callback.log)
    resumed.set_model(model)
    resumed.on_epoch_begin(0)
    assert float(model.loss_trackers["box_loss"].result()) == 3.0
    resumed.step = 4  # the next epoch begins anew
    model.reset_metrics()
    resumed.on_epoch_begin(1)
    assert float(model.loss_trackers["box_loss"].result()) == 0.0
