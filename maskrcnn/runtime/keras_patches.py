"""Patches of bugs in Keras, one function each, and the other uses of its private names.

All bugs were seen in Keras 3.15, with which the patches are tested; the upper bound on Keras in pyproject.toml keeps
them from running with any other. tests/runtime/test_keras_patches.py shows each bug, and fails once it is fixed.
"""

import functools
import io
from collections.abc import Callable
from typing import Any, ParamSpec

import keras
from keras.src.saving import saving_lib

from maskrcnn.errors import UserError

SEEN_IN = "3.15"
Arguments = ParamSpec("Arguments")


def seen_in(version: str) -> Callable[[Callable[Arguments, None]], Callable[Arguments, None]]:
    """Decorates a patch, which refuses to run with a Keras of another minor version.

    Raises:
        UserError: from the patch; another Keras is installed.
    """

    def decorate(patch: Callable[Arguments, None]) -> Callable[Arguments, None]:
        @functools.wraps(patch)
        def checked(*arguments: Arguments.args, **named: Arguments.kwargs) -> None:
            if keras.__version__.split(".")[:2] != version.split("."):
                raise UserError(
                    f"Keras {keras.__version__}: several TensorFlow devices and --ema need Keras {version}; run "
                    f"`pip install 'keras=={version}.*'`"
                )
            patch(*arguments, **named)

        return checked

    return decorate


def weights_file(model: Any) -> bytes:
    """The content of a model's ``.weights.h5``, without its optimizer.

    `keras.Model.save_weights` lets HDF5 write to the disk, which ends the process with a segmentation fault when it is
    full: its caches cannot be flushed, and are freed nevertheless.
    """
    content = io.BytesIO()
    store = saving_lib.H5IOStore(content, mode="w")
    visited = {id(model.optimizer)} if getattr(model, "optimizer", None) is not None else set()
    saving_lib._save_state(model, store, None, inner_path="", visited_saveables=visited)
    store.close()
    return content.getvalue()


def patch_distributed_training(model: Any, world_size: int) -> None:
    """Patches a compiled model and its built optimizer, which are on several TensorFlow devices.

    Args:
        model: compiled within the scope of a strategy.
        world_size: number of processes.
    """
    optimizer = _inner(model.optimizer)
    sum_gradients_first(model.optimizer)
    if optimizer.gradient_accumulation_steps:
        accumulate_across_replicas(optimizer)
    skip_symbolic_build(model)
    if world_size > 1:
        give_metrics_an_axis(model)


@seen_in(SEEN_IN)
def sum_gradients_first(optimizer: Any) -> None:
    """Adds up the gradients of all replicas before the optimizer works on them.

    Bug: Keras' TensorFlow optimizer adds them up just before its update step, after each replica has clipped and
    accumulated its own part, and loss scaling has checked only that part for overflow. No upstream issue known for
    Keras 3; tensorflow/tensorflow#33929 has why clipping before the sum is wrong, in an earlier Keras.
    """
    import tensorflow as tf

    apply = optimizer.apply

    def apply_sums(gradients: list[Any], variables: Any = None) -> None:
        context: Any = tf.distribute.get_replica_context()
        apply(context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients)), variables)

    optimizer.apply = apply_sums
    _inner(optimizer)._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables


@seen_in(SEEN_IN)
def accumulate_across_replicas(optimizer: Any) -> None:
    """Decides once for all replicas whether a batch's gradients update the weights or are only accumulated.

    Bug: Keras decides within each replica, in a branch; TensorFlow lets replicas meet, as they do in the update of a
    variable, within a branch only if the branch is outside of the replicas ("`merge_call` called while defining a new
    graph"). Upstream issue: keras-team/keras#20582.
    """
    import tensorflow as tf

    steps, averages = optimizer.gradient_accumulation_steps, optimizer.use_ema
    update = optimizer._backend_apply_gradients

    def apply_mean(gradients: list[Any], sums: list[Any], variables: list[Any]) -> None:
        means = [(gradient + total) / steps for gradient, total in zip(gradients, sums, strict=True)]
        optimizer.gradient_accumulation_steps, optimizer.use_ema = None, False  # leaves Keras' plain update
        try:
            update(means, variables)
        finally:
            optimizer.gradient_accumulation_steps, optimizer.use_ema = steps, averages
        optimizer._backend_reset_gradient_accumulators()

    def decide(strategy: Any, gradients: list[Any], sums: list[Any], variables: list[Any]) -> None:
        def in_each_replica(function: Any, *arguments: Any) -> Any:
            return lambda: strategy.extended.call_for_each_replica(function, args=arguments)

        keras.ops.cond(
            (optimizer._iterations + 1) % steps == 0,
            in_each_replica(apply_mean, gradients, sums, variables),
            in_each_replica(optimizer._backend_increment_gradient_accumulators, gradients, sums),
        )

    def apply(gradients: list[Any], variables: list[Any]) -> None:
        sums = [optimizer._accumulated_gradients[optimizer._get_variable_index(variable)] for variable in variables]
        context: Any = tf.distribute.get_replica_context()
        context.merge_call(decide, args=(gradients, sums, variables))
        if averages:
            optimizer._update_model_variables_moving_average(optimizer._trainable_variables)

    optimizer._backend_apply_gradients = apply


@seen_in(SEEN_IN)
def skip_symbolic_build(model: Any) -> None:
    """Keeps `fit` from building a model that is built already.

    Bug: to build it, Keras reduces a batch to its mean over the replicas, which fails for booleans, such as the mask of
    valid annotations. No upstream issue known.
    """
    model._maybe_symbolic_build = lambda iterator=None, data_batch=None: None


@seen_in(SEEN_IN)
def give_metrics_an_axis(model: Any) -> None:
    """Gives scalar metrics an axis, over which Keras can average them.

    Bug: with several processes Keras reduces the results of a step by their mean over axis 0, which scalars do not
    have. No upstream issue known.
    """
    compute = model.compute_metrics
    model.compute_metrics = lambda *arguments, **named: {
        name: keras.ops.reshape(value, (1,)) for name, value in compute(*arguments, **named).items()
    }


@seen_in(SEEN_IN)
def keep_weights_after_fit(optimizer: Any) -> None:
    """Keeps `fit` from replacing the weights by their moving averages when it ends.

    Not a bug but a decision of Keras', which has no setting: a run calls `fit` more than once, and saves the weights
    beside their averages.
    """
    optimizer.finalize_variable_values = lambda variables: None


def moving_averages(optimizer: Any) -> list[Any]:
    """The moving averages of the trainable variables; none without ``use_ema``.

    Keras keeps them under a private name. Its public SwapEMAWeights swaps by adding and subtracting under TensorFlow,
    which rounds, so that the weights do not come back bit for bit. No upstream issue known.
    """
    optimizer = _inner(optimizer)
    return optimizer._model_variables_moving_average if getattr(optimizer, "use_ema", False) else []


def _inner(optimizer: Any) -> Any:
    """The optimizer that float16's loss scaling wraps, or else the same."""
    return getattr(optimizer, "inner_optimizer", optimizer)
