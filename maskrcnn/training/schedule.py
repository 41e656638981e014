"""Learning-rate schedules: linear warm-up, then drops or a cosine."""

import math

import keras
from keras import ops

from maskrcnn.config import TrainConfig
from maskrcnn.errors import UserError

REFERENCE_BATCH = 8  # images an update, for which `learning_rate_values` are given


@keras.saving.register_keras_serializable("maskrcnn")
class WarmupPiecewiseConstant(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from ``initial`` at step 0 to ``values[0]`` at ``boundaries[0]``; then ``values[i]`` applies up
    to, and not including, ``boundaries[i + 1]``, and the last value to the end.

    A step is one batch: Keras passes the number of batches seen, also when it accumulates several into an update.

    Args:
        initial: learning rate at step 0.
        values: learning rates, one for each boundary.
        boundaries: steps, in ascending order.
    """

    def __init__(self, initial: float, values: list[float], boundaries: list[float]):
        super().__init__()
        self.initial = initial
        self.values = list(values)
        self.boundaries = list(boundaries)

    def __call__(self, step):
        """The learning rate of a step, from 0."""
        step = ops.cast(step, "float32")
        rate = ops.full_like(step, self.values[0])
        for boundary, value in zip(self.boundaries[1:], self.values[1:], strict=True):
            rate = ops.where(step < boundary, rate, value)
        warmup_steps = self.boundaries[0]
        if warmup_steps <= 0:
            return rate
        warmup = self.initial + (self.values[0] - self.initial) * step / warmup_steps
        return ops.where(step < warmup_steps, warmup, rate)

    def get_config(self) -> dict:
        """The arguments of the constructor, for Keras."""
        return {"initial": self.initial, "values": self.values, "boundaries": self.boundaries}


@keras.saving.register_keras_serializable("maskrcnn")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from ``initial`` at step 0 to ``peak`` at ``warmup_steps``, then falls to 0 at ``total_steps`` as
    half a cosine (SGDR, arXiv:1608.03983, without restarts).

    Args:
        initial: learning rate at step 0.
        peak: learning rate after the warm-up.
        warmup_steps: steps (batches) of the warm-up.
        total_steps: steps of the whole run.
    """

    def __init__(self, initial: float, peak: float, warmup_steps: int, total_steps: int):
        super().__init__()
        self.initial = initial
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps

    def __call__(self, step):
        """The learning rate of a step, from 0."""
        step = ops.cast(step, "float32")
        done = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        fall = self.peak * 0.5 * (1 + ops.cos(math.pi * ops.clip(done, 0.0, 1.0)))
        rise = self.initial + (self.peak - self.initial) * step / max(self.warmup_steps, 1)
        return ops.where(step < self.warmup_steps, rise, fall)

    def get_config(self) -> dict:
        """The arguments of the constructor, for Keras."""
        names = ("initial", "peak", "warmup_steps", "total_steps")
        return {name: getattr(self, name) for name in names}


def make_schedule(
    config: TrainConfig, *, steps_per_epoch: int, devices: int = 1
) -> WarmupPiecewiseConstant | WarmupCosine:
    """The schedule of the recipe, with boundaries in steps and rates scaled by the images of one update.

    The cosine uses only the first rate and the first boundary.

    Raises:
        UserError: rates and boundaries differ in number, or the boundaries are not in ascending order.
    """
    values, boundaries = config.learning_rate_values, config.learning_rate_boundaries
    if not values or len(values) != len(boundaries):
        raise UserError(
            f"--learning_rate_values has {len(values)} numbers and --learning_rate_boundaries {len(boundaries)}; "
            "give both the same number, at least one"
        )
    if list(boundaries) != sorted(boundaries):
        raise UserError(f"--learning_rate_boundaries {' '.join(map(str, boundaries))} must be in ascending order")
    scale = config.batch_size * config.accumulate * devices / REFERENCE_BATCH
    if config.decay == "cosine":
        return WarmupCosine(
            initial=config.init_learning_rate * scale,
            peak=values[0] * scale,
            warmup_steps=int(boundaries[0] * steps_per_epoch),
            total_steps=config.epochs * steps_per_epoch,
        )
    return WarmupPiecewiseConstant(
        initial=config.init_learning_rate * scale,
        values=[value * scale for value in values],
        boundaries=[int(boundary * steps_per_epoch) for boundary in boundaries],
    )
