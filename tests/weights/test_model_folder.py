"""The model folder, with the real model."""

import dataclasses

import keras
import numpy as np
import pytest

import maskrcnn
from maskrcnn.config import Category
from maskrcnn.errors import UserError
from maskrcnn.model import MaskRCNN
from maskrcnn.training.checkpoint import save_checkpoint
from maskrcnn.training.plan import State
from maskrcnn.weights.model_files import WEIGHTS_FILE, find_weights_file, load_model_config
from maskrcnn.weights.model_folder import load_model, save_config, save_model


@pytest.fixture
def model(micro):
    config = dataclasses.replace(micro, categories=(Category(1, 18, "dog"), Category(2, 44, "bottle")))
    return MaskRCNN(config)


def test_round_trip(model, tmp_path):
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    optimizer = model.optimizer
    save_model(model, model.config, tmp_path)
    assert model.optimizer is optimizer
    copy, config = load_model(tmp_path)
    assert config == model.config
    for value, expected in zip(copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)
    parameters = sum(value.nbytes for value in model.get_weights())
    assert (tmp_path / "model.weights.h5").stat().st_size < 1.5 * parameters + 200_000  # without the momentum


def test_load_gives_a_predictor(model, tmp_path):
    save_model(model, model.config, tmp_path)
    assert maskrcnn.load(tmp_path).config == model.config


def test_damaged_or_missing_files_are_named(model, tmp_path):
    with pytest.raises(UserError, match=r"no model\.weights\.h5"):
        load_model(tmp_path)
    save_model(model, model.config, tmp_path)
    weights = tmp_path / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.weights\.h5: damaged"):
        load_model(tmp_path)


def test_the_folder_of_a_run_that_has_not_finished_is_used(micro, tmp_path):
    config = dataclasses.replace(micro, categories=(Category(1, 1, "a"),))
    model = MaskRCNN(config)
    model.compile("sgd")
    save_config(config, tmp_path)
    with pytest.raises(UserError, match="give a folder in which `maskrcnn train` has run"):
        load_model_config(tmp_path)
    for step in (3, 12):
        model.variables[0].assign(model.variables[0] * 0 + step)
        save_checkpoint(model, State(step, 0, 1), tmp_path / "checkpoints")
    newest = load_model(tmp_path)[0]
    for value, expected in zip(newest.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)
    save_model(model, config, tmp_path / "best")
    assert find_weights_file(tmp_path) == tmp_path / "best" / WEIGHTS_FILE
