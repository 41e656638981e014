"""A model folder made by the command ``train``, with a stand-in for the model."""

import json

import pytest

from maskrcnn.cli import main


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    from maskrcnn.config import Config

    path = tmp_path_factory.mktemp("config") / "config.json"
    path.write_text(Config.tiny().override({"image.min_side": 64, "image.max_side": 64}).to_json())
    return path


@pytest.fixture
def model_dir(stand_in, config_file, shapes_dir, tmp_path, capsys):
    """A folder in which a run of four steps has finished."""
    command = f"train --data_dir {shapes_dir} --model_dir {tmp_path / 'm'} --config {config_file} --epochs 1 --seed 1"
    assert main([*command.split(), "--steps_per_epoch", "4", "--log_every", "2", "--eval_batch_size", "2"]) == 0
    assert "3 images" in capsys.readouterr().out
    return tmp_path / "m"


@pytest.fixture
def read_log():
    """Parses the lines of a log."""
    return lambda path: [json.loads(line.removeprefix("DLLL ")) for line in path.read_text().splitlines()]
