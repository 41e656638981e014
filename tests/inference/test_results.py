"""The files that prediction writes: complete, under different names, or absent."""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from maskrcnn.config import Category, Config
from maskrcnn.errors import UserError
from maskrcnn.inference.inputs import find_inputs
from maskrcnn.inference.outputs import FORMATS
from maskrcnn.inference.outputs.writers import Saving
from maskrcnn.inference.predictor import Predictor
from maskrcnn.inference.results import infer_batches, infer_inputs
from maskrcnn.input_files import parse_json

CONFIG = Config(model=Config.tiny().model, categories=(Category(1, 4, "cat"),))


class WholeImageModel:
    """Detects one cat that fills the image."""

    def predict_on_batch(self, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        count = len(x["images"])
        sizes = x["image_sizes"]
        return {
            "boxes": np.stack([[[0, 0, width, height]] for height, width in sizes]).astype(np.float32),
            "classes": np.ones((count, 1), np.int32),
            "scores": np.full((count, 1), 0.75, np.float32),
            "masks": np.ones((count, 1, 28, 28), np.float32),
            "valid": np.ones((count, 1), np.bool_),
        }


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(WholeImageModel(), CONFIG)


def _save(path: Path, height: int = 20, width: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(path)
    return path


def test_files_and_folders_give_results_and_images(tmp_path: Path, predictor: Predictor) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    _save(folder / "a.png")
    _save(folder / "inner" / "a.jpg", 30, 20)
    single = _save(tmp_path / "A.bmp")
    assert infer_inputs(predictor, find_inputs([folder, single, single]), Saving(out)) == []
    assert sorted(path.name for path in out.iterdir()) == ["A_3.png", "a.png", "a_2.png", "predictions.json"]
    results = json.loads((out / "predictions.json").read_text())
    assert [(r["image_id"], Path(r["file_name"]).name, r["category_id"]) for r in results] == [
        (1, "a.png", 4),
        (2, "a.jpg", 4),
        (3, "A.bmp", 4),
    ]
    assert results[1]["segmentation"]["size"] == [30, 20]
    with Image.open(out / "a_2.png") as image:
        assert image.size == (20, 30)
        assert (np.asarray(image) != 90).any()


def test_the_score_threshold_applies_to_drawings_only(tmp_path: Path, predictor: Predictor) -> None:
    infer_inputs(predictor, find_inputs([_save(tmp_path / "a.png")]), Saving(tmp_path / "out", score_threshold=0.8))
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert (np.asarray(image) == 90).all()
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 1


def test_an_unreadable_image_does_not_stop_the_others(tmp_path: Path, predictor: Predictor) -> None:
    good, bad = _save(tmp_path / "good.png"), tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:50])
    (problem,) = infer_inputs(predictor, find_inputs([bad, good]), Saving(tmp_path / "out"))
    assert "bad.png: the image is damaged" in problem
    assert [result["image_id"] for result in json.loads((tmp_path / "out" / "predictions.json").read_text())] == [2]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.png", "predictions.json"]


def _strings(content: Any) -> list[str]:
    """All texts in JSON."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        return [text for value in content for text in _strings(value)]
    return [content] if isinstance(content, str) else []


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path, predictor: Predictor) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        image = _save(tmp_path / "in" / name)
    except OSError:
        pytest.skip("the file system takes Unicode only")
    saving = Saving(tmp_path / "out", formats=FORMATS)
    assert infer_inputs(predictor, find_inputs([image]), saving) == []
    for file in ("predictions.json", "annotations.json", name.replace("png", "json"), "detections.csv"):
        (path,) = saving.out_dir.rglob(file)
        text = path.read_bytes().decode()  # UTF-8, and JSON without halves of surrogate pairs
        names = [text] if file.endswith("csv") else _strings(parse_json(text))
        assert any("caf\\udce9.png" in found for found in names)


def test_a_drawing_replaces_no_image(tmp_path: Path, predictor: Predictor) -> None:
    names = ["a.png", os.fsdecode(b"caf\xe9.png")] if sys.platform == "linux" else ["a.png"]
    for name in names:
        image = _save(tmp_path / name)
        before = image.read_bytes()
        with pytest.raises(UserError, match="would replace the image"):
            infer_inputs(predictor, find_inputs([image]), Saving(tmp_path))
        assert image.read_bytes() == before


def test_no_readable_image_is_an_error(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of 1 images and videos can be read; the first: .*bad\.png"):
        infer_inputs(predictor, find_inputs([tmp_path / "bad.png"]), Saving(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_results_are_read_by_coco_tools(tmp_path: Path, predictor: Predictor) -> None:
    infer_inputs(predictor, find_inputs([_save(tmp_path / "a.png")]), Saving(tmp_path / "out"))
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}],
        "annotations": [],
        "categories": [{"id": 4, "name": "cat"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        results = COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "out" / "predictions.json"))
    (annotation,) = results.anns.values()
    assert (annotation["category_id"], annotation["category_name"], annotation["area"]) == (4, "cat", 600)


def test_images_are_not_replaced_by_their_drawings(tmp_path: Path, predictor: Predictor) -> None:
    image = _save(tmp_path / "a.png")
    before = image.read_bytes()
    with pytest.raises(UserError, match=r"a\.png: the drawing would replace the image; choose another --out_dir"):
        infer_inputs(predictor, find_inputs([image]), Saving(tmp_path))
    assert image.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, predictor: Predictor) -> None:
    image = _save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png/out/predictions\.json: cannot be written"):
        infer_inputs(predictor, find_inputs([image]), Saving(image / "out"))


def test_a_dataset_gives_results_with_its_own_ids(tmp_path: Path, predictor: Predictor) -> None:
    def batch(ids: list[int], valid: list[bool]) -> dict[str, Any]:
        return {
            "images": np.full((2, 128, 128, 3), 90, np.uint8),
            "image_sizes": np.array([[64, 128]] * 2, np.float32),
            "image_ids": np.array(ids),
            "original_sizes": np.array([[32, 64]] * 2, np.int32),
            "image_valid": np.array(valid),
        }

    batches = [batch([12, 40], [True, True]), batch([5, 5], [True, False])]
    assert infer_batches(predictor, batches, Saving(tmp_path / "out")) == 3
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [result["image_id"] for result in results] == [12, 40, 5]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["12.png", "40.png", "5.png"]
    with Image.open(tmp_path / "out" / "5.png") as image:
        assert image.size == (64, 32)
    with pytest.raises(UserError, match="no image"):
        infer_batches(predictor, [], Saving(tmp_path / "none"))
    assert not (tmp_path / "none" / "predictions.json").exists()


def test_images_without_objects_make_valid_json(tmp_path: Path, predictor: Predictor) -> None:
    class NothingModel(WholeImageModel):
        def predict_on_batch(self, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {**super().predict_on_batch(x), "valid": np.zeros((len(x["images"]), 1), np.bool_)}

    inputs = find_inputs([_save(tmp_path / "a.png")])
    infer_inputs(Predictor(NothingModel(), CONFIG), inputs, Saving(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "predictions.json").read_text()) == []


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    out_dir.mkdir()
    (out_dir / ".999999999.predictions.json").write_text("[")
    infer_inputs(Predictor(WholeImageModel(), CONFIG), find_inputs([_save(tmp_path / "a.png")]), Saving(out_dir))
    assert not [path for path in out_dir.iterdir() if path.name.startswith(".")]
