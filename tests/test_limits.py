"""The limits of CONTRIBUTING that ruff has no rule for."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "maskrcnn"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_MODULE, MAX_FUNCTION, MAX_IMPORTED = 300, 40, 12


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_limits(path):
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert len(source.splitlines()) <= MAX_MODULE
    long = {
        node.name: body
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (body := body_lines(node)) > MAX_FUNCTION
    }
    assert not long, f"functions of more than {MAX_FUNCTION} lines, docstrings not counted"
    imported = {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and is_ours(node.module or "")
    }
    if path.name != "__init__.py":
        assert len(imported) <= MAX_IMPORTED, sorted(imported)


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "maskrcnn"


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body without its docstring."""
    first = node.body[0]
    docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    start = (first.end_lineno or first.lineno) + 1 if docstring else first.lineno
    return (node.end_lineno or start) - start + 1
