"""Reads the tensors of checkpoint files; the format is detected by the first bytes, and no code in a file is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from maskrcnn.errors import UserError, first_line
from maskrcnn.input_files import open_regular, parse_json
from maskrcnn.weights.formats.pickles import Budget, RestrictedUnpickler, checked_sizes, numpy_names, read_pickle
from maskrcnn.weights.formats.tensorflow import checkpoint_prefix, read_tensorflow
from maskrcnn.weights.formats.torch import LEGACY_MAGIC, numbers_of, read_torch_legacy, read_torch_zip

Array = NDArray[Any]

NESTED = ("model", "state_dict", "model_state_dict")  # keys under which training loops save the weights
MAX_NESTED = 4  # such keys within each other
MAX_BYTES = 8 << 30  # of a file; the largest published Mask R-CNN has 2.8 GB with its optimizer
MAX_HEADER = 16 << 20  # bytes; 10,000 tensors take some 1.5 MB

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
    "BF16": "bfloat16",
}


def read_tensors(path: str | Path) -> dict[str, Array]:
    """Reads all tensors of a checkpoint by name, floating-point ones as float32.

    Args:
        path: a .pth, .safetensors or Detectron2 .pkl file, or the prefix of a TensorFlow checkpoint.

    They take at most twice the memory of the file, and are read-only: several may share memory.

    Raises:
        UserError: missing, damaged, of another format, or a pickle that refers to more than tensors.
    """
    path = Path(path)
    if prefix := checkpoint_prefix(path):
        return read_tensorflow(prefix)
    with open_regular(path) as file:
        size = file.seek(0, 2)
        if size > MAX_BYTES:
            raise UserError(
                f"{path}: {size / 1e9:.0f} GB, a checkpoint has at most {MAX_BYTES / 1e9:.0f}; give another"
            )
        file.seek(0)
        try:
            return _flat(_read(file, path), path)
        except UserError:
            raise
        except Exception as error:  # a damaged file can fail in any way
            raise UserError(f"{path}: damaged or truncated ({first_line(error)}); download or copy it again") from error


def _read(file: IO[bytes], path: Path) -> Any:
    start = file.read(9)
    file.seek(0)
    if start.startswith(b"PK\x03\x04"):
        return read_torch_zip(file, path)
    if start.startswith(b"\x89HDF"):
        raise UserError(f"{path}: Keras weights of a model; give its model folder instead")
    if start[8:9] == b"{":
        return _read_safetensors(file)
    if start.startswith(b"\x80"):
        content = read_pickle(RestrictedUnpickler(file, numpy_names(Budget(file))), path)
        return read_torch_legacy(file, path) if content == LEGACY_MAGIC else content
    raise UserError(f"{path}: not a .pth, .safetensors or .pkl checkpoint; check what was downloaded")


def _read_safetensors(file: IO[bytes]) -> dict[str, Array]:
    """Parses a JSON header with the type, shape and position of each tensor, and the numbers after it."""
    data = memoryview(file.read())
    header_size = int.from_bytes(data[:8], "little")
    if header_size > min(MAX_HEADER, len(data) - 8):
        raise ValueError(f"a header of {header_size} bytes in a file of {len(data)}")
    header = parse_json(bytes(data[8 : 8 + header_size]))
    header.pop("__metadata__", None)
    numbers, end, tensors = data[8 + header_size :], 0, {}
    for name, tensor in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, before = tensor["data_offsets"][0], end
        _, end = checked_sizes(tensor["data_offsets"])
        if not before <= begin <= end <= len(numbers):
            raise ValueError(f"{name} lies at {begin} to {end} of {len(numbers)} bytes, after {before}")
        values, shape = numbers_of(numbers[begin:end], SAFETENSORS_DTYPES[tensor["dtype"]]), tensor["shape"]
        tensors[name] = values.reshape(checked_sizes(shape))
    return {name: tensors[name] for name in header}


def _flat(content: Any, path: Path) -> dict[str, Array]:
    """Finds the mapping of names to arrays, wherever a training loop saved it."""
    for _ in range(MAX_NESTED):
        if not isinstance(content, Mapping):
            raise UserError(f"{path}: has no named tensors; save the model's state_dict")
        inner = next((content[key] for key in NESTED if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    tensors, converted = {}, {}
    for name, value in content.items():
        array = value if isinstance(value, np.ndarray) else getattr(value, "value", None)
        if array is None:
            if isinstance(value, str | int | float | None):
                continue  # such as the author or the number of steps
            raise UserError(f"{path}: {str(name)[:100]}: not a tensor; save the model's state_dict alone")
        if id(value) not in converted:  # once, under however many names it is
            converted[id(value)] = array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array
        tensors[str(name)] = converted[id(value)]
    if not tensors:
        raise UserError(f"{path}: has no tensors; save the model's state_dict")
    return tensors
