"""The clients `wire` measures: each gives its workers something to call, and they call it, one call after the other.

A client opens for each worker what it needs and hands it a `Request`. aiohttp runs under asyncio, all others under
trio. The engine has no workers here, for it brings its own: it is given calls and read as its users do. Bare sockets
are no client anybody could use: they send the same bytes and look at nothing, which is what trio and the system take.

Where the server gathers a request of every worker before it answers any, `Memory` looks at what the client has grown
by. No worker reads a clock: `Calls` does, when so many calls have ended, and `run`, before and after the first of each.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import itertools
import os
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

import httpx
import trio

from actors.messages import APICalling
from benchmarks.harness import Settings
from benchmarks.units import IdleAttempt, held_bytes, resident_bytes
from engine import Call, iModel, open_engine
from engine.providers.lookup import resolve
from engine.transports.http import HttpTransport
from engine.transports.pool import PooledTransport

KEY = "not-a-key"
HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json", "accept": "application/json"}

TRANSPORT, ENGINE, MOUNTED = "transport", "engine", "httpx over the transport"
AIOHTTP, HTTPX, BARE = "aiohttp", "httpx, a client for each worker", "bare sockets"


class Calls:
    """The numbers of the calls to make, and the instants at which so many had ended, with the processor time used.

    The first stretch is not counted, and some calls are left over, so that all are in flight as the last one ends.
    Without stretches there are as many calls as the settings' ``then``, all of them counted, from `begin`.
    """

    def __init__(self, settings: Settings) -> None:
        stretches, width = settings["stretches"], settings["in_flight"]
        self._whole = not stretches
        self.stretch = settings["then"] if self._whole else max(settings["calls"], 2 * width)
        self.numbers = iter(range(self.stretch if self._whole else (stretches + 1) * self.stretch + width))
        self._marks: list[tuple[float, float]] = []
        self._ended = 0

    def begin(self) -> None:
        """The first is about to be made."""
        if self._whole:
            self._mark()

    def ended(self) -> None:
        """One has."""
        self._ended += 1
        if self._ended % self.stretch == 0:
            self._mark()

    def _mark(self) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._marks.append((used.ru_utime + used.ru_stime, used.ru_stime))

    def each_s(self) -> tuple[list[float], list[float]]:
        """For each stretch, the processor seconds of one of its calls, and those of them spent in the system."""
        pairs = list(itertools.pairwise(self._marks))
        used, system = ([(after[of] - before[of]) / self.stretch for before, after in pairs] for of in (0, 1))
        return used, system


class Memory:
    """By how much this process has grown when one request of every worker is in flight, and nothing has been answered.

    From before the client was opened: in it are the client itself, its connections and tasks, and each call with its
    request, garbage that was not collected by then included; not the answers, nor what the system holds for sockets.
    """

    def __init__(self, told: int) -> None:
        self._told = told
        self._before = resident_bytes()
        self.grown_bytes = 0

    async def look(self) -> None:
        """Wait until the server says that all are there, then look. The server leaves time for that: its answers."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            await trio.lowlevel.wait_readable(self._told)
        else:
            there = asyncio.Event()
            loop.add_reader(self._told, there.set)
            await there.wait()
            loop.remove_reader(self._told)
        self.grown_bytes = held_bytes() - self._before
        os.read(self._told, 64)


class Took(NamedTuple):
    """What a run took: seconds until every worker had an answer, seconds for all further calls, and memory, if the
    server gathered the first requests."""

    opened_s: float
    rest_s: float
    grown_bytes: int


Request = Callable[[], Awaitable[None]]
Open = Callable[[], Awaitable[Request]]
"""Gives one worker what it calls for each call; connects, if that is a step of its own."""


class Provider(NamedTuple):
    """Where the server is, what it is sent, and the file it writes to once it has gathered what it gathers."""

    port: int
    told: int
    base_url: str
    url: str
    text: str
    body: bytes


def provider(port: int, told: int, size_bytes: int) -> Provider:
    spec = resolve("openai", "chat", f"http://127.0.0.1:{port}/v1")
    text = "x" * size_bytes
    arguments = {"model": "scripted", "messages": [{"role": "user", "content": text}], "max_tokens": 64}
    return Provider(port, told, f"http://127.0.0.1:{port}/v1", spec.url, text, spec.format.encode(arguments).body)


@contextlib.asynccontextmanager
async def _transport(at: Provider, width: int) -> AsyncIterator[Open]:
    spec = resolve("openai", "chat", at.base_url)
    transport = HttpTransport(url=at.url, headers={"authorization": f"Bearer {KEY}"}, format=spec.format)
    calling = APICalling(1, 1, 1, 0, body=memoryview(at.body))

    async def connected() -> Request:
        connection, attempt = await transport.connect(), IdleAttempt()

        async def request() -> None:
            answer = await connection.exchange(calling, attempt)
            assert answer.verdict == "done", answer

        return request

    yield connected


@contextlib.asynccontextmanager
async def _mounted(at: Provider, width: int) -> AsyncIterator[Open]:
    async with httpx.AsyncClient(transport=PooledTransport(), headers=HEADERS) as client:

        async def connected() -> Request:
            return _posting(client, at)

        yield connected


@contextlib.asynccontextmanager
async def _httpx(at: Provider, width: int) -> AsyncIterator[Open]:
    unused = ssl.create_default_context()  # one for all: a client would load the roots, which takes 10 ms
    clients: list[httpx.AsyncClient] = []

    async def connected() -> Request:
        clients.append(httpx.AsyncClient(verify=unused, headers=HEADERS, limits=httpx.Limits(max_connections=1)))
        return _posting(clients[-1], at)

    yield connected
    for client in clients:
        await client.aclose()


def _posting(client: httpx.AsyncClient, at: Provider) -> Request:
    async def request() -> None:
        response = await client.post(at.url, content=at.body)
        assert response.status_code == 200, response

    return request


@contextlib.asynccontextmanager
async def _aiohttp(at: Provider, width: int) -> AsyncIterator[Open]:
    import aiohttp  # a peer, which need not be here

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=width), headers=HEADERS) as session:

        async def request() -> None:
            async with session.post(at.url, data=at.body) as response:
                await response.read()
                assert response.status == 200, response

        async def connected() -> Request:
            return request

        yield connected


@contextlib.asynccontextmanager
async def _bare(at: Provider, width: int) -> AsyncIterator[Open]:
    spec = resolve("openai", "chat", at.base_url)
    transport = HttpTransport(url=at.url, headers={"authorization": f"Bearer {KEY}"}, format=spec.format)
    data = transport.request(APICalling(1, 1, 1, 0, body=memoryview(at.body)))
    opened: list[socket.socket] = []

    async def connected() -> Request:
        stream = await trio.open_tcp_stream("127.0.0.1", at.port)
        own = socket.socket(fileno=stream.socket.detach())
        own.setblocking(False)
        opened.append(own)

        async def request() -> None:
            own.send(data)
            await trio.lowlevel.wait_readable(own)
            assert own.recv(65_536).startswith(b"HTTP/1.1 200 ")

        return request

    yield connected
    for one in opened:
        trio.lowlevel.notify_closing(one)
        one.close()


CLIENTS: dict[str, Callable[[Provider, int], AbstractAsyncContextManager[Open]]] = {
    TRANSPORT: _transport,
    MOUNTED: _mounted,
    HTTPX: _httpx,
    AIOHTTP: _aiohttp,
    BARE: _bare,
}
PEERS = {AIOHTTP: "aiohttp"}
"""The packages of the extra `bench` that clients need."""


def missing(client: str) -> str | None:
    """The package a client needs and that is not installed. Imports it, so that its import is in no figure."""
    peer = PEERS.get(client)
    try:
        if peer is not None:
            importlib.import_module(peer)
    except ModuleNotFoundError:
        return peer
    return None


def run(settings: Settings, at: Provider, calls: Calls) -> Took:
    """Run the client the settings name until all calls have ended."""
    if settings["client"] == ENGINE:
        return trio.run(_through_engine, settings, at, calls)
    if settings["client"] == AIOHTTP:
        return asyncio.run(_workers(settings, at, calls))
    return trio.run(_workers, settings, at, calls)


async def _workers(settings: Settings, at: Provider, calls: Calls) -> Took:
    """Run a client's workers under trio or asyncio: first a call of each, connecting included, then all others."""
    width, memory = settings["in_flight"], Memory(at.told)
    looking = [memory.look] if settings["gather"] else []
    started_s = time.perf_counter()
    ready: list[Request] = []

    async def first() -> None:
        request = await connected()
        await request()
        ready.append(request)

    async def others(request: Request) -> None:
        for _ in calls.numbers:
            await request()
            calls.ended()

    async with CLIENTS[settings["client"]](at, width) as connected:
        await _side_by_side([*looking, *[first] * width])
        opened_s = time.perf_counter()
        calls.begin()
        await _side_by_side([functools.partial(others, request) for request in ready])
        ended_s = time.perf_counter()
    return Took(opened_s - started_s, ended_s - opened_s, memory.grown_bytes)


async def _side_by_side(work: list[Callable[[], Awaitable[None]]]) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        async with trio.open_nursery() as nursery:
            for one in work:
                nursery.start_soon(one)
    else:
        await asyncio.gather(*(one() for one in work))


async def _through_engine(settings: Settings, at: Provider, calls: Calls) -> Took:
    """The same through the engine, as a user makes and reads calls: first one for each place, then all others."""
    width, memory = settings["in_flight"], Memory(at.told)
    started_s = time.perf_counter()
    async with open_engine() as engine:
        model = iModel(model="openai/scripted", base_url=at.base_url, api_key=KEY, max_connections=width)

        def pending(numbers: Iterator[int]) -> Iterator[Call]:
            for _ in numbers:
                yield model.create_api_calling(messages=[{"role": "user", "content": at.text}], max_tokens=64)

        async def run(numbers: Iterator[int], ended: Callable[[], None]) -> None:
            # What the iterable makes beyond what is in flight waits for a turn, so that there is always a next call.
            async with engine.map(pending(numbers), buffer=2 * width) as done:
                async for call in done:
                    assert call.status == "completed", call.error
                    ended()

        async with trio.open_nursery() as nursery:
            if settings["gather"]:
                nursery.start_soon(memory.look)
            await run(iter(range(width)), lambda: None)
        opened_s = time.perf_counter()
        calls.begin()
        await run(calls.numbers, calls.ended)
        ended_s = time.perf_counter()
    return Took(opened_s - started_s, ended_s - opened_s, memory.grown_bytes)
