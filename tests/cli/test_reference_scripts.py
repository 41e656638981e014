"""The scripts of the replaced system, turned into commands."""

import pytest

from maskrcnn.cli.entry_point import make_parser
from maskrcnn.cli.reference_scripts import translate


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        (
            "train",
            "--gpus 1 --batch_size 2 --amp --data_dir D --weights_dir W --no_eval --model_dir M --epochs 3",
            "train --train_batch_size 2 --xla --backbone_checkpoint W --preset reference --gpus 1 --amp --data_dir D "
            "--no_eval --model_dir M --epochs 3",
        ),
        (
            "train",
            "--no_xla --data_dir D --model_dir M",
            "train --train_batch_size 4 --preset reference --data_dir D --model_dir M",
        ),
        ("eval", "--data_dir D --model_dir M", "eval --eval_batch_size 8 --xla --data_dir D --model_dir M"),
        (
            "benchmark training",
            "--gpus 1 --batch_size 2 --amp --no_xla --data_dir D --model_dir M --weights_dir W",
            "benchmark training --batch_size 2 --no_xla --gpus 1 --amp --data_dir D --model_dir M --weights_dir W",
        ),
        ("infer", "--batch_size 1 --model_dir M a.jpg", "infer --eval_batch_size 1 --xla --model_dir M a.jpg"),
    ],
)
def test_translation(command, arguments, expected, capsys):
    assert translate(command, arguments.split()) == expected.split()
    assert capsys.readouterr().out == f"maskrcnn {expected}\n"
    make_parser().parse_args(expected.split())  # the program takes it
