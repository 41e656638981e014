"""Downloads from a local server: resumed, verified, and done once."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maskrcnn.errors import UserError
from maskrcnn.runtime import download
from maskrcnn.runtime.addresses import file_name, resolve_url
from maskrcnn.runtime.download import cache_dir, fetch, fetch_once
from tests.file_server import FileServer

CONTENT = bytes(range(250)) * 20


@pytest.fixture
def server():
    with FileServer() as running:
        running.files["/file"] = CONTENT
        yield running


def test_a_later_call_resumes(server, tmp_path):
    (tmp_path / "file.partial").write_bytes(CONTENT[:1234])
    fetch(f"{server.url}/file", tmp_path / "file", progress=False)
    assert server.requests == [("/file", "bytes=1234-")]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_dropped_connection_is_resumed(server, tmp_path):
    server.drops = 2
    fetch(f"{server.url}/file", tmp_path / "file", progress=False)
    assert [requested for _, requested in server.requests] == [None, "bytes=1000-", "bytes=2000-"]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.ranges = False
    (tmp_path / "file.partial").write_bytes(b"x" * 1234)
    fetch(f"{server.url}/file", tmp_path / "file", progress=False)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_complete_file_that_was_not_renamed_is_accepted(server, tmp_path):
    (tmp_path / "file.partial").write_bytes(CONTENT)
    fetch(f"{server.url}/file", tmp_path / "file", progress=False)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_sends_nothing_is_given_up(server, tmp_path):
    server.drops, server.drop_after = 1000, 0
    with pytest.raises(UserError, match=r"download failed \(the connection was cut\); run the command again"):
        fetch(f"{server.url}/file", tmp_path / "file", progress=False)
    assert len(server.requests) == download.ATTEMPTS


def test_an_unreachable_server_is_one_line(server, tmp_path):
    server.close()
    with pytest.raises(UserError, match=r"cannot be reached \(.*refused.*\); check the network"):
        fetch(f"{server.url}/file", tmp_path / "file", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_checksums_are_verified(algorithm, server, tmp_path):
    digits = hashlib.new(algorithm, CONTENT).hexdigest()[:8]
    fetch(f"{server.url}/file", tmp_path / "file", progress=False, **{algorithm: digits})
    with pytest.raises(UserError, match=f"damaged \\({algorithm.upper()} differs\\) and was removed"):
        fetch(f"{server.url}/file", tmp_path / "other", progress=False, **{algorithm: "x"})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_of_several_callers_one_downloads(server, tmp_path):
    path = tmp_path / "cache" / "file"
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(lambda _: fetch_once(f"{server.url}/file", path, progress=False), range(4)))
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_an_unwritable_cache_is_named(server, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match=r"cache/file: cannot be written .*MASKRCNN_CACHE"):
        fetch_once(f"{server.url}/file", tmp_path / "cache" / "file", progress=False)


def test_the_cache_follows_the_environment(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("MASKRCNN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_dir() == Path("/home/me/.cache/maskrcnn")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    assert cache_dir() == Path("/var/cache/me/maskrcnn")
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert cache_dir() == Path("/local/maskrcnn")
    monkeypatch.setenv("MASKRCNN_CACHE", "/mine")
    assert cache_dir() == Path("/mine")


def test_addresses():
    assert resolve_url("https://a.org/b.pth") == "https://a.org/b.pth"
    assert resolve_url("hf://me/masks/a b.pth") == "https://huggingface.co/me/masks/resolve/main/a%20b.pth"
    assert resolve_url("hf://me/masks@v2/x/b.h5") == "https://huggingface.co/me/masks/resolve/v2/x/b.h5"
    assert resolve_url("runs/model") is None
    with pytest.raises(UserError, match="expected hf://OWNER/REPOSITORY/FILE"):
        resolve_url("hf://me/masks")
    assert file_name("https://a.org/b/c.pth?download=1") == "c.pth"
