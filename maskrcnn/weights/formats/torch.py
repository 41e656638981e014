"""PyTorch's checkpoints without PyTorch: the zip files of today and the plain ones from before version 1.6.

A pickle describes the tensors. Their numbers are beside it, in "storages" that several tensors may share.
"""

import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from maskrcnn.errors import UserError
from maskrcnn.weights.formats.pickles import Known, RestrictedUnpickler, StateDict, Token, numpy_names, read_pickle

Array = NDArray[Any]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
MAX_PICKLE = 1 << 26  # bytes; a description of 10,000 tensors has about 1 MB

# NumPy has no bfloat16, which is the upper half of a float32
STORAGE_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class Described:
    """An object that a pickle describes and, once it has been checked, cannot modify."""

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it tries to modify a tensor")


class Storage(Described):
    """A block of numbers, which are read after the pickle."""

    def __init__(self, kind: Token, key: str, size: int):
        self.key, self.size = key, size
        self.dtype = STORAGE_DTYPES[kind.name]
        self.numbers: Array | None = None

    @property
    def num_bytes(self) -> int:
        """The size of the numbers."""
        return self.size * (2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize)

    def fill(self, data: bytes) -> None:
        """Sets the numbers."""
        if len(data) != self.num_bytes:
            raise ValueError(f"storage {self.key} has {len(data)} bytes, expected {self.num_bytes}")
        self.numbers = bfloat16(data) if self.dtype == "bfloat16" else np.frombuffer(data, self.dtype)


class Tensor(Described):
    """A view of a storage."""

    def __init__(self, storage: Storage, offset: int, shape: Any, strides: Any, *_: Any):
        self.storage, self.offset = storage, int(offset)
        self.shape, self.strides = tuple(map(int, shape)), tuple(map(int, strides))
        size = math.prod(self.shape)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        outside = min((self.offset, *self.shape, *self.strides)) < 0 or (size and last >= storage.size)
        if outside or size > storage.size:
            raise pickle.UnpicklingError(f"a tensor of shape {self.shape} reaches beyond its storage")

    def array(self) -> Array:
        """Copies the numbers of the view."""
        numbers = self.storage.numbers
        assert numbers is not None
        strides = tuple(step * numbers.itemsize for step in self.strides)
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides).copy()


def bfloat16(data: bytes) -> Array:
    """Converts bfloat16 numbers to float32."""
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


def read_torch_zip(path: Path) -> Any:
    """Reads what ``torch.save`` wrote, with arrays for tensors.

    Raises:
        UserError: damaged, not a checkpoint, or a pickle that names something that weights do not need.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            descriptions = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(descriptions) != 1:
                raise UserError(f"{path}: a zip file without PyTorch's data.pkl; give a checkpoint")
            root = descriptions[0].removesuffix("data.pkl")
            if archive.getinfo(descriptions[0]).file_size > MAX_PICKLE:
                raise UserError(f"{path}: its data.pkl is too large for a description of tensors")
            if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
                raise UserError(f"{path}: written on a big-endian machine; save it again on a little-endian one")
            storages: dict[str, Storage] = {}
            with archive.open(descriptions[0]) as file:
                content = read_pickle(RestrictedUnpickler(file, _names(), _registry(storages)), path)
            for storage in storages.values():
                entry = archive.getinfo(f"{root}data/{storage.key}")
                if entry.file_size != storage.num_bytes:  # checked before a compressed entry could fill the memory
                    raise ValueError(f"storage {storage.key} has {entry.file_size} bytes")
                storage.fill(archive.read(entry))
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path}: damaged or truncated ({error}); download or copy it again") from error
    return _with_arrays(content)


def read_torch_legacy(file: IO[bytes], path: Path) -> Any:
    """Reads the older format, from behind the magic number.

    Raises:
        UserError: see `read_torch_zip`.
    """
    storages: dict[str, Storage] = {}
    protocol = read_pickle(RestrictedUnpickler(file, {}), path)
    machine = read_pickle(RestrictedUnpickler(file, {}), path)
    if protocol != LEGACY_PROTOCOL or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise UserError(f"{path}: an unknown variant of PyTorch's old format; save it again with PyTorch 1.6 or newer")
    content = read_pickle(RestrictedUnpickler(file, _names(), _registry(storages)), path)
    keys = read_pickle(RestrictedUnpickler(file, {}), path)
    try:
        for key in keys:
            storage = storages[key]
            (size,) = struct.unpack("<q", file.read(8))
            if size != storage.size:
                raise ValueError(f"storage {key} has {size} numbers, expected {storage.size}")
            storage.fill(file.read(storage.num_bytes))
        if any(storage.numbers is None for storage in storages.values()):
            raise ValueError("a storage is missing")
    except (struct.error, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged or truncated ({error}); download or copy it again") from error
    return _with_arrays(content)


def _names() -> Mapping[tuple[str, str], Any]:
    names = {
        **numpy_names(),  # training loops save them beside the tensors
        ("collections", "OrderedDict"): Known(StateDict),
        ("torch._utils", "_rebuild_tensor_v2"): Known(Tensor),
        ("torch._utils", "_rebuild_parameter"): Known(lambda tensor, *_: tensor),
    }
    for kind in STORAGE_DTYPES:
        names["torch", kind] = Token(kind)
    return names


def _registry(storages: dict[str, Storage]) -> Any:
    """Returns a function that gives each key of a pickle its own storage."""

    def storage_of(description: Any) -> Storage:
        tag, kind, key, _location, size, *view = description
        if tag != "storage" or not isinstance(kind, Token) or view not in ([], [None]):
            raise pickle.UnpicklingError(f"an unknown kind of storage: {tag!r}")
        return storages.setdefault(str(key), Storage(kind, str(key), int(size)))

    return storage_of


def _with_arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.array()
    if isinstance(value, dict):
        return {key: _with_arrays(item) for key, item in value.items()}
    return value
