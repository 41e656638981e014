"""What the door for files lets in, and what it refuses in one line."""

import json
import os
import socket
from pathlib import Path

import pytest

from maskrcnn.errors import UserError
from maskrcnn.input_files import MAX_DEPTH, as_path, open_regular, parse_json, read_bytes, read_json

pytestmark = pytest.mark.no_backend


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * depth + closing * depth).encode()


NOT_JSON = {
    "empty": b"",
    "a byte order mark alone": b"\xef\xbb\xbf",
    "text": b"hello",
    "binary": bytes(range(256)),
    "a PNG's beginning": b"\x89PNG\r\n\x1a\n",
    "cut": b'{"images": [{"id": 1}, {"i',
    "two documents": b"{} {}",
    "a trailing comma": b"[1, 2,]",
    "single quotes": b"{'a': 1}",
    "a comment": b"// no\n{}",
    "a control character": b'{"a": "\x01"}',
    "a bad escape": b'"\\x"',
    "Latin-1": '{"a": "é"}'.encode("latin-1"),
    "a surrogate in UTF-8": b'{"a": "\xed\xa0\x80"}',
    "half a surrogate pair": b'{"a": "\\ud800"}',
    "the other half": b'{"a": "\\uDFFF"}',
    "half a pair as a key": b'{"\\udc00": 1}',
    "UTF-16 cut within a character": '{"a": 1}'.encode("utf-16")[:-1],
    "lists too deep": nested(MAX_DEPTH + 2),
    "lists 900 deep": nested(900),
    "lists 100,000 deep": nested(100_000),
    "objects 100,000 deep": nested(100_000, '{"a":', "1}")[:-100_000],
    "objects too deep": ('{"a":' * 80 + "1" + "}" * 80).encode(),
    "a list too deep among brackets in text": b'["]", ' + nested(80) + b"]",
    "unclosed lists": b"[" * 100_000,
}


@pytest.mark.parametrize("data", NOT_JSON.values(), ids=NOT_JSON)
def test_refused_in_one_line(data, tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.json: not valid JSON .*; expected a table") as error:
        read_json(path, "a table")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


JSON = {
    "a scalar": (b"3", 3),
    "a byte order mark": (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    "UTF-16": ('{"a": "é"}'.encode("utf-16"), {"a": "é"}),
    "UTF-16 without a mark": ('{"a": "é"}'.encode("utf-16-le"), {"a": "é"}),
    "UTF-32": ('{"a": "é"}'.encode("utf-32"), {"a": "é"}),
    "an emoji as a surrogate pair": (b'"\\ud83d\\ude00"', "😀"),
    "an escaped backslash before ud": (b'"\\\\ud800"', "\\ud800"),
    "brackets in text": (b'{"a": "[[[]", "b": "]}{"}', {"a": "[[[]", "b": "]}{"}),
    "64 bits": (b"[9223372036854775807, -9223372036854775808]", [2**63 - 1, -(2**63)]),
    "more than 64 bits": (b"[100000000000000000000]", [1e20]),
    "400 digits": (b"[" + b"9" * 400 + b"]", [float("inf")]),
    "minus 400 digits": (b"[-" + b"9" * 400 + b"]", [float("-inf")]),
    "5,000 digits": (b"[" + b"9" * 5000 + b"]", [float("inf")]),
    "1e400": (b"1e400", float("inf")),
    "COCO's depth": (b'{"annotations": [{"segmentation": [[1, 2]]}]}', {"annotations": [{"segmentation": [[1, 2]]}]}),
}


@pytest.mark.parametrize(("data", "expected"), JSON.values(), ids=JSON)
def test_let_in(data, expected):
    assert parse_json(data) == expected


def test_not_a_number_is_a_number_that_fields_check():
    assert [repr(value) for value in parse_json("[NaN, Infinity, -Infinity]")] == ["nan", "inf", "-inf"]


def test_deep_enough_for_any_format():
    assert json.dumps(parse_json(nested(MAX_DEPTH))) == nested(MAX_DEPTH).decode()


def make(kind: str, folder: Path) -> str:
    """A path of something that is no regular file, or none at all."""
    path = folder / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.close()
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "link to nothing":
        path.symlink_to(folder / "none")
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "below a file":
        path.write_text("{}")
        return f"{path}/y"
    return {"long name": f"{folder}/{'x' * 5000}", "NUL": f"{path}\0y", "surrogate": f"{path}\ud800"}.get(
        kind, str(path)
    )


NO_FILES = (
    *("missing", "pipe", "folder", "socket", "link to itself", "link to nothing", "link to a device"),
    *("below a file", "long name", "NUL", "surrogate"),
)


@pytest.mark.parametrize("kind", NO_FILES)
def test_only_regular_files_are_opened(kind, tmp_path: Path):
    path = make(kind, tmp_path)
    for read in (open_regular, read_bytes, lambda path: read_json(path, "a table")):
        with pytest.raises(UserError, match="; "):
            read(path)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/urandom", "/dev", ""])
def test_devices_are_refused(path):
    with pytest.raises(UserError, match="; "):
        read_bytes(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path):
    path = tmp_path / "sparse.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # takes no space on the disk
    with pytest.raises(UserError, match=r"sparse.json: 1099512 MB, at most 67 MB are read"):
        read_json(path, "a table")


@pytest.mark.parametrize("value", [None, 3, b"x", [], {}, object(), "x" * 5000], ids=lambda value: str(value)[:10])
def test_what_is_no_path_is_named(value):
    with pytest.raises(UserError, match="no path of a file or folder"):
        as_path(value)
