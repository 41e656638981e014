"""Several devices and processes, with a stand-in; the soak tests use the real model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from maskrcnn.errors import UserError
from maskrcnn.runtime.backend import scale_loss_by_replicas
from maskrcnn.runtime.distribution import Devices, connect

TRAIN = """
import json, os, sys
backend, devices, batch, data, model = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
if backend == "jax":
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
from maskrcnn.runtime.backend import select_backend
select_backend(backend)
if backend == "tensorflow":
    import tensorflow as tf
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
sys.path.insert(0, "tests")
import conftest
from stand_in import StandIn
import maskrcnn.weights.model_folder
from maskrcnn.config import Config
from maskrcnn.logs.dllogger import LogOptions
from maskrcnn.evaluation.run import evaluate_folder
from maskrcnn.training.options import RunOptions, Start
from maskrcnn.training.run import train
maskrcnn.weights.model_folder.MaskRCNN = StandIn  # for `evaluate_folder`
settings = {"train.seed": 1, "train.epochs": 1, "train.steps_per_epoch": 4, "train.batch_size": batch,
            "train.clip_norm": 0.01, "train.accumulate": 2, "train.ema": 0.5,
            "train.learning_rate_boundaries": [0, 1, 2]}
config = Config.tiny().override({**conftest.MICRO, **settings})
options = RunOptions(logs=LogOptions(every=1))
train(config, data_dir=data, model_dir=model, start=Start(build_model=StandIn), options=options)
evaluated = evaluate_folder(model, data, logs=LogOptions(model + "/evaluation.json"))
print(json.dumps(evaluated["segm"]), evaluated["images"])
"""


def train(devices, batch, data, model):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", TRAIN, keras.backend.backend(), str(devices), str(batch), str(data), str(model)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, cwd=root, env=os.environ)
    assert result.returncode == 0, result.stderr[-3000:]
    lines = [json.loads(line.removeprefix("DLLL ")) for line in (model / "mrcnn-dlll.json").read_text().splitlines()]
    losses = [line["data"]["loss"] for line in lines if "loss" in line["data"] and len(line["step"]) == 2]
    rates = [line["data"]["learning_rate"] for line in lines if "learning_rate" in line["data"]]
    with np.load(model / "checkpoints" / "step-00000004.npz") as arrays:
        state = {name: arrays[name] for name in arrays.files if name != "state"}
    return losses, rates, state, result.stdout


@pytest.mark.slow  # four processes; `tests.soak.devices` has more cases
def test_two_devices_with_two_images_are_one_with_four(shapes_dir, tmp_path):
    """Gradients are accumulated and clipped: for each device separately they would not be those of the whole batch."""
    losses, rates, state, evaluated = train(1, 4, shapes_dir, tmp_path / "one")
    others = train(2, 2, shapes_dir, tmp_path / "two")
    assert len(losses) == 4
    np.testing.assert_allclose(others[0], losses, rtol=1e-5)
    assert others[1] == rates
    for name, value in state.items():
        np.testing.assert_allclose(others[2][name], value, atol=1e-6, err_msg=name)
    assert others[3] == evaluated
    assert evaluated.split()[-1] == "3"  # images: an odd number


def test_one_device_needs_nothing():
    devices = connect()
    assert devices == Devices()
    assert devices.is_chief
    assert devices.all_gather_object("a") == ["a"]
    assert devices.broadcast_object(3) == 3
    assert list(devices.all_gather_items([1, 2])) == [1, 2]
    with devices.main_process_first(), devices.scope():
        assert float(scale_loss_by_replicas(keras.ops.convert_to_tensor(3.0))) == 3.0


def test_flags_that_do_not_fit_together():
    with pytest.raises(UserError, match="give all three"):
        connect("localhost:1", 2)
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(UserError, match="TF_CONFIG"):
            connect("localhost:1", 2, 0)


def test_a_lost_process_is_reported_in_one_line():
    class UnavailableError(Exception):
        pass

    message = r"process 1 of 2: another process of the run is lost \(connection closed\)"
    cases = [
        (Devices(2, 2, 1), UnavailableError("Graph execution error:\n\nconnection closed\nmore"), UserError, message),
        (Devices(), UnavailableError("there is no other"), UnavailableError, "no other"),
        (Devices(2, 2, 1), KeyError("a bug"), KeyError, "bug"),
    ]
    for devices, error, expected, text in cases:
        with pytest.raises(expected, match=text), devices.report_lost_process():
            raise error
