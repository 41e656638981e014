"""The exponential moving average of the weights, which Keras' optimizers keep beside them (``--ema``)."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np


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
