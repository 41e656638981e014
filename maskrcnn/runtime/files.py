"""Files that appear whole or not at all, and folders that belong to one run at a time."""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from maskrcnn.errors import UserError

TEMPORARY = re.compile(r"\.(\d+)\..")  # process number


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside ``path`` to write to, and renames it at the end.

    On an error it is removed, and with it the folders that were made for it.
    """
    with making(path.parent):
        temporary = temporary_name(path)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """Where this process writes what will be ``path``; `remove_stale` knows it by its name."""
    # the suffixes are kept, because Keras and Pillow choose the format by them
    return path.with_name(f".{os.getpid()}.{path.name}")


def remove_stale(directory: Path) -> None:
    """Removes temporary files of processes that were killed.

    Called before anything is written: a file of our own number is of an earlier process then (in containers, all have
    the same).
    """
    for path in directory.glob(".*"):
        match = TEMPORARY.match(path.name)
        if match and path.is_file() and (int(match[1]) == os.getpid() or not _is_alive(int(match[1]))):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def making(directory: Path) -> Iterator[None]:
    """Makes a folder if need be; what was made, the folders above it too, is removed again if it stays empty."""
    made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it has something in it, or is gone
            for folder in made:
                folder.rmdir()


@contextlib.contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Claims a folder for this process, and removes what a killed one left half-written in it.

    A folder that is made for that, and left empty, is removed again.

    Raises:
        UserError: another process has claimed it.
    """
    with making(directory):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                problem = "another run is working in this folder"
                raise UserError(f"{directory}: {problem}; wait for its end, or give another folder") from error
            except OSError:  # a file system without locks
                pass
            remove_stale(directory)
            yield
        finally:
            os.close(descriptor)  # which ends the lock, as the end of the process does


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; no number of a process
        return True
    return True
