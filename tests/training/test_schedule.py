"""The learning rate, worked out by hand, also as the optimizer uses it."""

import dataclasses

import keras
import numpy as np
import pytest

from maskrcnn.config import TrainConfig
from maskrcnn.errors import UserError
from maskrcnn.training.optimizer import make_optimizer
from maskrcnn.training.schedule import WarmupCosine, WarmupPiecewiseConstant, make_schedule


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_warmup_then_steps():
    schedule = WarmupPiecewiseConstant(0.2, [1.0, 0.1, 0.01], [4, 8, 10])
    # From 0.2 at step 0 to 1.0 at step 4: 0.2 a step.
    expected = [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    np.testing.assert_allclose(rates(schedule, range(12)), expected, rtol=1e-6)


def test_without_warmup():
    assert rates(WarmupPiecewiseConstant(0.5, [1.0], [0]), [0, 1, 100]) == [1.0, 1.0, 1.0]


def test_recipe_scales_with_the_images_of_an_update_and_counts_epochs():
    config = TrainConfig(batch_size=4, accumulate=4)  # 16 images an update: twice the reference
    schedule = make_schedule(config, steps_per_epoch=100)
    assert schedule.boundaries == [30, 800, 1000]
    np.testing.assert_allclose(rates(schedule, [0, 15, 30, 800, 1000]), [0, 0.01, 0.02, 0.002, 0.0002], rtol=1e-6)
    assert make_schedule(config, steps_per_epoch=100, devices=8).values[0] == pytest.approx(0.16)


def test_cosine_by_hand():
    schedule = WarmupCosine(0.2, 1.0, 4, 10)
    # half way down after 3 of 6 steps; a quarter of the cosine's half turn (60 degrees) after 2
    expected = [0.2, 0.4, 0.6, 0.8, 1.0, None, 0.75, 0.5, 0.25, None, 0.0, 0.0]
    for actual, rate in zip(rates(schedule, range(12)), expected, strict=True):
        assert rate is None or actual == pytest.approx(rate, abs=1e-6)
    assert rates(WarmupCosine(0.2, 1.0, 0, 10), [0, 5]) == pytest.approx([1.0, 0.5])


def test_the_cosine_ends_with_the_run():
    config = TrainConfig(batch_size=8, epochs=3, decay="cosine")
    schedule = make_schedule(config, steps_per_epoch=100)
    np.testing.assert_allclose(rates(schedule, [15, 30, 165, 300]), [0.005, 0.01, 0.005, 0], atol=1e-8)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert rates(copy, range(0, 300, 50)) == rates(schedule, range(0, 300, 50))


@pytest.mark.parametrize("changes", [{"learning_rate_values": (0.1,)}, {"learning_rate_boundaries": (1.0, 3.0, 2.0)}])
def test_mismatched_settings_are_refused(changes):
    with pytest.raises(UserError, match="learning_rate"):
        make_schedule(dataclasses.replace(TrainConfig(), **changes), steps_per_epoch=10)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_optimizer_follows_the_count_of_batches(accumulate):
    """A weight of gradient 1 under plain SGD: each update subtracts the learning rate of its batch."""
    config = TrainConfig(accumulate=accumulate, momentum=0.0)
    optimizer = make_optimizer(config, WarmupPiecewiseConstant(0.0, [4.0, 1.0], [4, 6]))
    weight = keras.Variable(np.zeros(1, "float32"))
    for _ in range(8):  # rates of the eight batches: 0 1 2 3 4 4 1 1
        optimizer.apply([keras.ops.ones(1)], [weight])
    expected = {1: 0 + 1 + 2 + 3 + 4 + 4 + 1 + 1, 2: 1 + 3 + 4 + 1}[accumulate]
    assert float(weight.numpy()[0]) == -expected


def test_gradients_are_clipped_to_the_norm_that_is_set():
    config = TrainConfig(momentum=0.0, clip_norm=1.0)
    optimizer = make_optimizer(config, WarmupPiecewiseConstant(0.0, [1.0], [0]))
    weight = keras.Variable(np.zeros(2, "float32"))
    optimizer.apply([keras.ops.convert_to_tensor(np.array([3.0, 4.0], "float32"))], [weight])  # norm 5
    np.testing.assert_allclose(keras.ops.convert_to_numpy(weight), [-0.6, -0.8], rtol=1e-6)


def test_adams_first_step_is_as_long_as_the_learning_rate():
    optimizer = make_optimizer(TrainConfig(optimizer="adam"), WarmupPiecewiseConstant(0.0, [0.5], [0]))
    weight = keras.Variable(np.zeros(1, "float32"))
    optimizer.apply([keras.ops.convert_to_tensor(np.array([100.0], "float32"))], [weight])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(weight), [-0.5], rtol=1e-4)


def test_schedule_survives_serialization():
    schedule = WarmupPiecewiseConstant(0.2, [1.0, 0.1], [4, 8])
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert rates(copy, range(10)) == rates(schedule, range(10))
