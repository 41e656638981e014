import hashlib
import io
import zipfile

import pytest

from maskrcnn.data.coco.download import Archive, download_coco
from maskrcnn.errors import UserError
from maskrcnn.runtime import download
from tests.file_server import FileServer


@pytest.fixture
def server():
    with FileServer() as running:
        yield running


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


def test_what_the_server_does_not_have(server, archives, tmp_path):
    server.files.clear()
    with pytest.raises(UserError, match="the server answers 404"):
        get(server, archives, tmp_path)


def test_nobody_listens(server, archives, tmp_path):
    server.close()
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
    with pytest.raises(UserError, match=r"No space left on device\); free disk space"):
        get(server, archives, tmp_path)


def test_an_unknown_split(tmp_path):
    with pytest.raises(UserError, match="unknown split 'test'"):
        download_coco(tmp_path, splits=("test",))
