"""Hostile checkpoints: one line, no more memory than a few times the file, no code run, no waiting."""

import contextlib
import json
import pickle
import random
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from maskrcnn.errors import UserError
from maskrcnn.weights.formats.checkpoint_files import read_tensors
from tests.special_files import SPECIAL, make_special
from tests.weights.formats.test_checkpoint_files import tensor_pickle, write_safetensors, write_zip

CHECKPOINTS = Path(__file__).parents[1] / "fixtures" / "checkpoints"
MIB = 1 << 20


def refused(path: Path) -> str:
    with pytest.raises(UserError) as error:
        bounded(path)
    assert str(path) in str(error.value)
    return str(error.value)


def bounded(path: Path):
    """Reads a file, in little time and memory."""
    tracemalloc.start()
    began = time.process_time()
    try:
        return read_tensors(path)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert time.process_time() - began < 5
        assert peak < 4 * path.stat().st_size + 48 * MIB


def read_or_refused(path: Path) -> None:
    with contextlib.suppress(UserError):
        bounded(path)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def tensors(names: list[str], size: int, keys: list[str], dtype: str = "Float") -> bytes:
    """The pickle of {name: a tensor of ``size`` numbers of the storage of its key}."""
    parts = [b"\x80\x02}"]
    for name, key in zip(names, keys, strict=True):
        storage = b"(" + text("storage") + f"ctorch\n{dtype}Storage\n".encode() + text(key) + text("cpu")
        storage += number(size) + b"tQ"
        arguments = b"(" + storage + number(0) + b"(" + number(size) + b"t(" + number(1) + b"t\x89Nt"
        parts.append(text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs")
    return b"".join(parts) + b"."


def test_tensors_that_share_a_deflated_storage(tmp_path):
    """98 kB, which once took 10.8 GB."""
    path, size = tmp_path / "a.pth", 2 * MIB
    names = [f"layer{i}.weight" for i in range(60)]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", tensors(names, size, ["0"] * 60))
        archive.writestr("archive/data/0", bytes(4 * size))
    assert "in a smaller file" in refused(path)


def test_tensors_that_share_a_storage_share_memory(tmp_path):
    path, size = tmp_path / "a.pth", MIB
    names = [f"layer{i}.weight" for i in range(60)]
    write_zip(path, tensors(names, size, ["0"] * 60), {"0": bytes(4 * size)})
    assert list(bounded(path)) == names


def test_entries_that_overlap_in_the_archive(tmp_path):
    path, size = tmp_path / "a.pth", MIB
    keys = [str(i) for i in range(60)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", tensors(keys, size, keys))
        archive.writestr("archive/data/0", bytes(4 * size))
        first = archive.getinfo("archive/data/0")
        for key in keys[1:]:  # the directory names the same bytes again
            entry = zipfile.ZipInfo(f"archive/data/{key}")
            for name in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(entry, name, getattr(first, name))
            archive.filelist.append(entry)
            archive.NameToInfo[entry.filename] = entry
    refused(path)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "F64", "U8"])
def test_safetensors_that_overlap(dtype, tmp_path):
    path, count = tmp_path / "a.safetensors", 2 * MIB
    size = count // {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "U8": 1}[dtype]
    entry = {"dtype": dtype, "shape": [size], "data_offsets": [0, count]}
    write_safetensors(path, {f"layer{i}": entry for i in range(60)}, bytes(count))
    assert "after" in refused(path)


HEADERS = {
    "negative offset": '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}',
    "float offset": '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0.0, 4.0]}}',
    "text offset": '{"a": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}}',
    "one offset": '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}',
    "three offsets": '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}',
    "mixed offsets": '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "b": {"data_offsets": ["x", 1]}}',
    "huge offset": '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1' + "0" * 400 + "]}}",
    "boolean offset": '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [false, 4]}}',
    "negative shape": '{"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}',
    "minus one": '{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}}',
    "float shape": '{"a": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}}',
    "text shape": '{"a": {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]}}',
    "null shape": '{"a": {"dtype": "F32", "shape": null, "data_offsets": [0, 8]}}',
    "huge axis": '{"a": {"dtype": "F32", "shape": [10000000000000, 0], "data_offsets": [0, 0]}}',
    "many axes": '{"a": {"dtype": "F32", "shape": [' + ",".join(["1"] * 100) + '], "data_offsets": [0, 4]}}',
    "huge axes": '{"a": {"dtype": "F32", "shape": [' + ",".join(["9" * 18] * 5000) + '], "data_offsets": [0, 4]}}',
    "unhashable dtype": '{"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}',
    "other dtype": '{"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}',
    "odd size": '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 3]}}',
    "list": '[{"dtype": "F32"}]',
    "deep": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "deep metadata": '{"__metadata__": ' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}",
    "truncated": '{"a": {"dtype": "F32"',
    "surrogate": '{"\\ud800": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
    "empty": "{}",
    "metadata only": '{"__metadata__": {}}',
    "no object": '{"a": 3}',
    "null": '{"a": null}',
    "NaN": '{"a": NaN}',
    "utf-16": None,
}


@pytest.mark.parametrize("name", HEADERS)
def test_safetensors_headers(name, tmp_path):
    header, path = HEADERS[name], tmp_path / "a.safetensors"
    encoded = '{"a": 1}'.encode("utf-16") if header is None else header.encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + bytes(8))
    refused(path)


@pytest.mark.parametrize("size", [0, 1, 9, 10**6, 2**31, 2**63, 2**64 - 1])
def test_sizes_of_safetensors_headers(size, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", size) + b'{"a": {}}' + bytes(8))
    refused(path)


def nested(depth: int, opening: bytes, closing: bytes) -> bytes:
    return b"\x80\x02" + opening * depth + closing * depth + b"."


PICKLES = {
    "deep lists": b"\x80\x02" + b"]" * 5_000 + b"a" * 4_999 + b".",
    "deep tuples": b"\x80\x02N" + b"\x85" * 5_000 + b".",
    "deep dicts": b"\x80\x02" + (b"}" + text("model")) * 5_000 + b"N" + b"s" * 5_000 + b".",
    "deep under a": b"\x80\x02" + (b"}" + text("a")) * 5_000 + b"N" + b"s" * 5_000 + b".",
    "a dict in itself": b"\x80\x02}q\x00" + text("model") + b"h\x00s.",
    "a dict in itself, other key": b"\x80\x02}q\x00" + text("a") + b"h\x00s.",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "branching": b"\x80\x02}q\x00" + b"".join(
        b"}(" + text("a") + b"h%c" % i + text("b") + b"h%c" % i + b"uq%c" % (i + 1) for i in range(60)
    ) + b".",
    "largest memo": b"\x80\x02Nr\xff\xff\xff\x3f.",
    "larger memo": b"\x80\x02Nr\xff\xff\xff\xff.",
    "text memo": b"\x80\x02Np1000000000\n.",
    "negative memo": b"\x80\x02Np-1\n.",
    "no memo": b"\x80\x02h\x07.",
    "no stop": b"\x80\x02N",
    "empty": b"\x80\x02",
    "stack underflow": b"\x80\x02R.",
    "unknown operation": b"\x80\x02\xfe.",
    "protocol 99": b"\x80\x63N.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "huge text": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "negative bytes": b"\x80\x02T\xff\xff\xff\xffx.",
    "huge frame": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.",
    "huge integer": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"1.",
    "negative integer": b"\x80\x02\x8b" + struct.pack("<i", -5) + b"1.",
    "long decimal": b"\x80\x02I" + b"9" * 5_000 + b"\n.",
    "a number": b"\x80\x02K\x01.",
    "a text": b"\x80\x02" + text("state_dict") + b".",
    "none": b"\x80\x02N.",
    "list": b"\x80\x02].",
    "empty dict": b"\x80\x02}.",
    "numbers only": b"\x80\x02}" + text("lr") + b"K\x01s.",
    "extension code": b"\x80\x02\x82\x01.",
    "global without a line": b"\x80\x02cos",
    "global with spaces": b"\x80\x02c os\nsystem \n.",
    "global in unicode": b"\x80\x04" + text("os") + text("system") + b"\x93.",
    "inst": b"\x80\x02(ios\nsystem\n.",
    "obj": b"\x80\x02(cos\nsystem\no.",
    "newobj": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "build none": b"\x80\x02N}b.",
    "build token": b"\x80\x02cnumpy\nndarray\n}" + text("name") + text("x") + b"sb.",
    "reduce token": b"\x80\x02cnumpy\nndarray\n)R.",
    "dtype object": b"\x80\x02cnumpy\ndtype\n" + text("O8") + b"\x85R.",
    "dtype nested": b"\x80\x02cnumpy\ndtype\n" + text("(1000000,1000000)f4") + b"\x85R.",
    "dtype records": b"\x80\x02cnumpy\ndtype\n" + text("f4,f4") + b"\x85R.",
    "dtype of none": b"\x80\x02cnumpy\ndtype\n)R.",
    "encode utf-7": b"\x80\x02c_codecs\nencode\n" + text("a") + text("utf-7") + b"\x86R.",
    "encode bytes": b"\x80\x02c_codecs\nencode\nK\x05" + text("latin1") + b"\x86R.",
    "encode again": b"\x80\x02" + text("x" * 50_000) + b"q\x000" + text("latin1") + b"q\x010]" + (
        b"c_codecs\nencode\nh\x00h\x01\x86Ra" * 2000
    ) + b".",
    "persistent": b"\x80\x02NQ.",
    "persistent id": b"\x80\x02Pabc\n.",
    "buffers": b"\x80\x05\x97.",
    "next buffer": b"\x80\x05\x98.",
    "pop all": b"\x80\x020.",
    "mark only": b"\x80\x02(.",
    "unhashable key": b"\x80\x02}]K\x01s.",
}  # fmt: skip


@pytest.mark.parametrize("place", ["pkl", "zip", "legacy"])
@pytest.mark.parametrize("name", PICKLES)
def test_pickles(name, place, tmp_path):
    path = tmp_path / f"a.{place}"
    if place == "zip":
        write_zip(path, PICKLES[name])
    elif place == "pkl":
        path.write_bytes(PICKLES[name])
    else:
        parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts) + PICKLES[name] + pickle.dumps([]))
    refused(path)


def test_an_array_under_many_names_takes_no_more_memory(tmp_path):
    path, array = tmp_path / "a.pkl", np.zeros(MIB // 8)
    path.write_bytes(pickle.dumps({f"layer{i}": array for i in range(100)}))
    assert len(bounded(path)) == 100


NUMPY_STATES = {
    "short": (1, (3,), "f4", False, bytes(8)),
    "negative": (1, (-1,), "f4", False, bytes(8)),
    "huge": (1, (2**62,), "f4", False, bytes(8)),
    "many axes": (1, (1,) * 60, "f4", False, bytes(4)),
    "float shape": (1, (2.0,), "f4", False, bytes(8)),
    "text shape": (1, "22", "f4", False, bytes(8)),
    "no shape": (1, None, "f4", False, bytes(8)),
    "number for data": (1, (2,), "f4", False, 10**9),
    "list for data": (1, (2,), "f4", False, [0] * 8),
    "long state": (1, (2,), "f4", False, bytes(8), 5),
    "short state": (1, (2,)),
    "no state": None,
}


@pytest.mark.parametrize("name", NUMPY_STATES)
def test_states_of_arrays(name, tmp_path):
    class Array:
        def __init__(self, state):
            self.state = state

        def __reduce__(self):
            from numpy._core.multiarray import _reconstruct

            state = self.state
            if state and len(state) > 2:
                state = (*state[:2], np.dtype(state[2]), *state[3:])
            return _reconstruct, (np.ndarray, (0,), b"b"), state

    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"a": Array(NUMPY_STATES[name])}, protocol=2))
    refused(path)


TENSORS = {
    "negative size": (-1, 0, (2,), (1,)),
    "huge stride": (6, 0, (2,), (2**31 - 1,)),
    "more strides": (6, 0, (2,), (1, 1)),
    "fewer strides": (6, 0, (2, 1), (1,)),
    "many axes": (6, 0, (1,) * 60, (1,) * 60),
    "offset at the end": (6, 6, (1,), (1,)),
    "one too many": (6, 0, (7,), (1,)),
    "negative shape": (6, 0, (-2,), (1,)),
    "overlap": (6, 0, (4, 4), (1, 0)),
}


@pytest.mark.parametrize("name", TENSORS)
def test_views_beyond_a_storage(name, tmp_path):
    path = tmp_path / "a.pth"
    write_zip(path, tensor_pickle(*TENSORS[name]), {"0": bytes(24)})
    refused(path)


def zip_of(path: Path, method: int = zipfile.ZIP_STORED, **entries: bytes) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("__", "/"), data)


VALID = tensor_pickle(6, 0, (2,), (1,))
ARCHIVES = {
    "no description": {"archive__data__0": bytes(24)},
    "two descriptions": {"a__data.pkl": VALID, "b__data.pkl": VALID, "a__data__0": bytes(24)},
    "empty": {},
    "big-endian": {"a__data.pkl": VALID, "a__byteorder": b"big", "a__data__0": bytes(24)},
    "byte order bomb": {"a__data.pkl": VALID, "a__byteorder": bytes(40 * MIB), "a__data__0": bytes(24)},
    "description bomb": {"a__data.pkl": bytes(70 * MIB), "a__data__0": bytes(24)},
    "description of zeros": {"a__data.pkl": bytes(10_000), "a__data__0": bytes(24)},
    "no storage": {"a__data.pkl": VALID},
    "empty storage": {"a__data.pkl": VALID, "a__data__0": b""},
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(name, method, tmp_path):
    if "bomb" in name and method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        pytest.skip("takes seconds to write")
    path = tmp_path / "a.pth"
    zip_of(path, method, **ARCHIVES[name])
    if not ARCHIVES[name]:
        path.write_bytes(b"PK\x03\x04" + path.read_bytes())
    refused(path)


@pytest.mark.parametrize("flag", [0x1, 0x41])
def test_encrypted_entries(flag, tmp_path):
    path = tmp_path / "a.pth"
    write_zip(path, VALID, {"0": bytes(24)})
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(signature)
        while start >= 0:
            data[start + place] |= flag & 0xFF
            data[start + place + 1] |= flag >> 8
            start = data.find(signature, start + 4)
    path.write_bytes(data)
    refused(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compressed_entries(method, tmp_path):
    path = tmp_path / "a.pth"
    zip_of(path, method, a__data=b"", **{"a__data.pkl": VALID + bytes(2000), "a__data__0": bytes(24)})
    whole = path.read_bytes()
    for place in range(30, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        read_or_refused(path)


@pytest.mark.parametrize("kind", SPECIAL)
def test_not_a_file(kind, tmp_path):
    path = tmp_path / "a.pth"
    make_special(path, kind)
    with pytest.raises(UserError, match=r"a\.pth"):
        read_tensors(path)


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "training_loop.pth"])
def test_mutations(name, seed, tmp_path):
    """Bytes changed, removed, repeated and moved."""
    path, chance = tmp_path / name, random.Random(seed)
    data = bytearray((CHECKPOINTS / name).read_bytes())
    for _ in range(chance.randint(1, 8)):
        start = chance.randrange(len(data))
        end = min(len(data), start + chance.choice((1, 2, 4, 8, 64)))
        change = chance.choice((b"", bytes(end - start), b"\xff" * (end - start), data[start:end] * 2))
        data[start:end] = chance.randbytes(end - start) if chance.random() < 0.3 else change
    path.write_bytes(data)
    read_or_refused(path)


def test_a_valid_file_passes(tmp_path):
    path = tmp_path / "a.safetensors"
    header = {
        "b": {"dtype": "F16", "shape": [2], "data_offsets": [4, 8]},
        "a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
    }
    write_safetensors(path, json.loads(json.dumps(header)), struct.pack("<f", 2.0) + np.ones(2, "<f2").tobytes())
    read = bounded(path)
    assert list(read) == ["b", "a"]
    assert (read["a"], *read["b"]) == (2.0, 1.0, 1.0)
