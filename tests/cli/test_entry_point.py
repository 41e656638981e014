"""The exit status of a command that fails, and what it takes from the environment."""

import errno
import io
import os

import pytest

from maskrcnn.cli.entry_point import main

pytestmark = pytest.mark.no_backend


def test_the_status_tells_of_an_error_that_cannot_be_printed(monkeypatch):
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sys.stderr", Full())
    assert main(["train"]) == 2


def test_a_notebooks_plotting_backend_does_not_matter(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://not_installed_here")
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert os.environ["MPLBACKEND"] == "agg"
