"""`docs/seeds.md` names a test for every promise, and every test it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "seeds.md"
NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LEAST = {
    "lionagi's iModel": 50,
    "lionfuncs' iModel and Executor": 24,
    "Inferneo's Python client": 27,
    "aiXplain's Model and LLM": 42,
}
"""How many rows each section has at least: one that is lost is seen here. More is better."""


def sections() -> dict[str, list[tuple[str, str]]]:
    """By section, each row of its tables: its first cell and its last."""
    found: dict[str, list[tuple[str, str]]] = {}
    title = ""
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            title = line.removeprefix("## ")
        row = line.strip("| ").split(" | ")
        if line.startswith("|") and row[0] not in ("promise", "weakness", "---"):
            found.setdefault(title, []).append((row[0], row[-1]))
    return found


def rows() -> list[tuple[str, str]]:
    """Every row of the page."""
    return [row for section in sections().values() for row in section]


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
    counts = {title: len(section) for title, section in sections().items()}
    assert counts.keys() == LEAST.keys()
    assert {title: count for title, count in counts.items() if count < LEAST[title]} == {}
    assert "test_the_page_was_read" in names_in("tests/seeds/test_seed_table.py")
    assert "test_that_is_missing" not in names_in("tests/seeds/test_seed_table.py")
