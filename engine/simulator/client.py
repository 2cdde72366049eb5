"""The smallest HTTP client that can ask a simulated provider for its statistics and its log.

One GET over one connection, h11 and trio. It is not a transport: calls to providers go through `engine.transports`.
"""

from __future__ import annotations

import h11
import trio


async def fetch(host: str, port: int, path: str) -> bytes:
    """GET a path and return the whole body.

    Raises `OSError` if nobody listens, `trio.BrokenResourceError` or `h11.RemoteProtocolError` if the answer is cut,
    `ValueError` if its status is not 200.
    """
    http = h11.Connection(h11.CLIENT)
    request = h11.Request(method="GET", target=path, headers=[("host", f"{host}:{port}"), ("connection", "close")])
    body: list[bytes] = []
    async with await trio.open_tcp_stream(host, port) as stream:
        await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some(65_536))
            elif isinstance(event, h11.Response) and event.status_code != 200:
                raise ValueError(f"GET {path} was answered with status {event.status_code}")
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return b"".join(body)
