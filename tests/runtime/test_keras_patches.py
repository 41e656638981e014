"""The bugs of Keras that are patched: each test fails once Keras no longer needs the patch.

What the patched optimizer computes on several devices is in test_distribution.py.
"""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from maskrcnn.errors import UserError
from maskrcnn.runtime import keras_patches

tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")

# Trains a model on two devices without any patch; the gradient of each device is that of a sum over its one row, 3.
UNPATCHED = """
import json, sys
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, numpy as np

class Model(keras.Model):
    def __init__(self):
        super().__init__()
        self.weight = self.add_weight(shape=(), initializer="zeros")
        self.built = True

    def call(self, inputs, training=False):
        return self.weight * keras.ops.sum(inputs["x"])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return y_pred

def fit(inputs, **settings):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = Model()
        model.compile(keras.optimizers.SGD(1.0, **settings), jit_compile=False)
        model.optimizer.build(model.trainable_variables)
    if "valid" not in inputs:
        model._maybe_symbolic_build = lambda **named: None
    dataset = tf.data.Dataset.from_tensor_slices(inputs).batch(2)
    try:
        model.fit(dataset, verbose=0)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return float(model.get_weights()[0])

x = np.full((2, 1), 3.0, "float32")
print(json.dumps({
    "plain": fit({"x": x}),
    "clipped": fit({"x": x}, global_clipnorm=1.0),
    "accumulated": fit({"x": x}, gradient_accumulation_steps=2),
    "boolean": fit({"x": x, "valid": np.ones((2, 1), bool)}),
}))
"""


@pytest.fixture(scope="module")
def unpatched():
    result = subprocess.run(
        [sys.executable, "-c", UNPATCHED], capture_output=True, text=True, check=False, timeout=200, env=os.environ
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@tensorflow_only
def test_keras_clips_before_it_adds_up(unpatched):
    """Each device's gradient of 3 is clipped to 1, so that the update is 2 and not the norm's bound of 1."""
    assert unpatched["plain"] == -6.0
    assert unpatched["clipped"] == -2.0


@tensorflow_only
def test_keras_cannot_accumulate_on_several_devices(unpatched):
    assert "merge_call" in str(unpatched["accumulated"])


@tensorflow_only
def test_keras_averages_booleans_to_build_a_model(unpatched):
    assert "bool" in str(unpatched["boolean"])


@tensorflow_only
def test_keras_reduces_scalars_over_an_axis_that_they_do_not_have(monkeypatch):
    """With one process that Keras takes for one of several."""
    import tensorflow as tf
    from keras.src.backend.tensorflow import trainer

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    monkeypatch.setattr(trainer, "_collective_all_reduce_multi_worker", lambda strategy: True)
    assert trainer.reduce_per_replica({"loss": tf.constant([2.0])}, strategy, "auto")["loss"].numpy() == 2.0
    with pytest.raises(ValueError, match="Invalid reduction dimension 0 for input with 0 dimensions"):
        trainer.reduce_per_replica({"loss": tf.constant(2.0)}, strategy, "auto")


def make_model():
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(8)])
    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5), loss="mse")
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model):
    x = np.linspace(0, 1, 12, dtype="float32").reshape(4, 3)
    model.fit(x, np.ones((4, 8), "float32"), epochs=2, verbose=0)
    return [np.array(model.get_weights()[0]), np.array(keras_patches.moving_averages(model.optimizer)[0])]


def test_keras_replaces_the_weights_when_fit_ends():
    model = make_model()
    np.testing.assert_array_equal(*fit(model))
    patched = make_model()
    keras_patches.keep_weights_after_fit(patched.optimizer)
    trained, averages = fit(patched)
    assert (trained != averages).any()


@tensorflow_only
def test_keras_rounds_when_it_swaps_weights_and_averages():
    model = make_model()
    keras_patches.keep_weights_after_fit(model.optimizer)
    fit(model)
    weights = model.trainable_variables[0]
    weights.assign(
        np.random.default_rng(0).normal(size=weights.shape).astype("float32") * 1e-4
    )  # beside larger averages
    before = np.array(weights)
    swap = keras.callbacks.SwapEMAWeights()
    swap.set_model(model)
    swap.on_test_begin()
    swap.on_test_end()
    assert (np.array(weights) != before).any()


def test_another_keras_is_refused_by_a_patch(monkeypatch):
    monkeypatch.setattr(keras, "__version__", "3.99.0")
    with pytest.raises(UserError, match=r"Keras 3\.99\.0: .* need Keras 3\.15; run `pip install 'keras==3\.15\.\*'`"):
        keras_patches.keep_weights_after_fit(object())
