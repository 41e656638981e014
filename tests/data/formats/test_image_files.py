import unicodedata
from pathlib import Path, PurePosixPath

import pytest

from maskrcnn.data.formats.image_files import ImageFinder, locate, possible_names


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def find(root: Path, name: str, *, near: str = "annotations", split: str | None = None) -> str | None:
    found = ImageFinder(root, split).find(name, root / near)
    return None if found is None else found.relative_to(root).as_posix()


@pytest.mark.parametrize(
    "name",
    [
        "0.jpg",
        "images/0.jpg",
        "images\\0.jpg",
        "C:\\photos\\0.jpg",
        "../../media/upload/1/0.jpg",
        "https://example.org/x/0.jpg?a=b",
        "/data/local-files/?d=x/0.jpg",
        "deadbeef-0.jpg",
        "0.JPG",
        "0.jpeg",
        "0",
    ],
)
def test_an_image_is_found_by_whatever_it_is_called(tmp_path, name):
    assert find(make(tmp_path, "images/0.jpg", "images/1.jpg"), name) == "images/0.jpg"


def test_accents_in_either_form_of_unicode(tmp_path):
    forms = [unicodedata.normalize(form, "été") for form in ("NFC", "NFD")]
    for written, there in (forms, forms[::-1]):
        make(tmp_path / written, f"images/{there}.jpg")
        found = find(tmp_path / written, f"{written}.png")
        assert found is not None
        assert unicodedata.normalize("NFC", found) == f"images/{forms[0]}.jpg"


def test_escapes_of_urls_are_names_too(tmp_path):
    assert find(make(tmp_path, "a b.jpg"), "a%20b.jpg") == "a b.jpg"
    assert find(make(tmp_path, "c%20d.jpg"), "c%20d.jpg") == "c%20d.jpg"


def test_masks_are_not_taken_for_images(tmp_path):
    root = make(tmp_path, "images/0.png", "masks/0.png", "labels/1.png")
    assert find(root, "0.png") == "images/0.png"
    assert find(make(tmp_path, "a/2.jpg", "masks/2.jpg"), "2.jpg") == "a/2.jpg"


def test_the_folder_of_the_split_goes_first(tmp_path):
    root = make(tmp_path, "train/0.jpg", "val/0.jpg", "test/images/0.jpg")
    assert [find(root, "0.jpg", split=split) for split in ("train", "val", "test")] == [
        "train/0.jpg",
        "val/0.jpg",
        "test/images/0.jpg",
    ]


def test_the_longer_match_and_the_nearer_folder_go_first(tmp_path):
    root = make(tmp_path, "a/0.jpg", "b/0.jpg")
    assert find(root, "b/0.jpg") == "b/0.jpg"
    assert find(root, "0.jpg", near="a") == "a/0.jpg"


def test_of_two_that_are_as_likely_none_is_taken(tmp_path):
    assert find(make(tmp_path, "a/0.jpg", "b/0.jpg"), "0.jpg") is None


def test_names_that_would_share_a_file_keep_the_better_match(tmp_path):
    root = make(tmp_path, "images/a/0.jpg", "images/1.jpg")
    finder = ImageFinder(root)
    assert locate(["a/0.jpg", "b/0.jpg", "1.jpg"], finder, root)[1] == {"a/0.jpg": "a/0.jpg", "1.jpg": "1.jpg"}
    assert locate(["x/1.jpg", "y/1.jpg", "a/0.jpg"], finder, root)[1] == {"a/0.jpg": "a/0.jpg"}


def test_names_become_relative_to_the_folder_that_most_are_relative_to(tmp_path):
    finder = ImageFinder(make(tmp_path, "images/0.jpg", "images/1.jpg", "more/2.jpg"))
    folder, renamed, moved = locate(["0.jpg", "1.jpg", "2.jpg", "absent.jpg"], finder, tmp_path)
    assert folder == tmp_path / "images"
    assert renamed == {"0.jpg": "0.jpg", "1.jpg": "1.jpg", "2.jpg": "../more/2.jpg"}
    assert moved == ["2.jpg"]


def test_every_possible_name_has_a_last_part():
    assert [str(name) for name in possible_names("a\\b.jpg")] == ["a/b.jpg"]
    assert list(possible_names("")) == []
    assert PurePosixPath("0.jpg") in list(possible_names("0123abcd-0.jpg"))
