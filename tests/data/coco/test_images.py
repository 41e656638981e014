from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.coco.images import check_images
from maskrcnn.errors import UserError
from maskrcnn.imaging.read import ORIENTATION, read_size


@pytest.fixture
def files(tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


def check(entries, image_dir):
    problems = []
    listed = check_images(entries, image_dir, problems.append, Path("train.json"))
    return listed, [(problem.kind, problem.is_loss) for problem in problems]


def test_sizes_are_read_where_they_are_missing(files):
    listed, problems = check([{"id": 1, "file_name": "a.png", "height": 0, "width": None}], files)
    assert (listed.images[0].height, listed.images[0].width) == (20, 30)
    assert problems == [("image without size", False)]


def test_sizes_are_those_of_the_upright_image(files):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # a quarter turn
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(files / "turned.jpg", exif=exif)
    assert read_size(files / "turned.jpg") == (30, 20)
    (files / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match="not a JPEG"):
        read_size(files / "broken.jpg")


def test_images_of_one_id_cannot_be_told_apart(files):
    entries = [{"id": 1, "file_name": name, "height": 20, "width": 30} for name in ("a.png", "b.png")]
    listed, problems = check(entries, files)
    assert listed.images == []
    assert listed.by_key == {1: None}
    assert problems == [("equal image ids", True)] * 2


def test_two_entries_of_one_file_are_one_image(files):
    entries = [{"id": id, "file_name": "a.png", "height": 20, "width": 30} for id in (1, 2, 1)]
    listed, problems = check(entries, files)
    assert [image.id for image in listed.images] == [1]
    assert listed.by_key == {1: listed.images[0], 2: listed.images[0]}
    assert problems == [("image listed twice", False)] * 2


def test_files_are_not_looked_at_without_a_folder():
    listed, problems = check([{"id": 5, "height": 20, "width": 30}, {"id": 6, "height": 2, "width": 3}], None)
    assert [image.id for image in listed.images] == [5, 6]
    assert not problems


def test_a_problem_names_the_image_file(files):
    problems = []
    check_images([{"id": 1, "file_name": "absent.png"}], files, problems.append, Path("train.json"))
    assert str(problems[0]) == f"{files / 'absent.png'}: image 1: the file is missing"
