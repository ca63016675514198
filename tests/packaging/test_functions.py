"""A function is at most a screen long.

Its statements count: not its signature (a command's options are its parameters), not its docstring, and not imports
inside it (a command imports what it needs when it runs, so that --help is quick).
"""

from __future__ import annotations

import ast

import pytest

from tests.packaging.conftest import ROOT
from tests.packaging.test_imports import SOURCES

LONGEST = 60


def lengths_of(source: str) -> dict[str, int]:
    """The lines of each function's statements."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return {function.name: sum(map(_lines, _statements(function))) for function in functions}


def _statements(function: ast.FunctionDef) -> list[ast.stmt]:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return [statement for statement in body if not isinstance(statement, (ast.Import, ast.ImportFrom))]


def _lines(statement: ast.stmt) -> int:
    return (statement.end_lineno or statement.lineno) - statement.lineno + 1


def test_signature_docstring_and_imports_do_not_count():
    source = (
        'def f(\n    a,\n):\n    """Two\n    lines."""\n    import os\n    if a:\n        return 1\n    return os\n'
    )

    assert lengths_of(source) == {"f": 3}


@pytest.mark.parametrize("source", SOURCES)
def test_no_function_is_longer_than_a_screen(source: str):
    too_long = {name: n for name, n in lengths_of((ROOT / source).read_text()).items() if n > LONGEST}

    assert too_long == {}, f"{source}: over {LONGEST} lines"
