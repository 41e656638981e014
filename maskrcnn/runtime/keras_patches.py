"""Fixes for Keras under `tf.distribute`."""

from typing import Any

import keras

from maskrcnn.runtime import backend
from maskrcnn.runtime.distribution import Devices


def patch_keras_trainer(model: Any, devices: Devices) -> None:
    """Mends what Keras 3.15 does wrong with a compiled model on several TensorFlow devices.

    It clips, accumulates and checks the gradients of each device by itself before it adds them up: here they are added
    up first. It accumulates in a branch that TensorFlow cannot leave to reach the other devices. To build what is built
    already, it reduces a batch to its mean over the devices, which booleans have not. It averages losses of several
    machines over an axis that numbers do not have: they get one.
    """
    if devices.strategy is None or backend.active_backend() == "jax":
        return
    import tensorflow as tf

    optimizer = model.optimizer
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # float16's loss scaling wraps the real one
    apply = optimizer.apply

    def apply_sums(gradients: list[Any], variables: Any = None) -> None:
        context: Any = tf.distribute.get_replica_context()
        apply(context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients)), variables)

    optimizer.apply = apply_sums
    inner._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables
    if inner.gradient_accumulation_steps:
        _accumulate_on_all(inner)
    model._maybe_symbolic_build = lambda iterator=None, data_batch=None: None
    if devices.world_size > 1:
        compute = model.compute_metrics
        model.compute_metrics = lambda *arguments, **named: {
            name: keras.ops.reshape(value, (1,)) for name, value in compute(*arguments, **named).items()
        }


def _accumulate_on_all(optimizer: Any) -> None:
    """Lets all devices choose together whether a batch's gradients update the weights or are only added up.

    They meet in every update of a variable, which TensorFlow allows within a branch only if the branch itself was
    chosen outside of the single devices.
    """
    import tensorflow as tf

    steps, averages = optimizer.gradient_accumulation_steps, optimizer.use_ema
    update = optimizer._backend_apply_gradients

    def apply_mean(gradients: list[Any], sums: list[Any], variables: list[Any]) -> None:
        means = [(gradient + total) / steps for gradient, total in zip(gradients, sums, strict=True)]
        optimizer.gradient_accumulation_steps, optimizer.use_ema = None, False  # what is left is Keras' plain update
        try:
            update(means, variables)
        finally:
            optimizer.gradient_accumulation_steps, optimizer.use_ema = steps, averages
        optimizer._backend_reset_gradient_accumulators()

    def choose(strategy: Any, gradients: list[Any], sums: list[Any], variables: list[Any]) -> None:
        def on_each(function: Any, *arguments: Any) -> Any:
            return lambda: strategy.extended.call_for_each_replica(function, args=arguments)

        keras.ops.cond(
            (optimizer._iterations + 1) % steps == 0,
            on_each(apply_mean, gradients, sums, variables),
            on_each(optimizer._backend_increment_gradient_accumulators, gradients, sums),
        )

    def apply(gradients: list[Any], variables: list[Any]) -> None:
        sums = [optimizer._accumulated_gradients[optimizer._get_variable_index(variable)] for variable in variables]
        context: Any = tf.distribute.get_replica_context()
        context.merge_call(choose, args=(gradients, sums, variables))
        if averages:
            optimizer._update_model_variables_moving_average(optimizer._trainable_variables)

    optimizer._backend_apply_gradients = apply
