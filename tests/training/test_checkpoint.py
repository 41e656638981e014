"""Saving and restoring the variables and the state of a run."""

import threading

import keras
import numpy as np
import pytest

from maskrcnn.errors import UserError
from maskrcnn.training.checkpoint import (
    CheckpointWriter,
    list_checkpoints,
    restore_latest,
    save_checkpoint,
    snapshot,
    write_arrays,
)
from maskrcnn.training.plan import State


def make_model(units=2):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units), keras.layers.Dropout(0.5)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    return model


def train(model):
    x = np.arange(12, dtype="float32").reshape(4, 3) / 12
    model.train_on_batch(x, np.ones((4, model.output_shape[-1]), "float32"))


def state(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.variables + model.optimizer.variables]


def test_a_restored_run_continues_as_if_it_had_not_stopped(tmp_path):
    model = make_model()
    train(model)
    save_checkpoint(model, State(step=1, data_seed=7), tmp_path)
    train(model)

    resumed = make_model()
    assert restore_latest(resumed, tmp_path) == State(1, 7)
    train(resumed)  # its momentum and its dropout must be those of the first
    for value, expected in zip(state(resumed), state(model), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_nothing_to_restore(tmp_path):
    assert restore_latest(make_model(), tmp_path / "none") is None


def test_two_are_kept_and_a_damaged_one_is_skipped(tmp_path, caplog):
    model = make_model()
    for step in (1, 2, 10):
        save_checkpoint(model, State(step, 0), tmp_path)
    paths = list_checkpoints(tmp_path)
    assert [path.name for path in paths] == ["step-00000002.npz", "step-00000010.npz"]
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    assert restore_latest(model, tmp_path) == State(2, 0)
    assert "step-00000010.npz: cannot be read" in caplog.text
    paths[0].write_bytes(b"")
    with pytest.raises(UserError, match="no checkpoint can be read"):
        restore_latest(model, tmp_path)


def test_another_model_is_refused(tmp_path):
    save_checkpoint(make_model(), State(1, 0), tmp_path)
    with pytest.raises(UserError, match="another model"):
        restore_latest(make_model(units=3), tmp_path)


def test_checkpoints_of_earlier_versions_load(tmp_path):
    """They also held the running means of the log, and the first ones no batch size."""
    entries = {"step": 3, "data_seed": 7, "metrics": [0.1], "reported": {"seen": 2, "sums": {"loss": 0.3}}}
    write_arrays(tmp_path / "step-00000003.npz", snapshot(make_model()), entries)
    assert restore_latest(make_model(), tmp_path) == State(3, 7, 0)


def test_the_writer_keeps_n(tmp_path):
    writer = CheckpointWriter(tmp_path, keep=3)
    for step in range(5):
        writer.write(make_model(), State(step, 0))
    writer.close()
    assert [path.name for path in list_checkpoints(tmp_path)] == [f"step-0000000{step}.npz" for step in (2, 3, 4)]


def test_the_variables_are_those_at_the_time_of_the_call(tmp_path, monkeypatch):
    """The thread is blocked until the next step has changed the variables."""
    resume, savez = threading.Event(), np.savez

    def wait(*arguments, **arrays):
        assert resume.wait(60)
        savez(*arguments, **arrays)

    monkeypatch.setattr("maskrcnn.training.checkpoint.np.savez", wait)
    model, writer = make_model(), CheckpointWriter(tmp_path, keep=1)
    train(model)
    expected = [np.array(value) for value in state(model)]
    writer.write(model, State(1, 0))
    train(model)
    resume.set()
    writer.close()
    restore_latest(model, tmp_path)
    for value, original in zip(state(model), expected, strict=True):
        np.testing.assert_array_equal(value, original)


@pytest.mark.parametrize("where", ["np.savez", "os.fsync"])
def test_a_full_disk_is_reported_and_the_earlier_one_kept(tmp_path, monkeypatch, where):
    writer = CheckpointWriter(tmp_path, keep=1)
    writer.write(make_model(), State(1, 0))
    writer.wait()

    def fail(file, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"maskrcnn.training.checkpoint.{where}", fail)
    writer.write(make_model(), State(2, 0))
    message = r"step-00000002\.npz: .*No space left on device.*resumes from step-00000001\.npz"
    with pytest.raises(UserError, match=message):
        writer.wait()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.npz"]
