"""The same wire for anybody's `httpx.AsyncClient`: connections by origin, the one used last first.

    async with httpx.AsyncClient(transport=PooledTransport()) as client: ...

httpx keeps all it does above a transport: cookies, redirects, authentication, decompression, its timeouts and its
exceptions. A connection is used again only after a response that was complete and clean, while the other side still
holds it open and it has not been idle for long; any error and any cancellation closes it. There is no limit on their
number: whoever has a thousand requests under way has a thousand connections. No proxies and no HTTP/2.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from types import TracebackType

import httpx
import msgspec
import trio

from actors.errors import ConnectFailed
from engine.transports.exchange import BROKEN, hear, send
from engine.transports.http1 import Cut, NotHttp, ResponseReader, request_head
from engine.transports.streams import ByteStream, default_tls, open_stream

IDLE_S = 60.0
_BOUNDLESS = 1 << 62

Origin = tuple[str, str, int]


class PoolStatistics(msgspec.Struct, frozen=True):
    """`idle` connections wait, `busy` ones carry a request or a response that is not read to its end."""

    idle: int
    busy: int
    opened: int
    reused: int


class PooledTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 over trio for `httpx.AsyncClient(transport=...)`.

    `ssl_context` replaces the shared one with certifi's roots. A connection that was idle for `idle_s` seconds is not
    used again. Needs a running trio loop; a client and its transport belong to one loop.
    """

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None, idle_s: float = IDLE_S) -> None:
        self._tls = ssl_context
        self._idle_s = idle_s
        self._idle: dict[Origin, deque[tuple[float, ByteStream]]] = {}
        self._busy: set[ByteStream] = set()
        self._opened = 0
        self._reused = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and read its response up to the end of the headers; its body is read by whoever wants it.

        Raises httpx's exceptions: `ConnectError`, `ConnectTimeout`, `WriteTimeout`, `ReadError`, `ReadTimeout`,
        `RemoteProtocolError`, `UnsupportedProtocol`. Cancellation closes the connection.
        """
        origin = _origin(request.url)
        limits: dict[str, float | None] = request.extensions.get("timeout", {})
        reader = ResponseReader(cap_bytes=_BOUNDLESS, bodiless=request.method == "HEAD")
        late: type[httpx.TimeoutException] = httpx.ConnectTimeout
        stream: ByteStream | None = None
        try:
            with trio.CancelScope(deadline=_deadline(limits.get("connect"))) as scope:
                stream = await self._take(origin)
                late = httpx.WriteTimeout
                async for part in _parts(request):
                    scope.deadline = _deadline(limits.get("write"))
                    if not await send(stream, part, reader):
                        break  # what the other side says about it counts
                late = httpx.ReadTimeout
                while not reader.status:
                    scope.deadline = _deadline(limits.get("read"))
                    await hear(stream, reader)
                body = _Body(self, origin, stream, reader, limits.get("read"))
                stream = None  # the body's from now on
                return httpx.Response(
                    reader.status,
                    headers=reader.headers,
                    stream=body,
                    extensions={"http_version": reader.version, "reason_phrase": reader.reason},
                )
            raise late(f"the time for it was over, at {origin[1]}:{origin[2]}")
        except ConnectFailed as error:
            raise httpx.ConnectError(str(error)) from error
        except BROKEN as error:
            raise _broken(error) from error
        finally:
            if stream is not None:
                self._drop(stream)

    async def aclose(self) -> None:
        """Close every connection, busy ones too."""
        for waiting in self._idle.values():
            for _, stream in waiting:
                stream.close()
        self._idle.clear()
        for stream in list(self._busy):
            self._drop(stream)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    def statistics(self) -> PoolStatistics:
        """A frozen copy of what is counted here."""
        idle = sum(len(waiting) for waiting in self._idle.values())
        return PoolStatistics(idle=idle, busy=len(self._busy), opened=self._opened, reused=self._reused)

    def __repr__(self) -> str:
        return f"<PooledTransport {self.statistics()}>"

    async def _take(self, origin: Origin) -> ByteStream:
        """The connection to an origin that was used last and is still good, or a new one."""
        waiting = self._idle.get(origin)
        while waiting:
            since_s, stream = waiting.pop()
            if trio.current_time() - since_s <= self._idle_s and stream.quiet():
                await trio.lowlevel.checkpoint_if_cancelled()
                self._reused += 1
                self._busy.add(stream)
                return stream
            stream.close()
        scheme, host, port = origin
        tls = (self._tls or default_tls()) if scheme == "https" else None
        stream = await open_stream(host, port, tls)
        self._opened += 1
        self._busy.add(stream)
        return stream

    def _drop(self, stream: ByteStream) -> None:
        self._busy.discard(stream)
        stream.close()

    def _give_back(self, origin: Origin, stream: ByteStream, *, clean: bool) -> None:
        """A response is over, or nobody wants the rest of it."""
        if not clean or stream not in self._busy:
            self._drop(stream)
            return
        self._busy.discard(stream)
        waiting = self._idle.setdefault(origin, deque())
        now_s = trio.current_time()
        waiting.append((now_s, stream))
        while now_s - waiting[0][0] > self._idle_s:
            waiting.popleft()[1].close()


class _Body(httpx.AsyncByteStream):
    """The rest of a response. An iterator and no generator: one that is left suspended is closed by nobody in time."""

    def __init__(
        self, pool: PooledTransport, origin: Origin, stream: ByteStream, reader: ResponseReader, limit_s: float | None
    ) -> None:
        self._pool = pool
        self._origin = origin
        self._stream: ByteStream | None = stream
        self._reader = reader
        self._limit_s = limit_s

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        reader = self._reader
        while not reader.parts:
            if reader.complete or self._stream is None:
                await self.aclose()
                raise StopAsyncIteration
            await self._hear(self._stream)
        parts = b"".join(reader.parts)
        reader.parts.clear()
        return parts

    async def _hear(self, stream: ByteStream) -> None:
        heard = False
        try:
            with trio.CancelScope(deadline=_deadline(self._limit_s)):
                await hear(stream, self._reader)
                heard = True
        except BROKEN as error:
            raise _broken(error) from error
        finally:
            if not heard:
                await self.aclose()
        if not heard:
            raise httpx.ReadTimeout("the time between two parts of the response was over")

    async def aclose(self) -> None:
        """Give the connection back, or close it if there is more to come."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self._pool._give_back(self._origin, stream, clean=self._reader.clean)


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in ("http", "https"):
        raise httpx.UnsupportedProtocol(f"only http and https are spoken here, not {url.scheme!r}")
    return url.scheme, url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)


async def _parts(request: httpx.Request) -> AsyncIterator[bytes]:
    """A request as it goes over the wire: its head with the first part of its body, then the others."""
    headers = request.headers.raw
    target = request.extensions.get("target", request.url.raw_path)
    head = request_head(request.method.encode("ascii"), target, headers) + b"\r\n"
    chunked = "chunked" in request.headers.get("transfer-encoding", "").lower()
    if not isinstance(request.stream, AsyncIterable):
        raise TypeError("an asynchronous client was given a request with a synchronous body")
    async for part in request.stream:
        if part:
            yield head + (b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            head = b""
    if chunked or head:
        yield head + (b"0\r\n\r\n" if chunked else b"")


def _deadline(limit_s: float | None) -> float:
    return trio.current_time() + limit_s if limit_s is not None else float("inf")


def _broken(error: Exception) -> httpx.TransportError:
    if isinstance(error, NotHttp):
        return httpx.RemoteProtocolError(f"what arrived is not HTTP: {error}")
    if isinstance(error, Cut):
        return httpx.RemoteProtocolError("the server disconnected before the response was complete")
    return httpx.ReadError(str(error) or "the connection broke")
