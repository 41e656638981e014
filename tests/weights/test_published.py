"""The list of published checkpoints, and downloading one from a local server."""

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskrcnn.errors import UserError
from maskrcnn.weights import published
from maskrcnn.weights.published import PUBLISHED, Published, download, find_downloaded, format_published

CONTENT = bytes(range(256)) * 40


class Server(http.server.ThreadingHTTPServer):
    ranges: list[str | None]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.ranges = []
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def url(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a checkpoint "small", published with its right checksum."""
    address = f"http://127.0.0.1:{server.server_port}/small-12345678.pth"
    item = Published(address, "1 / 2", "Apache-2.0", 1, sha256=hashlib.sha256(CONTENT).hexdigest()[:8])
    monkeypatch.setitem(published.PUBLISHED, "small", item)
    return address


def test_download_and_find(url: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = download("small", tmp_path / "weights", progress=False)
    assert path == tmp_path / "weights" / "small-12345678.pth"
    assert path.read_bytes() == CONTENT
    download("small", tmp_path / "weights", progress=False)
    assert server.ranges == [None]  # once

    monkeypatch.chdir(tmp_path)
    assert find_downloaded("small") == Path("weights/small-12345678.pth")
    assert find_downloaded("elsewhere.pth") == Path("elsewhere.pth")


def test_download_goes_on_where_it_stopped(url: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / "small-12345678.pth.partial").write_bytes(CONTENT[:1000])
    assert download("small", tmp_path, progress=False).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_damaged_download_is_removed(algorithm: str, url: str, tmp_path: Path, monkeypatch) -> None:
    wrong = PUBLISHED["small"]._replace(sha256=None)._replace(**{algorithm: "00000000"})
    monkeypatch.setitem(published.PUBLISHED, "small", wrong)
    with pytest.raises(UserError, match=f"the download is damaged \\({algorithm.upper()} differs\\) and was removed"):
        download("small", tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_another_address(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(published.PUBLISHED, "small", PUBLISHED["small"]._replace(url="http://127.0.0.1:1/small.pth"))
    assert download("small", tmp_path, url=url, progress=False).read_bytes() == CONTENT


def test_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no published checkpoint 'resnet19'; choose from maskrcnn_resnet50_fpn, "):
        download("resnet19", tmp_path)


def test_checksums_are_those_in_the_file_names() -> None:
    v1 = PUBLISHED["maskrcnn_resnet50_fpn"]
    assert (v1.file, v1.sha256) == ("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", "bf2d0c1e")
    assert PUBLISHED["detectron2_mask_rcnn_R_50_FPN_1x"].md5 == "a54504"
    for item in PUBLISHED.values():
        assert item.sha256 or item.md5
        assert re.fullmatch("[0-9a-f]+", item.sha256 or item.md5 or "")


def test_list_shows_name_ap_license_and_size() -> None:
    lines = format_published().splitlines()
    assert len(lines) == len(PUBLISHED) + 2
    row = next(line for line in lines if line.startswith("maskrcnn_resnet50_fpn_v2"))
    assert row.split()[1:] == [
        "47.4",
        "/",
        "41.8",
        "177",
        "BSD-3-Clause",
        "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
    ]
