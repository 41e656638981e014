"""The command ``infer``, with a stand-in for the model."""

import json

import pytest
from PIL import Image

from maskrcnn.cli import main
from maskrcnn.config import load_config


def test_infer_files_and_folders(model_dir, shapes_dir, tmp_path, capsys):
    Image.new("L", (50, 30)).save(tmp_path / "gray.png")
    command = f"infer {tmp_path / 'gray.png'} {shapes_dir / 'val'} --model_dir {model_dir} --out_dir {tmp_path / 'out'}"
    assert main(command.split()) == 0
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(results) == 4  # the stand-in finds one object in each image
    assert len(list((tmp_path / "out").glob("*.png"))) == 4
    with Image.open(tmp_path / "out" / "gray.png") as image:
        assert image.size == (50, 30)


def test_forms_classes_and_tiles(model_dir, shapes_dir, tmp_path, capsys):
    command = f"infer {shapes_dir}/val/*.jpg --model_dir {model_dir} --out_dir {tmp_path / 'out'}"
    name = load_config(model_dir / "config.json").categories[0].name
    assert main([*command.split(), "--save", "csv", "labelme", "--classes", name, "--tile", "48"]) == 0
    assert f"what was saved (csv, labelme) are in {tmp_path / 'out'}" in capsys.readouterr().out
    assert len((tmp_path / "out" / "detections.csv").read_text().splitlines()) > 3
    assert len(list((tmp_path / "out" / "labelme").iterdir())) == 3
    for flags, message in (
        ("--classes cat", "--classes cat: expected some of"),
        ("--save voc", "invalid choice: 'voc'"),
    ):
        assert main([*command.split(), *flags.split()]) == 2
        assert message in capsys.readouterr().err


def test_infer_split_into_the_models_folder(model_dir, shapes_dir, capsys):
    assert main(f"infer --data_dir {shapes_dir} --model_dir {model_dir} --eval_samples 2".split()) == 0
    assert f"are in {model_dir}/predictions" in capsys.readouterr().out
    assert len(list((model_dir / "predictions").glob("*.png"))) == 2


def test_infer_takes_the_number_of_images_from_its_own_flags(model_dir, shapes_dir, tmp_path):
    config = load_config(model_dir / "config.json").override({"train.eval_samples": 1})
    (model_dir / "config.json").write_text(config.to_json())
    command = f"infer --model_dir {model_dir} --out_dir {tmp_path / 'out'}"
    for images in (str(shapes_dir / "val"), f"--data_dir {shapes_dir} --split train"):
        assert main([*command.split(), *images.split()]) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 3 + 6
    assert main([*command.split(), str(shapes_dir / "train"), "--eval_samples", "2"]) == 0
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 2


@pytest.mark.parametrize("extra", ["", "--model_dir m --weights w"])
def test_infer_needs_one_model(extra, capsys):
    assert main(["infer", "a.jpg", *extra.split()]) == 2
    assert "give one of --model_dir, --weights and --model" in capsys.readouterr().err


def test_infer_with_weights_of_any_source(model_dir, shapes_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["infer", str(shapes_dir / "val"), "--weights", str(model_dir)]) == 0
    assert "are in predictions" in capsys.readouterr().out
    assert len(list((tmp_path / "predictions").glob("*.png"))) == 3
    assert main(["infer", str(shapes_dir / "val"), "--weights", "maskrcnn_resnet50"]) == 2
    assert "did you mean maskrcnn_resnet50_fpn" in capsys.readouterr().err


def test_nothing_to_infer(model_dir, capsys):
    assert main(["infer", "--model_dir", str(model_dir)]) == 2
    assert "nothing to predict" in capsys.readouterr().err


def test_a_low_score_threshold_lowers_that_of_the_model(model_dir, stand_in, shapes_dir, monkeypatch, capsys):
    thresholds = []

    class Recorder(stand_in):
        def __init__(self, config):
            thresholds.append(config.model.box_head.score_threshold)
            super().__init__(config)

    monkeypatch.setattr("maskrcnn.weights.model_folder.MaskRCNN", Recorder)
    for threshold in ("0.01", "0.5"):
        assert main(f"infer {shapes_dir / 'val'} --model_dir {model_dir} --score_threshold {threshold}".split()) == 0
    assert thresholds == [0.01, 0.05]
    assert main(f"infer {shapes_dir / 'val'} --model_dir {model_dir} --score_threshold 50".split()) == 2
    assert "--score_threshold: '50' is not a number from 0 to 1" in capsys.readouterr().err


def test_unreadable_images_do_not_stop_the_others(model_dir, tmp_path, capsys, caplog):
    (tmp_path / "in").mkdir()
    for name in "acdef":
        (tmp_path / "in" / f"{name}.jpg").write_bytes(b"not an image")
    command = f"infer {tmp_path / 'in'} --model_dir {model_dir} --out_dir {tmp_path / 'out'}"
    assert main(command.split()) == 2
    assert "none of 5 images and videos can be read" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()

    Image.new("RGB", (40, 40)).save(tmp_path / "in" / "b.jpg")
    assert main(command.split()) == 1
    assert [line.rpartition("/")[2] for line in caplog.messages if line.startswith("skipped")] == [
        *(f"{name}.jpg: not a JPEG, PNG, BMP, GIF, TIFF or WebP image; convert or remove it" for name in "acd"),
        "skipped 2 more",
    ]
    assert "5 of 6 images could not be read; the others were predicted" in caplog.text
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 1
    assert main([*command.split(), "--skip_bad"]) == 0
