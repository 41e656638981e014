"""A model folder made by the command ``train``, with a stand-in for the model."""

import contextlib
import io
import json
import shutil

import pytest

from maskrcnn.cli import main
from tests.stand_in import use_stand_in


@pytest.fixture(scope="session")
def config_file(tmp_path_factory):
    from maskrcnn.config import Config

    path = tmp_path_factory.mktemp("config") / "config.json"
    path.write_text(Config.tiny().override({"image.min_side": 64, "image.max_side": 64}).to_json())
    return path


@pytest.fixture(scope="session")
def finished_run(config_file, shapes_dir, tmp_path_factory):
    """A folder in which a run of four steps has finished; not to be changed."""
    folder = tmp_path_factory.mktemp("run") / "m"
    command = f"train --data_dir {shapes_dir} --model_dir {folder} --config {config_file} --epochs 1 --seed 1"
    options = ["--steps_per_epoch", "4", "--log_every", "2", "--eval_batch_size", "2"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as output:
        use_stand_in(patch)
        assert main([*command.split(), *options]) == 0
    assert "3 images" in output.getvalue()
    return folder


@pytest.fixture
def model_dir(stand_in, finished_run, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(finished_run, tmp_path / "m")


@pytest.fixture
def read_log():
    """Parses the lines of a log."""
    return lambda path: [json.loads(line.removeprefix("DLLL ")) for line in path.read_text().splitlines()]
