"""Reads pickles of weights safely.

A pickle is a program, and Python's own reader calls any function that it names. This reader knows a few names, and each
of them stands for a function of this file, never for the original. Any other name is an error.
"""

import pickle
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskrcnn.errors import UserError

NUMBER_KINDS = "biuf"  # NumPy's codes of booleans, integers and floats


class Known:
    """A function that a pickle may call but, unlike a plain function, cannot modify."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]):
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any) -> Any:
        """Calls the function."""
        return self._call(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("it tries to modify a function")


class Token(NamedTuple):
    """A class that a pickle may name but not call."""

    name: str


class StateDict(dict):
    """A replacement for OrderedDict that drops the attributes which PyTorch adds."""

    def __setstate__(self, state: Any) -> None:
        del state


class RestrictedUnpickler(pickle.Unpickler):
    """Reads one object.

    Args:
        file: open for reading, at the start of a pickle.
        known: the replacements of what the pickle may name, by (module, name).
        storage: turns PyTorch's description of a storage into an object; None if there are no storages.
    """

    def __init__(
        self,
        file: IO[bytes],
        known: Mapping[tuple[str, str], Any],
        storage: Callable[[Any], Any] | None = None,
    ):
        super().__init__(file, encoding="latin1")  # for Python 2's byte strings
        self.known, self.storage = known, storage

    def find_class(self, module: str, name: str) -> Any:
        """Returns the replacement of a name; called by pickle."""
        if (module, name) not in self.known:
            raise ForbiddenNameError(f"{module}.{name}")
        return self.known[module, name]

    def persistent_load(self, description: Any) -> Any:
        """Returns the storage of a description; called by pickle."""
        if self.storage is None:
            raise pickle.UnpicklingError("it refers to data outside the file")
        return self.storage(description)


class ForbiddenNameError(Exception):
    """A pickle names a function or class that weights do not need."""


def read_pickle(unpickler: RestrictedUnpickler, path: Any) -> Any:
    """Reads the next object.

    Raises:
        UserError: the pickle is damaged, or names something that weights do not need. None of its code has been run.
    """
    try:
        return unpickler.load()
    except ForbiddenNameError as error:
        raise UserError(
            f"{path}: refers to {error}, which weights do not need; none of its code was run. "
            "Save the state_dict alone, or use a .safetensors file"
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise UserError(f"{path}: damaged or not a checkpoint ({error}); download or copy it again") from error


class _DType:
    """A replacement for numpy.dtype, built from its code and then given its byte order as state."""

    def __init__(self, code: Any, *_: Any):
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in NUMBER_KINDS:
            raise pickle.UnpicklingError(f"an array of {code}")

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """A replacement for numpy.ndarray, which is pickled as an empty array and its state."""

    value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _make_array(data, dtype, shape, "F" if fortran else "C")


def _make_array(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    if not isinstance(dtype, _DType) or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array of unknown kind")
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    value = np.frombuffer(raw, dtype.dtype).reshape(tuple(int(size) for size in shape), order=order)
    return value.astype(dtype.dtype.newbyteorder("="))


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.value = _make_array(data, dtype, shape, order)
    return array


def _encode(text: str, encoding: str) -> bytes:
    """Replaces codecs.encode, with which Python 3 writes bytes into old pickle protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in {encoding}")
    return text.encode("latin1")


def _ignore(*_: Any) -> None:
    """Replaces NumPy's scalars, such as a learning rate, with None."""


def numpy_names() -> dict[tuple[str, str], Any]:
    """The names that occur in pickles of NumPy arrays, before and after NumPy 2, with their replacements."""
    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): Token("ndarray"),
        ("numpy", "dtype"): Known(_DType),
        ("_codecs", "encode"): Known(_encode),
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = Known(lambda *_: _Array())
        names[f"{core}.multiarray", "scalar"] = Known(_ignore)
        names[f"{core}.numeric", "_frombuffer"] = Known(_from_buffer)
    return names


def array_of(value: Any) -> NDArray[Any] | None:
    """The array in a replacement of numpy.ndarray; None for any other object."""
    return value.value if isinstance(value, _Array) else None
