"""One HTTP/1.1 connection of the server: h11 for the protocol, a trio stream for the bytes.

Reads a request's head and body, says when its last byte was read, and sends an answer with one write; cuts the
connection the way a fault wants it. It knows nothing of limits, faults or completions.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import AsyncIterator, Iterable
from typing import Final, NamedTuple

import h11
import trio

from engine.simulator.reply import Answer
from engine.simulator.turnstile import Turnstile

RECEIVE_BYTES: Final = 16_384
MAX_HEAD_BYTES: Final = 65_536
LINGER_S: Final = 1.0

_RESET: Final = struct.pack("ii", 1, 0)
_JSON: Final = (b"content-type", b"application/json")


def now_us() -> int:
    """The machine's monotonic clock in whole microseconds."""
    return time.monotonic_ns() // 1000


class Head(NamedTuple):
    """The part of a request's head that matters here. `name` is what the caller calls his call, or empty; the names of
    `headers` are in lower case; `query` is what follows the path."""

    method: bytes
    path: bytes
    name: bytes
    content_length: int
    headers: Iterable[tuple[bytes, bytes]]
    query: bytes = b""


class Connection:
    """A connection from a client. Nothing here may be used by two tasks at once."""

    def __init__(self, stream: trio.SocketStream, turnstile: Turnstile) -> None:
        self._stream = stream
        self._turnstile = turnstile
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._bodyless = False
        self.read_us = 0
        """When the newest bytes were read; after `body` returned, when the request's last byte was."""
        self.read_s = 0.0
        """The same instant by trio's clock."""

    def _note_read(self) -> None:
        self.read_us = now_us()
        self.read_s = trio.current_time()

    async def _event(self) -> object:
        http = self._http
        while True:
            event = http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if http.they_are_waiting_for_100_continue:
                await self._stream.send_all(http.send(h11.InformationalResponse(status_code=100, headers=[])))
            data = await self._stream.receive_some(RECEIVE_BYTES)
            self._note_read()
            await self._turnstile.turn()
            http.receive_data(data)

    async def head(self) -> Head | None:
        """Wait for the next request; None when the client is gone.

        Heads and bodies come back in the order of `read_us` over all connections, as long as whoever gets one decides
        about it before it waits for anything else.

        Raises `h11.RemoteProtocolError` if it is no HTTP, `trio.BrokenResourceError` if the connection broke.
        """
        event: object = self._http.next_event()
        if event is h11.NEED_DATA:
            event = await self._event()
        else:
            # It was read together with the request before it, and takes its turn among those that came since.
            self._note_read()
            await self._turnstile.turn()
        if not isinstance(event, h11.Request):
            return None
        self._bodyless = event.method == b"HEAD"
        name, length = b"", 0
        for key, value in event.headers:
            if key == b"content-length":
                length = int(value)
            elif key == b"x-penstock-call":
                name = value
        path, _, query = event.target.partition(b"?")
        return Head(event.method, path, name, length, event.headers, query)

    async def body(self, head: Head, most: int) -> bytes | None:
        """Read the body to its end; None, with the rest unread, if it is longer than `most` bytes."""
        if head.content_length > most:
            return None
        parts: list[bytes] = []
        size = 0
        while True:
            event = await self._event()
            if not isinstance(event, h11.Data):
                return parts[0] if len(parts) == 1 else b"".join(parts)
            size += len(event.data)
            if size > most:
                return None
            parts.append(bytes(event.data))

    async def send(self, answer: Answer) -> bool:
        """Send an answer in one write. Returns whether another request may follow on this connection."""
        http = self._http
        length = b"%d" % (len(answer.body) + answer.missing_bytes)
        headers = [*answer.headers, (b"content-length", length)]
        if not any(key == b"content-type" for key, _ in answer.headers):
            headers.append(_JSON)
        data = http.send(h11.Response(status_code=answer.status, headers=headers)) or b""
        if not self._bodyless:
            data += http.send(h11.Data(data=answer.body)) or b""
        if not answer.missing_bytes:
            data += http.send(h11.EndOfMessage()) or b""
        await self._stream.send_all(data)
        return self._next()

    async def begin_stream(self, answer: Answer) -> bool:
        """Send the head of a stream. Returns whether its bytes are to be framed in chunks: HTTP/1.0 has none."""
        head = self._http.send(h11.Response(status_code=answer.status, headers=answer.headers)) or b""
        await self._stream.send_all(head)
        return b"transfer-encoding: chunked\r\n" in head.lower()

    async def end_stream(self) -> bool:
        """Send the end of a stream whose bytes were written past this object."""
        await self._stream.send_all(self._http.send(h11.EndOfMessage()) or b"")
        return self._next()

    async def write(self, data: bytes) -> None:
        """Send bytes as they are, waiting until there is room for them."""
        await self._stream.send_all(data)

    def descriptor(self) -> int:
        """The number of the socket, for writing without waiting."""
        return self._stream.socket.fileno()

    async def left(self) -> None:
        """Wait until the client has closed its side. What it sends meanwhile is its next request, and is kept."""
        kept = 0
        try:
            while data := await self._stream.receive_some(RECEIVE_BYTES):
                self._http.receive_data(data)
                kept += len(data)
                if kept > MAX_HEAD_BYTES:
                    await trio.sleep_forever()  # whoever sends so much ahead has to wait with it
        except trio.BrokenResourceError:
            pass

    async def send_parts(self, content_type: bytes, parts: AsyncIterator[bytes]) -> bool:
        """Send an answer whose length is not known beforehand, part by part."""
        http = self._http
        headers = [(b"content-type", content_type), (b"transfer-encoding", b"chunked")]
        response = h11.Response(status_code=200, headers=headers)
        await self._stream.send_all(http.send(response) or b"")
        async for part in parts:
            await self._stream.send_all(http.send(h11.Data(data=part)) or b"")
        await self._stream.send_all(http.send(h11.EndOfMessage()) or b"")
        return self._next()

    def _next(self) -> bool:
        http = self._http
        if http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()
            return True
        return False

    @property
    def can_answer(self) -> bool:
        """Whether an answer may still be sent for the present request."""
        return self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    async def gone(self) -> None:
        """Wait until the client has closed its side, throwing away whatever else it sends."""
        while await self._stream.receive_some(RECEIVE_BYTES):
            pass

    async def hang_up(self) -> None:
        """Close after an answer. Bytes of the client still unread would turn the close into a reset that could
        overtake the answer, so they are read first, for a second at most."""
        await self._stream.send_eof()
        with trio.move_on_after(LINGER_S):
            await self.gone()

    def reset(self) -> None:
        """Cut the connection so that the client sees a reset, now."""
        self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._stream.socket.close()
