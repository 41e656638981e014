import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from maskrcnn.data.coco import download
from maskrcnn.data.coco.download import Archive, download_coco, fetch
from maskrcnn.errors import UserError


class Server:
    """A file server that drops each connection after ``drop_after`` bytes, while ``drops`` last."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.drops, self.drop_after, self.ranges = 0, 1000, True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, handler):
        wanted = handler.headers.get("Range")
        self.requests.append((handler.path, wanted))
        body = self.files.get(handler.path)
        if body is None:
            handler.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start >= len(body):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(body)}")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        if self.drops:
            self.drops -= 1
            body = body[: start + self.drop_after]
        handler.wfile.write(body[start:])


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def archive(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def archives(server):
    contents = {
        "annotations": ("annotations/annotations.zip", {"annotations/instances_val2017.json": b"{}"}),
        "val": ("zips/val2017.zip", {"val2017/1.jpg": bytes(range(256)) * 20, "val2017/2.jpg": b"two"}),
    }
    listed = {}
    for name, (path, files) in contents.items():
        server.files[f"/{path}"] = archive(files)
        md5 = hashlib.md5(server.files[f"/{path}"]).hexdigest()
        listed[name] = Archive(path, md5, next(iter(files)).partition("/")[0])
    return listed


def get(server, archives, out_dir):
    return download_coco(out_dir, base_url=server.url, splits=("val",), archives=archives, progress=False)


def test_everything_is_fetched_and_unpacked(server, archives, tmp_path):
    get(server, archives, tmp_path)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"annotations/instances_val2017.json", "val2017/1.jpg", "val2017/2.jpg"}
    assert (tmp_path / "val2017" / "1.jpg").read_bytes() == bytes(range(256)) * 20
    requests = len(server.requests)
    get(server, archives, tmp_path)
    assert len(server.requests) == requests  # all there: nothing is asked again


def test_a_dropped_connection_is_taken_up_where_it_broke(server, archives, tmp_path):
    server.drops = 3
    get(server, archives, tmp_path)
    assert (tmp_path / "val2017" / "1.jpg").read_bytes() == bytes(range(256)) * 20
    ranges = [wanted for path, wanted in server.requests if "val2017" in path]
    assert ranges[:2] == [None, "bytes=1000-"]


def test_a_later_start_goes_on(server, tmp_path):
    server.files["/file"] = bytes(range(250)) * 20
    (tmp_path / "file.partial").write_bytes(server.files["/file"][:1234])
    fetch(f"{server.url}/file", tmp_path / "file", progress=False)
    assert server.requests == [("/file", "bytes=1234-")]
    assert (tmp_path / "file").read_bytes() == server.files["/file"]


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.files["/file"], server.ranges = bytes(range(250)) * 20, False
    (tmp_path / "file.partial").write_bytes(b"x" * 1234)
    fetch(f"{server.url}/file", tmp_path / "file", progress=False)
    assert (tmp_path / "file").read_bytes() == server.files["/file"]


def test_a_whole_file_that_was_not_renamed_is_accepted(server, tmp_path):
    server.files["/file"] = b"abc"
    (tmp_path / "file.partial").write_bytes(b"abc")
    fetch(f"{server.url}/file", tmp_path / "file", progress=False)
    assert (tmp_path / "file").read_bytes() == b"abc"


def test_a_server_that_gives_nothing_is_given_up(server, tmp_path):
    server.files["/file"], server.drops, server.drop_after = b"abc" * 1000, 1000, 0
    with pytest.raises(UserError, match=r"download failed \(the connection was cut\); start again"):
        fetch(f"{server.url}/file", tmp_path / "file", progress=False)
    assert len(server.requests) == download.ATTEMPTS


def test_what_the_server_does_not_have(server, archives, tmp_path):
    server.files.clear()
    with pytest.raises(UserError, match="the server answers 404"):
        get(server, archives, tmp_path)


def test_nobody_listens(server, archives, tmp_path):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(UserError, match="refused"):
        get(server, archives, tmp_path)


def test_a_damaged_download_is_removed(server, archives, tmp_path):
    server.files["/zips/val2017.zip"] = b"x" + server.files["/zips/val2017.zip"][1:]
    with pytest.raises(UserError, match="MD5 differs"):
        get(server, archives, tmp_path)
    assert not (tmp_path / "val2017").exists()
    assert not list(tmp_path.glob("val2017.zip*"))


def test_a_damaged_archive_of_unknown_checksum_is_removed(server, archives, tmp_path):
    path = archives["val"].path
    data = bytearray(server.files[f"/{path}"])
    data[200] ^= 1  # within the first image
    server.files[f"/{path}"] = bytes(data)
    archives["val"] = Archive(path, None, "val2017")
    with pytest.raises(UserError, match="the archive is damaged"):
        get(server, archives, tmp_path)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["annotations"]


def test_a_full_disk(server, archives, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match=r"No space left on device\); free some space"):
        get(server, archives, tmp_path)


def test_an_unknown_split(tmp_path):
    with pytest.raises(UserError, match="unknown split 'test'"):
        download_coco(tmp_path, splits=("test",))
