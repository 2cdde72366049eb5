"""What the tests of the real programs share: the programs, installed once, and one of them in a scratch home.

Those tests have the mark ``real_cli`` and are run by ``pytest -m real_cli`` alone.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from agents_at_hand import ROWS, AgentAtHand, Row
from npm_programs import cache_folder, installed


@pytest.fixture(scope="session", params=ROWS, ids=[row.provider for row in ROWS])
def program(request: pytest.FixtureRequest) -> tuple[Row, Path]:
    """One of the programs, and the directory its command is in."""
    row: Row = request.param
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm, which installs the real programs, is not in PATH")
    return row, installed(row.package, npm, cache_folder(os.environ))


@pytest.fixture
def agent(program: tuple[Row, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AgentAtHand:
    """One of the programs in a scratch home, first in PATH."""
    row, commands = program
    ready = AgentAtHand(row, tmp_path)
    monkeypatch.setenv("HOME", str(ready.home))
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    return ready
