"""What the tests of the engine have in common: a key, a question, a model, and an engine in virtual time.

The provider is `engine.testing`'s, behind the real wire format and the real reading of answers, so what an answer costs
and whether it is tried again is decided by the code under test.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from engine import Engine, iModel, testing
from engine.config import EngineConfig
from engine.testing import ScriptedProvider, scripted_engine

KEY = "sk-sentinel-0123456789abcdef"
MESSAGES = [{"role": "user", "content": "hello"}]

in_virtual_time = testing.in_virtual_time(seed=None)
"""Tasks that are ready together run in another order every time: no test may depend on one."""


def a_model(model: str = "gpt-4o", **arguments: Any) -> iModel:
    """An iModel with a key of its own."""
    return iModel(model=model, **{"api_key": KEY, **arguments})


@asynccontextmanager
async def virtual_engine(provider: ScriptedProvider, config: EngineConfig | None = None) -> AsyncIterator[Engine]:
    """An engine over `provider`, checked when it is left. The clock stands a second after its zero, as it does in any
    real program, and the waits between attempts are others every time."""
    await trio.sleep(1.0)
    provider.seed = random.getrandbits(63)
    async with scripted_engine(provider, config) as engine:
        yield engine
