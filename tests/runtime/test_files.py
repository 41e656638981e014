"""Temporary files of killed processes, and folders that one run at a time may use."""

import os
import subprocess
import sys

import pytest

from maskrcnn.errors import UserError
from maskrcnn.runtime.files import claimed, creating, remove_stale, replacing


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_replacing_writes_all_or_nothing(tmp_path):
    path = tmp_path / "new" / "a.json"
    with replacing(path) as temporary:
        temporary.write_text("whole")
    with pytest.raises(UserError, match=r"new/a.json: cannot be written"), replacing(path) as temporary:
        temporary.with_name("missing").rename(temporary)
    assert [(file.name, file.read_text()) for file in path.parent.iterdir()] == [("a.json", "whole")]


def test_folders_that_stay_empty_are_removed(tmp_path):
    (tmp_path / "old").mkdir()
    with pytest.raises(UserError), creating(tmp_path / "old" / "outer" / "inner"):
        raise UserError("nothing written")
    assert not list((tmp_path / "old").iterdir())
    with creating(tmp_path / "old" / "outer" / "inner"):
        (tmp_path / "old" / "outer" / "a.json").touch()
    assert [path.name for path in (tmp_path / "old" / "outer").iterdir()] == ["a.json"]


def test_only_files_of_dead_processes_are_stale(tmp_path):
    alive = f".{os.getppid()}.a.json"
    kept = [alive, ".hidden", "step-1.npz", ".12x.a"]
    for name in [*kept, f".{dead_process()}.step-1.npz", f".{os.getpid()}.a.json"]:
        (tmp_path / name).touch()
    remove_stale(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


def test_a_folder_is_used_by_one_run_at_a_time(tmp_path):
    code = f"""
import pathlib
from maskrcnn.runtime.files import claimed
with claimed(pathlib.Path({str(tmp_path)!r})):
    pass
"""
    with claimed(tmp_path):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        assert "another run is using this folder" in other.stderr
    with claimed(tmp_path):  # the lock is free again, and is not a file
        assert not list(tmp_path.iterdir())


def test_claiming_twice_fails_at_once(tmp_path):
    with claimed(tmp_path), pytest.raises(UserError, match="another run"), claimed(tmp_path):
        pass


@pytest.mark.parametrize(
    ("gone", "expected"),
    [(True, "m: was deleted or moved while it was in use"), (False, "^checkpoint: cannot be written$")],
)
def test_a_file_that_cannot_be_written_tells_of_a_folder_that_is_gone(tmp_path, gone, expected):
    def fail():
        with claimed(tmp_path / "m"):
            if gone:
                (tmp_path / "m").rmdir()
            raise UserError("checkpoint: cannot be written")

    with pytest.raises(UserError, match=expected):
        fail()
