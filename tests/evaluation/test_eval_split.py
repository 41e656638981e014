"""Evaluations refuse ground truth of other images or categories."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from maskrcnn.config import Config
from maskrcnn.data.splits import open_split
from maskrcnn.errors import UserError
from maskrcnn.evaluation.eval_split import open_eval_split


@pytest.fixture
def annotations(shapes_dir: Path) -> dict[str, Any]:
    return json.loads((shapes_dir / "annotations" / "instances_val.json").read_text())


@pytest.fixture
def config(shapes_dir: Path) -> Config:
    return Config(categories=open_split(shapes_dir, "val").categories)


def _write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_another_file_of_the_same_images_is_taken(annotations, config, shapes_dir, tmp_path) -> None:
    annotations["images"][0]["file_name"] = "somewhere\\else/" + annotations["images"][0]["file_name"]
    path = _write(tmp_path / "better.json", annotations)
    split = open_eval_split(config, shapes_dir, tmp_path, eval_file=path)
    assert (split.name, split.annotation_file, split.num_examples) == ("val", path, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 4711}, r"other\.json: no image with id \d+, which is \w+\.\w+ \(64x64 px\) in the val split"),
        (
            {"file_name": "b.jpg"},
            r"image \d+ is b\.jpg \(64x64 px\), in the val split it is (?!b\.jpg)\w+\.\w+ ",
        ),
        ({"width": 65}, r"image \d+ is \w+\.\w+ \(65x64 px\), in the val split it is \w+\.\w+ \(64x64 px\); give"),
    ],
)
def test_other_images_are_refused(change, message, annotations, config, shapes_dir, tmp_path) -> None:
    annotations["images"][1] |= change
    path = _write(tmp_path / "other.json", annotations)
    with pytest.raises(UserError, match=message):
        open_eval_split(config, shapes_dir, tmp_path, eval_file=path)
    first = dataclasses.replace(config, train=dataclasses.replace(config.train, eval_samples=1))
    assert open_eval_split(first, shapes_dir, tmp_path, eval_file=path).annotation_file == path


def test_other_categories_are_refused(annotations, config, shapes_dir, tmp_path) -> None:
    fewer = dataclasses.replace(config, categories=config.categories[1:])
    with pytest.raises(UserError, match=r"its val split has the categories 1 circle, .* the model has 2 "):
        open_eval_split(fewer, shapes_dir, tmp_path)
    annotations["categories"][0]["name"] = "disk"
    path = _write(tmp_path / "other.json", annotations)
    with pytest.raises(UserError, match=r"other\.json: has the categories 1 disk, .* the model has 1 circle"):
        open_eval_split(config, shapes_dir, tmp_path, eval_file=path)


def test_a_named_file_needs_no_split(annotations, config, shapes_dir, tmp_path) -> None:
    shutil.copytree(shapes_dir / "val", tmp_path / "data" / "photos")
    path = _write(tmp_path / "holdout.json", annotations)
    split = open_eval_split(config, tmp_path / "data", tmp_path, eval_file=path)
    assert split.num_examples == 3
    assert split.annotation_file is not None
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no dataset recognized"):
        open_eval_split(config, tmp_path / "empty", tmp_path)
