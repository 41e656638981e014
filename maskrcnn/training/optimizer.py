"""The optimizer of the recipe, and the exponential moving average of the weights (``--ema``)."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from maskrcnn.config import TrainConfig
from maskrcnn.runtime import compiler
from maskrcnn.runtime.keras_patches import moving_averages


def make_optimizer(
    config: TrainConfig, schedule: keras.optimizers.schedules.LearningRateSchedule
) -> keras.optimizers.Optimizer:
    """SGD with momentum, or Adam; weight decay is a loss term of the model, which excludes norms and biases."""
    settings = {
        "learning_rate": schedule,
        "global_clipnorm": config.clip_norm,
        "use_ema": config.ema is not None,
        "ema_momentum": config.ema or 0.0,
        "gradient_accumulation_steps": config.accumulate if config.accumulate > 1 else None,
    }
    if config.optimizer == "adam":
        return keras.optimizers.Adam(**settings)
    return LeanSGD(momentum=config.momentum, name="sgd", **settings)


@keras.saving.register_keras_serializable("maskrcnn")
class LeanSGD(keras.optimizers.SGD):
    """Keras' SGD, whose update waits for the gradient.

    TensorFlow would multiply all momentum values by the momentum at the beginning of a step, and hold the products, as
    large as the weights, until the gradients are there.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:  # noqa: D102
        with compiler.after(gradient):
            super().update_step(gradient, variable, learning_rate)


@contextlib.contextmanager
def averaged_weights(model: Any) -> Iterator[None]:
    """Replaces the trained weights by their moving averages, if there are any; afterwards they return bit for bit."""
    averages = moving_averages(getattr(model, "optimizer", None))
    variables = model.trainable_variables if averages else []
    trained = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    for variable, average in zip(variables, averages, strict=True):
        variable.assign(keras.ops.convert_to_numpy(average))
    try:
        yield
    finally:
        for variable, value in zip(variables, trained, strict=True):
            variable.assign(value)
