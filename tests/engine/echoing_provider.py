"""A provider that repeats the key it was called with wherever it can: over a real socket, in raw HTTP."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

REFUSAL = b'{"error": {"message": "no such key: %s", "code": "%s", "type": "%s"}}'
CHUNK = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "hello"}}]}\n\n'


@asynccontextmanager
async def echoing_provider(*, streamed: bool = False) -> AsyncIterator[str]:
    """Its base address. `streamed`: it answers with a stream that breaks off with an error, else with a 401."""
    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_tcp, host="127.0.0.1")
        handler = _stream if streamed else _refuse
        listeners = await nursery.start(serve, handler, 0)
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1"
        nursery.cancel_scope.cancel()


async def _refuse(stream: trio.SocketStream) -> None:
    key = await _key_of(stream)
    body = REFUSAL.replace(b"%s", key)
    head = (
        b"HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\nx-request-id: req-%s\r\nx-seen: Bearer %s\r\n"
    )
    await _send(stream, head.replace(b"%s", key) + b"content-length: %d\r\n\r\n" % len(body) + body)


async def _stream(stream: trio.SocketStream) -> None:
    body = CHUNK + b"data: " + REFUSAL.replace(b"%s", await _key_of(stream)) + b"\n\ndata: [DONE]\n\n"
    await _send(stream, b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + body)


async def _key_of(stream: trio.SocketStream) -> bytes:
    heard = b""
    while not (found := re.search(rb"(?i)authorization: bearer (\S+)\r\n", heard)):
        heard += await stream.receive_some()
    while b"}" not in heard:
        heard += await stream.receive_some()
    return found[1]


async def _send(stream: trio.SocketStream, data: bytes) -> None:
    await stream.send_all(data)
    await stream.send_eof()
