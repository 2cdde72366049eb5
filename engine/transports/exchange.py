"""One request out and one response in, over an open connection: what everybody does who speaks HTTP on a `ByteStream`.

The report that the request has left comes from the system call that took its last byte. A server may answer a large
request before it has read all of it. If it refuses, nothing more is sent, and its answer counts; if it has only begun
to answer, it is listened to while the rest is sent.

Knows no provider. Must not import httpx.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import trio

from engine.transports.answers import Undecodable
from engine.transports.hearing import LINGER_S, Hearing
from engine.transports.http1 import Cut, NotHttp, ResponseReader, TooLarge
from engine.transports.streams import READ_BYTES, ByteStream

BROKEN = (OSError, trio.ClosedResourceError, NotHttp, Cut, Undecodable)
"""Everything that can come between a request and its answer, but for an answer that is too large."""

_AHEAD_BYTES = 1024 * 1024
"""How much of an answer is held while its request is still being sent."""


async def converse(
    stream: ByteStream,
    request: bytes,
    reader: ResponseReader,
    sent: Callable[[], None],
    hearing: Hearing | None = None,
) -> bool:
    """Send a request and read its whole response. Whether all of the request was sent: else the connection is spent.

    `sent` is called as soon as the kernel has taken the last byte, and not if it never does. `hearing` looks at the
    response as it comes; it may end before it is complete, if it is a stream that has said so.

    Raises:
      Whatever is in `BROKEN`: the connection broke, or what came is no response.
      TooLarge: there is more than the reader's cap.
    """
    whole = await send(stream, request, reader)
    if whole:
        sent()
    if hearing is None:
        while not reader.complete:
            await hear(stream, reader)
    else:
        await _hear_out(stream, reader, hearing)
    return whole


async def _hear_out(stream: ByteStream, reader: ResponseReader, hearing: Hearing) -> None:
    await hearing.look(reader)  # a part of it may have come while the request was sent
    try:
        while not reader.complete and not hearing.is_over():
            await hear(stream, reader)
            await hearing.look(reader)
    except BROKEN:
        await hearing.break_off(reader)  # what came before may have been all of it
        if not hearing.is_over():
            raise
    if not reader.complete and reader.may_keep:
        # Whoever gives the call up by now has an answer all the same: nothing of it is missing but the goodbye.
        with trio.move_on_after(LINGER_S), contextlib.suppress(*BROKEN, TooLarge, trio.Cancelled):
            while not reader.complete:
                await hear(stream, reader)
    await hearing.end()


async def send(stream: ByteStream, request: bytes, reader: ResponseReader) -> bool:
    """Hand a request to the kernel; False if it was not taken whole, and what the other side says about it counts.

    A server that writes a megabyte and fills both sides' buffers before it reads the request waits for us as we for it;
    the caller's cancel scope ends that.

    Raises:
      NothingSent: the connection broke before a byte was taken.
    """
    rest = stream.send_nowait(request)
    return not rest or await _send_listening(stream, rest, reader)


async def hear(stream: ByteStream, reader: ResponseReader) -> None:
    """Wait for the next bytes of a response, or its end."""
    data = await stream.receive(READ_BYTES)
    if data:
        reader.feed(data)
    else:
        reader.end()


async def _send_listening(stream: ByteStream, rest: memoryview, reader: ResponseReader) -> bool:
    """Send what the kernel had no room for, until it is gone or the response says that nobody wants it."""
    whole = False
    trouble: list[Exception] = []
    ahead = trio.Event()

    async def listen() -> None:
        try:
            while reader.status < 300 and not reader.complete:
                if reader.body_bytes > _AHEAD_BYTES:
                    ahead.set()
                    return  # an answer that runs ahead of its request is read on when that is sent
                await hear(stream, reader)
        except (*BROKEN, TooLarge) as error:
            trouble.append(error)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        try:
            await stream.send_rest(rest)
            whole = True
        except BROKEN:
            # A server may refuse early, answer and close: the listener hears the answer, or that there is none. One
            # that has run ahead is read on by the caller.
            await ahead.wait()
        nursery.cancel_scope.cancel()
    if trouble:
        raise trouble[0]
    return whole
