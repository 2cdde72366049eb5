"""Chats of AG2 where there is no AG2; with one, see `tests/agents/test_ag2_real.py`."""

from __future__ import annotations

import importlib.util

import pytest

from engine.errors import UsageError
from engine.secret import Secret
from engine.transports.ag2 import Ag2Transport

HAS_ONE = any(importlib.util.find_spec(name) for name in ("ag2", "autogen"))


@pytest.mark.skipif(HAS_ONE, reason="there is an AG2 here")
def test_it_says_what_to_install() -> None:
    """As soon as the transport is made: before anything is queued, and without a word of the key."""
    with pytest.raises(UsageError, match=r"pip install 'penstock\[ag2\]'.*Nothing was sent") as caught:
        Ag2Transport(base_url="https://api.example/v1", key=Secret("sk-never-to-be-seen-123"))
    assert "never" not in str(caught.value)
