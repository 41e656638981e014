"""How functions of tensors are compiled, traced and ordered under each backend."""

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

from maskrcnn.errors import UserError
from maskrcnn.runtime.backend import active_backend


def compile_options(*, xla: bool = False, eagerly: bool = False) -> dict[str, bool]:
    """What `keras.Model.compile` is told; JAX is always compiled by XLA, unless it runs eagerly."""
    return {"jit_compile": not eagerly and (xla or active_backend() == "jax"), "run_eagerly": eagerly}


def with_control_dependency(value: Any, other: Any) -> Any:
    """``value``, but not before ``other`` is computed.

    TensorFlow's executor runs whatever it can at once, and holds all of it in memory; XLA orders its own work.
    """
    if active_backend() != "tensorflow":
        return value
    import tensorflow as tf

    with tf.control_dependencies([other]):
        return tf.identity(value)


def sequential_map(function: Callable[[Any], Any], count: Any) -> Any:
    """``function(0), function(1), ..`` stacked, one after the other; ``count`` may be a tensor under TensorFlow.

    `keras.ops.map` lets TensorFlow work on ten at once, and hold what they need.
    """
    if active_backend() != "tensorflow":
        from keras import ops

        return ops.map(function, ops.arange(count))
    import tensorflow as tf

    signature = tf.TensorSpec.from_tensor(function(tf.constant(0)))
    return tf.map_fn(function, tf.range(count), parallel_iterations=1, fn_output_signature=signature)


def trace_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors that TensorFlow traces and optimizes once for each shape, not at each call anew."""
    if active_backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, experimental_attributes={"_noinline": True})


def compiled_by_xla(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors as one program, also where TensorFlow runs the rest operation by operation.

    JAX compiles whole steps.
    """
    if active_backend() != "tensorflow":
        return function
    import tensorflow as tf

    compiled = tf.function(function, jit_compile=True)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        # In the gradient of a branch, `cond_v2` loses what is captured by a compiled function itself.
        return compiled(*tf.nest.map_structure(lambda a: tf.identity(a) if tf.is_tensor(a) else a, arguments))

    return call


def cache_compilations(directory: str) -> None:
    """Keeps what JAX compiles in a folder, for the next run: of a training step on a GPU, over a minute of autotuning.

    Every program of at least a second is kept; the small ones are compiled sooner than they are found. TensorFlow
    compiles anew in each process.
    """
    if active_backend() != "jax":
        return
    import jax

    jax.config.update("jax_compilation_cache_dir", directory)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def compile_inference(model: Any, *, xla: bool = False) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The model as one compiled function of a batch, with its weights as they are now; does not wait for the device.

    `keras.Model.predict_on_batch` hands all weights over and takes them back at each call, and copies the results:
    milliseconds of the host, which a GPU waits for.
    """
    if active_backend() != "jax":
        import tensorflow as tf

        return tf.function(lambda batch: model(batch, training=False), jit_compile=xla)
    import jax

    weights = [[v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]]
    compiled = jax.jit(lambda weights, batch: model.stateless_call(*weights, batch, training=False)[0])
    return lambda batch: compiled(weights, batch)


def write_graph(function: Callable, batch: dict, directory: str) -> Counter[str]:
    """Traces ``function(batch)`` into a TensorFlow graph, writes it for TensorBoard and counts its operations by type.

    Raises:
        UserError: the backend is not TensorFlow, which alone has such graphs.
    """
    if active_backend() != "tensorflow":
        raise UserError("--log_graph needs the TensorFlow backend; leave it out or add --backend tensorflow")
    import tensorflow as tf

    graph = tf.function(function).get_concrete_function(batch).graph
    writer = tf.summary.create_file_writer(directory)
    with writer.as_default():
        tf.summary.graph(graph)
    writer.close()
    return Counter(operation.type for operation in graph.get_operations())
