"""A provider on loopback, and a model of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from portal_server import Provider, serving

from engine import iModel


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider whose answers its prompts decide."""
    with serving() as provider:
        yield provider


@pytest.fixture
def model(provider: Provider) -> iModel:
    """An ordinary model of it."""
    return iModel(model="openai/scripted", api_key="none", base_url=provider.url)
