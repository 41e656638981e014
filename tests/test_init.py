"""The package's own names."""

import subprocess
import sys

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
