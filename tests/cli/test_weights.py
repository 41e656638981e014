"""The command ``weights``, from its flags to its output."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from maskrcnn.cli import main


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list"]) == 0
    assert "maskrcnn_resnet50_fpn_v2" in capsys.readouterr().out


def test_import_of_a_file_that_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "some.safetensors"
    save_file({"layer1.0.conv1.weight": np.zeros((4, 4, 1, 1), np.float32)}, path)
    assert main(["weights", "import", str(path), "--model_dir", str(tmp_path / "model")]) == 2
    assert capsys.readouterr().err == (
        f"error: {path}: a ResNet of 1+0+0+0 blocks; the supported depths are 18, 34, 50, 101\n"
    )
    assert not (tmp_path / "model").exists()


def test_labels_without_an_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "download", "resnet18", "--out_dir", str(tmp_path), "--labels", "labels.txt"]) == 2
    assert "--labels is for importing; add --model_dir" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
