"""A world for agents: no program, no key and no home but those of the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.providers.agents import AGENTS


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program and no key but those of the test."""
    for row in AGENTS:
        for variable in row.key_env:
            monkeypatch.delenv(variable, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    return tmp_path / "bin"
