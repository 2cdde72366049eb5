"""What the tests of ready-made extensions have in common: a model with them, many identical calls, an engine."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from engine import Call, Engine, HookRegistry, iModel, open_engine, testing
from engine.hooks import HookEventTypes
from engine.ready.response_cache import ResponseCache
from engine.testing import ScriptedProvider, assert_quiet

PRE_CREATE, PRE, POST = HookEventTypes
KEY = "sk-sentinel-0123456789abcdef"
MESSAGES = [{"role": "user", "content": "hello"}]
in_virtual_time = testing.in_virtual_time(seed=None)


def a_model(cache: ResponseCache | None = None, hooks: HookRegistry | None = None, **arguments: Any) -> iModel:
    """A model with this cache, and other handlers behind it."""
    registry = hooks or HookRegistry()
    if cache is not None:
        registry.use(cache)
    return iModel(**{"model": "gpt-4o", "api_key": KEY, "hook_registry": registry, **arguments})


def behind(cache: ResponseCache, **hooks: Any) -> HookRegistry:
    """The cache first, then these handlers."""
    registry = HookRegistry().use(cache)
    for phase, handler in hooks.items():
        registry.add(phase, handler)
    return registry


@asynccontextmanager
async def cached_engine(provider: ScriptedProvider, hooks: HookRegistry | None = None) -> AsyncIterator[Engine]:
    """An engine over `provider`, quiet when it is left."""
    await trio.sleep(1.0)
    provider.seed = random.getrandbits(63)
    async with open_engine(transport=provider, hooks=hooks) as engine:
        yield engine
    assert_quiet(engine)
    assert not provider.in_flight


async def ask(model: iModel, into: list[Call], **arguments: Any) -> None:
    into.append(await model.invoke(**{"messages": MESSAGES, **arguments}))


async def at_once(number: int, model: iModel, **arguments: Any) -> list[Call]:
    """This many identical calls, made together."""
    calls: list[Call] = []
    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(lambda: ask(model, calls, **arguments))
    return calls


def counts(cache: ResponseCache) -> tuple[int, int, int]:
    statistics = cache.statistics()
    return statistics.hits, statistics.shared, statistics.misses
