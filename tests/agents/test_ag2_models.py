"""Chats of AG2 as models: read as streams, collected, limited, cancelled; by the real library, at the simulator."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from engine import Rejected, iModel, open_engine
from engine.simulator import ConstantLatency, Simulator, SimulatorConfig, StreamShape, serve

KEY = "key-of-the-test-0123"
AGENTS = [{"name": "ann", "prompt": "Be brief."}, {"name": "bob", "prompt": "Disagree."}]


@pytest.fixture
async def simulator(nursery: trio.Nursery) -> AsyncIterator[Simulator]:
    yield await nursery.start(serve, SimulatorConfig(key=KEY, output_tokens=5, stream=StreamShape(tool_calls=0)))
    nursery.cancel_scope.cancel()


def a_chat(simulator: Simulator, **more: Any) -> iModel:
    given: dict[str, Any] = {"api_key": KEY, "agents": AGENTS, "max_turns": 3, **more}
    return iModel(provider="ag2", model="m", base_url=simulator.address("openai"), **given)


async def test_a_chat_is_a_call_like_any_other(simulator: Simulator) -> None:
    heard: list[str] = []
    async with open_engine() as engine:
        model = a_chat(simulator, limit_requests=10)
        async with model.stream(prompt="Go.", on_text=heard.append) as chunks:
            seen = [chunk async for chunk in chunks]
        call = chunks.call
        assert call.status == "completed"
        assert [chunk.type for chunk in seen if chunk.type in ("result", "error")] == ["result"]
        assert "".join(map(str, seen)) == "".join(heard)
        assert len(call.response["messages"]) == 3
        assert call.text == call.response["messages"][-1]
        assert call.usage is not None
        logged = [arrival for arrival in simulator.log() if arrival.status == 200]
        assert len(logged) == 3
        assert call.usage.output_tokens == 15
        said = await model.run_and_collect(prompt="Again.", max_turns=2)
        assert said is not None
        assert said.count("\n\n") == 1
        assert engine.statistics().endpoints[0].transport == "ag2"
        assert model.provider_session_id is None


async def test_a_key_that_is_refused_is_the_calls_error(simulator: Simulator) -> None:
    async with open_engine():
        with pytest.raises(Rejected) as caught:
            await a_chat(simulator, api_key="sk-wrong-0123456789abcdef").run_and_collect(prompt="Go.")
    assert caught.value.status == 401
    assert "0123456789abcdef" not in repr(caught.value)


async def test_a_chat_that_is_left_leaves_no_thread(nursery: trio.Nursery) -> None:
    slow = StreamShape(deltas=10_000, interval=ConstantLatency(0.01), tool_calls=0)
    simulator = await nursery.start(serve, SimulatorConfig(key=KEY, stream=slow))
    before = {thread.name for thread in threading.enumerate()}
    async with open_engine() as engine:
        with trio.fail_after(60):
            async with a_chat(simulator).stream(prompt="Go.") as chunks:
                async for chunk in chunks:
                    if str(chunk):
                        break
            await engine.wait_quiet()
        assert not any(engine.statistics().live.values())
        named = {thread.name for thread in threading.enumerate() if "ag2" in thread.name.lower()}
        assert named <= before
    nursery.cancel_scope.cancel()
