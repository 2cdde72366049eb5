"""A server on loopback that does exactly what a test writes down: bytes in, bytes out, and every way to go wrong.

Real sockets, no HTTP library on this side. A script is an async function of a `Peer`; the server runs it for every
connection and closes the connection after it. Also here: the smallest wire format, attempts that take notes, and a
cancellation at a chosen step.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import trio

from actors.messages import APICalling, Fault, Observed
from actors.transport import TooLate
from engine.providers.wire import Encoded, Reading, Usage, View
from engine.retry import Advice
from engine.transports.http import HttpTransport

KEY = "sk-live-0123456789abcdef"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
OK_BODY = b'{"usage": [7, 11]}'


def response(body: bytes = OK_BODY, *headers: str, status: str = "200 OK") -> bytes:
    """A well-formed response with Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def calling(body: bytes = b'{"model": "m"}', call_id: int = 1) -> APICalling:
    """A call as a worker is handed it."""
    return APICalling(call_id=call_id, lane=0, endpoint=0, submitted_us=0, body=memoryview(body))


class PairFormat:
    """Reads ``{"usage": [input, output]}`` and ``{"error": text}``; the status decides as for any provider."""

    name = "pair"
    path = "/call"

    def encode(self, arguments: Mapping[str, object]) -> Encoded:
        raise NotImplementedError

    def view(self, response: object) -> View:
        raise NotImplementedError

    def decode(self, body: bytes | memoryview) -> object:
        raise NotImplementedError

    def read(self, status: int, headers: Mapping[str, str], body: bytes | memoryview, *, now_s: float) -> Reading:
        kept = tuple((name, value) for name, value in headers.items() if name.startswith("x-"))
        try:
            told = json.loads(bytes(body))
        except ValueError:
            told = {}
        if not isinstance(told, dict):
            told = {}
        if status == 429:
            fault = Fault(kind="RateLimited", message=str(told.get("error", "")), status=429)
            advice = Advice("retry", "requests_kept", barrier=True, hint_us=3_000_000, exempt=True)
            return Reading(None, fault, advice, kept)
        if status >= 500:
            return Reading(None, Fault(kind="ProviderUnavailable", message="", status=status), Advice("retry", "kept"))
        if status >= 300:
            message = str(told.get("error", ""))
            return Reading(
                None, Fault(kind="Rejected", message=message, status=status), Advice("failed", "requests_kept"), kept
            )
        if "usage" not in told:
            return Reading(None, None, Advice("done", "kept"), kept)
        given, made = told["usage"]
        return Reading(Usage(given, made, given + made), None, Advice("done", "usage"), kept)


class Ear:
    """An attempt that notes what it is told; `late` makes `begin` refuse, `on_sent` looks around at that instant."""

    def __init__(self, *, late: bool = False, on_sent: Callable[[], None] = lambda: None) -> None:
        self.told: list[str] = []
        self.parts_heard = 0
        self.limits: list[tuple[Observed, ...]] = []
        self.pieces: list[bytes] = []
        self._late = late
        self._on_sent = on_sent

    def begin(self) -> None:
        self.told.append("begin")
        if self._late:
            raise TooLate

    def sent(self) -> None:
        self.told.append("sent")
        self._on_sent()

    def observed(self, observed: tuple[Observed, ...]) -> None:
        self.limits.append(observed)

    def heard(self) -> None:
        self.parts_heard += 1

    async def hand_over(self, piece: bytes) -> None:
        self.pieces.append(piece)


class Peer:
    """The server's end of one connection. `unread` has arrived and is in no request yet."""

    def __init__(self, raw: trio.SocketStream, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self.raw = raw
        self.stream = stream
        self.unread = b""

    async def request(self) -> bytes | None:
        """The next whole request, head and body; None if the client has gone."""
        while b"\r\n\r\n" not in self.unread:
            if not await self._more():
                return None
        head, _, _ = self.unread.partition(b"\r\n\r\n")
        lengths = [line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        size = len(head) + 4 + int(lengths[0])
        while len(self.unread) < size:
            if not await self._more():
                return None
        request, self.unread = self.unread[:size], self.unread[size:]
        return request

    async def some(self) -> None:
        """Read the beginning of a request and leave the rest where it is; `request` still returns it whole."""
        await self._more()

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def gone(self) -> None:
        """Wait until the client has closed its end."""
        while await self._more():
            pass

    async def close(self) -> None:
        """End the TCP connection, without a word of TLS."""
        await self.raw.aclose()

    async def reset(self) -> None:
        """End it with a RST: what was on its way is lost."""
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.raw.aclose()

    async def _more(self) -> bool:
        try:
            data = await self.stream.receive_some(65_536)
        except trio.BrokenResourceError:
            return False
        self.unread += data
        return bool(data)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for what the kernel or another task is about to do, which takes a millisecond; fail after ten seconds."""
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110  # the kernel sets no trio.Event
            await trio.sleep(0.001)


Script = Callable[[Peer], Awaitable[None]]


class Server:
    """Where it listens, and how many connections were ever made and are open."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.accepted = 0
        self.open = 0
        self.url = f"http://127.0.0.1:{port}/v1/call"

    async def all_closed(self) -> None:
        """Wait until every connection has ended, as the server saw it."""
        await eventually(lambda: self.open == 0)


@asynccontextmanager
async def serve(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve `script` on loopback for the length of the block."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = Server(listener.socket.getsockname()[1])

    async def handle(raw: trio.SocketStream) -> None:
        server.accepted += 1
        server.open += 1
        stream = raw if tls is None else trio.SSLStream(raw, tls, server_side=True, https_compatible=True)
        try:
            await script(Peer(raw, stream))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client went away, which some tests make it do
        finally:
            await trio.aclose_forcefully(raw)
            server.open -= 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        yield server
        nursery.cancel_scope.cancel()


async def answer_everything(peer: Peer) -> None:
    """Answer each request with the same success."""
    while await peer.request() is not None:
        await peer.send(response())


def transport(url: str, **options: object) -> HttpTransport:
    """What is under test, with the key where most providers want it."""
    return HttpTransport(**{"url": url, "headers": AUTHORIZED, "format": PairFormat(), **options})


def open_sockets() -> int:
    """How many sockets this process holds, after the garbage collector had its chance to complain."""
    gc.collect()
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except OSError:
            continue  # the descriptor of the listing itself
    return count


class CancelAt(trio.abc.Instrument):
    """Cancels `scope` right after the `step`-th time the task that made it gives way to the loop."""

    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self._scope = scope
        self._left = step
        self._task = trio.lowlevel.current_task()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


class NotAfter(Ear):
    """An attempt that must not begin once its cancellation was asked for."""

    def __init__(self, scope: trio.CancelScope) -> None:
        super().__init__()
        self._scope = scope

    def begin(self) -> None:
        assert not self._scope.cancel_called
        super().begin()
