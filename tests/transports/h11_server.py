"""An ordinary HTTP server for `scripted_server`: h11, so that what a client sends is judged by another implementation.

A handler is given each request, whole, and says what to answer; framing, HEAD and keep-alive are h11's. Also here: a
client of httpx for such a server, over whatever transport is under test.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h11
import httpx
from certificates import secure
from scripted_server import Peer, Script, Server

Build = Callable[[ssl.SSLContext | None], httpx.AsyncBaseTransport]
"""How to make a transport that trusts what the given context trusts, or whatever it trusts by itself."""


@dataclass(frozen=True)
class Asked:
    """A request as it arrived; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    peer: Peer = field(repr=False)


@dataclass(frozen=True)
class Reply:
    """Bytes go with a length, pieces go in chunks, and no body at all is for whoever must not have one."""

    status: int = 200
    body: bytes | Sequence[bytes] | None = b""
    headers: Sequence[tuple[str, str]] = ()


Handler = Callable[[Asked], Reply]


def http(handler: Handler) -> Script:
    """A script that answers request after request, as long as the connection may be kept."""

    async def script(peer: Peer) -> None:
        connection = h11.Connection(h11.SERVER)
        while (asked := await _asked(peer, connection)) is not None:
            await _answer(peer, connection, asked, handler(asked))
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    return script


async def head(peer: Peer) -> bytes:
    """A request up to the end of its headers, for scripts that answer by hand; ``b""`` if the client has gone."""
    arrived = b""
    while b"\r\n\r\n" not in arrived:
        more = await peer.stream.receive_some(65_536)
        if not more:
            return b""
        arrived += more
    return arrived


@asynccontextmanager
async def client_of(
    build: Build, server: Server, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    base = secure(server.url) if tls else server.url
    async with httpx.AsyncClient(transport=build(tls), base_url=base.removesuffix("/v1/call"), timeout=5) as client:
        yield client


def echo(asked: Asked) -> Reply:
    told = {"method": asked.method, "target": asked.target, "body": asked.body.decode(), **asked.headers}
    return Reply(body=json.dumps(told).encode(), headers=[("x-twice", "a"), ("x-twice", "b")])


async def _asked(peer: Peer, connection: h11.Connection) -> Asked | None:
    request: h11.Request | None = None
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None  # the client broke off in its request, which some tests make it do
        if event is h11.NEED_DATA:
            connection.receive_data(await peer.stream.receive_some(65_536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
            return Asked(request.method.decode(), request.target.decode(), headers, body, peer)
        else:
            return None


async def _answer(peer: Peer, connection: h11.Connection, asked: Asked, reply: Reply) -> None:
    framing = []
    if isinstance(reply.body, bytes):
        framing = [("content-length", str(len(reply.body)))]
    elif reply.body is not None:
        framing = [("transfer-encoding", "chunked")]
    out = connection.send(h11.Response(status_code=reply.status, headers=[*reply.headers, *framing], reason=b"Fine"))
    for part in [reply.body] if isinstance(reply.body, bytes) else reply.body or []:
        if asked.method != "HEAD":
            out += connection.send(h11.Data(data=part)) or b""
    await peer.send(out + (connection.send(h11.EndOfMessage()) or b""))
