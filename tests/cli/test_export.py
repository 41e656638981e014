"""The command export, as `maskrcnn.cli.program` will call it."""

import argparse
import logging
import sys

import pytest

from maskrcnn.cli import export as command
from maskrcnn.errors import UserError
from maskrcnn.weights.model_folder import save_model

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_commands(parser.add_subparsers())
    options = parser.parse_args(["export", *map(str, arguments)])
    options.action(options)


def test_the_file_is_written_and_the_table_shown(micro, tmp_path, capsys, caplog):
    import dataclasses

    from maskrcnn.config import Category
    from maskrcnn.model import MaskRCNN

    # Untrained, each of three classes has a probability of a third, above the threshold of scores.
    config = dataclasses.replace(micro, categories=(Category(1, 1, "cat"), Category(2, 2, "dog")))
    save_model(MaskRCNN(config), config, tmp_path)
    with caplog.at_level(logging.INFO):
        run("--model_dir", tmp_path, "--batch", "dynamic", "--size", 64, 64)
    assert capsys.readouterr().out == f"{tmp_path}/export/model.onnx finds what the model finds\n"
    assert "no image, 64x64" in caplog.text
    assert (tmp_path / "export" / "model.onnx").is_file()


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"openvino is not installed; run: pip install 'maskrcnn\[openvino\]'"):
        run("--model_dir", tmp_path, "--format", "openvino")


def test_precisions_exclude_each_other(tmp_path):
    with pytest.raises(UserError, match="give one of int8 and half"):
        run("--model_dir", tmp_path, "--half", "--int8", tmp_path)


@pytest.mark.parametrize("flags", [("--batch", "0"), ("--batch", "two"), ("--format", "coreml")])
def test_wrong_flags_are_usage_errors(tmp_path, capsys, flags):
    with pytest.raises(SystemExit):
        run("--model_dir", tmp_path, *flags)
    assert flags[1] in capsys.readouterr().err
