"""Real chats of AG2 that are cancelled: in a stream, in one that stalls, in a tool. No thread is left of any."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from ag2_chats import LIBRARY, Ear, calls_then_talks, chat, no_ag2_thread_left, real, simulated
from model_server import STALL, serving

from engine.agents.ag2_tools import register_tool
from engine.simulator.config import StreamShape
from engine.simulator.latency import ConstantLatency

__all__ = ["no_ag2_thread_left"]

pytestmark = real


@asynccontextmanager
async def chatting(base_url: str, ear: Ear, **arguments: Any) -> AsyncIterator[None]:
    """A chat that is cancelled at the end of the block."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: chat(base_url, ear, **arguments))
            yield
            nursery.cancel_scope.cancel()


async def test_cancelled_in_a_slow_stream() -> None:
    """The chat is over, and no thread of it is left."""
    ear = Ear()
    async with simulated(stream=StreamShape(interval=ConstantLatency(0.2), deltas=500)) as url, chatting(url, ear):
        await ear.first.wait()
    assert 1 <= len(ear.chunks) < 500


@pytest.mark.parametrize("after_ms", [0, 5, 10, 20, 40, 80, 160])
async def test_cancelled_at_any_time(after_ms: int) -> None:
    """Also while its agents are made and the channel is opened."""
    async with simulated(stream=StreamShape(interval=ConstantLatency(0.05), deltas=100)) as url:
        with trio.fail_after(30), trio.move_on_after(after_ms / 1000):
            await chat(url, Ear())


@pytest.mark.skipif(LIBRARY == "classic", reason="it asks in a thread that nothing wakes but the next fragment")
async def test_cancelled_in_a_stream_that_stalls() -> None:
    """The connection to the model is closed."""
    ear = Ear()
    with serving(lambda body: ["Well", STALL]) as server:
        async with chatting(server.base_url, ear):
            await ear.first.wait()
        assert server.left.wait(10)


async def test_cancelled_in_a_tool_that_waits() -> None:
    """A coroutine is cancelled where it waits, and cleans up."""
    ends: list[str] = []
    running = threading.Event()

    async def waits(text: str) -> str:
        """It takes long."""
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            ends.append("cleaned up")
        return text

    register_tool("waits", waits)
    ear = Ear()
    with serving(calls_then_talks("waits")) as server:
        async with chatting(server.base_url, ear, agents=[{"name": "alice", "tools": ["waits"]}]):
            await ear.tool.wait()
            await trio.to_thread.run_sync(running.wait)
    assert ends == ["cleaned up"]


async def test_cancelled_in_a_tool_that_sleeps() -> None:
    """A function cannot be cancelled: it is waited for, as long as the grace is, and the agent goes on no more."""
    running = threading.Event()

    def sleeps(text: str) -> str:
        """It takes long."""
        running.set()
        time.sleep(0.5)
        return text

    register_tool("sleeps", sleeps)
    ear = Ear()
    with serving(calls_then_talks("sleeps")) as server:
        async with chatting(server.base_url, ear, agents=[{"name": "alice", "tools": ["sleeps"]}]):
            await trio.to_thread.run_sync(running.wait, 20)
        assert len(server.requests) == 1
