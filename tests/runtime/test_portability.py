"""What only some systems have is used where it is there, and done without elsewhere."""

import ast
import errno
import os
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import maskrcnn
from maskrcnn.data.records.tfrecord import NO_CHECKSUM, RecordReader
from maskrcnn.errors import UserError
from maskrcnn.reports.run_report import machine_facts
from maskrcnn.runtime import backend, files, hardware

pytestmark = pytest.mark.no_backend

PACKAGE = Path(maskrcnn.__file__).parent
UNIX_ONLY = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog"}


def test_no_module_needs_what_only_unix_has():
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert not imported & UNIX_ONLY, path


def test_flags_of_unix_are_asked_for():
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"os\.O_(NONBLOCK|CLOEXEC|DIRECTORY|NOFOLLOW|SYNC)", path.read_text(encoding="utf-8")), (
            path
        )


def test_no_process_is_forked():
    """Windows and macOS start processes anew; the package has threads only, and its programs guard their entry."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"os\.fork|multiprocessing|ProcessPoolExecutor|os\.killpg|preexec_fn", text), path
    for path in (PACKAGE.parent / "main.py", *(PACKAGE.parent / "scripts").glob("*.py")):
        if path.name != "mkdocs_links.py" and path.exists():  # not beside an installed package
            assert 'if __name__ == "__main__":' in path.read_text(encoding="utf-8"), path


def test_records_without_pread(tmp_path, monkeypatch):
    path = tmp_path / "records"
    content = bytes(range(256)) * 40
    path.write_bytes(content)
    monkeypatch.delattr(os, "pread", raising=False)
    reader = RecordReader((path,))
    read = {}
    spans = [np.array([0, offset, 16, NO_CHECKSUM]) for offset in range(0, len(content), 16)]

    def read_all(part):
        for span in spans[part::4]:
            read[int(span[1])] = reader.read(span)

    threads = [threading.Thread(target=read_all, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert b"".join(read[offset] for offset in sorted(read)) == content


class FakeMsvcrt(SimpleNamespace):
    """Windows' locks: one holder of each file."""

    LK_UNLCK, LK_NBLCK = 0, 2

    def __init__(self):
        super().__init__(held=set())

    def locking(self, descriptor, mode, size):
        file = os.fstat(descriptor).st_ino
        if mode == self.LK_UNLCK:
            self.held.remove(file)
        elif file in self.held:
            raise OSError(errno.EACCES, "denied")
        else:
            self.held.add(file)


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", FakeMsvcrt())
    monkeypatch.setitem(sys.modules, "fcntl", None)  # importing it fails
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sysconf", raising=False)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("os.kill ends a process on Windows"))


def test_a_folder_on_windows(windows, tmp_path):
    (tmp_path / ".123456.a.json").touch()  # perhaps another process'
    (tmp_path / f".{os.getpid()}.a.json").touch()
    with files.claimed(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {".123456.a.json", files.LOCK_FILE}
        with pytest.raises(UserError, match="another run is using this folder"), files.claimed(tmp_path):
            pass
    with files.claimed(tmp_path):
        pass


def test_waiting_for_a_folder_on_windows(windows, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "POLL_SECONDS", 0.01)
    held, order = threading.Event(), []

    def hold():
        with files.locked(tmp_path, wait=False):
            held.set()
            threading.Event().wait(0.1)
            order.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with files.locked(tmp_path, wait=True):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_a_folder_where_there_are_no_locks(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with files.locked(tmp_path, wait=False), files.locked(tmp_path, wait=True):
        pass


def test_hardware_on_windows(windows, monkeypatch):
    monkeypatch.setattr(hardware, "_device_peak", lambda: None)
    monkeypatch.setattr(hardware, "_cpu_fields", dict)
    assert hardware.peak_memory() == (None, None)
    assert hardware.machine_memory() is None
    assert hardware.available_cores() == os.cpu_count()
    assert hardware.instruction_sets() is None
    assert hardware.describe_processor()
    assert machine_facts()["Processor"].endswith(f"{os.cpu_count()} usable cores")


def test_gpus_of_a_mac_are_unknown(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(backend.shutil, "which", lambda name: None)
    monkeypatch.setattr(backend.Path, "glob", lambda *_: iter(()))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert backend.installed_gpus() is None
    backend.check_gpus(8)
