"""NVIDIA's programs, turned into commands."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from maskrcnn.cli import reference_scripts
from maskrcnn.cli.entry_point import make_parser
from maskrcnn.cli.reference_scripts import BACKBONE, download_weights, main, translate
from maskrcnn.errors import UserError

pytestmark = pytest.mark.no_backend


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Folders of data (with NVIDIA's TFRecords), weights and models; the working directory is beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    monkeypatch.setattr(reference_scripts, "DATA_DIR", "no-data")  # the machine may have the real ones
    monkeypatch.setattr(reference_scripts, "WEIGHTS_DIR", "no-weights")
    scripts = {name: replace(script, model_dir="T") for name, script in reference_scripts.SCRIPTS.items()}
    monkeypatch.setattr(reference_scripts, "SCRIPTS", scripts)
    for name in ("D/val-00000-of-00001.tfrecord", "D/annotations/instances_val2017.json", f"W/{BACKBONE}.index"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    return tmp_path


CHECKPOINT = f"W/{BACKBONE}"
EVAL_FILE = "D/annotations/instances_val2017.json"


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        (
            "train",
            "--gpus 8 --batch_size 2 --amp --data_dir D --weights_dir W --no_eval --epochs 3 --set rpn.nms_iou=0.6",
            "train --data_dir D --epochs 3 --gpus 8 --amp --no_eval --train_batch_size 2 --xla --model_dir T "
            f"--eval_file {EVAL_FILE} --backbone_checkpoint {CHECKPOINT} --preset reference --set rpn.nms_iou=0.6",
        ),
        (
            "train",
            "--no_xla --data_dir D --model_dir M --weights maskrcnn_resnet50_fpn --preset cpu --slurm_lock",
            f"train --data_dir D --model_dir M --train_batch_size 4 --eval_file {EVAL_FILE} "
            "--weights maskrcnn_resnet50_fpn --preset cpu",
        ),
        (
            None,
            "train --data_dir D --backbone_checkpoint resnet50 --learning_rate_values 1e-2 1e-3 --momentum 0.8 -v "
            "--learning_rate_boundaries 0.3 8 --finetune_bn --log_graph --log_tensorboard T --l2_weight_decay 0",
            "train --data_dir D --backbone_checkpoint resnet50 --l2_weight_decay 0 --momentum 0.8 --log_tensorboard T "
            "--learning_rate_values 1e-2 1e-3 --learning_rate_boundaries 0.3 8 --finetune_bn --log_graph --verbose "
            f"--model_dir /results --eval_file {EVAL_FILE} --preset reference",
        ),
        (
            None,
            "train --use_synthetic_data --data_dir D --backbone_checkpoint resnet50",
            "train --backbone_checkpoint resnet50 --use_synthetic_data --model_dir /results --preset reference",
        ),
        (
            "eval",
            "--data_dir D",
            f"eval --data_dir D --eval_batch_size 8 --xla --model_dir T --eval_file {EVAL_FILE}",
        ),
        (
            None,
            "--data_dir D eval --eval_file F --seed 0 --epochs 12 --train_batch_size 4",
            "eval --data_dir D --eval_file F --seed 0 --model_dir /results",
        ),
        ("infer", "--batch_size 1 --data_dir D", "infer --data_dir D --eval_batch_size 1 --xla --model_dir T"),
        ("infer", "W --model M.onnx --no_xla", "infer --eval_batch_size 8 W --model M.onnx"),
        (
            "benchmark training",
            "--gpus 1 --batch_size 2 --amp --no_xla --data_dir D --weights_dir W --steps_per_epoch 5 --log_every 1",
            f"benchmark training --data_dir D --gpus 1 --no_xla --amp --batch_size 2 --weights_dir {CHECKPOINT} "
            "--steps 5",
        ),
        (
            "benchmark inference",
            "--batch_size 4 --eval_samples 42 --log_warmup_steps 3 --use_synthetic_data",
            "benchmark inference --batch_size 4 --warmup_steps 3 --steps 10",
        ),
    ],
)
def test_translation(command, arguments, expected, folders):
    assert translate(command, arguments.split()) == expected.split()
    make_parser().parse_args(expected.split())  # the program takes it


def test_default_folders():
    assert {script.model_dir for script in reference_scripts.SCRIPTS.values()} == {"/tmp/model"}
    assert (reference_scripts.MAIN.model_dir, reference_scripts.DATA_DIR) == ("/results", "/data")
    assert reference_scripts.WEIGHTS_DIR == "/weights"


def test_flags_of_another_mode_are_named(folders, capsys):
    translate(None, ["infer", "--data_dir", "D", "--epochs", "12", "--momentum", "0.9"])
    assert capsys.readouterr().err == "infer does not use --epochs --momentum\n"


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("train", "--data_dir none", "none: no such folder; download COCO with `bash dataset/download_and_preproc"),
        ("train", "--data_dir D --weights_dir V", "download_weights.py --save_dir=V`, take torchvision's with --backb"),
        ("train", "--gpus 9", "--gpus 9: this machine has 8 that programs can see .*; use --gpus 8$"),
        ("eval", "--use_synthetic_data", "eval reads real images; measure speed with scripts/benchmark_inference.py"),
        (None, "--data_dir D", "main.py needs a mode: one of train, train_and_eval, eval, infer"),
        ("train", "--gpus two", "invalid int value: 'two'"),
    ],
)
def test_what_is_missing(command, arguments, message, folders):
    with pytest.raises(UserError, match=message):
        translate(command, arguments.split())


def test_gpus_without_a_gpu(folders, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert main("train", ["--gpus", "8", "--amp"]) == 2
    line = capsys.readouterr().err
    assert "this machine has no NVIDIA GPU that programs can see" in line
    assert line.endswith("use --gpus 1 to run on the CPU, or a machine with GPUs\n")
    assert "--gpus 1" in " ".join(translate("eval", ["--gpus", "1", "--data_dir", "D"]))


def test_a_run_that_resumes_needs_no_backbone(folders):
    Path("M/checkpoints").mkdir(parents=True)
    assert "--backbone_checkpoint" not in translate(
        "train", ["--data_dir", "D", "--weights_dir", "V", "--model_dir", "M"]
    )


def test_download_of_the_backbone(folders, monkeypatch, capsys):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("nvidia_rn50_tf_amp.index", "../nvidia_rn50_tf_amp.data-00000-of-00001", "README.md"):
            file.writestr(name, name)
    monkeypatch.setattr("maskrcnn.runtime.download.fetch_once", lambda _, path: path.write_bytes(archive.getvalue()))
    Path("S").mkdir()
    assert download_weights(["--save_dir=S"]) == 0
    assert capsys.readouterr().out == f"NVIDIA's ResNet-50 is in S/{BACKBONE}\n"
    assert {path.name for path in Path("S").rglob("*") if path.is_file()} == {
        "nvidia_rn50_tf_amp.index",
        "nvidia_rn50_tf_amp.data-00000-of-00001",
    }


ENTRY = b"PK\1\2\x14\3\x14\0\0"  # how the directory's entry begins; the last byte tells of encryption


def _bomb(file):
    file.writestr("nvidia_rn50_tf_amp.index", bytes(3 << 20), zipfile.ZIP_DEFLATED)


def _plain(file):
    file.writestr("nvidia_rn50_tf_amp.index", "abc")


def _slow(file):
    file.writestr("nvidia_rn50_tf_amp.index", bytes(100), zipfile.ZIP_LZMA)


@pytest.mark.parametrize(
    ("write", "change", "said"),
    [
        (None, lambda data: b"<html>", "not a zip archive"),
        (_bomb, lambda data: data, "has 0.0 GB, at most 0 are unpacked"),
        (_slow, lambda data: data, "compressed in a way"),
        (lambda file: file.writestr("README.md", "x"), lambda data: data, "holds no nvidia_rn50_tf_amp"),
        (_plain, lambda data: data.replace(ENTRY, ENTRY[:-1] + b"\1"), "encrypted"),
        (
            lambda file: file.writestr("nvidia_rn50_tf_amp.index", "abc"),
            lambda data: data.replace(b"abc", b"abd"),
            "CRC",
        ),
    ],
)
def test_archives_that_are_not_the_backbone(folders, monkeypatch, capsys, write, change, said):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        (write or _bomb)(file)
    data = change(archive.getvalue())
    monkeypatch.setattr("maskrcnn.cli.reference_scripts.MAX_BACKBONE_BYTES", 2 << 20)
    monkeypatch.setattr("maskrcnn.runtime.download.fetch_once", lambda _, path: path.write_bytes(data))
    Path("E").mkdir()
    assert download_weights(["--save_dir=E"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert [path for path in Path("E").rglob("*") if path.is_file()] == []


def test_every_flag_of_nvidia_is_known_to_a_command():
    flags = {flag.removeprefix("--") for flag in (*reference_scripts.VALUES, *reference_scripts.LISTS)}
    used = set().union(*reference_scripts.ACCEPTED.values())
    assert flags - used == set()


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("train", "--batch_size 0", "--train_batch_size"),
        ("train", "--batch_size two", "--batch_size: invalid int value: 'two'"),
        ("train", "--epochs -1", "--epochs"),
        ("train", "--momentum nan", "momentum"),
        ("train", "--seed -1", "seed"),
        ("train", "--l2_weight_decay inf", "weight_decay"),
        ("train", "--learning_rate_values a b", "--learning_rate_values: 'a' is not a number"),
        ("train", "--learning_rate_boundaries 3 1", "boundaries"),
        ("train", "--nonsense 3", "unrecognized arguments: --nonsense 3"),
        ("train", "--preset best", "--preset best: choose one of auto, cpu"),
        ("eval", "--batch_size -2", "--eval_batch_size"),
        ("eval", "--model_dir none", "none: no model.weights.h5 here"),
        ("infer", "--eval_samples many", "--eval_samples: invalid int value: 'many'"),
        ("benchmark training", "--steps_per_epoch 0", "--steps"),
        ("benchmark training", "--log_warmup_steps -1", "--warmup_steps"),
        ("benchmark inference", "--batch_size 0", "--batch_size"),
        (None, "train --gpus many", "--gpus: invalid int value: 'many'"),
        (None, "predict", "main.py needs a mode"),
    ],
)
def test_wrong_values_end_in_one_line(command, arguments, said, folders, capsys):
    assert main(command, ["--data_dir", "D", *arguments.split()] + ["--weights", "none"] * (command == "train")) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
