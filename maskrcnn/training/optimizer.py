"""The optimizer of the recipe, and the exponential moving average of the weights (``--ema``)."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from maskrcnn.config import TrainConfig
from maskrcnn.errors import UserError


def make_optimizer(
    config: TrainConfig, schedule: keras.optimizers.schedules.LearningRateSchedule
) -> keras.optimizers.Optimizer:
    """SGD with momentum, or Adam; the weight decay is the model's own loss term, which leaves out norms and biases.

    Raises:
        UserError: a decay of the averages that is none.
    """
    if config.ema is not None and not 0 < config.ema < 1:
        raise UserError(f"--ema {config.ema}: the decay must lie between 0 and 1, such as 0.999")
    settings = {
        "learning_rate": schedule,
        "global_clipnorm": config.clip_norm,
        "use_ema": config.ema is not None,
        "ema_momentum": config.ema or 0.0,
        "gradient_accumulation_steps": config.accumulate if config.accumulate > 1 else None,
    }
    if config.optimizer == "adam":
        return keras.optimizers.Adam(**settings)
    return keras.optimizers.SGD(momentum=config.momentum, **settings)


@contextlib.contextmanager
def averaged_weights(model: Any) -> Iterator[None]:
    """Puts the averaged weights in place of the trained ones, where there are any; they come back bit for bit.

    Keras' own SwapEMAWeights swaps by adding and subtracting under TensorFlow, which rounds.
    """
    averages = _averages(model)
    trained = [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.trainable_variables if averages]
    for variable, average in zip(model.trainable_variables if averages else (), averages, strict=True):
        variable.assign(keras.ops.convert_to_numpy(average))
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables if averages else (), trained, strict=True):
            variable.assign(value)


def keep_averages_apart(model: Any) -> None:
    """Keeps `fit` from replacing the weights by their averages when it ends: a run has several, and goes on after."""
    model.optimizer.finalize_variable_values = lambda variables: None


def _averages(model: Any) -> list[Any]:
    optimizer: Any = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # float16's loss scaling wraps the real one
    return optimizer._model_variables_moving_average if getattr(optimizer, "use_ema", False) else []
