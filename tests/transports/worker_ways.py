"""The ways a worker can speak to a provider, so that one test holds them all to the same contract.

Our own wire, a connection of httpx, and a user's client with httpx's transport or with one that tells nothing of how
far it is. The user's client would follow redirects and keeps cookies; it is closed with the test, and only then may a
server still see a connection open.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import httpx
from certificates import client_tls, secure
from scripted_server import AUTHORIZED, Ear, PairFormat, Peer, Server, calling, serve, transport

from actors.transport import Answer
from engine.transports.client import ClientConnection, ClientTransport
from engine.transports.http import HttpConnection, HttpTransport
from engine.transports.pool import PooledTransport
from engine.transports.streams import default_tls


def client_transport(url: str, **options: object) -> ClientTransport:
    """The transport through httpx, with the key where most providers want it."""
    return ClientTransport(**{"url": url, "headers": AUTHORIZED, "format": PairFormat(), **options})


def user_client(**options: object) -> httpx.AsyncClient:
    return httpx.AsyncClient(follow_redirects=True, trust_env=False, **options)


class Way(NamedTuple):
    """`client` makes a user's client; `tells`: what is sent is known when the kernel has it, not with the answer."""

    build: Callable[..., HttpTransport | ClientTransport]
    client: Callable[[ssl.SSLContext], httpx.AsyncClient] | None = None
    tells: bool = True


OURS = Way(transport)
HTTPX = Way(client_transport)
WAYS = {
    "our wire": OURS,
    "httpx": HTTPX,
    "user's client": Way(client_transport, lambda tls: user_client(verify=tls)),
    "user's client, our wire": Way(
        client_transport, lambda tls: user_client(transport=PooledTransport(ssl_context=tls)), tells=False
    ),
}


@asynccontextmanager
async def reaching(
    way: Way, server: Server, *, user: str = "", query: str = "", tls: bool = False, **options: object
) -> AsyncIterator[HttpTransport | ClientTransport]:
    """How `way` reaches a server; afterwards no connection is open."""
    url = secure(server.url) if tls else server.url
    context = client_tls() if tls else default_tls()
    async with AsyncExitStack() as stack:
        if way.client is not None:
            options["client"] = await stack.enter_async_context(way.client(context))
        yield way.build(url.replace("//", f"//{user}") + query, **{"ssl_context": context, **options})
    await server.all_closed()


@asynccontextmanager
async def connected(way: Way, server: Server, **options: object) -> AsyncIterator[HttpConnection | ClientConnection]:
    """A worker's connection to a server, closed afterwards; for the options see `reaching` and the transports."""
    async with reaching(way, server, **options) as built:
        connection = await built.connect()
        try:
            yield connection
        finally:
            await connection.aclose()
            assert not connection.usable()


async def answers_to(way: Way, *parts: bytes, close: bool = True, **options: object) -> tuple[Answer, Ear]:
    """One exchange with a server that answers these bytes, one write each."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for part in parts:
            await peer.send(part)
        if not close:
            await peer.gone()

    async with serve(script) as server, connected(way, server, **options) as connection:
        ear = Ear()
        answer = await connection.exchange(calling(), ear)
        assert answer.keep or not connection.usable()
        return answer, ear
