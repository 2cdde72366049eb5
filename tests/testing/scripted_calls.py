"""What the tests of `engine.testing` have in common: a model, and calls of it over a script.

Must not import Hypothesis or pytest: they change the order in which trio runs its tasks.
"""

from __future__ import annotations

from typing import Any

from engine import Call, gather, iModel
from engine.simulator import LognormalLatency, ProviderLimit
from engine.testing import Request, Says, ScriptedProvider, error_reply, fault, run_virtual, scripted_engine


def a_model(**arguments: Any) -> iModel:
    """A model with a key of its own."""
    return iModel(**{"model": "openai/m-1", "api_key": "none", **arguments})


def ask(content: object) -> list[dict[str, str]]:
    """Messages with one question in them."""
    return [{"role": "user", "content": str(content)}]


def call_over(provider: ScriptedProvider, *, model: iModel | None = None, **options: Any) -> Call:
    """One call over `provider`, in virtual time, to its end."""

    async def main() -> Call:
        async with scripted_engine(provider):
            return await (model or a_model()).invoke(messages=ask("?"), **options)

    return run_virtual(main)


def calls_over(provider: ScriptedProvider, count: int, *, seed: int | None = 0, **arguments: Any) -> list[Call]:
    """So many calls of one model at once, each with its number for a prompt."""

    async def main() -> list[Call]:
        async with scripted_engine(provider):
            model = a_model(**arguments)
            return await gather(*(model.invoke(messages=ask(number)) for number in range(count)))

    return run_virtual(main, seed=seed)


Trace = list[tuple[str, float, int, int, int]]


def trace(seed: int, provider_seed: int) -> Trace:
    """Everything a provider sees in a busy run: limits, retries by chance, latency, places, connections that fail."""

    def script(request: Request) -> Says:
        if request.chance < 0.15:
            return error_reply(503)
        return fault("closed") if request.chance < 0.2 else "ok"

    provider = ScriptedProvider(
        script,
        delay_s=LognormalLatency(0.3, 0.8),
        limits=[ProviderLimit("requests", 18, 1.0)],
        connect_s=0.05,
        connect_failures=3,
        seed=provider_seed,
    )
    calls = calls_over(provider, 60, seed=seed, limit_requests=20, interval=1, queue_capacity=10)
    assert len(calls) == 60
    assert provider.refused > 0
    return [
        (request.prompt, request.at_s, request.attempt, request.status, request.connection)
        for request in provider.requests
    ]
