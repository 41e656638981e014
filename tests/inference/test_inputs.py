"""Whatever the user names becomes a list of images and one of videos."""

import io

import pytest
from PIL import Image

from maskrcnn.errors import UserError
from maskrcnn.inference.inputs import find_inputs, is_live, local_file, unique_names
from tests.file_server import FileServer

pytestmark = pytest.mark.no_backend


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.png", "inner/c.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    for name in ("film.MP4", "inner/.hidden.mp4", "notes.txt"):
        (tmp_path / name).touch()
    return tmp_path


def test_folders_hold_images_and_videos(folder):
    inputs = find_inputs([folder])
    assert inputs.images == [str(folder / name) for name in ("a.png", "b.jpg", "inner/c.tif")]
    assert inputs.videos == [str(folder / "film.MP4")]
    assert inputs.names == ["a", "b", "c", "film"]


def test_patterns_lists_and_cameras(folder, monkeypatch):
    assert find_inputs([f"{folder}/*.[jp]*g"]).images == [str(folder / "a.png"), str(folder / "b.jpg")]
    assert find_inputs([f"{folder}/**/*.tif"]).images == [str(folder / "inner" / "c.tif")]
    listed = f"{folder / 'b.jpg'}\n\n{folder / 'inner'}\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed.encode())))
    assert find_inputs(["-"]).images == [str(folder / "b.jpg"), str(folder / "inner" / "c.tif")]
    live = find_inputs(["0", "rtsp://host/door?channel=1", "https://host/film.mp4?key=1"])
    assert live.videos == ["0", "rtsp://host/door?channel=1", "https://host/film.mp4?key=1"]
    assert live.names == ["camera0", "stream", "film"]
    assert [is_live(name) for name in live.videos] == [True, True, False]


def test_addresses_are_downloaded(folder, tmp_path):
    with FileServer() as server:
        server.files["/x/a.png"] = (folder / "a.png").read_bytes()
        path = local_file(f"{server.url}/x/a.png?size=2", tmp_path)
        assert path.read_bytes() == (folder / "a.png").read_bytes()
        with pytest.raises(UserError, match="the server answers 404"):
            local_file(f"{server.url}/b.png", tmp_path)
    assert local_file("c.png", tmp_path).name == "c.png"


def test_missing_inputs_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no image in this folder"):
        find_inputs([tmp_path / "empty"])
    for name in ("nowhere", "*.jpg", "x" * 5000, "a\0b"):
        with pytest.raises(UserError, match="no such file or folder"):
            find_inputs([tmp_path / name])
    with pytest.raises(UserError, match="no image given"):
        find_inputs([])


def test_names_of_files_are_distinct():
    assert unique_names(["a", "A", "a_2", "b", "a"]) == ["a", "A_2", "a_2_2", "b", "a_3"]
