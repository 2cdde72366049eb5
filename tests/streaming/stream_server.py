"""A provider on loopback that streams what a test writes down, and an engine that reads it over either way of a worker.

A response is written in pieces cut anywhere, and each piece is read before the next is written. Nothing here depends on
the clock.
"""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Literal

import trio
import trio.testing
from scripted_server import Peer, Script, Server, open_sockets, serve
from stream_bodies import KEY, at_rest

from engine import Engine, iModel, open_engine
from engine.config import EngineConfig, EngineSection

Http = Literal["own", "httpx"]
HTTPS: tuple[Http, ...] = ("own", "httpx")
EVENTS = "Content-Type: text/event-stream"


def head(*headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


def chunks(body: bytes, size: int = 50) -> bytes:
    """A body in chunks of HTTP, without the last of them."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


LAST_CHUNK = b"0\r\n\r\n"
CHUNKED = head(EVENTS, "Transfer-Encoding: chunked")
UNTIL_END = head(EVENTS)


def with_gzip(body: bytes) -> bytes:
    coded = gzip.compress(body)
    return head(EVENTS, "Content-Encoding: gzip", "Transfer-Encoding: chunked") + chunks(coded) + LAST_CHUNK


FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "chunked": lambda body: CHUNKED + chunks(body) + LAST_CHUNK,
    "length": lambda body: head(EVENTS, f"Content-Length: {len(body)}") + body,
    "until the end": lambda body: UNTIL_END + body,
    "gzip": with_gzip,
}


def cut(raw: bytes, places: Iterable[int]) -> list[bytes]:
    """The bytes cut at these places."""
    borders = [0, *sorted({place for place in places if 0 < place < len(raw)}), len(raw)]
    return [raw[start:stop] for start, stop in pairwise(borders)]


async def send_apart(peer: Peer, parts: Sequence[bytes]) -> None:
    """Write each part once the one before it was read."""
    for part in parts:
        await peer.send(part)
        await trio.testing.wait_all_tasks_blocked()


def answering(*parts: bytes, close: bool = False, wait: bool = False) -> Script:
    """Answer every request with these parts; then, perhaps, close the connection, or wait until the client does."""

    async def script(peer: Peer) -> None:
        while await peer.request() is not None:
            await send_apart(peer, parts)
            if wait:
                await peer.gone()
            if close:
                return

    return script


@asynccontextmanager
async def wire_engine(http: Http, script: Script) -> AsyncIterator[tuple[Engine, Server]]:
    """An engine that speaks by `http` to a server; afterwards nothing is left, and no socket is open."""
    before = open_sockets()
    async with serve(script) as server:
        async with open_engine(EngineConfig(engine=EngineSection(http=http))) as engine:
            yield engine, server
            await engine.wait_quiet()
            at_rest(engine)
        at_rest(engine)
        await server.all_closed()
    assert open_sockets() == before


def model_at(server: Server, provider: str = "openai", **arguments: object) -> iModel:
    """A model of a provider that is `server`."""
    base_url = f"http://127.0.0.1:{server.port}/v1"
    return iModel(**{"provider": provider, "base_url": base_url, "model": "m", "api_key": KEY, **arguments})
