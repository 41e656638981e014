"""Files that are written completely or not at all, and folders that one run at a time may use."""

import contextlib
import fcntl
import glob
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from maskrcnn.errors import UserError

TEMPORARY = re.compile(r"\.(\d+)\..")  # process id


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` to write to, and renames it at the end.

    After an error the file is removed, and so are the folders that were created for it. Temporary files of the same
    name that killed processes left are removed too.
    """
    with creating(path.parent):
        for stale in path.parent.glob(f".*.{glob.escape(path.name)}"):
            process = TEMPORARY.match(stale.name)
            if process and not _is_alive(int(process[1])):
                stale.unlink(missing_ok=True)
        temporary = temporary_name(path)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """The path to which this process writes a new ``path``; `remove_stale` recognizes it by its name."""
    # with the same suffixes, by which Keras and Pillow choose the format
    return path.with_name(f".{os.getpid()}.{path.name}")


def remove_stale(directory: Path) -> None:
    """Removes temporary files of processes that were killed.

    Must be called before this process writes: files with its own id are then of an earlier process, since processes in
    containers often have the same id.
    """
    for path in directory.glob(".*"):
        match = TEMPORARY.match(path.name)
        if match and path.is_file() and (int(match[1]) == os.getpid() or not _is_alive(int(match[1]))):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def creating(directory: Path) -> Iterator[None]:
    """Creates a folder and its parents; those that were created are removed again if they stay empty."""
    created = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty, or gone
            for folder in created:
                folder.rmdir()


@contextlib.contextmanager
def claimed(directory: Path) -> Iterator[Callable[[], None]]:
    """Locks a folder for this process, and removes files that a killed process did not complete.

    Yields a function that raises a `UserError` if the folder has been deleted or moved since.

    Raises:
        UserError: another process has locked it.
    """
    with creating(directory):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"{directory}: another run is using this folder; wait until it ends, or give another folder"
                ) from error
            except OSError:  # the file system has no locks
                pass
            remove_stale(directory)
            yield lambda: _check_claim(directory, descriptor)
        finally:
            os.close(descriptor)  # releases the lock, as the end of the process does


def _check_claim(directory: Path, descriptor: int) -> None:
    try:
        if os.path.samestat(os.stat(directory), os.fstat(descriptor)):
            return
    except OSError:
        pass
    raise UserError(f"{directory}: was deleted or moved while it was in use; start the run again")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's process; not a process id
        return True
    return True
