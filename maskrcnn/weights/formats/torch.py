"""PyTorch's checkpoints without PyTorch: the zip files of today and the plain ones from before version 1.6.

A pickle describes the tensors. Their numbers are beside it, in "storages" that several tensors may share.
"""

import io
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
from maskrcnn.weights.formats.pickles import (
    Budget,
    Known,
    RestrictedUnpickler,
    StateDict,
    Token,
    checked_sizes,
    numpy_names,
    read_pickle,
)

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

    def __init__(self, kind: Token, key: str, size: Any):
        self.key, (self.size,) = key, checked_sizes([size])
        self.dtype = STORAGE_DTYPES[kind.name]
        self.numbers: Array | None = None

    @property
    def num_bytes(self) -> int:
        """The size of the numbers."""
        return self.size * (2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize)

    def fill(self, data: bytes) -> None:
        """Sets the numbers, floating-point ones as float32."""
        if len(data) != self.num_bytes:
            raise ValueError(f"storage {self.key} has {len(data)} bytes, expected {self.num_bytes}")
        self.numbers = numbers_of(data, self.dtype)


class Tensor(Described):
    """A view of a storage."""

    def __init__(self, storage: Storage, offset: int, shape: Any, strides: Any, *_: Any):
        self.storage, (self.offset,) = storage, checked_sizes([offset])
        self.shape, self.strides = checked_sizes(shape), checked_sizes(strides)
        size = math.prod(self.shape)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if (size and last >= storage.size) or size > storage.size:
            raise pickle.UnpicklingError(f"a tensor of shape {self.shape} reaches beyond its storage")

    @property
    def value(self) -> Array:
        """A view of the numbers; tensors that share a storage share its memory."""
        numbers = self.storage.numbers
        assert numbers is not None
        strides = tuple(step * numbers.itemsize for step in self.strides)
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False)


def numbers_of(data: bytes | memoryview, dtype: str) -> Array:
    """The numbers in some bytes, floating-point ones as float32."""
    if dtype == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    numbers = np.frombuffer(data, dtype)
    return numbers.astype(np.float32, copy=False) if numbers.dtype.kind == "f" else numbers


def read_torch_zip(file: IO[bytes], path: Path) -> Any:
    """Reads what ``torch.save`` wrote.

    Raises:
        UserError: not a checkpoint, or a pickle that names something that weights do not need.
        Exception: damaged.
    """
    with zipfile.ZipFile(file) as archive:
        descriptions = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(descriptions) != 1:
            raise UserError(f"{path}: a zip file without PyTorch's data.pkl; give a checkpoint")
        root = descriptions[0].removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and _read_entry(archive, f"{root}byteorder", 6) != b"little":
            raise UserError(f"{path}: written on a big-endian machine; save it again on a little-endian one")
        size = archive.getinfo(descriptions[0]).file_size
        if size > MAX_PICKLE:
            raise UserError(f"{path}: its data.pkl is too large for a description of tensors")
        description = io.BytesIO(_read_entry(archive, descriptions[0], size))
        storages: dict[str, Storage] = {}
        unpickler = RestrictedUnpickler(description, _names(Budget(description)), _registry(storages))
        content = read_pickle(unpickler, path)
        total = sum(storage.num_bytes for storage in storages.values())
        if total > file.seek(0, 2):  # compressed, or one entry under several names
            raise ValueError(f"{total} bytes of tensors in a smaller file")
        for storage in storages.values():
            storage.fill(_read_entry(archive, f"{root}data/{storage.key}", storage.num_bytes))
    return content


def _read_entry(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    """The content of an entry, whose size is checked before a compressed one could fill the memory."""
    entry = archive.getinfo(name)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others choose how much memory they take
        raise ValueError(f"{name} is compressed in an unusual way")
    if entry.file_size != size:
        raise ValueError(f"{name} has {entry.file_size} bytes, expected {size}")
    return archive.read(entry)


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
    content = read_pickle(RestrictedUnpickler(file, _names(Budget(file)), _registry(storages)), path)
    keys = read_pickle(RestrictedUnpickler(file, {}), path)
    left = Budget(file)
    for key in keys:
        storage = storages[key]
        (size,) = struct.unpack("<q", file.read(8))
        if size != storage.size:
            raise ValueError(f"storage {key} has {size} numbers, expected {storage.size}")
        left.spend(storage.num_bytes)
        storage.fill(file.read(storage.num_bytes))
    if any(storage.numbers is None for storage in storages.values()):
        raise ValueError("a storage is missing")
    return content


def _names(budget: Budget) -> Mapping[tuple[str, str], Any]:
    return {
        **numpy_names(budget),  # training loops save them beside the tensors
        ("collections", "OrderedDict"): Known(StateDict),
        ("torch._utils", "_rebuild_tensor_v2"): Known(Tensor),
        ("torch._utils", "_rebuild_parameter"): Known(lambda tensor, *_: tensor),
        **{("torch", kind): Token(kind) for kind in STORAGE_DTYPES},
    }


def _registry(storages: dict[str, Storage]) -> Any:
    """Returns a function that gives each key of a pickle its own storage."""

    def storage_of(description: Any) -> Storage:
        tag, kind, key, _location, size, *view = description
        if tag != "storage" or not isinstance(kind, Token) or view not in ([], [None]):
            raise pickle.UnpicklingError(f"an unknown kind of storage: {tag!r}")
        return storages.setdefault(str(key), Storage(kind, str(key), size))

    return storage_of
