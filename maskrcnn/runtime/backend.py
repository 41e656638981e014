"""Choosing and configuring the Keras backend: its devices, precision and determinism.

`select_backend` must run before Keras is imported; the rest may run at any time before the first model is built.
"""

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from maskrcnn.errors import UserError
from maskrcnn.runtime.extras import import_extra

BACKENDS = ("tensorflow", "jax")  # also the extras that install them
logger = logging.getLogger(__name__)

# Keras' dtype policies of the config's precisions
POLICIES = {"float32": "float32", "tf32": "float32", "float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}


def select_backend(name: str | None = None, *, gpus: int | None = None, verbose: bool = False) -> str:
    """Makes Keras use backend ``name`` (or ``KERAS_BACKEND``, or TensorFlow) and returns its name.

    Args:
        name: "tensorflow" or "jax".
        gpus: use only the first N of the visible GPUs; 0 is the CPU, None is all.
        verbose: let the libraries print their own log messages.

    Raises:
        UserError: an unknown or uninstalled backend, fewer GPUs than asked for, or Keras already runs on another one.
    """
    name = name or os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in BACKENDS:
        raise UserError(f"backend {name!r} is not one of {', '.join(BACKENDS)}")
    if not all(importlib.util.find_spec(package) for package in (name, "keras")):
        raise UserError(f"backend {name!r} is not installed; run: pip install 'maskrcnn[{name}]'")
    if "keras" in sys.modules and active_backend() != name:
        raise UserError(f"Keras already runs on {active_backend()}; choose {name} before anything imports Keras")
    if name == "jax":
        _check_platforms()
    os.environ["KERAS_BACKEND"] = name
    if gpus is not None:
        _show_gpus(check_gpus(gpus))
    if name == "tensorflow" or has_tensorflow():
        import_tensorflow(verbose=verbose)
    return name


def _check_platforms() -> None:
    """Raises a ``UserError`` where JAX would look for a GPU that is not there, and end in an assertion."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if {"cuda", "gpu"} & set(platforms.lower().split(",")) and installed_gpus() == 0:
        raise UserError(
            f"JAX_PLATFORMS={platforms}: this machine has no NVIDIA GPU that programs can see; unset the variable"
        )


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed; JAX needs it only to read data."""
    return importlib.util.find_spec("tensorflow") is not None


def import_tensorflow(*, verbose: bool = False) -> Any:
    """TensorFlow, which also reads the data for JAX; its log output is suppressed unless ``verbose``.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    if verbose:
        return import_extra("tensorflow")
    sys.stderr.flush()
    standard_error = os.dup(2)
    with open(os.devnull, "w") as null:  # its libraries log while they load, before they read that variable
        os.dup2(null.fileno(), 2)
        try:
            return import_extra("tensorflow")
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


def active_backend() -> str:
    """The name of the backend that Keras runs on."""
    import keras

    return keras.backend.backend()


def set_precision(precision: str) -> None:
    """Sets the dtype policy of the layers built from now on, and the precision of float32 products on a GPU.

    "float32" multiplies in full float32, the others in TensorFloat-32 (10 bits of mantissa) where the device has it.
    """
    import keras

    keras.config.set_dtype_policy(POLICIES[precision])
    if active_backend() == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest" if precision == "float32" else "tensorfloat32")
    else:
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(precision != "float32")


def set_seed(seed: int, *, xla: bool = False) -> None:
    """Seeds Python, NumPy and the backend, and makes TensorFlow's operations deterministic.

    With ``xla`` they stay as they are: Keras does not allow XLA and determinism together.
    """
    import keras

    keras.utils.set_random_seed(seed)
    if active_backend() == "tensorflow" and not xla:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def scale_loss_by_replicas(loss: Any) -> Any:
    """The part of a replica in the mean loss of all: TensorFlow adds up their gradients instead of averaging them."""
    if active_backend() != "tensorflow":
        return loss
    import tensorflow as tf

    return loss / tf.distribute.get_strategy().num_replicas_in_sync


def check_gpus(count: int) -> int:
    """Compares the GPUs asked for with those that the machine has, before a backend is imported.

    One GPU where there is none becomes the CPU, with a warning: it is one device, so the recipe is the same.

    Returns:
        The number of GPUs to use.

    Raises:
        UserError: more GPUs than there are, or fewer than none.
    """
    if count < 0:
        raise UserError(f"--gpus {count}: expected 0 (the CPU) or more")
    found = installed_gpus()
    if found is None or count <= found:
        return count
    if count > 1:
        remedy = f"use --gpus {found}" if found else "use --gpus 1 to run on the CPU, or a machine with GPUs"
        have = f"has {found}" if found else "has no NVIDIA GPU"
        raise UserError(
            f"--gpus {count}: this machine {have} that programs can see (nvidia-smi, CUDA_VISIBLE_DEVICES); {remedy}"
        )
    logger.warning("--gpus 1: no GPU here; running on the CPU")
    return 0


def installed_gpus() -> int | None:
    """The number of NVIDIA GPUs that this process may use; None where other accelerators cannot be ruled out."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))
    if tool := shutil.which("nvidia-smi"):
        try:
            listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
            return sum(line.startswith("GPU ") for line in listed.splitlines())
        except (OSError, subprocess.SubprocessError):
            return 0
    if devices := list(Path("/dev").glob("nvidia[0-9]*")):
        return len(devices)
    return None if sys.platform == "darwin" or Path("/dev/kfd").exists() else 0  # Metal; ROCm


def _show_gpus(count: int) -> None:
    """Hides all but the first ``count`` GPUs; works for both backends, before either starts."""
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
