"""Averaged weights in place of the trained ones, and back."""

import keras
import numpy as np
import pytest

from maskrcnn.runtime.keras_patches import keep_weights_after_fit
from maskrcnn.training.optimizer import LeanSGD, averaged_weights


def fit(model, steps):
    x = np.linspace(0, 1, 12, dtype="float32").reshape(4, 3)
    model.fit(x, np.ones((4, 1), "float32"), batch_size=4, epochs=steps, verbose=0)
    return np.array(model.get_weights()[0])


def make_model(momentum, policy="float32"):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, dtype=policy)])
    optimizer = keras.optimizers.SGD(0.1, use_ema=momentum is not None, ema_momentum=momentum or 0.0)
    optimizer = (
        keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0) if policy == "mixed_float16" else optimizer
    )
    model.compile(optimizer, loss="mse")
    keep_weights_after_fit(model.optimizer)
    return model


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_averages_are_exponential_and_the_weights_return(policy):
    model = make_model(0.75, policy)
    trained = [fit(model, 1) for _ in range(3)]
    average = trained[0]
    for value in trained[1:]:
        average = 0.75 * average + 0.25 * value
    with averaged_weights(model):
        np.testing.assert_allclose(model.get_weights()[0], average, rtol=1e-6)
    np.testing.assert_array_equal(model.get_weights()[0], trained[-1])


def test_without_averages_nothing_changes():
    model = make_model(None)
    trained = fit(model, 1)
    with averaged_weights(model):
        np.testing.assert_array_equal(model.get_weights()[0], trained)
    with averaged_weights(keras.Sequential([keras.layers.Dense(1)])):  # never compiled
        pass


def test_sgd_that_waits_for_gradients_updates_as_keras_does():
    trained = []
    for kind in (LeanSGD, keras.optimizers.SGD):
        model = make_model(None)
        model.compile(kind(0.1, momentum=0.9, name="sgd"), loss="mse")
        fit(model, 3)
        trained.append([np.array(variable) for variable in (*model.get_weights(), *model.optimizer.variables)])
        assert {variable.path.split("/")[0] for variable in model.optimizer.variables} == {"sgd"}  # as in checkpoints
    for ours, expected in zip(*trained, strict=True):
        np.testing.assert_array_equal(ours, expected)
