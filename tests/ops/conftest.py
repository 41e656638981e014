"""How the tests of the ops run a function: op by op, compiled, or with sizes unknown at trace time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

GOLDENS = Path(__file__).parents[1] / "fixtures" / "goldens" / "ops.npz"
BACKEND = keras.backend.backend()


def to_numpy(outputs: Any) -> Any:
    return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


def to_tensors(arrays: tuple[np.ndarray, ...]) -> list[Any]:
    return [keras.ops.convert_to_tensor(array) for array in arrays]


def run_eager(function: Callable, *arrays: np.ndarray) -> Any:
    return to_numpy(function(*to_tensors(arrays)))


def run_compiled(function: Callable, *arrays: np.ndarray) -> Any:
    if BACKEND == "jax":
        import jax

        return to_numpy(jax.jit(function)(*to_tensors(arrays)))
    import tensorflow as tf

    return to_numpy(tf.function(function, jit_compile=True)(*to_tensors(arrays)))


@pytest.fixture
def compute() -> Callable:
    """``compute(function, *arrays)``: NumPy outputs, found the way that starts sooner (JAX compiles each op alone)."""
    return run_compiled if BACKEND == "jax" else run_eager


@pytest.fixture
def eager() -> Callable:
    """Like ``compute``, but always op by op."""
    return run_eager


@pytest.fixture
def compiled() -> Callable:
    """Like ``compute``, but always through XLA."""
    return run_compiled


@pytest.fixture(params=[run_eager, run_compiled], ids=["eager", "compiled"])
def run(request: pytest.FixtureRequest) -> Callable:
    """Like ``compute``; the test runs twice: op by op, and through XLA."""
    return request.param


@pytest.fixture
def run_unknown_sizes() -> Callable:
    """Runs a function traced with every dimension but the last unknown (TensorFlow; JAX always knows them)."""
    if BACKEND != "tensorflow":
        return run_compiled
    import tensorflow as tf

    def trace_and_run(function: Callable, *arrays: np.ndarray) -> Any:
        tensors = to_tensors(arrays)
        shapes = [[None] * (array.ndim - 1) + list(array.shape[-1:]) for array in arrays]
        signature = [tf.TensorSpec(shape, tensor.dtype) for shape, tensor in zip(shapes, tensors, strict=True)]
        return to_numpy(tf.function(function, input_signature=signature)(*tensors))

    return trace_and_run


@pytest.fixture
def gradient() -> Callable:
    """``gradient(function, array)``: the derivative of the scalar function at the array."""

    def of(function: Callable, array: np.ndarray) -> np.ndarray:
        if BACKEND == "jax":
            import jax

            return np.asarray(jax.jit(jax.grad(function))(array))
        import tensorflow as tf

        tensor = tf.convert_to_tensor(array)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            value = function(tensor)
        return tf.convert_to_tensor(tape.gradient(value, tensor)).numpy()

    return of


@pytest.fixture(scope="session")
def goldens() -> dict[str, np.ndarray]:
    """Inputs and outputs of torchvision's operations."""
    with np.load(GOLDENS) as archive:
        return dict(archive)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def random_boxes(rng: np.random.Generator) -> Callable[..., np.ndarray]:
    """``random_boxes(*shape)``: boxes of 2 to 40 px in and around a 100 px image, [*shape, 4]."""

    def draw(*shape: int) -> np.ndarray:
        corner = rng.uniform(-10, 90, (*shape, 2))
        return np.concatenate([corner, corner + rng.uniform(2, 40, (*shape, 2))], -1).astype("float32")

    return draw
