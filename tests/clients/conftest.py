"""The platforms that the tests of clients ask, and an engine around a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from aixplain_platform import Platform, serving

from engine import open_engine


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """aiXplain's platform on loopback, named by the environment."""
    with serving(monkeypatch) as platform:
        yield platform


@pytest.fixture
async def service(platform: Platform) -> AsyncIterator[Platform]:
    """The platform, and an open engine that asks it."""
    async with open_engine():
        yield platform
