"""Hostile servers: no scheme but HTTP, no endless waiting, no endless body, nothing left that is not the file."""

import contextlib
import gc
import socket
import threading
import time
import warnings
import zipfile

import pytest

from maskrcnn.data.coco.download import Archive, download_coco
from maskrcnn.errors import UserError
from maskrcnn.runtime import download
from maskrcnn.runtime.addresses import file_name
from maskrcnn.runtime.download import fetch
from maskrcnn.weights.published import find_weights
from tests.file_server import FileServer

pytestmark = [
    pytest.mark.no_backend,
    # threads that wait for a server which drips are left to wait, with their sockets
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

BODY = bytes(range(200)) * 5
OK = b"HTTP/1.1 200 OK\r\n"


class RawServer:
    """Sends given pieces to whoever connects, with pauses between them."""

    def __init__(self, *pieces: bytes, pause: float = 0.0, endless: bytes = b""):
        self.pieces, self.pause, self.endless, self.closed = pieces, pause, endless, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            for piece in self.pieces:
                connection.sendall(piece)
                time.sleep(self.pause)
            while self.endless and not self.closed:
                connection.sendall(self.endless)
                time.sleep(self.pause)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True
        self.listener.close()


@pytest.fixture(scope="module", autouse=True)
def _leave_no_sockets():
    """Those that threads still wait on would be noticed in later tests."""
    yield
    time.sleep(0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    monkeypatch.setattr(download, "ATTEMPTS", 2)


def refused(url: str, path, **options) -> str:
    with pytest.raises(UserError) as error:
        fetch(url, path, progress=False, **options)
    assert not path.exists()
    return str(error.value)


URLS = (
    *("file:///etc/passwd", "ftp://host/file", "data:,x", "javascript:x", "//host/file", "host/file", "http:", ""),
    *("http://", "http:///file", "http://[::1/file", "http://host:port/file", "http://host:99999/file"),
    *("http://host:-1/file", "http://ho st/file", "http://host/a file", "http://host/a\nfile", "http://host/\0"),
    *("http://host/\u20ac", "http://" + "a" * 300 + "/file", "http://a..b/file", "http://.../file", "http:/host/file"),
    *("HTTP//host", "http://host/" + "a" * 5000, "http://\udcff/file", "gopher://host/", "unix:///run/docker.sock"),
    *("http://host:0/file", "http://xn--\u0080/file", "jar:http://host!/", "http://[fe80::1%25eth0]:x/"),
)  # fmt: skip


@pytest.mark.parametrize("url", URLS, ids=ascii)
def test_addresses(url, tmp_path):
    assert "not an http or https address" in refused(url, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["", "/", "/..", "/.", "/%2e%2e", "/a/", "/%00.pth", "/a%0ab.pth", "/" + "a" * 300, "/%2f", "/%1b[31m.pth"]
)
def test_names_of_files(path):
    with pytest.raises(UserError):
        file_name("http://host" + path)


@pytest.mark.parametrize(
    "url", ["hf://", "hf://a", "hf://a/b", "hf://a/b/", "hf:///b/c", "hf://a b/c/d.pth", "http://a/b"]
)
def test_addresses_of_weights(url):
    with pytest.raises(UserError):
        find_weights(url)


ANSWERS = {
    "no HTTP": b"hello\r\n\r\n",
    "nothing": b"",
    "half a line": b"HTTP/1.1 2",
    "a word for a status": b"HTTP/1.1 OK\r\n\r\n",
    "status 999": b"HTTP/1.1 999 Strange\r\n\r\n",
    "a negative status": b"HTTP/1.1 -20 x\r\n\r\n",
    "other version": b"SSH-2.0-OpenSSH\r\n",
    "long line": OK + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    "many headers": OK + b"X: a\r\n" * 200 + b"\r\n",
    "negative length": OK + b"Content-Length: -5\r\n\r\n" + BODY,
    "length in words": OK + b"Content-Length: many\r\n\r\n" + BODY,
    "length 1e9": OK + b"Content-Length: 1e9\r\n\r\n" + BODY,
    "huge length": OK + b"Content-Length: " + b"9" * 18 + b"\r\n\r\n" + BODY,
    "length of 5000 digits": OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + BODY,
    "length in other digits": OK + "Content-Length: \u0665\r\n\r\n".encode() + BODY,
    "cut": OK + b"Content-Length: 5000\r\n\r\n" + BODY,
    "bad chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + BODY,
    "negative chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n" + BODY,
    "cut chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n" + BODY,
    "403 with control characters": b"HTTP/1.1 403 \x1b[31mred\r\n\r\n",
    "404": b"HTTP/1.1 404 Not Found\r\n\r\n",
    "416": b"HTTP/1.1 416 Range\r\n\r\n",
    "500": b"HTTP/1.1 500 Broken\r\n\r\n",
    "302 nowhere": b"HTTP/1.1 302 Found\r\n\r\n",
    **{
        f"302 to {target}": b"HTTP/1.1 302 Found\r\nLocation: " + target.encode() + b"\r\n\r\n"
        for target in (
            *("file:///etc/passwd", "ftp://host/x", "data:,x", "http://[::1", "http://host:x/", "//", "/", "?a"),
            *("javascript:alert(1)", "http:///x", "mailto:a@b", "http://a b/"),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name, tmp_path):
    with RawServer(ANSWERS[name]) as server:
        refused(f"{server.url}/file", tmp_path / "file")


@pytest.mark.parametrize(
    ("begin", "endless"),
    [
        (b"", b"H"),
        (OK, b"X"),
        (OK + b"X: ", b"a"),
        (OK + b"Content-Length: 1000000\r\n\r\n", b"a"),
        (OK + b"\r\n", b"a"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nffffff\r\n", b"a"),
        (b"HTTP/1.1 302 Found\r\nLocation: ", b"a"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", b"a"),
        (b"HTTP/1.1 500 Broken\r\n\r\n", b"a"),
        (b"HTTP/1.1 404 Gone\r\n\r\n", b"a"),
    ],
    ids=str,
)
def test_a_server_that_drips(begin, endless, tmp_path):
    with RawServer(begin, pause=0.02, endless=endless) as server:
        refused(f"{server.url}/file", tmp_path / "file")


@pytest.mark.parametrize(
    "begin", [b"", OK, OK + b"\r\n", OK + b"Content-Length: 9\r\n\r\n", b"HTTP/1.1 302 F\r\n"], ids=str
)
def test_a_server_that_falls_silent(begin, tmp_path):
    with RawServer(begin, pause=5) as server:
        refused(f"{server.url}/file", tmp_path / "file")


@pytest.mark.parametrize("begin", [OK + b"\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"], ids=str)
def test_a_body_without_end(begin, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", 1 << 20)
    with RawServer(begin, endless=bytes(1 << 16)) as server:
        assert "more than" in refused(f"{server.url}/file", tmp_path / "file")


def test_a_body_larger_than_the_limit_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", 100)
    with FileServer() as server:
        server.files["/file"] = BODY
        refused(f"{server.url}/file", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_redirects_in_a_circle(tmp_path):
    with RawServer(b"HTTP/1.1 302 Found\r\nLocation: /file\r\n\r\n") as server:
        assert "redirects" in refused(f"{server.url}/file", tmp_path / "file")


def test_a_redirect_is_followed(tmp_path):
    with FileServer() as files:
        files.files["/file"] = BODY
        with RawServer(b"HTTP/1.1 302 Found\r\nLocation: " + files.url.encode() + b"/file\r\n\r\n") as server:
            fetch(f"{server.url}/file", tmp_path / "file", progress=False)
    assert (tmp_path / "file").read_bytes() == BODY


@pytest.mark.parametrize("content_range", [b"bytes 1-5/1000", b"bytes 7-9/10", b"x", b"", b"bytes -5-9/10"])
def test_another_part_than_asked_for_is_not_appended(content_range, tmp_path):
    (tmp_path / "file.partial").write_bytes(b"x" * 500)
    answer = b"HTTP/1.1 206 Part\r\nContent-Length: 5\r\nContent-Range: " + content_range + b"\r\n\r\nabcde"
    with RawServer(answer) as server:
        refused(f"{server.url}/file", tmp_path / "file")


@pytest.mark.parametrize("name", ["http_proxy", "all_proxy"])
@pytest.mark.parametrize("value", ["::::", "http://[", "file:///x", "http://127.0.0.1:1", "\u20ac"])
def test_proxies_of_the_environment(name, value, tmp_path, monkeypatch):
    monkeypatch.setenv(name, value)
    with RawServer(b"HTTP/1.1 404 Gone\r\n\r\n") as server:
        refused(f"{server.url}/file", tmp_path / "file")


ENTRIES = {
    "truncated": lambda data: data[: len(data) // 2],
    "no archive": lambda data: b"<html>captive portal</html>",
    "empty": lambda data: b"",
    "flipped": lambda data: data.replace(b"image", b"imagx"),
    "encrypted": lambda data: data.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
    "other method": lambda data: data.replace(b"\x14\x00\x00\x00\x00\x00", b"\x14\x00\x00\x00\x63\x00"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_damaged_archives_leave_nothing(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("annotations/instances.json", "image" * 100)
    with FileServer() as server:
        server.files["/a.zip"] = ENTRIES[name]((tmp_path / "a.zip").read_bytes())
        archives = {"annotations": Archive("a.zip", None, "annotations")}
        with pytest.raises(UserError):
            download_coco(tmp_path / "out", base_url=server.url, splits=(), archives=archives, progress=False)
    assert {path.name for path in (tmp_path / "out").rglob("*")} <= {"a.zip.partial"}


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "annotations/../../evil", "annotations/../evil", "annotations\\x"]
)
def test_entries_outside_of_the_folder(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("annotations/a.json", "{}")
        archive.writestr(name, "evil")
    with FileServer() as server:
        server.files["/a.zip"] = (tmp_path / "a.zip").read_bytes()
        archives = {"annotations": Archive("a.zip", None, "annotations")}
        download_coco(tmp_path / "out", base_url=server.url, splits=(), archives=archives, progress=False)
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "annotations"]
    assert [path.name for path in outside] == ["a.zip"]
