"""The clients `streams` measures: each reads so many streams side by side, all of them to the end, and says the text.

The engine is read as its users do, by ``async for`` over `iModel.stream`. aiohttp gives lines, and what a program would
do with them is done: the JSON of each is decoded, by msgspec as the engine does or by the standard library. The
transport, with an attempt that does nothing, brings events as far as a worker does, and nobody reads them. Bare sockets
look for the end and at nothing else, which is what trio and the system take.

aiohttp runs under asyncio, all others under trio. Nobody reads a clock for an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import msgspec
import trio

from actors.messages import APICalling
from benchmarks.harness import Settings
from benchmarks.units import IdleAttempt, held_bytes, resident_bytes
from benchmarks.wire_clients import HEADERS, KEY
from engine import iModel, open_engine
from engine.providers.lookup import resolve
from engine.transports.http import HttpTransport

ENGINE, TRANSPORT, BARE = "engine", "transport", "bare sockets"
AIOHTTP, AIOHTTP_JSON = "aiohttp", "aiohttp, json of the standard library"
READERS = (ENGINE, AIOHTTP, AIOHTTP_JSON)
"""The clients that bring the text to somebody."""

LAST = b"0\r\n\r\n"
"""What ends a body in chunks."""

PROMPT = [{"role": "user", "content": "Say something long."}]

Say = Callable[[str], object]
Read = Callable[[Say], Awaitable[None]]
"""Reads one stream to its end and says each text in it."""

Open = Callable[[], Awaitable[Read]]
"""Gives one reader what it reads with; connects, if that is a step of its own."""


class Provider(NamedTuple):
    """Where the server is, and what it is sent."""

    port: int
    base_url: str
    url: str
    body: bytes


def provider(port: int) -> Provider:
    base_url = f"http://127.0.0.1:{port}/v1"
    spec = resolve("openai", "chat", base_url)
    arguments = {"model": "scripted", "messages": PROMPT, "max_tokens": 64, "stream": True}
    return Provider(port, base_url, spec.url, spec.format.encode(arguments).body)


class Took(NamedTuple):
    """What the streams that count took: the wall's seconds, processor seconds, and those of them in the system; memory
    by which the process had grown as the last of them had begun; the characters that were read."""

    wall_s: float
    used_s: float
    system_s: float
    grown_bytes: int
    characters: int


class Text:
    """Takes what is said. As the last stream says its first, it looks at the memory: all of them are open then.

    From before the client was opened: in it are the client itself, its connections and tasks, and each stream with its
    call, garbage that was not collected by then included; not what the system holds for sockets.
    """

    def __init__(self, streams: int, *, look: bool) -> None:
        self._missing = streams if look else 0
        self._before = resident_bytes() if look else 0
        self._parts: list[str] = []
        self.grown_bytes = 0

    def say(self) -> Say:
        """What takes it; a call of nothing but `list.append` where memory is not looked at."""
        return self._first if self._missing else self._parts.append

    def _first(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._missing -= 1
            if not self._missing:
                self.grown_bytes = held_bytes() - self._before

    def characters(self) -> int:
        return sum(map(len, self._parts))


class Marks:
    """The clocks at the beginning of what counts, and the differences at its end."""

    def __init__(self) -> None:
        self._used = resource.getrusage(resource.RUSAGE_SELF)
        self._wall_s = time.perf_counter()

    def took(self, text: Text) -> Took:
        wall_s, before, after = time.perf_counter(), self._used, resource.getrusage(resource.RUSAGE_SELF)
        system_s = after.ru_stime - before.ru_stime
        used_s = after.ru_utime - before.ru_utime + system_s
        return Took(wall_s - self._wall_s, used_s, system_s, text.grown_bytes, text.characters())


# --- the clients ---


@contextlib.asynccontextmanager
async def _engine(at: Provider, width: int) -> AsyncIterator[Open]:
    async with open_engine():
        model = iModel(model="openai/scripted", base_url=at.base_url, api_key=KEY, max_connections=width)

        async def read(say: Say) -> None:
            async for chunk in model.stream(messages=PROMPT, max_tokens=64):
                say(str(chunk))

        async def opened() -> Read:
            return read

        yield opened


def _asked(at: Provider) -> tuple[HttpTransport, APICalling]:
    spec = resolve("openai", "chat", at.base_url)
    transport = HttpTransport(url=at.url, headers={"authorization": f"Bearer {KEY}"}, format=spec.format)
    return transport, APICalling(1, 1, 1, 0, streaming=True, body=memoryview(at.body))


@contextlib.asynccontextmanager
async def _transport(at: Provider, width: int) -> AsyncIterator[Open]:
    transport, calling = _asked(at)

    async def opened() -> Read:
        connection, attempt = await transport.connect(), IdleAttempt()

        async def read(say: Say) -> None:
            answer = await connection.exchange(calling, attempt)
            assert answer.verdict == "done", answer

        return read

    yield opened


@contextlib.asynccontextmanager
async def _bare(at: Provider, width: int) -> AsyncIterator[Open]:
    transport, calling = _asked(at)
    request = transport.request(calling)
    sockets: list[socket.socket] = []

    async def opened() -> Read:
        stream = await trio.open_tcp_stream("127.0.0.1", at.port)
        own = socket.socket(fileno=stream.socket.detach())
        own.setblocking(False)
        sockets.append(own)

        async def read(say: Say) -> None:
            own.send(request)
            data = b""
            while data[-len(LAST) :] != LAST:
                await trio.lowlevel.wait_readable(own)
                data = own.recv(65_536)

        return read

    yield opened
    for one in sockets:
        trio.lowlevel.notify_closing(one)
        one.close()


@contextlib.asynccontextmanager
async def _aiohttp(at: Provider, width: int, decode: Callable[[bytes], Any]) -> AsyncIterator[Open]:
    import aiohttp  # a peer, which need not be here

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=width), headers=HEADERS) as session:

        async def read(say: Say) -> None:
            async with session.post(at.url, data=at.body) as response:
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        event = decode(line[6:])
                        for choice in event["choices"]:
                            say(choice["delta"].get("content", ""))

        async def opened() -> Read:
            return read

        yield opened


def _with_msgspec(at: Provider, width: int) -> AbstractAsyncContextManager[Open]:
    return _aiohttp(at, width, msgspec.json.decode)


def _with_json(at: Provider, width: int) -> AbstractAsyncContextManager[Open]:
    return _aiohttp(at, width, json.loads)


CLIENTS: dict[str, Callable[[Provider, int], AbstractAsyncContextManager[Open]]] = {
    ENGINE: _engine,
    TRANSPORT: _transport,
    BARE: _bare,
    AIOHTTP: _with_msgspec,
    AIOHTTP_JSON: _with_json,
}

# --- running them ---

Together = Callable[[list[Callable[[], Awaitable[None]]]], Awaitable[None]]


def run(settings: Settings, at: Provider) -> Took:
    """Read the streams the settings ask for with the client they name."""
    if settings["client"] in (AIOHTTP, AIOHTTP_JSON):
        return asyncio.run(_read(settings, at, _under_asyncio))
    return trio.run(_read, settings, at, _under_trio)


async def _read(settings: Settings, at: Provider, together: Together) -> Took:
    """All streams side by side; before them, if the server gathers requests, one without events over each connection.

    Where there is none before, the connections are opened within what counts.
    """
    width = settings["streams"]
    text = Text(width, look=bool(settings["idle"]))
    say = text.say()
    reads: list[Read] = []

    async def before() -> None:
        reads.append(await opened())
        await reads[-1](_ignored)

    def reading(read: Read) -> Callable[[], Awaitable[None]]:
        return lambda: read(say)

    async def cold() -> None:
        await (await opened())(say)

    async with CLIENTS[settings["client"]](at, width) as opened:
        if settings["gather"]:
            await together([before] * width)
        marks = Marks()
        await together([reading(read) for read in reads] if reads else [cold] * width)
        return marks.took(text)


def _ignored(_: str) -> None:
    pass


async def _under_trio(work: list[Callable[[], Awaitable[None]]]) -> None:
    async with trio.open_nursery() as nursery:
        for one in work:
            nursery.start_soon(one)


async def _under_asyncio(work: list[Callable[[], Awaitable[None]]]) -> None:
    await asyncio.gather(*(one() for one in work))
