"""Chats of AG2 where there is no AG2; with one, see `tests/agents/test_ag2_real.py`."""

from __future__ import annotations

import sys

import pytest

from engine import AgentNotInstalled, iModel, open_engine
from engine.secret import Secret
from engine.transports.ag2 import Ag2Transport

MISSING = r"pip install 'penstock\[ag2\]'.*Nothing was sent"


@pytest.fixture(autouse=True)
def without_ag2(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ag2", "autogen"):
        monkeypatch.setitem(sys.modules, name, None)


def test_it_says_what_to_install() -> None:
    """As soon as the transport is made: before anything is queued, and without a word of the key."""
    with pytest.raises(AgentNotInstalled, match=MISSING) as caught:
        Ag2Transport(base_url="https://api.example/v1", key=Secret("sk-never-to-be-seen-123"))
    assert "never" not in str(caught.value)


async def test_a_model_of_it_is_made_and_its_first_run_refused() -> None:
    model = iModel(provider="ag2", model="m")
    async with open_engine() as engine:
        with pytest.raises(AgentNotInstalled, match=MISSING):
            await model.run_and_collect(prompt="x", agents=[{"name": "a"}])
        assert engine.statistics().endpoints == ()
