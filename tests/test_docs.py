"""The pages: each command is one that the program takes, Python blocks use public names, links lead somewhere.

Commands that need other programs (pip, docker) or files are not run; what they name in this repository must exist.
"""

import ast
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest

import maskrcnn
from maskrcnn.cli import reference_scripts
from maskrcnn.cli.entry_point import make_parser

pytestmark = pytest.mark.no_backend

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SCRIPTS = {
    "train": "train",
    "evaluate": "eval",
    "inference": "infer",
    "benchmark_training": "benchmark training",
    "benchmark_inference": "benchmark inference",
}
NEEDS_HARDWARE = ("docker", "srun")  # not run anywhere yet; the pages say so
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def code_lines(text):
    """The lines of shell blocks, fenced or indented."""
    for _, language, block in FENCE.findall(text):
        if language in ("bash", "sh", "shell"):
            yield from block.splitlines()
    for line in FENCE.sub("", text).splitlines():
        if line.startswith("    ") and not line.lstrip().startswith(("|", "-", "*")):
            yield line.strip()


def commands_of(page):
    """The commands in blocks and those in `code` that begin with the program's name."""
    text = page.read_text(encoding="utf-8")
    lines = [*code_lines(text), *re.findall(r"`((?:maskrcnn [a-z]+ --|python (?:-m|scripts|main))[^`]*)`", text)]
    for line in lines:
        words = shlex.split(re.sub(r"[\[\]]", "", re.sub(r"\{(\w+)(,\w+)*\}", r"\1", line)), comments=True)
        if words and not {"...", "MODE"} & set(words):
            yield words


def all_commands():
    for page in PAGES:
        for words in commands_of(page):
            yield pytest.param(words, id=f"{page.name}: {' '.join(words)[:60]}")


@pytest.fixture
def doors(monkeypatch):
    """NVIDIA's programs without their files."""
    monkeypatch.setattr(reference_scripts, "_set_data", lambda command, flags: flags.setdefault("data_dir", "D"))
    for name in ("_set_backbone", "check_gpus"):
        monkeypatch.setattr(reference_scripts, name, lambda *_: None)
    return reference_scripts.translate


@pytest.mark.parametrize("words", list(all_commands()))
def test_command(words, doors):
    program, *arguments = words
    if program in NEEDS_HARDWARE:
        return
    if program == "maskrcnn" and arguments:
        make_parser().parse_args(arguments)
    elif program == "python" and arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1]), arguments[1]
    elif program == "python" and arguments[0] == "main.py":
        make_parser().parse_args(doors(None, arguments[1:]))
    elif program == "python" and Path(arguments[0]).stem in SCRIPTS:
        assert (ROOT / arguments[0]).is_file()
        make_parser().parse_args(doors(SCRIPTS[Path(arguments[0]).stem], arguments[1:]))
    elif program in ("python", "bash"):
        assert (ROOT / arguments[0]).is_file(), arguments[0]
    elif program == "make":
        assert re.search(rf"^{arguments[0]}\b.*:", (ROOT / "Makefile").read_text(), re.MULTILINE), arguments[0]
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert set(re.findall(r"\w+", "".join(re.findall(r"\[(.*?)\]", " ".join(arguments))))) <= set(extras)
    else:
        assert program in ("git", "cd") or not program.isidentifier(), f"unknown program {program}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_use_public_names(page):
    for _, language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "maskrcnn":
                    assert node.attr in maskrcnn.__all__, f"maskrcnn.{node.attr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), f"{page}: {target}"


def test_a_wrong_command_is_found(doors):
    with pytest.raises(Exception, match="unrecognized arguments: --model"):
        test_command(shlex.split("maskrcnn train --data_dir D --model_dir M --model X"), doors)
    with pytest.raises(AssertionError):
        test_command(["make", "nothing"], doors)
