"""The client transport under test, the ways it can go, and one exchange with a server that answers given bytes.

Shared by the tests of what comes out of an exchange through httpx.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx
from scripted_server import KEY, Ear, PairFormat, Peer, calling, serve

from actors.transport import Answer
from engine.transports.client import ClientTransport
from engine.transports.pool import PooledTransport


def client_transport(url: str, **options: object) -> ClientTransport:
    """What is under test, with the key where most providers want it."""
    return ClientTransport(url=url, headers={"Authorization": f"Bearer {KEY}"}, format=PairFormat(), **options)


WAYS: dict[str, Callable[[], httpx.AsyncClient | None]] = {
    "a connection of its own": lambda: None,
    "a user's client": httpx.AsyncClient,
    "a client over our own wire": lambda: httpx.AsyncClient(transport=PooledTransport()),
}


async def answers_to(raw: bytes, *, close: bool = True, **options: object) -> tuple[Answer, Ear]:
    """One exchange with a server that answers these bytes."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(raw)
        if not close:
            await peer.gone()

    async with serve(script) as server:
        connection = await client_transport(server.url, **options).connect()
        ear = Ear()
        answer = await connection.exchange(calling(), ear)
        await connection.aclose()
        await server.all_closed()
        return answer, ear
