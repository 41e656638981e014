"""What attacks have in common: a command must end in one line, before a backend is imported, and leave nothing."""

import functools
import gc

import pytest

from maskrcnn.cli import entry_point

parser = functools.cache(entry_point.make_parser)


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Runs a command that must be refused; returns its line."""

    def fail(*_, **__):
        raise AssertionError("a backend is imported before the mistake is found")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(entry_point, "make_parser", parser)

    def run(*arguments: str) -> str:
        for name in ("select_backend", "import_tensorflow"):
            monkeypatch.setattr(f"maskrcnn.runtime.backend.{name}", fail)
        before = sorted(tmp_path.rglob("*"))
        status = entry_point.main(arguments)
        printed = capsys.readouterr()
        assert status == 2, printed.err
        (line,) = printed.err.splitlines()
        assert line.startswith("error: ")
        assert line.isprintable()
        assert len(line) < 1000
        assert not printed.out
        assert sorted(tmp_path.rglob("*")) == before
        return line

    return run


@pytest.fixture(scope="session", autouse=True)
def _quick_collections():
    """A command that fails collects garbage; what the libraries hold is not looked through each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
