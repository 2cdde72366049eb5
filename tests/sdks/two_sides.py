"""A vendor's SDK and our client side by side: the same call to the same provider, and what each makes of the answer.

Each side has a simulator of its own with the same seed, and both name the call alike, so that both are told the same.
`Told` is an answer in the terms that both sides are compared in. SDKs are synchronous and run in a thread; they are
asked to be strict where they can be, and their warnings are errors. No SDK is imported here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import trio

from engine import Call, PenstockError, iModel, open_engine
from engine.simulator import FaultRates, ProviderLimit, Simulator, SimulatorConfig, StreamShape, serve

KEY = "key-of-the-test"
MODEL = "m-1"
HELLO = [{"role": "user", "content": "Say hello."}]
FUNCTION = {
    "name": "get_weather",
    "description": "The weather of a town.",
    "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}
TOOLS = [{"type": "function", "function": FUNCTION}]

PLAIN = SimulatorConfig(key=KEY, output_tokens=12, stream=StreamShape(reasoning=3))
"""What is plain of it: it thinks a little, too."""
LIMITED = SimulatorConfig(key=KEY, limits=(ProviderLimit("requests", 1, 60.0),))
FAILING = SimulatorConfig(key=KEY, faults=FaultRates(error_in_200=1.0))
FAILING_STREAM = SimulatorConfig(key=KEY, faults=FaultRates(stream_error=1.0, stream_at=3))

T = TypeVar("T")


@dataclass
class Told:
    """What a side says that it was answered. `usage`: input, output, and the reasoning in it. `calls`: identity, name,
    arguments."""

    text: str | None = None
    reasoning: str | None = None
    finish: str | None = None
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    usage: tuple[int | None, ...] | None = None
    identity: str | None = None
    model: str | None = None
    vectors: list[list[float]] = field(default_factory=list)
    results: list[tuple[Any, ...]] = field(default_factory=list)


def without_time(identity: str | None) -> str | None:
    """OpenRouter's identities have the time of the simulator's start in them, which may differ by a second."""
    return re.sub(r"^gen-\d+-", "gen-", identity) if identity else identity


def said_by(call: Call) -> Told:
    """What our client says of a call that has completed."""
    view, usage = call.raise_for_status().view, call.usage
    return Told(
        text=view.text or None,
        reasoning=view.reasoning,
        finish=view.finish_reason,
        calls=[(tool.id, tool.name, tool.arguments) for tool in view.tool_calls],
        usage=usage and (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens),
        identity=without_time(view.provider_id),
        model=view.model,
        vectors=[list(vector) for vector in view.embeddings],
        results=[(found.url, found.title, found.text, found.score) for found in view.results],
    )


async def both(
    provider: str,
    endpoint: str,
    ours: dict[str, Any],
    theirs: Callable[[str, str], T],
    config: SimulatorConfig = PLAIN,
    *,
    streamed: bool = False,
    named: bool = True,
) -> tuple[Call, T]:
    """The same call by our client and by the SDK; our call, which has ended, and what the SDK returns.

    `theirs` is given the address of the provider and the name under which our simulator knew the call. `named`: the SDK
    can send that name, so that both answers have the same identity.
    """

    async def run(simulators: list[Simulator]) -> tuple[Call, T]:
        async with open_engine():
            address = simulators[0].address(provider)
            model = iModel(provider=provider, endpoint=endpoint, base_url=address, api_key=KEY)
            call = await (_streamed(model, ours) if streamed else model.invoke(**ours))
        found = await in_thread(theirs, simulators[1].address(provider), str(call.id))
        (arrival,) = simulators[1].log()
        assert arrival.call == str(call.id) or not named
        return call, found

    return await with_simulators(config, run)


async def _streamed(model: iModel, arguments: dict[str, Any]) -> Call:
    """A call whose stream was read to its end, good or bad."""
    stream, pieces = model.stream(**arguments), []
    with contextlib.suppress(PenstockError):
        async with stream:
            async for chunk in stream:
                pieces.append(str(chunk))  # noqa: PERF401  # what came before an error is wanted, too
    assert "".join(pieces) == (stream.call.text or "")
    return stream.call


async def in_thread(theirs: Callable[[str, str], T], address: str, name: str) -> T:
    with trio.fail_after(30):
        return await trio.to_thread.run_sync(theirs, address, name)


async def alone(provider: str, theirs: Callable[[str, str], T], config: SimulatorConfig) -> T:
    """The SDK's call alone."""

    async def run(simulators: list[Simulator]) -> T:
        return await in_thread(theirs, simulators[0].address(provider), "one")

    return await with_simulators(config, run)


async def with_simulators(config: SimulatorConfig, run: Callable[[list[Simulator]], Awaitable[T]]) -> T:
    """Run against two simulators that differ in nothing but their ports."""
    found: list[T] = []
    failed: list[Exception] = []
    async with trio.open_nursery() as nursery:
        simulators = [await nursery.start(serve, config) for _ in range(2)]
        try:
            found.append(await run(simulators))
        except Exception as error:  # noqa: BLE001  # raised below, as it is and in no group
            failed.append(error)
        nursery.cancel_scope.cancel()
    if failed:
        raise failed[0]
    return found[0]
