"""Reads pickles of weights safely.

A pickle is a program, and Python's own reader calls any function that it names. This reader knows a few names, and each
of them stands for a function of this file, never for the original. Any other name is an error. What the functions make
has at most the size of the file, which a program could otherwise have copied again and again.
"""

import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from maskrcnn.errors import UserError

NUMBER_KINDS = "biuf"  # NumPy's codes of booleans, integers and floats
MAX_OPERATIONS = 1_000_000  # of a pickle; 10,000 tensors take some 200,000
MAX_AXES = 8
MAX_SIZE = 1 << 40  # numbers along an axis
MEMO = ("PUT", "BINPUT", "LONG_BINPUT")  # operations that number what was read


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
        self.file, self.known, self.storage = file, known, storage

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
        _scan(unpickler.file)
        return unpickler.load()
    except ForbiddenNameError as error:
        raise UserError(
            f"{path}: refers to {error}, which weights do not need; none of its code was run. "
            "Save the state_dict alone, or use a .safetensors file"
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise UserError(f"{path}: damaged or not a checkpoint ({error}); download or copy it again") from error


def _scan(file: IO[bytes]) -> None:
    """Checks the operations of the next pickle without running them, and returns to its start.

    Python's unpickler makes room for as many objects as the largest number that it is told to give one.
    """
    start = file.tell()
    for count, (operation, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], _Rest(file)))):
        number = int(argument or 0) if operation.name in MEMO else 0
        if count > MAX_OPERATIONS or not 0 <= number <= MAX_OPERATIONS:
            raise pickle.UnpicklingError("it is too long for weights")
    file.seek(start)


class _Rest:
    """What is left of a file, in which no read makes room for more than there is."""

    def __init__(self, file: IO[bytes]):
        self._file, self.readline, self.tell = file, file.readline, file.tell
        start = file.tell()
        self._end = file.seek(0, 2)
        file.seek(start)

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, self._end - self._file.tell()))


class Budget:
    """The bytes that the functions of a pickle may still make."""

    def __init__(self, file: IO[bytes]):
        start = file.tell()
        self.left = file.seek(0, 2)
        file.seek(start)

    def spend(self, size: int) -> None:
        """Counts bytes.

        Raises:
            UnpicklingError: there are more than the file has.
        """
        self.left -= size
        if self.left < 0:
            raise pickle.UnpicklingError("its arrays are larger than the file")


def checked_sizes(values: Any) -> tuple[int, ...]:
    """The shape or the strides of an array.

    Raises:
        ValueError: of no array that has weights.
    """
    sizes = tuple(values)
    if len(sizes) > MAX_AXES or not all(type(size) is int and 0 <= size < MAX_SIZE for size in sizes):
        raise ValueError(f"an array of {len(sizes)} axes" if len(sizes) > MAX_AXES else f"an array of shape {sizes}")
    return sizes


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

    def __init__(self, budget: Budget):
        self.budget = budget

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _make_array(self.budget, data, dtype, shape, "F" if fortran else "C")


def _make_array(budget: Budget, data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    if not isinstance(dtype, _DType) or order not in ("C", "F") or not isinstance(data, str | bytes | bytearray):
        raise pickle.UnpicklingError("an array of unknown kind")
    budget.spend(len(data))
    raw, sizes = data.encode("latin1") if isinstance(data, str) else data, checked_sizes(shape)
    value = np.frombuffer(raw, dtype.dtype, count=math.prod(sizes)).reshape(sizes, order=order)
    return value.astype(dtype.dtype.newbyteorder("="))


def _ignore(*_: Any) -> None:
    """Replaces NumPy's scalars, such as a learning rate, with None."""


def numpy_names(budget: Budget) -> dict[tuple[str, str], Any]:
    """The names that occur in pickles of NumPy arrays, before and after NumPy 2, with their replacements."""

    def encode(text: str, encoding: str) -> bytes:  # codecs.encode, with which Python 3 writes bytes for Python 2
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"text in {encoding}")
        budget.spend(len(text))
        return text.encode("latin1")

    def from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
        array = _Array(budget)
        array.value = _make_array(budget, data, dtype, shape, order)
        return array

    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): Token("ndarray"),
        ("numpy", "dtype"): Known(_DType),
        ("_codecs", "encode"): Known(encode),
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = Known(lambda *_: _Array(budget))
        names[f"{core}.multiarray", "scalar"] = Known(_ignore)
        names[f"{core}.numeric", "_frombuffer"] = Known(from_buffer)
    return names
