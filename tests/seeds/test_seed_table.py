"""`docs/seeds.md` names a test for every promise, and every test it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "seeds.md"
NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[tuple[str, str]]:
    """Each row of the page's tables: its first cell and its last."""
    cells = [line.strip("| ").split(" | ") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    return [(row[0], row[-1]) for row in cells if row[0] not in ("promise", "weakness", "---")]


def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in tree.body if isinstance(node, functions) and node.name.startswith("test_")}


@pytest.mark.parametrize(("promise", "tests"), rows())
def test_every_promise_has_tests_that_exist(promise: str, tests: str) -> None:
    named = NAME.findall(tests)
    assert named
    assert NAME.sub("", tests).strip() == ""
    assert [name for path, name in named if name not in names_in(path)] == []


def test_the_page_was_read() -> None:
    assert len(rows()) >= 29
    assert "test_the_page_was_read" in names_in("tests/seeds/test_seed_table.py")
    assert "test_that_is_missing" not in names_in("tests/seeds/test_seed_table.py")
