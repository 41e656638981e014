import shutil

import pytest

from maskrcnn.data.formats.recognize import recognize
from maskrcnn.errors import UserError


def test_coco_is_recognized_also_in_the_folder_that_an_archive_was_unpacked_to(coco, tmp_path):
    assert recognize(coco.root).format == "COCO"
    shutil.move(coco.root, tmp_path / "outer" / "inner")
    (tmp_path / "outer" / "README.txt").touch()
    (split,) = recognize(tmp_path / "outer").splits
    assert split.read().image_dir == tmp_path / "outer" / "inner" / "train"


def test_one_line_says_what_is_there_and_what_is_understood(tmp_path):
    for name in ("a.txt", "b.txt", "sub/c.JPG", "sub/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError) as error:
        recognize(tmp_path)
    message = str(error.value)
    assert "no dataset recognized; it holds 2 .txt, 1 .jpg; understood are COCO JSON" in message
    assert "\n" not in message


def test_an_empty_folder(tmp_path):
    with pytest.raises(UserError, match="it holds no files"):
        recognize(tmp_path)
