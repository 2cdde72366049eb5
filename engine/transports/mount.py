"""One `httpcore.AsyncHTTPConnection` over a connection that is already open, mounted as an httpx transport.

httpcore writes a request in pieces and only then begins to read. So the pieces are gathered, and the first read sends
them all in one go: that is the instant at which an attempt begins, and, when it returns, the instant it was sent.
httpcore is told nothing of TLS: the stream it is given speaks it already.

Knows no wire format and makes no judgement; `engine.transports.http` does.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable

import httpcore
import httpx
import trio

from actors.errors import ConnectFailed
from actors.transport import Attempt, TooLate
from engine.transports.streams import ByteStream


class TooLarge(Exception):  # a signal from the wire to the connection above it, never seen by a caller
    """The answer is larger than the cap; what was read of it is of no use."""


class Wire(httpcore.AsyncNetworkStream):
    """The stream httpcore is given. For each exchange it is armed with the attempt whose bytes it will carry."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._attempt: Attempt | None = None
        self._unsent: list[bytes] = []
        self._room_bytes = 0
        self._spared = False
        self.begun = False
        self.cut = False

    def arm(self, attempt: Attempt, *, room_bytes: int) -> None:
        """Get ready for one exchange, in which at most `room_bytes` may be received."""
        self._attempt = attempt
        self._unsent.clear()
        self._room_bytes = room_bytes
        self.begun = False
        self.cut = False

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
    ) -> None:
        """Keep a piece of the request until all of it is there."""
        self._unsent.append(buffer)

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
    ) -> bytes:
        """Send the request if that has not been done, then wait for bytes of the answer.

        Raises:
          TooLate: by the attempt, before anything was written; the stream stays open for another httpcore connection.
          ConnectFailed: the other side had closed before anything was written.
          TooLarge: there was more than the room given.
          httpcore.ReadError: the connection broke.
        """
        if self._unsent:
            await self._send()
        if self._room_bytes <= 0:
            raise TooLarge
        try:
            data = await self._stream.receive(max_bytes)
        except (OSError, trio.ClosedResourceError) as error:
            raise httpcore.ReadError(str(error)) from None
        self._room_bytes -= len(data)
        return data

    async def _send(self) -> None:
        attempt = self._attempt
        if attempt is None:
            raise RuntimeError("a request was written to a wire that no attempt has armed")
        request = b"".join(self._unsent)
        self._unsent.clear()
        await trio.lowlevel.checkpoint_if_cancelled()
        # From here to the first byte there is no checkpoint, so neither a cancellation nor a late grant comes between.
        if not self._stream.quiet():
            raise ConnectFailed("the connection was closed by the other side before the request was sent.")
        try:
            attempt.begin()
        except TooLate:
            self._spared = True
            raise
        self.begun = True
        try:
            await self._stream.send_all(request)
        except (OSError, trio.ClosedResourceError):
            # A server may refuse early, answer and close; its answer is worth reading. `sent` is not reported: it
            # was not.
            self.cut = True
        else:
            attempt.sent()

    async def aclose(self) -> None:
        """Close the connection, unless nothing was written and it is to be used again."""
        if not self._spared:
            self._stream.close()


class _Given(httpcore.AsyncNetworkBackend):
    """A network with one connection in it, which is open already."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[object] | None = None,
    ) -> Wire:
        return self._wire


class _Body(httpx.AsyncByteStream):
    """A response's body on its way from httpcore to httpx."""

    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        # httpcore's own iterator and no generator around it: an async generator left suspended by an error above it
        # is closed by the garbage collector, with a ResourceWarning.
        return aiter(self._stream)

    async def aclose(self) -> None:
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()


class Mount(httpx.AsyncBaseTransport):
    """The transport of one `httpx.AsyncClient`: one connection, and one httpcore connection over it.

    `host` and `port` are only for httpcore's log lines. `headers` are those of the last response, all of them, as they
    came. Closing the stream is left to whoever opened it.
    """

    def __init__(self, stream: ByteStream, *, host: str, port: int) -> None:
        self._stream = stream
        # The scheme is http because TLS was done before. With https httpcore would make a TLS context of its own for
        # every connection, and set the protocols of one that it was given.
        self._origin = httpcore.Origin(scheme=b"http", host=host.encode("ascii"), port=port)
        self.headers: list[tuple[bytes, bytes]] = []
        self.renew()

    def renew(self) -> None:
        """Start a new httpcore connection over the same stream.

        httpcore gives a connection up when an exception passes through it, whether or not a byte was written. After
        `TooLate` none was, and the stream is as good as it was.
        """
        self.wire = Wire(self._stream)
        self._core = httpcore.AsyncHTTPConnection(self._origin, network_backend=_Given(self.wire))

    def reusable(self) -> bool:
        """Whether the last exchange ended so cleanly that another can follow it on the same connection."""
        if self._stream.closed or self.wire.cut or not self._core.is_idle():
            return False
        # Bytes behind the end of an answer would be taken for the beginning of the next call's. httpcore does not
        # show them, so they are looked for inside it; where they cannot be found, the connection is not used again.
        inner = getattr(self._core, "_connection", None)
        protocol = getattr(inner, "_h11_state", None)
        return protocol is not None and protocol.trailing_data == (b"", False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass one request through. Raises httpcore's exceptions, and what `Wire.read` raises."""
        target = httpcore.URL(
            scheme=self._origin.scheme, host=self._origin.host, port=self._origin.port, target=request.url.raw_path
        )
        response = await self._core.handle_async_request(
            httpcore.Request(request.method, target, headers=request.headers.raw, content=request.stream, extensions={})
        )
        self.headers = response.headers
        if not isinstance(response.stream, AsyncIterable):
            raise TypeError("httpcore answered an asynchronous request with a synchronous body")
        # httpx parses these two even when it neither follows redirects nor keeps cookies, and stumbles over bad ones.
        shown = [pair for pair in response.headers if pair[0].lower() not in (b"location", b"set-cookie")]
        return httpx.Response(
            response.status,
            headers=shown,
            stream=_Body(response.stream),
            extensions=response.extensions,
        )
