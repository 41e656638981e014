"""The commands train, eval and infer from end to end, with a stand-in for the model."""

import json

import pytest
from PIL import Image

from maskrcnn.cli import main
from maskrcnn.config import load_config

pytestmark = pytest.mark.usefixtures("stand_in")


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    from maskrcnn.config import Config

    path = tmp_path_factory.mktemp("config") / "config.json"
    path.write_text(Config.tiny().override({"image.min_side": 64, "image.max_side": 64}).to_json())
    return path


@pytest.fixture
def model_dir(config_file, shapes_dir, tmp_path, capsys):
    """A folder in which a run of four steps has finished."""
    command = f"train --data_dir {shapes_dir} --model_dir {tmp_path / 'm'} --config {config_file} --epochs 1 --seed 1"
    assert main([*command.split(), "--steps_per_epoch", "4", "--log_every", "2", "--eval_batch_size", "2"]) == 0
    assert "3 images" in capsys.readouterr().out
    return tmp_path / "m"


def logged(path):
    return [json.loads(line.removeprefix("DLLL ")) for line in path.read_text().splitlines()]


def test_train(model_dir, shapes_dir):
    assert load_config(model_dir / "config.json").train.seed == 1
    assert [line["step"] for line in logged(model_dir / "mrcnn-dlll.json")][:3] == ["PARAMETER", [1, 2], [1, 4]]


def test_the_same_command_again_has_nothing_left_to_do(model_dir, config_file, shapes_dir, caplog, capsys):
    command = f"train --data_dir {shapes_dir} --model_dir {model_dir} --config {config_file} --epochs 1 --seed 1"
    assert main([*command.split(), "--steps_per_epoch", "4", "--no_eval"]) == 0
    assert "step 4 of 4: this run is finished" in caplog.text
    assert main([*command.split(), "--steps_per_epoch", "5"]) == 2
    assert "train.steps_per_epoch 4 -> 5" in capsys.readouterr().err


def test_eval(model_dir, shapes_dir, tmp_path, capsys):
    command = f"eval --data_dir {shapes_dir} --model_dir {model_dir} --log_file {tmp_path / 'log.json'}"
    assert main([*command.split(), "--log_every", "1", "--log_warmup_steps", "1", "--eval_batch_size", "1"]) == 0
    assert "3 images" in capsys.readouterr().out
    assert json.loads((model_dir / "metrics.json").read_text())["images"] == 3
    lines = logged(tmp_path / "log.json")
    assert [line["step"] for line in lines] == ["PARAMETER", [1, 1], [1, 2], [1, 3], []]
    assert {"bbox_AP", "segm_AP", "predict_throughput"} <= set(lines[-1]["data"])
    assert main([*command.split(), "--eval_samples", "2"]) == 0
    assert json.loads((model_dir / "metrics.json").read_text())["images"] == 2


def test_eval_with_another_annotation_file(model_dir, shapes_dir, tmp_path, capsys):
    annotations = json.loads((shapes_dir / "annotations" / "instances_val.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps({**annotations, "images": annotations["images"][:1]}))
    command = f"eval --data_dir {shapes_dir} --model_dir {model_dir} --eval_file {tmp_path / 'other.json'}"
    assert main(command.split()) == 2
    assert "other.json: no image with id" in capsys.readouterr().err


def test_eval_on_data_of_other_categories_names_both(model_dir, shapes_dir, tmp_path, capsys):
    for name in ("train", "val"):
        annotations = json.loads((shapes_dir / "annotations" / f"instances_{name}.json").read_text())
        for category in annotations["categories"]:
            category["name"] = f"my {category['name']}"
        (tmp_path / "data" / "annotations").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "annotations" / f"instances_{name}.json").write_text(json.dumps(annotations))
        (tmp_path / "data" / name).symlink_to(shapes_dir / name)
    assert main(f"eval --data_dir {tmp_path / 'data'} --model_dir {model_dir}".split()) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "my circle" in line
    assert " circle" in line.replace("my circle", "")


def test_infer_files_and_folders(model_dir, shapes_dir, tmp_path, capsys):
    Image.new("L", (50, 30)).save(tmp_path / "gray.png")
    command = f"infer {tmp_path / 'gray.png'} {shapes_dir / 'val'} --model_dir {model_dir} --out_dir {tmp_path / 'out'}"
    assert main(command.split()) == 0
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(results) == 4  # the stand-in finds one object in each image
    assert len(list((tmp_path / "out").glob("*.png"))) == 4
    with Image.open(tmp_path / "out" / "gray.png") as picture:
        assert picture.size == (50, 30)


def test_infer_split_into_the_models_folder(model_dir, shapes_dir, capsys):
    assert main(f"infer --data_dir {shapes_dir} --model_dir {model_dir} --eval_samples 2".split()) == 0
    assert f"are in {model_dir}/predictions" in capsys.readouterr().out
    assert len(list((model_dir / "predictions").glob("*.png"))) == 2


def test_nothing_to_infer(model_dir, capsys):
    assert main(["infer", "--model_dir", str(model_dir)]) == 2
    assert "nothing to predict" in capsys.readouterr().err


def test_bad_picture_is_one_line_or_skipped(model_dir, shapes_dir, tmp_path, capsys, caplog):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"not a picture")
    Image.new("RGB", (40, 40)).save(tmp_path / "in" / "b.jpg")
    command = f"infer {tmp_path / 'in'} --model_dir {model_dir} --out_dir {tmp_path / 'out'}"
    assert main(command.split()) == 2
    assert "a.jpg" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out" / "predictions.json").exists()
    assert main([*command.split(), "--skip_bad"]) == 0
    assert "a.jpg" in caplog.text


def test_unwritable_folder(shapes_dir, config_file, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    command = f"train --data_dir {shapes_dir} --model_dir {tmp_path / 'file' / 'm'} --config {config_file}"
    assert main(command.split()) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    assert str(tmp_path / "file") in line
