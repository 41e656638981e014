"""Attacks on the doors for data: valid files with one thing broken, by kind, and the verdict on each.

An attack is held if it ends in one line that says what to do, or if the result is right and a log line tells of what
was lost. `python -m tests.fuzz` counts them; tests/data/test_doors.py runs them all or some.
"""

import copy
import json
import logging
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn.errors import UserError

SECONDS = 10  # for one attack


@dataclass(frozen=True)
class Attack:
    """Something hostile, done in an empty folder."""

    kind: str
    name: str
    run: Callable[[Path], Any]


class Silent(AssertionError):  # noqa: N818
    """The attack had an effect that nothing told of."""


class Late(BaseException):  # no Exception, so that nothing takes it for a fault of a file
    """The attack makes the program wait."""


class Log(logging.Handler):
    """Collects what the package logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def verdict(attack: Attack, folder: Path) -> str | None:
    """Why an attack was not held; None if it was."""

    def late(*_: Any) -> None:
        raise Late(f"hangs for {SECONDS} s")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        attack.run(folder)
    except UserError as error:
        line = str(error)
        if "\n" in line or len(line) > 1500 or not line.isprintable():
            return f"not one readable line: {line[:200]!r}"
        return None if ";" in line or "expected" in line else f"no remedy: {line}"
    except BaseException as error:  # a panic of Rust's is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:150]} ({Path(place.filename).name}:{place.lineno})"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    return None


RAW = {
    "@deep": "[" * 100_000 + "]" * 100_000,
    "@nested": "[" * 900 + "]" * 900,
    "@digits": "9" * 400,
    "@1e400": "1e400",
    "@surrogate": '"\\ud800"',
}
HOSTILE: dict[str, Any] = {
    "null": None,
    "true": True,
    "minus one": -1,
    "zero": 0,
    "a fraction": 0.5,
    "2**31": 2**31,
    "2**53 + 1": 2**53 + 1,
    "2**63": 2**63,
    "2**64": 2**64,
    "1e8": 1e8,
    "1e300": 1e300,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "no text": "",
    "text": "x",
    "text of a number": "1",
    "text NaN": "nan",
    "NUL": "a\0b",
    "upward path": "../../../etc/passwd",
    "long text": "x" * 10_000,
    "markup": "<script>\x1b[31m\n",
    "empty list": [],
    "list of zero": [0],
    "list of lists": [[]],
    "empty object": {},
    "object": {"a": [1]},
    **{name: name for name in RAW},
}


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a document; of a list, its first entry stands for all."""
    yield path
    if isinstance(document, dict):
        for key, value in document.items():
            yield from places(value, (*path, key))
    elif isinstance(document, list) and document:
        yield from places(document[0], (*path, 0))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of a document with one value replaced."""
    if not path:
        return value
    document = copy.deepcopy(document)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return document


def without(document: Any, path: tuple[Any, ...]) -> Any:
    """A copy of a document with one value removed."""
    document = copy.deepcopy(document)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    return document


def as_text(document: Any) -> str:
    """JSON, with the placeholders of what Python's writer cannot write."""
    text = json.dumps(document)
    for name, raw in RAW.items():
        text = text.replace(f'"{name}"', raw)
    return text


def mutated(document: Any) -> Iterator[tuple[str, str]]:
    """The document as JSON with each value replaced by each hostile one, and with each removed, by what was done."""
    for path in places(document):
        name = "/".join(map(str, path)) or "all"
        for what, value in HOSTILE.items():
            yield f"{name} is {what}", as_text(replaced(document, path, value))
        if path:
            yield f"no {name}", as_text(without(document, path))


BROKEN_FILES: dict[str, bytes] = {
    "empty": b"",
    "a byte order mark": b"\xef\xbb\xbf",
    "zeros": bytes(1000),
    "binary": bytes(range(256)) * 4,
    "a PNG's beginning": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "invalid UTF-8": b'{"images": [{"file_name": "\xff\xfe"}]}',
    "a surrogate in UTF-8": b'{"images": [{"file_name": "\xed\xa0\x80"}]}',
    "UTF-16 cut": '{"images": []}'.encode("utf-16")[:-1],
    "100,000 lists": b"[" * 100_000,
    "100,000 objects": b'{"a":' * 100_000,
    "a large integer": b"9" * 5000,
    "a string": b'"images"',
    "null": b"null",
    "a number": b"1e999",
    "a list": b"[]",
    "an object": b"{}",
    "two documents": b"{}{}",
    "a pickle": b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "HTML": b"<!doctype html><html>404 not found</html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}
