"""A forward proxy on loopback: requests in absolute form, and tunnels by CONNECT; it notes everything it is asked.

Real sockets. It knows where a name is to be found, whatever the name, so that a test can use addresses that only a
proxy could reach.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from scripted_server import Peer, serve


class ForwardProxy:
    """Where it listens, what it was asked (the heads of requests), and how many connections it has open."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.heads: list[bytes] = []

    @property
    def lines(self) -> list[bytes]:
        """The first line of everything it was asked."""
        return [head.partition(b"\r\n")[0] for head in self.heads]


@asynccontextmanager
async def forward_proxy(origin_port: int, *, refuse: bytes = b"") -> AsyncIterator[ForwardProxy]:
    """Serve one in front of the port where every name is found; with `refuse` that is its answer to everything."""

    async def script(peer: Peer) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = await peer.stream.receive_some(65_536)
            if not data:
                return
            head += data
        head, _, rest = head.partition(b"\r\n\r\n")
        proxy.heads.append(head)
        if refuse:
            await peer.send(refuse)
            return
        async with await trio.open_tcp_stream("127.0.0.1", origin_port) as origin:
            if head.startswith(b"CONNECT "):
                await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                method, target, version = head.partition(b"\r\n")[0].split()
                path = b"/" + target.split(b"/", 3)[3]
                line = b" ".join((method, path, version))
                await origin.send_all(line + b"\r\n" + head.partition(b"\r\n")[2] + b"\r\n\r\n" + rest)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(carry, peer.raw, origin, nursery)
                await carry(origin, peer.raw, nursery)

    async def carry(source: trio.SocketStream, sink: trio.SocketStream, nursery: trio.Nursery) -> None:
        try:
            async for data in source:
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        nursery.cancel_scope.cancel()

    async with serve(script) as server:
        proxy = ForwardProxy(server.port)
        yield proxy
