"""An open connection as bytes in and bytes out: a socket, and TLS over it.

The moment at which the kernel takes the last byte of a request is what a call is charged at, so sending returns
from the very system call that took it, without a turn of the event loop in between. A connection can be asked whether
it is still good without waiting, and is closed without waiting for anybody.

Connecting is trio's (happy eyeballs, TCP_NODELAY); after that the socket is ours. Knows no HTTP and no provider.
Must not import httpx.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import ssl
from collections.abc import Callable
from typing import Protocol, TypeVar

import certifi
import trio

from actors.errors import ConnectFailed

T = TypeVar("T")

READ_BYTES = 65_536
_NOTHING = memoryview(b"")
_UNDER_WAY = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY)
DRAIN_READS = 4
"""How many reads a look at an idle TLS connection may take: session tickets are a few hundred bytes."""


class NothingSent(OSError):
    """The connection broke before a byte was taken of what was to be sent."""


class ByteStream(Protocol):
    """What `open_stream` returns: an open connection, used by one task at a time."""

    @property
    def closed(self) -> bool:
        """Whether it was closed on this side."""

    def send_nowait(self, data: bytes) -> memoryview:
        """Hand as much of `data` to the kernel as it takes now; the rest, as `send_rest` wants it, is returned.

        Raises:
          NothingSent: the connection broke before any of the bytes was taken.
          OSError: it broke; some of the bytes may have left.
          trio.ClosedResourceError: it was closed on this side.
        """

    async def send_rest(self, rest: memoryview) -> None:
        """Hand the kernel what it had no room for, and return as soon as it has taken all. Raises the same."""

    async def receive(self, max_bytes: int) -> bytes:
        """Wait for bytes; ``b""`` means that the other side has ended. Raises what `send_nowait` raises."""

    def quiet(self) -> bool:
        """Whether the connection is open with nothing to read, which is all an idle one may be. Never waits."""

    def close(self) -> None:
        """Close without a goodbye; whoever waits in `receive` gets an error. May be called twice."""


@functools.cache
def default_tls() -> ssl.SSLContext:
    """The one TLS context of the process: names checked, HTTP/1.1, certifi's roots, or those that ``SSL_CERT_FILE`` and
    ``SSL_CERT_DIR`` name. Loading the roots takes 10 ms."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    context = ssl.create_default_context(cafile=file or (None if folder else certifi.where()), capath=folder)
    # An idle connection on which the other side asks for other keys would look quiet, and could not be written to.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


class SocketByteStream:
    """A plain TCP connection, over a connected socket that does not block.

    The standard library's socket, because trio's yields to the loop after every send: with many calls in flight the
    stamp of a request would come a whole turn, and that can be 100 ms, after its last byte left.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.closed = False

    def send_nowait(self, data: bytes | memoryview) -> memoryview:
        """See `ByteStream`."""
        self._check_open()
        try:
            taken = self._send(data)
        except OSError as error:
            raise NothingSent(error.errno, error.strerror) from error
        if taken == len(data):
            return _NOTHING  # nearly always: there is room in the kernel for more than most requests
        rest = memoryview(data)[taken:]
        while rest and (taken := self._send(rest)):
            rest = rest[taken:]
        return rest

    def _send(self, data: bytes | memoryview) -> int:
        """How much the kernel takes now."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def send_rest(self, rest: memoryview) -> None:
        """See `ByteStream`."""
        while rest:
            self._check_open()
            await trio.lowlevel.wait_writable(self._socket)
            rest = self.send_nowait(rest)

    async def receive(self, max_bytes: int) -> bytes:
        """See `ByteStream`."""
        while True:
            self._check_open()
            # Waiting first saves the read that would nearly always be too early, and is the checkpoint as well.
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(max_bytes)
            except BlockingIOError:
                continue

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        """What has already arrived, or None if nothing has. Raises OSError if the connection broke."""
        try:
            return self._socket.recv(max_bytes)
        except BlockingIOError:
            return None

    def quiet(self) -> bool:
        """See `ByteStream`."""
        if self.closed:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """See `ByteStream`."""
        if not self.closed:
            self.closed = True
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def _check_open(self) -> None:
        if self.closed:
            raise trio.ClosedResourceError("the connection was closed on this side")


class TlsByteStream:
    """TLS over a plain connection, by the standard library's TLS engine working on memory.

    `trio.SSLStream` cannot be looked into without waiting: the session tickets a TLS 1.3 server sends after the
    handshake lie in the socket and look like unsolicited bytes. Here `quiet` feeds them to the engine and asks it.
    An end without close_notify counts as an end, as everywhere in HTTP: the message's own framing tells a cut.
    """

    def __init__(self, below: SocketByteStream, context: ssl.SSLContext, server_hostname: str) -> None:
        self._below = below
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._engine = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        # A record of which the kernel has only the beginning: nothing may come between, and only one may wait.
        self._half_sent = False

    @property
    def closed(self) -> bool:
        """Whether it was closed on this side."""
        return self._below.closed

    async def handshake(self) -> str | None:
        """Agree on keys and check the certificate; returns the protocol agreed on. Raises OSError or `ssl.SSLError`."""
        await self._drive(self._engine.do_handshake)
        return self._engine.selected_alpn_protocol()

    def send_nowait(self, data: bytes) -> memoryview:
        """See `ByteStream`. TLS 1.3 never has to read before it can write; where TLS 1.2 does, renegotiating, the
        connection is given up, as it is with half a record of an earlier request in it."""
        if self._half_sent:
            raise NothingSent(errno.EPIPE, "an earlier request was cut short")
        view = memoryview(data)
        try:
            while view:
                # The engine takes a record of 16 KiB at a time; all of them leave together below.
                view = view[self._engine.write(view) :]
        except ssl.SSLError as error:
            self.close()
            raise NothingSent(errno.EPIPE, "TLS has to agree on keys anew") from error
        rest = self._below.send_nowait(self._outgoing.read())
        self._half_sent = bool(rest)
        return rest

    async def send_rest(self, rest: memoryview) -> None:
        """See `ByteStream`. Another task may be in `receive` meanwhile; what TLS has to say there waits."""
        self._half_sent = True
        await self._below.send_rest(rest)
        self._half_sent = False  # and not if it was cut short: then no byte may follow

    async def receive(self, max_bytes: int) -> bytes:
        """See `ByteStream`."""
        try:
            return await self._drive(functools.partial(self._engine.read, max_bytes))
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    def quiet(self) -> bool:
        """See `ByteStream`."""
        if self.closed or self._half_sent:
            return False
        try:
            for _ in range(DRAIN_READS):
                arrived = self._below.receive_nowait(READ_BYTES)
                if arrived is None:
                    break
                if arrived == b"":
                    return False
                self._incoming.write(arrived)
            self._engine.read(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """See `ByteStream`. No close_notify: nobody waits for it, and a cut is told by HTTP's own framing."""
        self._below.close()

    async def _drive(self, step: Callable[[], T]) -> T:
        """Do one step of the engine, bringing it the bytes it asks for and carrying away what it wrote."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                arrived = await self._below.receive(READ_BYTES)
                if arrived:
                    self._incoming.write(arrived)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                # The other side is owed the alert that says why; whether it arrives makes no difference here.
                alert = self._outgoing.read()
                if alert and not self.closed and not self._half_sent:
                    await self._send_last(alert)
                raise
            else:
                await self._flush()
                return result

    async def _send_last(self, alert: bytes) -> None:
        try:
            await self._below.send_rest(self._below.send_nowait(alert))
        except OSError:
            self._below.close()

    async def _flush(self) -> None:
        if self._outgoing.pending and not self._half_sent:
            await self.send_rest(self._below.send_nowait(self._outgoing.read()))


async def _connected(host: str, port: int) -> socket.socket:
    """A socket connected to a host, of whose addresses the one that answers first is taken (trio's happy eyeballs).

    A host that is an address leaves nothing to look up and nothing to race, at a third of the cost.
    """
    family = _family_of(host)
    if family is None:
        stream = await trio.open_tcp_stream(host, port)
        connected = socket.socket(fileno=stream.socket.detach())
        connected.setblocking(False)
        return connected
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await _connect(connecting, host, port)
    except BaseException:
        connecting.close()
        raise
    return connecting


async def _connect(connecting: socket.socket, host: str, port: int) -> None:
    outcome = connecting.connect_ex((host, port))
    if outcome in _UNDER_WAY:
        await trio.lowlevel.wait_writable(connecting)
        outcome = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    else:
        await trio.lowlevel.checkpoint()
    if outcome:
        raise OSError(outcome, os.strerror(outcome))


def _family_of(host: str) -> socket.AddressFamily | None:
    """The family of an address, None for a name. An address with a scope (``fe80::1%eth0``) counts as a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError, UnicodeError):
            socket.inet_pton(family, host)
            return family
    return None


async def open_stream(
    host: str, port: int, tls: ssl.SSLContext | None, *, server_hostname: str | None = None
) -> ByteStream:
    """Connect to `host`, and with `tls` agree on keys too, so that the next byte sent can be a request's.

    The certificate is asked for, and checked, by the name `server_hostname`, or by `host` if there is none.

    No timeout of its own: the caller's cancel scope is the limit. Cancellation leaves no socket open.

    Raises:
      ConnectFailed: naming `host:port` and the cause.
    """
    place = place_of(host, port)
    try:
        plain = SocketByteStream(await _connected(host, port))
    except (OSError, UnicodeError) as error:
        raise ConnectFailed(f"no connection to {place}: {connect_cause(error)}. Nothing was sent.") from error
    if tls is None:
        return plain
    try:
        stream = TlsByteStream(plain, tls, server_hostname or host)
        chosen = await stream.handshake()
    except (OSError, trio.ClosedResourceError, ValueError) as error:
        plain.close()
        raise ConnectFailed(f"no secure connection to {place}: {tls_cause(error)}. Nothing was sent.") from error
    except BaseException:
        plain.close()
        raise
    if chosen not in (None, "http/1.1"):
        plain.close()
        raise ConnectFailed(f"{place} insists on {chosen}, and only HTTP/1.1 is spoken here. Nothing was sent.")
    return stream


def place_of(host: str, port: int) -> str:
    """How messages call an address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connect_cause(error: BaseException) -> str:
    """The reasons behind a failed connection in a few words: trio groups one error for each address it tried."""
    if isinstance(error, socket.gaierror):
        return f"the name cannot be resolved ({error.strerror})"
    if isinstance(error, UnicodeError):
        return "that is no host name"
    group = error.__cause__
    each = group.exceptions if isinstance(group, BaseExceptionGroup) else (error,)
    return ", ".join(dict.fromkeys(_words(one) for one in each))


def _words(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def tls_cause(error: BaseException) -> str:
    """The reason behind a failed TLS handshake in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted ({error.verify_message})"
    if isinstance(error, ssl.SSLEOFError):
        return "the other side ended the connection during the TLS handshake"
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed ({error.reason or error})"
    return _words(error)
