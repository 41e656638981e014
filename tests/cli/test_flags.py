"""Every flag has an effect, start-up is fast, and mistakes are one line."""

import argparse
import dataclasses
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from maskrcnn.cli.entry_point import describe, main, make_parser, release
from maskrcnn.cli.flags import DATA, EVALUATION, RUNTIME, SPLIT, TRAINING, make_config, settings
from maskrcnn.config import Config, load_config
from maskrcnn.errors import UserError
from maskrcnn.runtime import hardware

TRAIN = ["train", "--model_dir", "m"]
VALUES = {  # flag -> arguments and the value that its field then has
    "--epochs": (["3"], 3),
    "--steps_per_epoch": (["5"], 5),
    "--train_batch_size": (["2"], 2),
    "--accumulate": (["4"], 4),
    "--init_learning_rate": (["0.5"], 0.5),
    "--learning_rate_values": (["0.1", "1e-2"], (0.1, 0.01)),
    "--learning_rate_boundaries": (["1", "2.5"], (1.0, 2.5)),
    "--decay": (["cosine"], "cosine"),
    "--scale_jitter": (["0.1", "2"], (0.1, 2.0)),
    "--color_jitter": (["0.4"], 0.4),
    "--copy_paste": (["0.5"], 0.5),
    "--optimizer": (["adam"], "adam"),
    "--momentum": (["0.8"], 0.8),
    "--clip_norm": (["5"], 5.0),
    "--l2_weight_decay": (["0"], 0.0),
    "--ema": (["0.99"], 0.99),
    "--finetune_bn": ([], True),
    "--keep": (["3"], 3),
    "--checkpoint_every": (["50"], 50),
    "--evaluate_every": (["2"], 2),
    "--patience": (["3"], 3),
    "--max_time": (["15"], 15.0),
    "--eval_batch_size": (["3"], 3),
    "--eval_samples": (["7"], 7),
    "--xla": ([], True),
    "--eagerly": ([], True),
    "--seed": (["9"], 9),
    "--skip_bad": ([], True),
    "--max_instances": (["50"], 50),
    "--train_file": (["a.json"], "a.json"),
    "--val_file": (["b.json"], "b.json"),
    "--test_file": (["c.json"], "c.json"),
    "--image_dir": (["images"], "images"),
    "--val_fraction": (["0.2"], 0.2),
    "--masks_from_boxes": ([], True),
    "--crowds_as_objects": ([], True),
}


def parse(*arguments: str) -> argparse.Namespace:
    return make_parser().parse_args([*TRAIN, *arguments])


def field(config: Config, path: str):
    value = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("flag", [*TRAINING, *DATA, *EVALUATION, *RUNTIME], ids=lambda flag: flag.key)
def test_each_flag_sets_its_field(flag):
    arguments, value = VALUES[flag.name]
    assert field(Config(), flag.field) != value
    assert field(make_config(parse(flag.name, *arguments)), flag.field) == value


def test_eval_and_infer_choose_a_split():
    (flag,) = SPLIT
    for command in ("eval --data_dir d", "infer --data_dir d"):
        options = make_parser().parse_args([*command.split(), "--model_dir", "m", flag.name, "test"])
        assert settings(options) == {flag.field: "test"}


def test_flags_override_the_schedule():
    train = make_config(parse("--schedule", "3x")).train
    assert (train.epochs, train.learning_rate_boundaries) == (36, (0.3, 28.0, 33.3))
    assert make_config(parse("--schedule", "1x")) == Config()
    assert make_config(parse("--schedule", "3x", "--epochs", "30")).train.epochs == 30


def test_without_flags_the_config_is_the_default():
    assert make_config(parse()) == Config()


def test_flags_override_the_file_and_assignments_override_flags(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(dataclasses.replace(Config.tiny()).override({"train.epochs": 5, "train.momentum": 0.5}).to_json())
    config = make_config(parse("--config", str(file), "--epochs", "6", "--set", "rpn.nms_iou=0.6"))
    assert config == load_config(file).override({"train.epochs": 6, "rpn.nms_iou": 0.6})


@pytest.mark.parametrize(
    ("arguments", "gpus", "instructions", "precision"),
    [
        ([], 1, [], "float32"),
        (["--amp"], 1, [], "float16"),
        (["--amp"], None, [], "float16"),  # other accelerators
        (["--amp"], 0, ["avx2", "amx_bf16"], "bfloat16"),
        (["--amp", "--gpus", "0"], 1, ["avx512_bf16"], "bfloat16"),
        (["--amp"], 0, ["avx2"], "float32"),
        (["--precision", "bfloat16"], 1, [], "bfloat16"),
        (["--amp", "--precision", "float16"], 0, [], "float16"),
    ],
)
def test_precision(arguments, gpus, instructions, precision, monkeypatch):
    monkeypatch.setattr(hardware, "installed_gpus", lambda: gpus)
    monkeypatch.setattr(hardware, "instruction_sets", lambda: instructions)
    assert make_config(parse(*arguments)).train.precision == precision


def test_contradictions_and_incomplete_assignments_are_refused():
    with pytest.raises(UserError, match="--amp"):
        settings(parse("--amp", "--precision", "float32"))
    with pytest.raises(UserError, match="NAME=VALUE"):
        settings(parse("--set", "rpn.nms_iou"))


def test_help_needs_neither_keras_nor_a_backend():
    code = (
        "import sys; from maskrcnn.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "loaded = {'keras', 'tensorflow', 'jax', 'numpy', 'PIL'} & set(sys.modules); assert not loaded, loaded"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("demo", "train", "eval", "infer", "data"):
        assert f"\n    {command} " in result.stdout


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("eval --data_dir . --model_dir none", "none: no model.weights.h5 here"),
        ("infer --model_dir none", "none: no model.weights.h5 here"),
        ("train --data_dir none --model_dir M --preset cpu", "none: no such folder; give the folder of a dataset"),
        ("benchmark training --data_dir none", "none: no such folder; give the folder of a dataset"),
    ],
)
def test_what_is_missing_is_said_before_a_backend_is_imported(command, problem, tmp_path):
    code = (
        f"import sys; from maskrcnn.cli import main; assert main({command.split()!r}) == 2\n"
        "loaded = {'keras', 'tensorflow', 'jax'} & set(sys.modules); assert not loaded, loaded"
    )
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    run = [sys.executable, "-c", code]
    result = subprocess.run(run, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert problem in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("image.min_sides", "image.min_side or image.max_side"),
        ("model.image.min_sides", "model.image.min_side or model.image.max_side"),
    ],
)
def test_a_near_setting_is_named_once(name, near):
    with pytest.raises(UserError, match=rf"unknown setting '{name}'; did you mean {near}( or \S+)?\?$"):
        settings(parse("--set", f"{name}=1"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["fly"], "fly"),
        (["train"], "--model_dir"),
        (["train", "--model_dir", "m"], "--data_dir or --use_synthetic_data"),
        (
            ["train", "--model_dir", "m", "--data_dir", "d", "--use_synthetic_data"],
            "--data_dir or --use_synthetic_data",
        ),
        (["train", "--model_dir", "m", "--data_dir", "d", "--epochs", "many"], "--epochs"),
        (["train", "--model_dir", "m", "--data_dir", "d", "--precision", "float8"], "float8"),
        (["train", "--model_dir", "m", "--data_dir", "d", "--set", "rpn.nms_iuo=1"], "rpn.nms_iou"),
        (["train", "--model_dir", "m", "--data_dir", "d", "--config", "none.json"], "none.json"),
        (["train", "--model_dir", "m", "--data_dir", ".", "--backend", "torch"], "torch"),
        (["train", "--model_dir", "m", "--data_dir", "nowhere"], "nowhere: no such folder"),
        (["train", "--model_dir", "m", "--use_synthetic_data", "--log_every", "0"], "--log_every"),
        (["eval", "--model_dir", "nowhere", "--data_dir", "d"], "nowhere: no model.weights.h5"),
        (["infer", "--model_dir", "nowhere", "a.jpg"], "nowhere: no model.weights.h5"),
        (["data", "check", "nowhere"], "nowhere"),
        (["data", "shapes", "out", "--train_images", "0"], "shapes"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert not printed.out
    assert not list(tmp_path.iterdir())  # nothing is left behind


@pytest.mark.parametrize(
    ("error", "status", "printed"),
    [
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (PermissionError(13, "Permission denied", "/m/config.json"), 2, "error: /m/config.json: Permission denied\n"),
        (UserError("two\nlines"), 2, "error: two lines\n"),
    ],
)
def test_status_and_line_of_other_endings(error, status, printed, monkeypatch, capsys):
    def fail(options):
        raise error

    monkeypatch.setattr("maskrcnn.cli.data.check", fail)
    assert main(["data", "check", "d"]) == status
    assert capsys.readouterr().err == printed


def test_tracebacks_of_bugs_and_with_verbose(monkeypatch, capsys):
    def fail(options):
        raise ValueError("a bug")

    assert main(["data", "check", "nowhere", "--verbose"]) == 2
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setattr("maskrcnn.cli.data.check", fail)
    assert main(["data", "check", "d"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_errors_of_libraries_are_translated():
    assert describe(OSError(28, "No space left on device", "/out/a.png")) == "/out/a.png: No space left on device"
    in_loader = RuntimeError("{{function_node}} UserError: train.tfrecord: truncated; copy it again\nTraceback ...")
    assert describe(in_loader) == "train.tfrecord: truncated; copy it again"
    assert "--train_batch_size" in str(describe(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")))
    assert describe(MemoryError()) == "out of memory on the host (no details); close other programs, or use less data"
    assert describe(ValueError("no idea")) is None


def test_release_clears_the_frames_of_an_error():
    class Loader:
        pass

    def fail():
        loader = Loader()
        held.append(weakref.ref(loader))
        raise KeyError

    held: list = []
    try:
        try:
            fail()
        except KeyError as cause:
            raise ValueError from cause
    except ValueError as error:
        kept = error
    assert held[0]() is not None
    release(kept)
    assert held[0]() is None
