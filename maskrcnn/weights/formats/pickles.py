"""Pickles without their danger: only what weights need, and that through stand-ins.

A pickle is a program; Python's own reader would call whatever function it names. This one knows a handful of names, and
each of them stands for a function of this file, never for the original. Any other name stops the reading.
"""

import pickle
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskrcnn.errors import UserError

NUMBER_KINDS = "biuf"  # NumPy's codes of booleans, integers and floats


class Known:
    """A function that a pickle may call; unlike a plain function it cannot be altered by the pickle."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]):
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("a known function was to be changed")


class Token(NamedTuple):
    """A class that a pickle may name but not use."""

    name: str


class StateDict(dict):
    """Stands for OrderedDict; the attributes that PyTorch adds to it are dropped."""

    def __setstate__(self, state: Any) -> None:
        del state


class RestrictedUnpickler(pickle.Unpickler):
    """Reads one object.

    Args:
        file: open for reading, at the start of a pickle.
        known: what the pickle may name, by (module, name).
        storage: makes an object of PyTorch's description of a storage; None where there are none.
    """

    def __init__(
        self,
        file: IO[bytes],
        known: Mapping[tuple[str, str], Any],
        storage: Callable[[Any], Any] | None = None,
    ):
        super().__init__(file, encoding="latin1")  # Python 2's byte strings
        self.known, self.storage = known, storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.known:
            raise ForbiddenNameError(f"{module}.{name}")
        return self.known[module, name]

    def persistent_load(self, description: Any) -> Any:
        if self.storage is None:
            raise pickle.UnpicklingError("a reference to data outside of the file")
        return self.storage(description)


class ForbiddenNameError(Exception):
    """A pickle names a function or class that weights have no need for."""


def read_pickle(unpickler: RestrictedUnpickler, path: Any) -> Any:
    """The unpickler's next object.

    Raises:
        UserError: the pickle names something unknown, or is damaged. Nothing of it has been executed.
    """
    try:
        return unpickler.load()
    except ForbiddenNameError as error:
        raise UserError(
            f"{path}: wants to use {error}, which weights have no need for; nothing was executed. "
            "Save the bare state_dict, or use a .safetensors file"
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise UserError(f"{path}: damaged or not a checkpoint ({error}); get it again") from error


class _DType:
    """Stands for numpy.dtype: first its code, then, as the state, its byte order."""

    def __init__(self, code: Any, *_: Any):
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in NUMBER_KINDS:
            raise pickle.UnpicklingError(f"an array of {code}")

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for numpy.ndarray, which NumPy pickles as an empty array and a state."""

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
    """Stands for codecs.encode, by which Python 3 writes bytes into old pickles."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in {encoding}")
    return text.encode("latin1")


def _ignore(*_: Any) -> None:
    """Stands for NumPy's scalars, such as a learning rate."""


def numpy_names() -> dict[tuple[str, str], Any]:
    """What a pickle of NumPy arrays may name, before and after NumPy 2."""
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
    """The array behind a stand-in; None for anything else."""
    return value.value if isinstance(value, _Array) else None
