"""The report on an installation."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from maskrcnn.cli import main
from maskrcnn.errors import UserError

pytestmark = pytest.mark.no_backend


def test_the_report(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = {line.split("  ")[0] for line in lines}
    expected = {"maskrcnn", "Python", "numpy", "[jax]", "backend", "memory", "NVIDIA GPUs", "disk, this folder"}
    assert expected <= names
    assert lines[-1] == "no problem found"


def test_no_backend_is_imported():
    code = (
        "import sys; from maskrcnn.cli import main; main(['doctor']); print({'keras', 'tensorflow'} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert output.splitlines()[-1] == "set()"


def test_what_is_missing_is_a_problem(monkeypatch, capsys):
    def version(package):
        if package == "pillow":
            raise PackageNotFoundError
        return "1"

    monkeypatch.setattr("maskrcnn.runtime.hardware.version", version)
    monkeypatch.setattr("maskrcnn.cli.doctor.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("maskrcnn.cli.doctor.LOW_DISK", 1 << 80)
    assert main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert "problem: pillow is not installed; run: pip install pillow" in output
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    assert f"problem: {backend} is not installed; run: pip install 'maskrcnn[{backend}]'" in output
    assert "free disk space" in output


def test_exported_files_need_no_backend(monkeypatch, capsys):
    monkeypatch.setattr("maskrcnn.cli.doctor.importlib.util.find_spec", {"onnxruntime": object()}.get)
    main(["doctor"])
    output = capsys.readouterr().out
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    assert f"none: exported files run; for anything else, pip install 'maskrcnn[{backend}]'" in output
    assert f"{backend} is not installed" not in output


def test_what_cannot_be_found_out_leaves_a_gap(monkeypatch, capsys):
    def fail(*_):
        raise OSError("no such thing")

    monkeypatch.setattr("maskrcnn.cli.doctor.requires", fail)
    monkeypatch.setattr("maskrcnn.runtime.hardware.instruction_sets", fail)
    assert main(["doctor"]) == 0
    output = capsys.readouterr().out
    assert "packages           unknown (OSError: no such thing)" in output
    assert "processor          unknown (OSError: no such thing)" in output


def test_a_backend_that_fails_is_a_problem(monkeypatch, capsys):
    def fail(name, **_):
        raise UserError("backend 'torch' is not one of tensorflow, jax")

    monkeypatch.setattr("maskrcnn.runtime.backend.select_backend", fail)
    assert main(["doctor", "--devices", "--backend", "torch"]) == 1
    assert "problem: backend 'torch' is not one of tensorflow, jax" in capsys.readouterr().out
