"""Reads checkpoints that PyTorch itself wrote, and refuses malicious and damaged ones."""

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskrcnn.errors import UserError
from maskrcnn.weights.formats.checkpoint_files import read_tensors
from maskrcnn.weights.formats.pickles import Budget, numpy_names

CHECKPOINTS = Path(__file__).parents[2] / "fixtures" / "checkpoints"
PYTORCH_FILES = ("zip.pth", "legacy.pth", "training_loop.pth")


class Bomb:
    """Pickles into a program that makes a file."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("name", PYTORCH_FILES)
def test_pytorch_file(name: str) -> None:
    tensors = read_tensors(CHECKPOINTS / name)
    base = np.arange(24, dtype=np.float32)
    expected = {
        "whole": base.reshape(2, 3, 4),
        "shared": base[4:10].reshape(2, 3),
        "transposed": base.reshape(4, 6).T,
        "half": np.full(3, 1.5, np.float32),
        "brain": np.array([1.5, -2.0, 3.140625], np.float32),
        "counter": np.array(7),
        "parameter": np.full(2, 0.25, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "flags": np.array([True, False]),
    }
    assert list(tensors) == list(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(tensors[key], value, strict=True)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_detectron2_file(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    model = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.asfortranarray([[1.0, 2.0], [3.0, 4.0]])}
    content = {"model": model, "__author__": "somebody", "iteration": np.float64(3)}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    tensors = read_tensors(path)
    np.testing.assert_array_equal(tensors["a"], model["a"], strict=True)
    np.testing.assert_array_equal(tensors["b"], np.array([[1, 2], [3, 4]], np.float32), strict=True)


def write_safetensors(path: Path, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    header = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [8, 12]},
        "a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
    }
    write_safetensors(path, header, struct.pack("<ff", 1.0, -3.5) + b"\x80\x3f\x00\xc0")  # upper halves of 1 and -2
    tensors = read_tensors(path)
    np.testing.assert_array_equal(tensors["a"], np.array([[1.0, -3.5]], np.float32), strict=True)
    np.testing.assert_array_equal(tensors["b"], np.array([1.0, -2.0], np.float32), strict=True)


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 80]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "object", "shape": [1], "data_offsets": [0, 8]},
        {"shape": [1]},
        7,
    ],
)
def test_wrong_safetensors_header_is_refused(tensor: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"a": tensor}, bytes(8))
    with pytest.raises(UserError, match="damaged or truncated"):
        read_tensors(path)


@pytest.mark.parametrize("name", PYTORCH_FILES)
def test_truncated_file_is_refused(name: str, tmp_path: Path) -> None:
    whole = (CHECKPOINTS / name).read_bytes()
    path = tmp_path / name
    for size in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=str(path)):
            read_tensors(path)


@pytest.mark.parametrize("name", PYTORCH_FILES)
def test_flipped_bits_raise_user_errors_only(name: str, tmp_path: Path) -> None:
    whole = bytearray((CHECKPOINTS / name).read_bytes())
    path = tmp_path / name
    refused = 0
    for place in range(0, len(whole), 31):
        broken = whole.copy()
        broken[place] ^= 0xFF
        path.write_bytes(broken)
        try:
            read_tensors(path)
        except UserError:
            refused += 1
    assert refused > 10  # a bit of a number in the old format, which has no checksums, cannot be detected


def write_zip(path: Path, description: bytes, storages: dict[str, bytes] | None = None) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", description)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)


def test_program_in_a_zip_is_not_run(tmp_path: Path) -> None:
    path, target = tmp_path / "evil.pth", tmp_path / "made"
    write_zip(path, pickle.dumps({"weight": Bomb(target)}))
    with pytest.raises(UserError, match=r"refers to posix\.mkdir, which weights do not need; none of its code was run"):
        read_tensors(path)
    assert not target.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_program_in_a_pickle_is_not_run(protocol: int, tmp_path: Path) -> None:
    path, target = tmp_path / "evil.pkl", tmp_path / "made"
    path.write_bytes(pickle.dumps({"model": {"weight": Bomb(target)}}, protocol=protocol))
    with pytest.raises(UserError, match="mkdir"):
        read_tensors(path)
    assert not target.exists()


def test_program_in_an_old_pytorch_file_is_not_run(tmp_path: Path) -> None:
    path, target = tmp_path / "evil.pth", tmp_path / "made"
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, Bomb(target), [])
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    with pytest.raises(UserError, match="mkdir"):
        read_tensors(path)
    assert not target.exists()


@pytest.mark.parametrize("name", ["builtins eval", "os system", "numpy load", "torch load", "builtins getattr"])
def test_other_names_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "evil.pkl"
    module, function = name.split()
    path.write_bytes(b"\x80\x02c" + f"{module}\n{function}\n".encode() + b".")
    with pytest.raises(UserError, match=rf"{module}\.{function}"):
        read_tensors(path)


def test_known_functions_cannot_be_changed_by_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "evil.pkl"
    # numpy.dtype, then BUILD with the state (None, {"_call": "x"}), which sets attributes
    path.write_bytes(b"\x80\x02cnumpy\ndtype\n(N}X\x05\x00\x00\x00_callX\x01\x00\x00\x00xstb.")
    with pytest.raises(UserError, match="damaged"):
        read_tensors(path)
    assert numpy_names(Budget(io.BytesIO()))["numpy", "dtype"]("f4").dtype == np.float32


@pytest.mark.parametrize("array", [np.array([{}], dtype=object), np.array(["text"]), np.array([1j])])
def test_arrays_of_no_numbers_are_refused(array: Any, tmp_path: Path) -> None:
    path = tmp_path / "array.pkl"
    path.write_bytes(pickle.dumps({"a": array}))
    with pytest.raises(UserError, match="damaged or not a checkpoint"):
        read_tensors(path)


def tensor_pickle(size: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """The pickle of {"a": a tensor}, opcode by opcode: its storage "0" has ``size`` floats."""

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    storage += b"J" + struct.pack("<i", size) + b"tQ"
    arguments = b"(" + storage + b"J" + struct.pack("<i", offset) + numbers(shape) + numbers(strides) + b"\x89Nt"
    return b"\x80\x02}" + text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


def test_tensor_by_opcodes(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    write_zip(path, tensor_pickle(6, 1, (2, 2), (3, 1)), {"0": np.arange(6, dtype="<f4").tobytes()})
    np.testing.assert_array_equal(read_tensors(path)["a"], [[1, 2], [4, 5]])


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(3, (2, 2), (3, 1)), (-1, (2,), (1,)), (0, (2,), (-1,)), (0, (10**6, 10**6), (0, 0)), (0, (7,), (0,))],
)
def test_tensor_beyond_its_storage_is_refused(offset, shape, strides, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    write_zip(path, tensor_pickle(6, offset, shape, strides), {"0": bytes(24)})
    with pytest.raises(UserError, match=r"beyond its storage|an array of shape"):
        read_tensors(path)


@pytest.mark.parametrize("attribute", ["shape", "offset"])
def test_checked_tensor_cannot_be_changed(attribute: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    text = attribute.encode()
    change = b"}X" + struct.pack("<I", len(text)) + text + b"J" + struct.pack("<i", 10**6) + b"sb"  # BUILD
    valid = tensor_pickle(6, 0, (2,), (1,))
    write_zip(path, valid.removesuffix(b"s.") + change + b"s.", {"0": bytes(24)})
    with pytest.raises(UserError, match="it tries to modify a tensor"):
        read_tensors(path)


def test_storage_of_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    write_zip(path, tensor_pickle(6, 0, (2,), (1,)), {"0": bytes(20)})
    with pytest.raises(UserError, match="data/0 has 20 bytes, expected 24"):
        read_tensors(path)
    write_zip(path, tensor_pickle(6, 0, (2,), (1,)))
    with pytest.raises(UserError, match="damaged or truncated"):
        read_tensors(path)


def test_a_storage_that_is_too_large_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pth"
    write_zip(path, tensor_pickle(6, 0, (2,), (1,)), {"0": bytes(25)})
    read = zipfile.ZipFile.read

    def read_small(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
        assert entry.filename != "archive/data/0"
        return read(archive, entry)

    monkeypatch.setattr(zipfile.ZipFile, "read", read_small)
    with pytest.raises(UserError, match="data/0 has 25 bytes, expected 24"):
        read_tensors(path)


def test_storage_of_another_length_in_an_old_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    whole = (CHECKPOINTS / "legacy.pth").read_bytes()
    assert whole.count(struct.pack("<q", 24)) == 1
    path.write_bytes(whole.replace(struct.pack("<q", 24), struct.pack("<q", 23)))
    with pytest.raises(UserError, match="has 23 numbers, expected 24"):
        read_tensors(path)


def test_references_outside_a_pickle_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02Nq\x00Q.")
    with pytest.raises(UserError, match="outside the file"):
        read_tensors(path)


@pytest.mark.parametrize("content", [b"", b"hello, world", b"\x89HDF\r\n\x1a\n" + bytes(64), b"PK\x03\x04" + bytes(64)])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "something"
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(path)):
        read_tensors(path)


def test_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.pth: no such file"):
        read_tensors(tmp_path / "nowhere.pth")
