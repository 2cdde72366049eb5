"""What the tests of handlers have in common: a model with handlers, a scripted provider, an engine in virtual time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from engine import Engine, HookRegistry, iModel, open_engine, testing
from engine.testing import ScriptedProvider, assert_quiet

MESSAGES = [{"role": "user", "content": "hello"}]
in_virtual_time = testing.in_virtual_time(seed=None)


def a_model(hooks: HookRegistry | Mapping[Any, Any] | None = None, model: str = "gpt-4o", **arguments: Any) -> iModel:
    """A model with these handlers."""
    return iModel(model=model, hook_registry=hooks, **{"api_key": "sk-sentinel-0123456789abcdef", **arguments})


@asynccontextmanager
async def hooked_engine(
    provider: ScriptedProvider, hooks: HookRegistry | Mapping[Any, Any] | None = None
) -> AsyncIterator[Engine]:
    """An engine over `provider`, with handlers of its own; quiet when it is left. The clock does not stand at zero."""
    await trio.sleep(1.0)
    provider.seed = random.getrandbits(63)
    async with open_engine(transport=provider, hooks=hooks) as engine:
        yield engine
    assert_quiet(engine)
    assert not provider.open_now
    assert not provider.in_flight
