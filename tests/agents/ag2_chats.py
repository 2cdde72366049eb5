"""What the tests of real chats of AG2 share: which library there is, one chat as a worker has it, and who listens."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from model_server import THREAD

from actors.messages import APICalling
from actors.transport import Answer
from engine.agents.ag2_tools import prepared
from engine.agents.chunks import Chunk, Text, ToolUse, decode_chunk
from engine.errors import UsageError
from engine.providers.view import Usage
from engine.secret import Secret
from engine.simulator import SimulatorConfig, serve
from engine.transports.ag2 import Ag2Transport, installed


def library() -> str:
    try:
        return installed()
    except UsageError:
        return ""


LIBRARY = library()
KEY = "ours.Zq81.never-to-be-seen.7Yx2"  # shaped like no provider's, so that nothing but knowing it removes it
TWO = [{"name": "alice", "prompt": "You are Alice."}, {"name": "bob"}]

real = [
    pytest.mark.skipif(not LIBRARY, reason="AG2 is not installed: pip install 'penstock[ag2]'"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),  # the libraries' own
    pytest.mark.usefixtures("no_ag2_thread_left"),
]
"""The marks of tests that run chats."""


@pytest.fixture
def no_ag2_thread_left() -> Iterator[None]:
    """Whatever became of a chat, its threads are gone: its own and those it had started."""
    before = set(threading.enumerate())
    yield
    left = [one for one in threading.enumerate() if one not in before and not one.name.startswith(("Trio", THREAD))]
    assert not any(one.name.startswith("penstock") for one in left)
    for one in left:
        one.join(5)  # those of the library are told to end, and not waited for
        assert not one.is_alive()


class Ear:
    """What an attempt is told, and what is handed over to its reader."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.chunks: list[Chunk] = []
        self.first = trio.Event()
        self.tool = trio.Event()

    def begin(self) -> None:
        self.told.append("begin")

    def sent(self) -> None:
        self.told.append("sent")

    def observed(self, observed: object) -> None: ...

    def heard(self) -> None: ...

    async def hand_over(self, piece: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.chunks += [decode_chunk.decode(event) for event in msgspec.msgpack.decode(piece)]
        self.first.set()
        if any(isinstance(chunk, ToolUse) for chunk in self.chunks):
            self.tool.set()


@asynccontextmanager
async def simulated(**options: Any) -> AsyncIterator[str]:
    """The address of a simulator."""
    async with trio.open_nursery() as nursery:
        yield (await nursery.start(serve, SimulatorConfig(**options))).base_url
        nursery.cancel_scope.cancel()


async def chat(base_url: str, ear: Ear, *, used: list[Usage] | None = None, key: str = KEY, **arguments: Any) -> Answer:
    """One chat, as a worker has it."""
    asked = prepared({"prompt": "Discuss.", "model": "m", "agents": TWO, "max_turns": 3, **arguments})
    calling = APICalling(call_id=1, lane=1, endpoint=1, submitted_us=0, body=memoryview(json.dumps(asked).encode()))
    on_usage = None if used is None else lambda _calling, usage: used.append(usage)
    transport = Ag2Transport(base_url=base_url, key=Secret(key) if key else None, on_usage=on_usage)
    assert KEY not in repr(transport)
    connection = await transport.connect()
    assert connection.usable()
    try:
        return await connection.exchange(calling, ear)
    finally:
        await connection.aclose()


def texts(chunks: list[Chunk]) -> dict[str, str]:
    found: dict[str, str] = {}
    for chunk in chunks:
        if isinstance(chunk, Text):
            found[chunk.message_id] = found.get(chunk.message_id, "") + chunk.text
    return found


def recorded(answer: Answer) -> list[Chunk]:
    return [decode_chunk.decode(line) for line in bytes(answer.reply.body).splitlines()]


def calls_then_talks(name: str) -> Any:
    def says(body: dict[str, Any]) -> Any:
        done = any(message["role"] == "tool" for message in body["messages"])
        return ["Tool ", "finished."] if done else {"name": name, "arguments": '{"text": "Hi"}'}

    return says
