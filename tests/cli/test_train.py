"""The command ``train``, with a stand-in for the model."""

import pytest

from maskrcnn.cli import main
from maskrcnn.config import load_config

pytestmark = pytest.mark.usefixtures("stand_in")


def test_train(model_dir, read_log):
    assert load_config(model_dir / "config.json").train.seed == 1
    assert [line["step"] for line in read_log(model_dir / "mrcnn-dlll.json")][:3] == ["PARAMETER", [1, 2], [1, 4]]


def test_the_same_command_again_has_nothing_left_to_do(model_dir, config_file, shapes_dir, caplog, capsys):
    command = f"train --data_dir {shapes_dir} --model_dir {model_dir} --config {config_file} --epochs 1 --seed 1"
    assert main([*command.split(), "--steps_per_epoch", "4", "--no_eval"]) == 0
    assert "step 4 of 4: this run is finished" in caplog.text
    assert main([*command.split(), "--steps_per_epoch", "5"]) == 2
    assert "train.steps_per_epoch 4 -> 5" in capsys.readouterr().err


def test_unwritable_folder(shapes_dir, config_file, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    command = f"train --data_dir {shapes_dir} --model_dir {tmp_path / 'file' / 'm'} --config {config_file}"
    assert main(command.split()) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    assert str(tmp_path / "file") in line
