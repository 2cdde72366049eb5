"""Runs mypy --strict over `api.py` beside this file, which uses every public name, and compares what it reveals.

Without mypy, which only developers install, there is nothing to run. The comparison itself is tested on a planted
mistake.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("mypy")

ROOT = Path(__file__).parents[2]
API = Path(__file__).with_name("api.py")
_NOTE = re.compile(r"^[^:]+:(\d+): note: Revealed type is \"(.*)\"$")
_ERROR = re.compile(r"^[^:]+:(\d+): error: .*\[([a-z-]+)\]$")


class Told(NamedTuple):
    """By line: the types revealed and the codes of the errors."""

    revealed: dict[int, str]
    errors: dict[int, str]


def wanted(text: str) -> Told:
    """What the comments of a file ask for."""
    revealed, errors = {}, {}
    for number, line in enumerate(text.splitlines(), 1):
        for part in line.split("  # ")[1:]:
            if part.startswith("R: "):
                revealed[number] = part[3:].strip()
            elif part.startswith("E: "):
                errors[number] = part[3:].strip()
    return Told(revealed, errors)


def told(path: Path, cache: Path) -> Told:
    """What mypy says of a file."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", str(cache), str(path)]
    ran = subprocess.run(  # noqa: S603  # mypy, and a file of ours
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    revealed, errors = {}, {}
    for line in ran.stdout.splitlines():
        if found := _NOTE.match(line):
            revealed[int(found[1])] = found[2].replace("builtins.", "")
        elif found := _ERROR.match(line):
            errors[int(found[1])] = found[2]
    return Told(revealed, errors)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the runs of this module."""
    return tmp_path_factory.mktemp("mypy")


def test_the_public_names_have_the_types_they_promise(cache: Path) -> None:
    expected, found = wanted(API.read_text()), told(API, cache)
    assert len(expected.revealed) >= 40
    assert found == expected


def test_a_wrong_type_would_be_noticed(cache: Path, tmp_path: Path) -> None:
    changed = tmp_path / "api.py"
    text = API.read_text().replace("reveal_type(call.text)", "reveal_type(call.id)")
    changed.write_text(text + "\niModel(model='m', limit_requests='5')\n")
    expected, found = wanted(text), told(changed, cache)
    assert [line for line in expected.revealed if expected.revealed[line] != found.revealed.get(line)] == [
        number for number, line in enumerate(text.splitlines(), 1) if "reveal_type(call.id)  # R: str" in line
    ]
    assert set(found.errors) - set(expected.errors) == {text.count("\n") + 2}
