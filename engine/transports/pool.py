"""The same wire for anybody's `httpx.AsyncClient`: connections by origin, the one used last first.

    async with httpx.AsyncClient(transport=PooledTransport()) as client: ...

httpx keeps all it does above a transport: cookies, redirects, authentication, decompression, its timeouts and its
exceptions. A connection is used again only after a request that left whole and a response that was complete and clean,
while the other side still holds it open and it has not been idle for long; any error and any cancellation closes it.
There is no limit on their number: whoever has a thousand requests under way has a thousand connections. No proxies, no
HTTP/2, no upgrades.
"""

from __future__ import annotations

import re
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator

import httpx
import msgspec
import trio

from actors.errors import ConnectFailed
from engine.transports.exchange import BROKEN, hear, send
from engine.transports.http1 import Cut, NotHttp, ResponseReader, request_head
from engine.transports.streams import ByteStream, NothingSent, default_tls, open_stream

IDLE_S = 60.0
_BOUNDLESS = 1 << 62
_NEVER = float("inf")

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

Origin = tuple[str, str, int, str | None]
"""Scheme, host, port, and the name a certificate was checked for: a connection serves none but its own."""


class PoolStatistics(msgspec.Struct, frozen=True):
    """`idle` connections wait, `busy` ones carry a request or a response that is not read to its end."""

    idle: int
    busy: int
    opened: int
    reused: int


class PooledTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 over trio for `httpx.AsyncClient(transport=...)`.

    `ssl_context` replaces the shared one with certifi's roots. A connection that was idle for more than `idle_s`
    seconds is not used again, and is closed by the requests that come after. Needs a running trio loop; a client and
    its transport belong to one loop.

    Of httpx's request extensions `timeout` (but for its `pool`: nobody waits for a place here), `target` and
    `sni_hostname` count. `trace` and the response's `network_stream` are not supported: what they hand out are
    httpcore's own steps and streams, and there is none of them here.
    """

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None, idle_s: float = IDLE_S) -> None:
        self._tls = ssl_context
        self._idle_s = idle_s
        self._idle: dict[Origin, deque[tuple[float, ByteStream]]] = {}
        self._sweep_s = -_NEVER
        self._busy: set[ByteStream] = set()
        self._opened = 0
        self._reused = 0
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and read its response up to the end of the headers; its body is read by whoever wants it.

        Raises httpx's exceptions: `ConnectError`, `ConnectTimeout`, `WriteTimeout`, `ReadError`, `ReadTimeout`,
        `LocalProtocolError`, `RemoteProtocolError`, `UnsupportedProtocol`. What the request's own body raises passes
        through. Cancellation and every exception close the connection.
        """
        origin = _origin(request)
        outgoing = _Outgoing(request)
        limits: dict[str, float | None] = request.extensions.get("timeout", {})
        reader = ResponseReader(cap_bytes=_BOUNDLESS, bodiless=request.method == "HEAD")
        late: type[httpx.TimeoutException] = httpx.ConnectTimeout
        stream: ByteStream | None = None
        try:
            with trio.CancelScope(deadline=_deadline(limits.get("connect"))) as scope:
                stream = await self._take(origin)
                late = httpx.WriteTimeout
                whole = await outgoing.send(stream, reader, scope, limits.get("write"))
                late = httpx.ReadTimeout
                while not reader.status:
                    scope.deadline = _deadline(limits.get("read"))
                    await _hear(stream, reader)
                response = httpx.Response(
                    reader.status,
                    headers=reader.headers,
                    stream=_Body(self, origin, stream, reader, limits.get("read"), whole=whole),
                    extensions={"http_version": reader.version, "reason_phrase": reader.reason},
                )
                stream = None  # the body's from now on
                return response
            raise late(f"the time for it was over, at {origin[1]}:{origin[2]}")
        finally:
            if stream is not None:
                self._drop(stream)

    async def aclose(self) -> None:
        """Close every connection, busy ones too. What is opened afterwards is closed with its response."""
        self._closed = True
        for waiting in self._idle.values():
            for _, stream in waiting:
                stream.close()
        self._idle.clear()
        for stream in list(self._busy):
            self._drop(stream)

    def statistics(self) -> PoolStatistics:
        """A frozen copy of what is counted here."""
        idle = sum(len(waiting) for waiting in self._idle.values())
        return PoolStatistics(idle=idle, busy=len(self._busy), opened=self._opened, reused=self._reused)

    def __repr__(self) -> str:
        return f"<PooledTransport {self.statistics()}>"

    async def _take(self, origin: Origin) -> ByteStream:
        """The connection to an origin that was used last and is still good, or a new one. It is busy from here on."""
        await trio.lowlevel.checkpoint_if_cancelled()
        # No other checkpoint until an idle one is among the busy: a cancellation between would lose it.
        now_s = trio.current_time()
        if now_s >= self._sweep_s:
            self._sweep(now_s)
        waiting = self._idle.get(origin)
        while waiting:
            since_s, stream = waiting.pop()
            if now_s - since_s <= self._idle_s and stream.quiet():
                self._reused += 1
                self._busy.add(stream)
                return stream
            stream.close()
        scheme, host, port, name = origin
        tls = (self._tls or default_tls()) if scheme == "https" else None
        try:
            stream = await open_stream(host, port, tls, server_hostname=name)
        except ConnectFailed as error:
            raise httpx.ConnectError(str(error)) from error
        self._opened += 1
        self._busy.add(stream)
        return stream

    def _sweep(self, now_s: float) -> None:
        """Close what was idle for too long, whatever its origin: to most of a thousand origins nobody comes back."""
        self._sweep_s = now_s + self._idle_s / 2
        for origin, waiting in list(self._idle.items()):
            while waiting and now_s - waiting[0][0] > self._idle_s:
                waiting.popleft()[1].close()
            if not waiting:
                del self._idle[origin]

    def _drop(self, stream: ByteStream) -> None:
        self._busy.discard(stream)
        stream.close()

    def _give_back(self, origin: Origin, stream: ByteStream, *, clean: bool) -> None:
        """A response is over, or nobody wants the rest of it."""
        if not clean or self._closed:
            self._drop(stream)
            return
        self._busy.discard(stream)
        self._idle.setdefault(origin, deque()).append((trio.current_time(), stream))


class _Outgoing:
    """A request as it goes over the wire. Its head leaves together with the first part of its body.

    Everything in the head is checked before a connection is touched: a line break in a header would be another header,
    or another request. So is the length of the body as it goes, because a server takes what is beyond the announced
    length for the next request. No message here quotes a value: it may be a key.

    Raises:
      httpx.LocalProtocolError: the request cannot be written as HTTP.
    """

    __slots__ = ("_body", "_chunked", "_head", "_left_bytes")

    def __init__(self, request: httpx.Request) -> None:
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise TypeError("an asynchronous client was given a request with a synchronous body")
        self._body = request.stream
        self._head = _head(request)
        self._chunked = "chunked" in request.headers.get("transfer-encoding", "").lower()
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            raise httpx.LocalProtocolError("the request's content-length is not one number")
        self._left_bytes = int(length)

    async def send(
        self, stream: ByteStream, reader: ResponseReader, scope: trio.CancelScope, limit_s: float | None
    ) -> bool:
        """Hand all of it to the kernel; False if the other side did not take all, and what it says about it counts.

        `limit_s` bounds each write, through the deadline of `scope`; the making of the body has no limit.
        """
        body = self._body
        if type(body) is httpx.ByteStream:
            scope.deadline = _deadline(limit_s)
            return await _send(stream, self._framed(b"".join(body)) + self._last(), reader)
        parts = aiter(body)
        try:
            scope.deadline = _NEVER
            async for part in parts:
                if part:
                    data = self._framed(part)
                    scope.deadline = _deadline(limit_s)
                    if not await _send(stream, data, reader):
                        return False
                    scope.deadline = _NEVER
        finally:
            # Now and in this task: a generator that is left suspended is closed whenever the garbage is collected.
            if isinstance(parts, AsyncGenerator):
                await parts.aclose()
        scope.deadline = _deadline(limit_s)
        return await _send(stream, self._last(), reader)

    def _framed(self, part: bytes) -> bytes:
        if not part:
            return b""
        head, self._head = self._head, b""
        if self._chunked:
            return b"%b%x\r\n%b\r\n" % (head, len(part), part)
        self._left_bytes -= len(part)
        if self._left_bytes < 0:
            raise httpx.LocalProtocolError("the request's body is longer than its content-length says")
        return head + part

    def _last(self) -> bytes:
        if self._chunked:
            return self._head + b"0\r\n\r\n"
        if self._left_bytes:
            raise httpx.LocalProtocolError("the request's body is shorter than its content-length says")
        return self._head


class _Body(httpx.AsyncByteStream):
    """The rest of a response. An iterator and no generator: one that is left suspended is closed by nobody in time.

    Takes from the connection only what is asked for, a receive at a time.
    """

    def __init__(
        self,
        pool: PooledTransport,
        origin: Origin,
        stream: ByteStream,
        reader: ResponseReader,
        limit_s: float | None,
        *,
        whole: bool,
    ) -> None:
        self._pool = pool
        self._origin = origin
        self._stream: ByteStream | None = stream
        self._reader = reader
        self._limit_s = limit_s
        self._whole = whole

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        reader = self._reader
        while not reader.parts:
            if reader.complete:
                await self.aclose()
                raise StopAsyncIteration
            if self._stream is None:
                raise httpx.StreamClosed  # a body that was given up must not look like one that has ended
            await self._more(self._stream)
        parts = b"".join(reader.parts)
        reader.parts.clear()
        return parts

    async def _more(self, stream: ByteStream) -> None:
        heard = False
        try:
            with trio.CancelScope(deadline=_deadline(self._limit_s)):
                await _hear(stream, self._reader)
                heard = True
        finally:
            if not heard:
                await self.aclose()
        if not heard:
            raise httpx.ReadTimeout("the time between two parts of the response was over")

    async def aclose(self) -> None:
        """Give the connection back, or close it if there is more to come."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self._pool._give_back(self._origin, stream, clean=self._whole and self._reader.clean)


def _origin(request: httpx.Request) -> Origin:
    url = request.url
    if url.scheme not in ("http", "https"):
        raise httpx.UnsupportedProtocol(f"only http and https are spoken here, not {url.scheme!r}")
    host = url.raw_host.decode("ascii")
    port = (443 if url.scheme == "https" else 80) if url.port is None else url.port
    # Without TLS no name is checked, and the one that is the host's own makes no difference.
    name = (request.extensions.get("sni_hostname") or host) if url.scheme == "https" else None
    return url.scheme, host, port, name


def _head(request: httpx.Request) -> bytes:
    """Request line and headers, checked, with the empty line behind them."""
    method = request.method.encode("latin-1", "replace")
    target = request.extensions.get("target", request.url.raw_path)
    headers = request.headers.raw
    if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
        raise httpx.LocalProtocolError("the request's method or target holds what HTTP does not allow there")
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise httpx.LocalProtocolError(f"{name!r} is not a name a header can have")
        if not _VALUE.fullmatch(value):
            raise httpx.LocalProtocolError(f"the value of the header {name!r} holds what HTTP does not allow there")
    return request_head(method, target, headers) + b"\r\n"


def _deadline(limit_s: float | None) -> float:
    return trio.current_time() + limit_s if limit_s is not None else _NEVER


async def _send(stream: ByteStream, data: bytes, reader: ResponseReader) -> bool:
    try:
        return not data or await send(stream, data, reader)
    except NothingSent:
        return False  # of an earlier part something may have left, and a server that refuses early says why
    except BROKEN as error:
        raise _broken(error) from error


async def _hear(stream: ByteStream, reader: ResponseReader) -> None:
    try:
        await hear(stream, reader)
    except BROKEN as error:
        raise _broken(error) from error


def _broken(error: Exception) -> httpx.TransportError:
    if isinstance(error, NotHttp):
        return httpx.RemoteProtocolError(f"what arrived is not HTTP: {error}")
    if isinstance(error, Cut):
        return httpx.RemoteProtocolError("the server disconnected before the response was complete")
    return httpx.ReadError(str(error) or "the connection broke")
