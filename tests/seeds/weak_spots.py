"""What the tests of the seeds' weaknesses have in common: a model, an engine in virtual time, a crowd of calls.

`Crowd` invokes calls at once, each in a task of its own as lionagi's users do, and notes when each came back.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from engine import Call, Engine, iModel, testing
from engine.config import EngineConfig
from engine.testing import Request, ScriptedProvider, scripted_engine

in_virtual_time = testing.in_virtual_time(seed=None)
"""Tasks that are ready together run in another order every time: no test may depend on one."""


def ask(prompt: str) -> list[dict[str, str]]:
    """The messages of a call that asks this."""
    return [{"role": "user", "content": prompt}]


def a_model(model: str = "gpt-4o", **arguments: Any) -> iModel:
    """A model with a key of its own."""
    return iModel(model=model, **{"api_key": "sk-sentinel-0123456789abcdef", **arguments})


@asynccontextmanager
async def an_engine(provider: ScriptedProvider, config: EngineConfig | None = None) -> AsyncIterator[Engine]:
    """An engine in virtual time, which holds nothing any more when it is left. The clock does not stand at zero."""
    await trio.sleep(1.0)
    provider.seed = random.getrandbits(63)
    async with scripted_engine(provider, config) as engine:
        yield engine


class Crowd:
    """Calls that were invoked at the same instant, by tasks that come in order. `back_s` is when each came back, in
    seconds after that, to the millisecond."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls
        self.back_s: dict[int, float] = {}

    @classmethod
    async def of(cls, model: iModel, prompts: Sequence[str], **options: Any) -> Crowd:
        """Invoke one call for each prompt and wait for all of them."""
        crowd = cls([model.create_api_calling(messages=ask(prompt), **options) for prompt in prompts])
        await crowd.invoke()
        return crowd

    async def invoke(self) -> None:
        """Invoke all of them and wait."""
        begun = trio.current_time()

        async def one(index: int, call: Call) -> None:
            assert await call.owner.engine.invoke(call) is call  # type: ignore[attr-defined]  # the owner is an iModel
            self.back_s[index] = round(trio.current_time() - begun, 3)

        async with trio.open_nursery() as nursery:
            for index, call in enumerate(self.calls):
                nursery.start_soon(one, index, call)

    @property
    def statuses(self) -> set[str]:
        """How they ended."""
        return {call.status for call in self.calls}

    @property
    def ends(self) -> list[float]:
        """When they came back, soonest first."""
        return sorted(self.back_s.values())


def echo(request: Request) -> str:
    """A script that answers with the prompt, so that a test sees whose answer it got."""
    return request.prompt
