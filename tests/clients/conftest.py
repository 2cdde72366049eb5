"""The servers on loopback that the tests of clients ask, and an engine around a test.

Streams in virtual time stand in the neighbouring room, which pytest makes importable only when it collects it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aixplain_platform
import inferneo_server
import pytest

from engine import open_engine

sys.path.insert(0, str(Path(__file__).parents[1] / "streaming"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[inferneo_server.Server]:
    """A server that answers calls as Inferneo's does, and has nothing else; no key of it in the environment."""
    monkeypatch.delenv("INFERNEO_API_KEY", raising=False)
    with inferneo_server.serving() as served:
        yield served


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[aixplain_platform.Platform]:
    """aiXplain's platform on loopback, named by the environment."""
    with aixplain_platform.serving(monkeypatch) as platform:
        yield platform


@pytest.fixture
async def service(platform: aixplain_platform.Platform) -> AsyncIterator[aixplain_platform.Platform]:
    """The platform, and an open engine that asks it."""
    async with open_engine():
        yield platform
