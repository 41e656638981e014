"""Files that are written completely or not at all, and folders that one run at a time may use."""

import contextlib
import errno
import glob
import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from maskrcnn.errors import UserError

LOCK_FILE = ".lock"  # on Windows only
POLL_SECONDS = 0.5
TEMPORARY = re.compile(r"\.(\d+)\..")  # process id
REMEDY = "free disk space or choose another place"


@contextlib.contextmanager
def writing(path: str | Path, remedy: str = REMEDY) -> Iterator[None]:
    """Turns what the disk raises into a `UserError` that names ``path`` and says what to do."""
    try:
        yield
    except BrokenPipeError:  # the reader of the output is gone, which is nobody's fault
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); {remedy}") from error


@contextlib.contextmanager
def replacing(path: Path, remedy: str = REMEDY) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` to write to, and renames it at the end.

    After an error the file is removed, and so are the folders that were created for it. Temporary files of the same
    name that killed processes left are removed too.

    Raises:
        UserError: it cannot be written, or something other than a file has its name: a device would be replaced.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: exists and is not a regular file; give another path")
    with writing(path, remedy), creating(path.parent):
        for stale in path.parent.glob(f".*.{glob.escape(path.name)}"):
            process = TEMPORARY.match(stale.name)
            if process and not _is_alive(int(process[1])):
                stale.unlink(missing_ok=True)
        # `remove_stale` knows it by its name; the suffixes are the same, since Keras and Pillow go by them
        temporary = path.with_name(f".{os.getpid()}.{path.name}")
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_list(path: Path) -> Iterator[Callable[[Any], None]]:
    """Gives a function that writes an item of a list in JSON; the file appears at the end, see `replacing`."""
    separator = "["
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:

        def add(item: Any) -> None:
            nonlocal separator
            file.write(f"{separator}\n{json.dumps(item)}")
            separator = ","

        yield add
        file.write("[]\n" if separator == "[" else "\n]\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file of UTF-8 as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
        UserError: another process has locked it; or it is gone, in place of another `UserError` that this caused.
    """
    with creating(directory), contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(directory, wait=False))
        except BlockingIOError as error:
            raise UserError(
                f"{directory}: another run is using this folder; wait until it ends, or give another folder"
            ) from error
        remove_stale(directory)
        claim = os.stat(directory)  # its number is not used again while the lock keeps the folder open
        try:
            yield lambda: _check_claim(directory, claim)
        except UserError:
            _check_claim(directory, claim)  # where it is gone, that is why a file in it could not be written
            raise


@contextlib.contextmanager
def locked(directory: Path, *, wait: bool) -> Iterator[None]:
    """Locks a folder for this process; the end of the process releases it too.

    The lock is the folder's own on Unix, and of a file in it on Windows. A file system without locks gives none.

    Raises:
        BlockingIOError: another process holds the lock, unless ``wait``.
    """
    on_windows = sys.platform == "win32"
    path, mode = (directory / LOCK_FILE, os.O_RDWR | os.O_CREAT) if on_windows else (directory, os.O_RDONLY)
    descriptor = os.open(path, mode)
    try:
        with _file_lock(descriptor, wait) if on_windows else _folder_lock(descriptor, wait):
            yield
    finally:
        os.close(descriptor)  # releases a folder's lock


@contextlib.contextmanager
def _folder_lock(descriptor: int, wait: bool) -> Iterator[None]:
    with contextlib.suppress(ImportError):  # neither Unix nor Windows, such as WebAssembly, which has one process
        fcntl = importlib.import_module("fcntl")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError:  # the file system has no locks
            pass
    yield


@contextlib.contextmanager
def _file_lock(descriptor: int, wait: bool) -> Iterator[None]:
    msvcrt = importlib.import_module("msvcrt")
    while True:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            break
        except OSError as error:
            if not wait:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
            time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)


def _check_claim(directory: Path, claim: os.stat_result) -> None:
    with contextlib.suppress(OSError):
        if os.path.samestat(os.stat(directory), claim):
            return
    raise UserError(f"{directory}: was deleted or moved while it was in use; start the run again")


def _is_alive(process: int) -> bool:
    """Whether a process runs, or may run: Windows is not asked, since there ``os.kill`` would end the process."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's process; not a process id
        return True
    return True
