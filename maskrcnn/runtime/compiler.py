"""How functions of tensors are compiled, traced and ordered under each backend."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from maskrcnn.errors import UserError
from maskrcnn.runtime.backend import active_backend


def compile_options(*, xla: bool = False, eagerly: bool = False) -> dict[str, bool]:
    """Arguments for `keras.Model.compile`; JAX is always compiled by XLA, unless it runs eagerly."""
    return {"jit_compile": not eagerly and (xla or active_backend() == "jax"), "run_eagerly": eagerly}


def with_control_dependency(value: Any, other: Any) -> Any:
    """Delays ``value`` until ``other`` is computed.

    TensorFlow's executor runs all operations that it can at once, and holds their results in memory; XLA orders its own
    work.
    """
    if active_backend() != "tensorflow":
        return value
    import tensorflow as tf

    with tf.control_dependencies([other]):
        return tf.identity(value)


def with_gradient_dependency(value: Any, other: Any) -> tuple[Any, Any]:
    """Both values; in the backward pass the gradient of the first is delayed until that of the second is computed."""
    if active_backend() != "tensorflow":
        return value, other
    import tensorflow as tf

    @tf.custom_gradient
    def both(value: Any, other: Any) -> tuple[tuple[Any, Any], Callable[..., tuple[Any, Any]]]:
        def gradients(of_value: Any, of_other: Any) -> tuple[Any, Any]:
            return with_control_dependency(of_value, of_other), of_other

        return (tf.identity(value), tf.identity(other)), gradients

    return both(value, other)


def after(value: Any) -> AbstractContextManager[None]:
    """A context whose operations wait until ``value`` is computed (see `with_control_dependency`)."""
    if active_backend() != "tensorflow":
        return nullcontext()
    import tensorflow as tf

    return tf.control_dependencies([value])


def sequential_map(function: Callable[[Any], Any], count: Any) -> Any:
    """Stacks ``function(0), function(1), ...``, computed one after the other; ``count`` may be a TensorFlow tensor.

    `keras.ops.map` lets TensorFlow work on ten at once, with the memory of ten.
    """
    if active_backend() != "tensorflow":
        from keras import ops

        return ops.map(function, ops.arange(count))
    import tensorflow as tf

    signature = tf.TensorSpec.from_tensor(function(tf.constant(0)))
    return tf.map_fn(function, tf.range(count), parallel_iterations=1, fn_output_signature=signature)


def trace_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets TensorFlow trace and optimize a function of tensors once for each shape, instead of at each call.

    A model that runs eagerly, to be debugged, runs the function so too.
    """
    if active_backend() != "tensorflow":
        return function
    import tensorflow as tf

    traced = _trace_by_shape(function, experimental_attributes={"_noinline": True})
    return lambda *arguments: (function if tf.executing_eagerly() else traced)(*arguments)


def _trace_by_shape(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """A `tf.function` that does not use a trace of unknown sizes for known ones, which XLA may be unable to compile."""
    import tensorflow as tf

    @functools.cache
    def traced(shapes: tuple[tuple[int | None, ...], ...]) -> Callable[..., Any]:
        return tf.function(function, autograph=False, **options)

    def call(*arguments: Any) -> Any:
        tensors = [argument for argument in tf.nest.flatten(arguments) if tf.is_tensor(argument)]
        return traced(tuple(tuple(tensor.shape) for tensor in tensors))(*arguments)

    return call


_without_xla = ContextVar("without_xla", default=False)
_plainly = ContextVar("plainly", default=False)


@contextmanager
def tracing_without_xla(*, plainly: bool = False) -> Iterator[None]:
    """Lets `compiled_by_xla` leave functions as they are, for files that run where XLA may be missing.

    Args:
        plainly: so does `ops.fast` with what is only there for speed, for runtimes without its loops and branches.
    """
    tokens = [(variable, variable.set(value)) for variable, value in ((_without_xla, True), (_plainly, plainly))]
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def traces_plainly() -> bool:
    """Whether the model is traced without what is only there for speed."""
    return _plainly.get()


def compiled_by_xla(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function of tensors to one program, also where TensorFlow runs the rest operation by operation.

    JAX compiles whole steps, and needs nothing here.
    """
    if active_backend() != "tensorflow":
        return function
    import tensorflow as tf

    compiled = _trace_by_shape(function, jit_compile=True)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        if _without_xla.get():
            return function(*arguments)
        # In the gradient of a branch, `cond_v2` loses tensors that a compiled function captures itself.
        return compiled(*tf.nest.map_structure(lambda a: tf.identity(a) if tf.is_tensor(a) else a, arguments))

    return call


def cache_compilations(directory: str) -> None:
    """Caches JAX's compiled programs in a folder: a training step on a GPU takes over a minute of autotuning.

    Programs that compile in less than a second are not worth the lookup. TensorFlow compiles anew in each process.
    """
    if active_backend() != "jax":
        return
    import jax

    jax.config.update("jax_compilation_cache_dir", directory)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def compile_inference(model: Any, *, xla: bool = False) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Compiles the model, with its present weights, to a function of a batch that does not wait for the device.

    `keras.Model.predict_on_batch` passes all weights in and out at each call, and copies the results: milliseconds on
    the host, while the GPU is idle.
    """
    if active_backend() != "jax":
        import tensorflow as tf

        return tf.function(lambda batch: model(batch, training=False), jit_compile=xla, autograph=False)
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

    graph = tf.function(function, autograph=False).get_concrete_function(batch).graph
    writer = tf.summary.create_file_writer(directory)
    with writer.as_default():
        tf.summary.graph(graph)
    writer.close()
    return Counter(operation.type for operation in graph.get_operations())
