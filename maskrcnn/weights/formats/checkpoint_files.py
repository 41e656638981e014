"""Reads the tensors of checkpoint files; the format is detected by the first bytes, and no code in a file is run."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from maskrcnn.errors import UserError
from maskrcnn.weights.formats.pickles import RestrictedUnpickler, array_of, numpy_names, read_pickle
from maskrcnn.weights.formats.tensorflow import checkpoint_prefix, read_tensorflow
from maskrcnn.weights.formats.torch import LEGACY_MAGIC, bfloat16, read_torch_legacy, read_torch_zip

Array = NDArray[Any]

NESTED = ("model", "state_dict", "model_state_dict")  # keys under which training loops save the weights
MAX_HEADER = 100 << 20  # bytes; the limit of the safetensors library

SAFETENSORS_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


def read_tensors(path: str | Path) -> dict[str, Array]:
    """Reads all tensors of a checkpoint by name, floating-point ones as float32.

    Args:
        path: a .pth, .safetensors or Detectron2 .pkl file, or the prefix of a TensorFlow checkpoint.

    Raises:
        UserError: missing, damaged, of another format, or a pickle that refers to more than tensors.
    """
    path = Path(path)
    if prefix := checkpoint_prefix(path):
        return read_tensorflow(prefix)
    try:
        with path.open("rb") as file:
            start = file.read(9)
            file.seek(0)
            content = _read(file, start, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    return _flat(content, path)


def _read(file: IO[bytes], start: bytes, path: Path) -> Any:
    if start.startswith(b"PK\x03\x04"):
        return read_torch_zip(path)
    if start.startswith(b"\x89HDF"):
        raise UserError(f"{path}: Keras weights of a model; give its model folder instead")
    if start[8:9] == b"{":
        return _read_safetensors(file, path)
    if start.startswith(b"\x80"):
        content = read_pickle(RestrictedUnpickler(file, numpy_names()), path)
        return read_torch_legacy(file, path) if content == LEGACY_MAGIC else content
    raise UserError(f"{path}: not a .pth, .safetensors or .pkl checkpoint; check what was downloaded")


def _read_safetensors(file: IO[bytes], path: Path) -> dict[str, Array]:
    """Parses a JSON header with the type, shape and position of each tensor, and the numbers after it."""
    data = memoryview(file.read())
    header_size = int.from_bytes(data[:8], "little")
    tensors = {}
    try:
        if header_size > min(MAX_HEADER, len(data) - 8):
            raise ValueError(f"a header of {header_size} bytes in a file of {len(data)}")
        header = json.loads(bytes(data[8 : 8 + header_size]))
        numbers = data[8 + header_size :]
        for name, tensor in header.items():
            if name != "__metadata__":
                begin, end = tensor["data_offsets"]
                if not 0 <= begin <= end <= len(numbers):
                    raise ValueError(f"{name} lies at {begin} to {end} of {len(numbers)} bytes")
                tensors[name] = _safetensor(bytes(numbers[begin:end]), tensor["dtype"], tensor["shape"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged or truncated ({error}); download or copy it again") from error
    return tensors


def _safetensor(data: bytes, dtype: str, shape: list[int]) -> Array:
    numbers = bfloat16(data) if dtype == "BF16" else np.frombuffer(data, SAFETENSORS_DTYPES[dtype])
    if numbers.size != math.prod(shape):
        raise ValueError(f"{numbers.size} numbers for shape {shape}")
    return numbers.reshape(shape)


def _flat(content: Any, path: Path) -> dict[str, Array]:
    """Finds the mapping of names to arrays, wherever a training loop saved it."""
    if isinstance(content, Mapping):
        for key in NESTED:
            if isinstance(content.get(key), Mapping):
                return _flat(content[key], path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: has no named tensors; save the model's state_dict")
    tensors = {}
    for name, value in content.items():
        array = value if isinstance(value, np.ndarray) else array_of(value)
        if array is None:
            if isinstance(value, str | int | float | None):
                continue  # such as the author or the number of steps
            raise UserError(f"{path}: {name}: not a tensor; save the model's state_dict alone")
        tensors[str(name)] = array.astype(np.float32) if array.dtype.kind == "f" else array
    if not tensors:
        raise UserError(f"{path}: has no tensors; save the model's state_dict")
    return tensors
