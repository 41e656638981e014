"""The package's own names."""

import subprocess
import sys

import pytest

import maskrcnn


def test_all_names_are_there():
    for name in maskrcnn.__all__:
        assert getattr(maskrcnn, name).__name__ == name
    assert set(maskrcnn.__all__) <= set(dir(maskrcnn))


def test_import_is_light():
    code = "import maskrcnn, sys; assert not {'keras', 'tensorflow', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_module_runs_as_a_program():
    command = [sys.executable, "-m", "maskrcnn", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == f"maskrcnn {maskrcnn.__version__}\n"


@pytest.mark.no_backend
@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("train --data_dir data --model_dir model", "keras", "tensorflow"),
        ("infer photo.jpg --model_dir model --backend jax", "jax", "jax"),
        ("infer photo.jpg --model model.onnx", "onnxruntime", "runtime"),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(command, package, extra, tmp_path, monkeypatch, capsys):
    from maskrcnn.cli import main

    for folder in ("data", "model"):
        (tmp_path / folder).mkdir()
    for name in ("model.onnx", "model/model.weights.h5"):
        (tmp_path / name).touch()
    (tmp_path / "model" / "config.json").write_text(maskrcnn.Config().to_json(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(command.split()) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"is not installed; run: pip install 'maskrcnn[{extra}]'")


@pytest.mark.no_backend
def test_a_public_name_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr(maskrcnn, "evaluate_folder", None, raising=False)
    monkeypatch.delattr(maskrcnn, "evaluate_folder")
    for name in [name for name in sys.modules if name.startswith("maskrcnn.evaluation")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(
        maskrcnn.UserError, match=r"hotcoco is not installed; run: pip install 'maskrcnn\[tensorflow\]'"
    ):
        _ = maskrcnn.evaluate_folder
