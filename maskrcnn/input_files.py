"""The door for files from outside: they are regular, of bounded size, and their JSON is plain data of bounded depth.

What passes needs no further guard: no read blocks or goes on for ever, text is Unicode, integers fit 64 bits (larger
ones become floats, as in other readers of JSON), and nesting is so shallow that code may recurse.
"""

import codecs
import errno
import gc
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from maskrcnn.errors import UserError, expect

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
MAX_DOCUMENT_BYTES = 1 << 26  # 64 MiB: configs, indices, one image's annotations
MAX_ANNOTATION_BYTES = 1 << 31  # 2 GiB: annotations of a whole dataset; COCO 2017's are 448 MB
MAX_PATH = 4096  # characters
MAX_DEPTH = 64  # of nested lists and objects; COCO has 5
MAX_DIGITS = 19  # of an integer of 64 bits and its sign
# The other end of a pipe is not waited for; Windows has no such flag, and would translate line ends.
READ_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
NOT_REGULAR = "not a regular file but a pipe, socket or device"
BRACKETS = b"[]{}"
OTHER_BYTES = bytes(set(range(256)) - set(BRACKETS))


def is_unicode(name: str) -> bool:
    """Whether a file's name is text; bytes that are not UTF-8 are halves of surrogate pairs in Python."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def as_text(name: str) -> str:
    """A file's name as Unicode, which JSON must be: bytes that are not UTF-8 are escaped, ``\\udce9`` for 0xE9."""
    return name.encode("utf-8", "backslashreplace").decode()


def is_path(text: str) -> bool:
    """Whether a text can be the path of a file."""
    return 0 < len(text) < MAX_PATH and "\0" not in text and is_unicode(text)


def as_path(value: Any) -> Path:
    """The path that a caller gives.

    Raises:
        UserError: what is given can be none.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not is_path(text):
        raise UserError(f"{ascii(value)[:60]}: no path of a file or folder ({type(value).__name__}); give a path")
    return Path(text)


def dataset_folder(data_dir: Any) -> Path:
    """The folder of a dataset that a caller gives.

    Raises:
        UserError: it is none.
    """
    path = Path(expect(data_dir, str | Path, "data_dir"))
    if str(data_dir) and os.path.isdir(path):  # Path.is_dir raises where a name is too long
        return path
    if not str(data_dir) or not os.path.exists(path):
        problem = "no such folder; give the folder of a dataset with --data_dir"
    elif path.suffix.lower() in ARCHIVES:
        problem = "is not a folder but an archive; unpack it, and give the folder with --data_dir"
    else:
        named = ", and the file with --train_file" if path.suffix.lower() == ".json" else ""
        problem = f"is not a folder; give its folder, {path.absolute().parent}, with --data_dir{named}"
    raise UserError(f"{data_dir or repr(data_dir)}: {problem}")


def open_regular(path: str | Path) -> BufferedReader:
    """Opens a regular file to read it, without waiting for the other end of a pipe.

    Raises:
        UserError: there is none, it may not be read, or it is a folder, pipe, socket or device.
    """
    try:
        descriptor = os.open(os.fspath(path), READ_FLAGS)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; check the path") from error
    except OSError as error:
        problem = NOT_REGULAR if error.errno == errno.ENXIO else error.strerror
        raise UserError(f"{path}: cannot be read ({problem}); check the file and its permissions") from error
    except (ValueError, TypeError) as error:  # a NUL byte, or half of a surrogate pair; no path at all
        raise UserError(f"{str(path)!r}: no path of a file ({error}); check it") from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "is a folder" if stat.S_ISDIR(mode) else NOT_REGULAR
        raise UserError(f"{path}: {kind}; give the path of a file")
    return open(descriptor, "rb")


def read_bytes(path: str | Path, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The contents of a regular file.

    Raises:
        UserError: it cannot be read, or is larger than ``max_bytes``.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            data = file.read(max_bytes + 1) if size <= max_bytes else b""
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); check the file and its disk") from error
    if max(size, len(data)) > max_bytes:
        raise UserError(
            f"{path}: {size / 1e6:.0f} MB, at most {max_bytes / 1e6:.0f} MB are read; is it the right file?"
        )
    return data


def read_text(path: str | Path) -> str:
    """The text of a small file, in UTF-8 or UTF-16 with or without a byte order mark; other bytes are replaced.

    Raises:
        UserError: it cannot be read, or is too large.
    """
    data = read_bytes(path)
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if utf16 else "utf-8-sig", errors="replace")


def read_lines(path: str | Path) -> list[str]:
    """The lines that `read_text` gives, without the spaces around them and without those that are empty."""
    return [line for text in read_text(path).splitlines() if (line := text.strip())]


def read_head(path: str | Path, size: int = 1 << 16) -> bytes:
    """The first bytes of a file, or none if it cannot be read; of UTF-16, those of ASCII characters."""
    try:
        with open_regular(path) as file:
            return file.read(size).replace(b"\0", b"")
    except (UserError, OSError):
        return b""


def read_json(path: str | Path, expected: str, max_bytes: int = MAX_DOCUMENT_BYTES) -> Any:
    """The parsed content of a JSON file; ``expected`` says in errors what it should hold.

    Raises:
        UserError: it cannot be read, is too large, or is not JSON that `parse_json` takes.
    """
    try:
        return parse_json(read_bytes(path, max_bytes))
    except UnicodeDecodeError as error:
        problem = f"byte {error.object[error.start]:#x} at {error.start} is not {error.encoding.upper()}"
        raise UserError(f"{path}: not valid JSON ({problem}); expected {expected}, saved as UTF-8") from error
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); expected {expected}") from error


def parse_json(data: bytes | str) -> Any:
    """The content of JSON text in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        ValueError: not JSON, not Unicode, or nested too deeply.
    """
    suspect = _may_be_deep(data if isinstance(data, bytes) else data.encode(errors="replace"))
    text = data if isinstance(data, str) else data.decode(json.detect_encoding(data))
    del data  # at COCO's size the memory matters
    too_deep = f"more than {MAX_DEPTH} nested lists or objects"
    try:
        with no_collection():
            content = json.loads(text.removeprefix("\ufeff"), parse_int=_integer)
    except RecursionError as error:
        raise ValueError(too_deep) from error
    if suspect and _is_deep(content):
        raise ValueError(too_deep)
    if "\\ud" in text or "\\uD" in text:
        json.dumps(content, ensure_ascii=False).encode()  # raises for half of a surrogate pair
    return content


@contextmanager
def no_collection() -> Iterator[None]:
    """Suspends the garbage collector, which finds no cycles among millions of new objects, in a third of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= MAX_DIGITS else float(text)


def _may_be_deep(data: bytes) -> bool:
    """Whether brackets are left after all pairs were removed MAX_DEPTH times, those in strings included."""
    brackets = data.translate(None, OTHER_BYTES)
    for _ in range(MAX_DEPTH):
        shorter = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(shorter) == len(brackets):
            break
        brackets = shorter
    return bool(brackets)


def _is_deep(content: Any) -> bool:
    level = [content]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, list | dict)
        ]
    return bool(level)
