"""THREAT_MODEL.md names tests that exist, and leaves none of tests/hostile out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "THREAT_MODEL.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


def names_in(path: Path) -> set[str]:
    """The tests that a file defines."""
    nodes = ast.walk(ast.parse(path.read_text()))
    functions = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    assert name in names_in(ROOT / path)


def test_whatever_looks_like_a_test_is_one_that_was_looked_for() -> None:
    assert set(re.findall(r"tests/[\w/.:]+", TEXT)) == {f"{path}::{name}" for path, name in NAMED}


def test_every_file_of_hostile_tests_is_named() -> None:
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "hostile").glob("test_*.py")}
    assert files <= {path for path, _name in NAMED}


@pytest.mark.parametrize("table", re.findall(r"^\| tries to .*?\n\n", TEXT, re.MULTILINE | re.DOTALL))
def test_every_attempt_has_a_test(table: str) -> None:
    _head, _rule, *rows = table.strip().splitlines()
    assert rows
    assert [row for row in rows if "`tests/" not in row and "see below" not in row] == []
