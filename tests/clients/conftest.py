"""A server on loopback, and no key of Inferneo's in the environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from inferneo_server import Server, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that answers calls as Inferneo's does, and has nothing else."""
    monkeypatch.delenv("INFERNEO_API_KEY", raising=False)
    with serving() as served:
        yield served
