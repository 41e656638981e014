"""The measurements of training and inference, with a stand-in for the model: what is recorded, not how fast it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from maskrcnn.cli import main
from maskrcnn.runtime.hardware import commit, describe_machine

PARTS = ["mean", "50%", "90%", "95%", "99%"]


@pytest.fixture(autouse=True)
def _stand_in(stand_in, monkeypatch):
    for module in ("training", "live"):
        monkeypatch.setattr(f"maskrcnn.benchmark.{module}.MaskRCNN", stand_in)


@pytest.fixture
def config_file(micro, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(micro.override({"train.seed": None}).to_json())
    return path


def measure(arguments, out_file):
    assert main([*arguments.split(), "--steps", "5", "--warmup_steps", "2", "--out_file", str(out_file)]) == 0
    return json.loads(out_file.read_text().splitlines()[-1])


def test_training(config_file, tmp_path, capsys):
    record = measure(f"benchmark training --batch_size 3 --config {config_file}", tmp_path / "out.jsonl")
    configuration, results = record["configuration"], record["results"]
    assert record["kind"] == "training"
    assert configuration["backend"] == keras.backend.backend()
    assert configuration["batch_size"] == 3
    assert configuration["canvas"] == [64, 64]
    assert (configuration["steps"], configuration["warmup_steps"]) == (5, 2)
    assert configuration["xla"]
    assert list(results["latency"]) == PARTS
    assert results["latency"]["50%"] <= results["latency"]["90%"] <= results["latency"]["99%"]
    assert results["throughput"] == pytest.approx(3 / results["latency"]["mean"])
    assert 0 <= results["data_wait"] <= 1
    assert results["first_step_seconds"] >= results["compile_seconds"]
    assert results["peak_memory"]["host"] >= results["peak_memory"]["host_in_steps"] > 50e6
    table = capsys.readouterr().out
    assert "3 images of 64x64, synthetic data, 5 steps after 2" in table
    assert "99%" in table


def test_training_on_data_appends_a_line(config_file, shapes_dir, tmp_path):
    arguments = f"benchmark training --batch_size 2 --config {config_file}"
    first = measure(arguments, tmp_path / "out.jsonl")
    second = measure(f"{arguments} --data_dir {shapes_dir} --no_xla", tmp_path / "out.jsonl")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    assert (first["configuration"]["classes"], second["configuration"]["classes"]) == (81, 6)
    assert second["configuration"]["data"] == shapes_dir.name
    assert second["configuration"]["xla"] == (keras.backend.backend() == "jax")


def test_inference_part_by_part(config_file, tmp_path, capsys):
    record = measure(f"benchmark inference --batch_size 2 --config {config_file}", tmp_path / "out.jsonl")
    results = record["results"]
    for part in ("preprocessing", "latency", "postprocessing"):
        assert list(results[part]) == PARTS
    whole = sum(results[part]["mean"] for part in ("preprocessing", "latency", "postprocessing"))
    assert results["throughput_all_parts"] == pytest.approx(2 / whole)
    assert results["throughput"] == pytest.approx(2 / results["latency"]["mean"])  # on a CPU
    assert "preprocessing" in capsys.readouterr().out


def test_inference_on_data_repeats_it(config_file, shapes_dir, tmp_path):
    arguments = f"benchmark inference --batch_size 2 --config {config_file} --data_dir {shapes_dir}"
    assert measure(arguments, tmp_path / "out.jsonl")["configuration"]["data"] == shapes_dir.name  # 3 images, 7 batches


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--steps 0", "--steps: '0' is not an integer from 1"),
        ("--xla --no_xla", "contradict"),
        ("--data_dir nowhere", "nowhere: no such folder"),
        ("--out_file {file}/x.jsonl", "--out_file"),
    ],
)
def test_mistakes_are_one_line(arguments, message, config_file, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    given = ["--steps", "2", "--warmup_steps", "1", *arguments.format(file=tmp_path / "file").split()]
    assert main(["benchmark", "training", "--batch_size", "2", "--config", str(config_file), *given]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_jax_and_synthetic_data_need_no_tensorflow(config_file, tmp_path):
    """In a process that cannot import it."""
    pytest.importorskip("jax")
    code = f"""
import sys
sys.modules["tensorflow"] = None
from maskrcnn.cli import main
flags = "--backend jax --batch_size 2 --steps 2 --warmup_steps 1 --config {config_file} --out_file {tmp_path}/out.jsonl"
from maskrcnn.runtime.backend import select_backend
select_backend("jax")
import maskrcnn.benchmark.live
import maskrcnn.benchmark.training
from tests.stand_in import StandIn
maskrcnn.benchmark.live.MaskRCNN = maskrcnn.benchmark.training.MaskRCNN = StandIn
for what in ("training", "inference"):
    assert main(["benchmark", what, *flags.split()]) == 0
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": ""},
        check=False,
        timeout=240,
        cwd=Path(__file__).parents[2],
    )
    assert result.returncode == 0, result.stderr
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert kinds == ["training", "inference"]


def test_machine_is_described(tmp_path, monkeypatch):
    machine = describe_machine()
    assert machine["versions"]["keras"] == keras.__version__
    assert machine["cores"] >= 1
    assert machine["memory_bytes"] > 1e8
    monkeypatch.setattr("maskrcnn.runtime.hardware.__file__", str(tmp_path / "hardware.py"))
    assert commit() is None  # not in git
