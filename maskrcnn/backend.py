"""The one place that knows which back-end runs: choosing it, its devices, precision, determinism and memory.

`select_backend` must run before Keras is imported; the rest may run at any time before the first model is built.
"""

import functools
import importlib.util
import os
import resource
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from maskrcnn.errors import UserError

BACKENDS = {"tensorflow": "tensorflow", "jax": "maskrcnn[jax]"}  # name -> what to install
POLICIES = {"float32": "float32", "tf32": "float32", "float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}


class PeakMemory(NamedTuple):
    """Largest memory use so far, bytes."""

    host: int  # resident set of this process
    device: int | None  # of the first accelerator; None where there is none


def select_backend(name: str | None = None, *, gpus: int | None = None, verbose: bool = False) -> str:
    """Makes Keras use back-end ``name`` (or ``KERAS_BACKEND``, or TensorFlow) and returns its name.

    Args:
        name: "tensorflow" or "jax".
        gpus: use only the first so many of the visible GPUs; 0 is the CPU, None is all.
        verbose: let the libraries print their own logs.

    Raises:
        UserError: an unknown or uninstalled back-end, or Keras already runs on another one.
    """
    name = name or os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in BACKENDS:
        raise UserError(f"back-end {name!r} is not one of {', '.join(BACKENDS)}")
    if importlib.util.find_spec(name) is None:
        raise UserError(f"back-end {name!r} is not installed; run: pip install '{BACKENDS[name]}'")
    if "keras" in sys.modules and active_backend() != name:
        raise UserError(f"Keras already runs on {active_backend()}; choose {name} before anything imports Keras")
    os.environ["KERAS_BACKEND"] = name
    if gpus is not None:
        _show_gpus(gpus)
    if name == "tensorflow" or has_tensorflow():
        import_tensorflow(verbose=verbose)
    return name


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed; JAX needs it only to read data."""
    return importlib.util.find_spec("tensorflow") is not None


def import_tensorflow(*, verbose: bool = False) -> None:
    """Imports TensorFlow, which also reads the data for JAX, without its chatter unless ``verbose``."""
    if verbose:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0")
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    standard_error = os.dup(2)
    with open(os.devnull, "w") as nowhere:  # its libraries log while they load, before they read that variable
        os.dup2(nowhere.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


def active_backend() -> str:
    import keras

    return keras.backend.backend()


def precision_policy(precision: str) -> str:
    """The Keras dtype policy of ``float32``, ``tf32``, ``float16`` or ``bfloat16``."""
    return POLICIES[precision]


def set_precision(precision: str) -> None:
    """Sets the dtype policy of the layers built from now on, and how exact float32 products are on a GPU.

    "float32" multiplies in full float32, the others in TensorFloat-32 (10 bits of mantissa) where the device has it.
    """
    import keras

    keras.config.set_dtype_policy(precision_policy(precision))
    if active_backend() == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest" if precision == "float32" else "tensorfloat32")
    else:
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(precision != "float32")


def set_seed(seed: int, *, xla: bool = False) -> None:
    """Seeds Python, NumPy and the back-end, and makes TensorFlow's operations deterministic.

    The latter not where XLA compiles them (``xla``): Keras refuses the two together.
    """
    import keras

    keras.utils.set_random_seed(seed)
    if active_backend() == "tensorflow" and not xla:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def compile_options(*, xla: bool = False, eagerly: bool = False) -> dict[str, bool]:
    """What `keras.Model.compile` is told; JAX is always compiled by XLA, unless it runs eagerly."""
    return {"jit_compile": not eagerly and (xla or active_backend() == "jax"), "run_eagerly": eagerly}


def describe_devices() -> str:
    """What the model runs on, in words: ``tensorflow 2.21.0 on cpu``."""
    import keras

    devices = keras.distribution.list_devices()
    kind = devices[0].split(":")[0] if devices else "cpu"
    count = f"{len(devices)} x " if len(devices) > 1 else ""
    backend = active_backend()
    return f"{backend} {importlib.import_module(backend).__version__} on {count}{kind}"


def share_of_loss(loss: Any) -> Any:
    """A device's part of the mean loss of all: under TensorFlow their gradients are added up, not averaged."""
    if active_backend() != "tensorflow":
        return loss
    import tensorflow as tf

    return loss / tf.distribute.get_strategy().num_replicas_in_sync


def after(value: Any, other: Any) -> Any:
    """``value``, but not before ``other`` is computed.

    TensorFlow's executor runs whatever it can at once, and holds all of it in memory; XLA orders its own work.
    """
    if active_backend() != "tensorflow":
        return value
    import tensorflow as tf

    with tf.control_dependencies([other]):
        return tf.identity(value)


def computes_on_cpu() -> bool:
    """Whether the model runs on processors, and not on a GPU or a TPU."""
    if active_backend() == "jax":
        import jax

        return jax.default_backend() == "cpu"
    import tensorflow as tf

    return not tf.config.get_visible_devices("GPU")


def map_in_turn(function: Callable[[Any], Any], count: Any) -> Any:
    """``function(0), function(1), ..`` stacked, one after the other; ``count`` may be a tensor under TensorFlow.

    `keras.ops.map` lets TensorFlow work on ten at once, and hold what they need.
    """
    if active_backend() != "tensorflow":
        from keras import ops

        return ops.map(function, ops.arange(count))
    import tensorflow as tf

    signature = tf.TensorSpec.from_tensor(function(tf.constant(0)))
    return tf.map_fn(function, tf.range(count), parallel_iterations=1, fn_output_signature=signature)


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors that TensorFlow traces and optimises once for each shape, not at each call anew."""
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


def device_memory() -> int | None:
    """Bytes that a device has for a run, the whole machine's if it is the CPU; None where that is not known."""
    if active_backend() == "jax":
        import jax

        statistics = jax.local_devices()[0].memory_stats() or {}
        if "bytes_limit" in statistics or jax.default_backend() != "cpu":
            return statistics.get("bytes_limit")
    else:
        import tensorflow as tf

        if tf.config.get_visible_devices("GPU"):
            return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_memory() -> PeakMemory:
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return PeakMemory(host, _device_peak())


def _device_peak() -> int | None:
    if active_backend() == "jax":
        import jax

        statistics = jax.local_devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use")
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] if gpus else None


def device_name() -> str:
    """The model of the first device that computes: ``NVIDIA H100 80GB HBM3``, or ``cpu``."""
    if active_backend() == "jax":
        import jax

        return jax.local_devices()[0].device_kind
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "gpu") if gpus else "cpu"


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
        UserError: the back-end is not TensorFlow, which alone has such graphs.
    """
    if active_backend() != "tensorflow":
        raise UserError("--log_graph needs the TensorFlow back-end; leave it out or add --backend tensorflow")
    import tensorflow as tf

    graph = tf.function(function).get_concrete_function(batch).graph
    writer = tf.summary.create_file_writer(directory)
    with writer.as_default():
        tf.summary.graph(graph)
    writer.close()
    return Counter(operation.type for operation in graph.get_operations())


def _show_gpus(count: int) -> None:
    """Hides all but the first ``count`` GPUs; works for both back-ends, before either starts."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(count)] if visible is None else visible.split(",")[:count]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names) if names else "-1"


def leave_accelerators_to_jax() -> None:
    """Hides GPUs and TPUs from TensorFlow where Keras runs on JAX: TensorFlow then only reads the data.

    Called by `maskrcnn.data` when it loads TensorFlow, which would otherwise take nearly all of the GPU's memory.
    """
    name = active_backend() if "keras" in sys.modules else os.environ.get("KERAS_BACKEND")
    if name == "jax" and has_tensorflow():
        import tensorflow as tf

        for kind in ("GPU", "TPU"):
            tf.config.set_visible_devices([], kind)
