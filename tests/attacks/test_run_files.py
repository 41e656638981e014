"""Hostile and damaged files of a run: its checkpoints, its weights; and a disk on which they cannot be written."""

import errno
import io
import json
import os
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest

from maskrcnn.errors import UserError
from maskrcnn.runtime.files import claimed, replacing
from maskrcnn.training.checkpoint import restore_latest, save_checkpoint
from maskrcnn.training.plan import State
from maskrcnn.weights.model_folder import load_weights, save_weights


def make_model():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


@pytest.fixture(scope="module")
def model():
    model = make_model()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    return model


@pytest.fixture
def entries(model, tmp_path):
    """The entries of a valid checkpoint, as bytes by name; its state is JSON."""
    save_checkpoint(model, State(1, 7, 2), tmp_path / "valid")
    with zipfile.ZipFile(tmp_path / "valid" / "step-00000001.npz") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def array(value) -> bytes:
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


def state(text: str) -> dict[str, bytes]:
    return {"state.npy": array(np.array(text))}


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(24)


FIRST = "model-0000.npy"
CHANGES = {
    "no state": {"state.npy": None},
    "a number for the state": {"state.npy": array(np.array(3))},
    "an array for the state": {"state.npy": array(np.zeros((3, 2)))},
    "objects for the state": {"state.npy": header("()", "'|O'")},
    "no JSON": state("hello"),
    "empty": state(""),
    "list": state("[]"),
    "null": state("null"),
    "deep": state("[" * 50_000),
    "no step": state('{"data_seed": 7}'),
    "no seed": state('{"step": 1}'),
    **{
        f"{name} {value[:12]}": state(json.dumps({"step": 1, "data_seed": 7, "batch_size": 2}).replace(
            f'"{name}": {old}', f'"{name}": {value}'
        ))
        for name, old in (("step", 1), ("data_seed", 7), ("batch_size", 2))
        for value in ("-1", "1.5", "null", "NaN", '"1"', "[]", "{}", "true", "9" * 400, "1e999")
    },
    "another step": state('{"step": 900, "data_seed": 7, "batch_size": 2}'),
    "huge shape": {FIRST: header("(1000000000000, 4)")},
    "overflowing shape": {FIRST: header("(9223372036854775807, 9223372036854775807)")},
    "negative shape": {FIRST: header("(-1, 2)")},
    "float shape": {FIRST: header("(3.0, 2)")},
    "objects": {FIRST: header("(3, 2)", "'|O'")},
    "code in the header": {FIRST: header("__import__('os').system('true')")},
    "deep header": {FIRST: header("(" * 6000 + ")" * 6000)},
    "text": {FIRST: array(np.array([["a", "b"]] * 3).astype("S"))},
    "no magic": {FIRST: b"hello"},
    "nothing": {FIRST: b""},
    "cut": {FIRST: header("(3, 2)")[:-8]},
    "magic only": {FIRST: b"\x93NUMPY\x09\x00"},
}  # fmt: skip


@pytest.mark.parametrize("with_older", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_a_damaged_checkpoint_is_named(name, with_older, model, entries, tmp_path, caplog):
    """Without an older one nothing can be resumed; with one, the run says from which."""
    directory = tmp_path / "checkpoints"
    directory.mkdir()
    if with_older:
        save_checkpoint(model, State(0, 7, 2), directory)
    with zipfile.ZipFile(directory / "step-00000001.npz", "w") as archive:
        for entry, data in {**entries, **CHANGES[name]}.items():
            if data is not None:
                archive.writestr(entry, data)
    if with_older:
        assert restore_latest(model, directory) == State(0, 7, 2)
    else:
        with pytest.raises(UserError, match="no checkpoint can be read"):
            restore_latest(model, directory)
    assert "step-00000001.npz: cannot be read" in caplog.text


@pytest.mark.parametrize(
    "kind", ["fifo", "folder", "zero", "empty", "text", "bomb", "encrypted", "pickle", "truncated"]
)
def test_a_checkpoint_of_another_kind(kind, model, entries, tmp_path, caplog):
    path = tmp_path / "checkpoints" / "step-00000001.npz"
    path.parent.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind in ("bomb", "encrypted", "truncated"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, data in entries.items():
                archive.writestr(entry, data)
            archive.writestr("large.npy", array(np.zeros(30_000_000 if kind == "bomb" else 3)))
        data = path.read_bytes()
        if kind == "encrypted":
            path.write_bytes(data.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"))
        if kind == "truncated":
            path.write_bytes(data[: len(data) // 2])
    else:
        path.write_bytes({"empty": b"", "text": b"hello", "pickle": b"\x80\x04cos\nsystem\n."}[kind])
    tracemalloc.start()
    with pytest.raises(UserError, match="no checkpoint can be read"):
        restore_latest(model, path.parent)
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()
    assert "step-00000001.npz: cannot be read" in caplog.text


def kernel(store: h5py.File) -> tuple[h5py.Group, str]:
    """The group and the name of the kernel in a file of weights."""
    found = []
    store.visititems(lambda name, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found[0].parent, found[0].name.rpartition("/")[2]


def replace(store, make):
    group, name = kernel(store)
    del group[name]
    make(group, name)


def circle(store):
    group, _ = kernel(store)
    group["again"] = store["/"]


def branches(store):
    group, _ = kernel(store)
    for i in range(40):
        inner = group.create_group(f"g{i}")
        group["l"], group["r"] = inner, inner
        group = inner


WEIGHTS = {
    "huge": lambda s: replace(s, lambda g, n: g.create_dataset(n, (10**12, 4), "f4", chunks=(1, 4))),
    "deflated": lambda s: replace(s, lambda g, n: g.create_dataset(n, data=np.zeros((10**6, 4)), compression="gzip")),
    "other shape": lambda s: replace(s, lambda g, n: g.create_dataset(n, data=np.zeros((2, 2), "f4"))),
    "text": lambda s: replace(s, lambda g, n: g.create_dataset(n, data="hello")),
    "objects": lambda s: replace(s, lambda g, n: g.create_dataset(n, (3, 2), h5py.vlen_dtype(np.int32))),
    "records": lambda s: replace(s, lambda g, n: g.create_dataset(n, (3, 2), [("a", "f4")])),
    "no array": lambda s: replace(s, lambda g, n: g.create_group(n)),
    "missing": lambda s: replace(s, lambda g, n: None),
    "null": lambda s: replace(s, lambda g, n: g.create_dataset(n, data=h5py.Empty("f4"))),
    "soft link": lambda s: replace(s, lambda g, n: g.__setitem__(n, h5py.SoftLink("/nowhere"))),
    "soft link to itself": lambda s: replace(s, lambda g, n: g.__setitem__(n, h5py.SoftLink(f"{g.name}/{n}"))),
    "external link": lambda s: replace(s, lambda g, n: g.__setitem__(n, h5py.ExternalLink("/etc/passwd", "/"))),
    "external": lambda s: replace(s, lambda g, n: g.create_dataset(n, (3, 2), "f4", external=[("/etc/hosts", 0, 24)])),
    "virtual": lambda s: replace(
        s, lambda g, n: g.create_virtual_dataset(n, h5py.VirtualLayout((3, 2), "f4"))
    ),
    "circle": circle,
    "branches": branches,
    "named type": lambda s: s.__setitem__("type", np.dtype("f4")),
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTS)
def test_hostile_weights(name, model, tmp_path):
    path = tmp_path / "model.weights.h5"
    save_weights(model, path)
    with h5py.File(path, "r+") as store:
        WEIGHTS[name](store)
    model = make_model()
    before = model.get_weights()
    with pytest.raises(UserError, match=r"model\.weights\.h5: damaged, or weights of another architecture"):
        load_weights(model, path)
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("size", [0, 1, 8, 100, 1000])
def test_truncated_weights(size, model, tmp_path):
    path = tmp_path / "model.weights.h5"
    save_weights(model, path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"model\.weights\.h5"):
        load_weights(model, path)


def test_saved_weights_are_those_that_keras_loads(model, tmp_path):
    path = tmp_path / "model.weights.h5"
    save_weights(model, path)
    with h5py.File(path) as store:
        assert "optimizer" not in store
    loaded = make_model()
    load_weights(loaded, path)
    for value, original in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, original)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("what", ["weights", "checkpoint"])
def test_a_disk_that_takes_nothing(what, number, model, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pathlib.Path.write_bytes" if what == "weights" else "os.fsync", fail)

    def save():
        if what == "weights":
            save_weights(model, tmp_path / "m" / "model.weights.h5")
        else:
            save_checkpoint(model, State(1, 0), tmp_path / "m")

    with pytest.raises(UserError, match=f"cannot be written \\({os.strerror(number)}\\)"):
        save()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["deleted", "moved", "replaced"])
def test_a_folder_that_is_lost(change, tmp_path):
    folder = tmp_path / "m"
    with claimed(folder) as check:
        (folder / "a").write_text("")
        check()
        folder.rename(tmp_path / "other")
        if change == "replaced":
            folder.mkdir()
        if change == "deleted":
            (tmp_path / "other" / "a").unlink()
            (tmp_path / "other").rmdir()
        with pytest.raises(UserError, match="was deleted or moved while it was in use"):
            check()


def test_temporary_files_of_dead_processes_are_removed_when_the_file_is_written(tmp_path):
    kept = {f".{os.getppid()}.a.json", ".999999999.b.json", ".a.json", ".x.a.json"}
    for name in (*kept, ".999999999.a.json"):
        (tmp_path / name).touch()
    with replacing(tmp_path / "a.json") as path:
        path.write_text("{}")
    assert {path.name for path in tmp_path.iterdir()} == kept | {"a.json"}
