"""The list of published weights, and downloads from a local server."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskrcnn.errors import UserError
from maskrcnn.runtime.addresses import file_name
from maskrcnn.weights import published
from maskrcnn.weights.published import PUBLISHED, Published, download, find_weights, format_published
from tests.file_server import FileServer

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server with a checkpoint that is published as "small" with the right checksum; the cache is empty."""
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    with FileServer() as running:
        running.files["/small-12345678.pth"] = CONTENT
        digits = hashlib.sha256(CONTENT).hexdigest()[:8]
        item = Published("somebody", f"{running.url}/small-12345678.pth", "1 / 2", "Apache-2.0", 1, sha256=digits)
        monkeypatch.setitem(published.PUBLISHED, "small", item)
        yield running


def test_a_name_is_downloaded_once(server: FileServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="maskrcnn"):
        path = find_weights("small")
    assert path == tmp_path / "cache" / "weights" / "small-12345678.pth"
    assert path.read_bytes() == CONTENT
    assert "downloading small (from somebody, license Apache-2.0, 1 MiB)" in caplog.text
    assert find_weights("small") == path
    assert len(server.requests) == 1


def test_a_url_is_downloaded_once_and_keeps_its_file_name(server: FileServer, tmp_path: Path) -> None:
    server.files["/a/model.pth"], server.files["/b/model.pth"] = b"a", b"b"
    first, second = (find_weights(f"{server.url}/{folder}/model.pth?download=1") for folder in "ab")
    assert (first.read_bytes(), second.read_bytes(), first.name) == (b"a", b"b", "model.pth")
    assert find_weights(f"{server.url}/a/model.pth?download=1") == first
    assert len(server.requests) == 2
    with pytest.raises(UserError, match=r"expected the address of a \.pth"):
        find_weights(f"{server.url}/a/index.html")


def test_an_address_of_the_hub_is_resolved(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskrcnn.runtime.addresses.HUB", server.url)
    server.files["/me/masks/resolve/main/model.safetensors"] = b"tensors"
    assert find_weights("hf://me/masks/model.safetensors").read_bytes() == b"tensors"


def test_existing_paths_go_before_names(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    assert find_weights("small") == Path("small")
    with pytest.raises(UserError, match=r"smal: no such file or folder.*did you mean small\)"):
        find_weights("smal")
    assert server.requests == []


def test_a_damaged_download_is_removed(server: FileServer, tmp_path: Path) -> None:
    server.files["/small-12345678.pth"] = CONTENT[::-1]
    with pytest.raises(UserError, match=r"the download is damaged \(SHA256 differs\) and was removed"):
        find_weights("small")
    assert list((tmp_path / "cache" / "weights").iterdir()) == []


def test_another_address_and_folder(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = PUBLISHED["small"].url
    monkeypatch.setitem(published.PUBLISHED, "small", PUBLISHED["small"]._replace(url="http://127.0.0.1:1/small.pth"))
    assert download("small", tmp_path / "mine", url=url) == tmp_path / "mine" / "small.pth"
    assert (tmp_path / "mine" / "small.pth").read_bytes() == CONTENT


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no published weights 'resnet19'; choose from maskrcnn_resnet50_fpn, "):
        download("resnet19", tmp_path)


def test_checksums_are_those_in_the_file_names() -> None:
    v1 = PUBLISHED["maskrcnn_resnet50_fpn"]
    assert (file_name(v1.url), v1.sha256) == ("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", "bf2d0c1e")
    assert PUBLISHED["detectron2_mask_rcnn_R_50_FPN_1x"].md5 == "a54504"
    for item in PUBLISHED.values():
        assert item.sha256 or item.md5
        assert re.fullmatch("[0-9a-f]+", item.sha256 or item.md5 or "")


def test_the_list_shows_source_license_and_accuracy() -> None:
    row = next(line for line in format_published().splitlines() if line.startswith("maskrcnn_resnet50_fpn_v2"))
    assert row.split()[1:] == ["torchvision", "BSD-3-Clause", "47.4", "/", "41.8", "177"]
    assert all(f"\n{name} " in f"\n{format_published()}" for name in PUBLISHED)
