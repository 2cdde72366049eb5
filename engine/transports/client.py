"""The other way to speak HTTP for endpoint workers: through httpx, for proxies, HTTP/2, and a client of the user's own.

Every worker has a connection of httpx of its own; a user's client is shared by all of them and never closed here. The
rules are those of `engine.transports.http`: what the provider or the network does is an `Answer`, and an attempt is
told when its request begins to leave and when it has left. httpx tells it through its request extension "trace"; a
transport that tells nothing has the attempt begun before it gets the request.

httpx opens a connection with the first request, so an attempt here may find nobody there: then nothing was sent.
No redirects, no second request for one attempt: a limit counts one. Must not import lanes, quotas or retries.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import certifi
import httpx
import trio

from actors.errors import ConnectFailed, UsageError
from actors.messages import APICalling
from actors.transport import Answer, Attempt, Transport
from engine.log import mask_foreign_lines
from engine.transports.client_request import OneBody, Progress, Received, reason_of
from engine.transports.hearing import Hearing
from engine.transports.http1 import TooLarge
from engine.transports.proxies import checked_proxy, require
from engine.transports.streams import default_tls
from engine.transports.target import CAP_BYTES, SHORTEST_SECRET, Target, basic

if TYPE_CHECKING:
    from engine.providers.wire import Usage, WireFormat

OPEN_WITHIN_S = 10.0
"""How long a connection may take, everything before a request's first byte: proxy, TLS, a place in a user's client."""

HttpClient = httpx.AsyncClient
_Send = Callable[[httpx.Request], Awaitable[httpx.Response]]

_ONE_CONNECTION = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None)


def checked_client(client: object) -> HttpClient | None:
    """What was given as ``http_client=``.

    Raises:
      UsageError: it is no `httpx.AsyncClient`, or is closed already.
    """
    if client is None:
        return None
    if not isinstance(client, httpx.AsyncClient):
        raise UsageError(f"http_client= is an httpx.AsyncClient, not {type(client).__name__}")
    if client.is_closed:
        raise UsageError("http_client= was closed already; give one that is open for as long as the engine")
    return client


class ClientTransport(Transport):
    """How to reach one address with one key through httpx. Holds no connection of its own.

    `proxy` is the address of a proxy; `http2` offers HTTP/2 besides HTTP/1.1. `client` is a user's own, for which
    neither counts: it decides by itself, adds its headers, authentication and hooks to each request, and keeps its
    limits of time for connecting and for a place in its pool. For the other arguments see `HttpTransport`.

    Raises:
      UsageError: the address, a header or the proxy cannot be used, or a package for it is not installed.
    """

    kind = "httpx"

    def __init__(
        self,
        *,
        url: str,
        headers: Mapping[str, str],
        format: WireFormat,  # noqa: A002  # the word for it everywhere else
        proxy: str | None = None,
        http2: bool = False,
        client: HttpClient | None = None,
        ssl_context: ssl.SSLContext | None = None,
        on_usage: Callable[[APICalling, Usage], None] | None = None,
        call_header: bool = False,
        cap_bytes: int = CAP_BYTES,
        provider: str = "",
    ) -> None:
        self._proxy = checked_proxy(proxy) if proxy is not None and client is None else None
        self.target = Target(
            url=url,
            headers=headers,
            format=format,
            on_usage=on_usage,
            cap_bytes=cap_bytes,
            hidden=_passwords(self._proxy),
            provider=provider,
        )
        if http2 and client is None:
            require("h2", "http2 = true asks for HTTP/2", "http2")
        mask_foreign_lines()
        self._http2 = http2
        self._client = client
        self._call_header = call_header
        self._tls = ssl_context or (_tls_with_http2() if http2 else default_tls())
        self.place = self.target.place
        if self._proxy is not None:
            self.place = f"{self.target.place} through the proxy {self._proxy.url.netloc.decode('ascii')}"

    async def connect(self) -> ClientConnection:
        """A place for one call at a time. Nothing is opened before the first.

        Raises:
          ConnectFailed: the user's client was closed; nothing was sent.
        """
        await trio.lowlevel.checkpoint()
        if self._client is None:
            wire = httpx.AsyncHTTPTransport(
                verify=self._tls,
                http2=self._http2,
                trust_env=False,
                proxy=self._proxy,
                limits=_ONE_CONNECTION,
            )
            # httpx's transport itself, without a client over it: no cookies, no redirects, no log line with the address
            return ClientConnection(self, wire.handle_async_request, wire, tells=True)
        self._check_open()
        send = functools.partial(self._client.send, stream=True, follow_redirects=False)
        return ClientConnection(self, send, None, tells=_tells(self._client, self.target.url))

    def request(self, calling: APICalling, trace: Callable[[str, Any], Awaitable[None]]) -> httpx.Request:
        """What asks for one call; httpx tells `trace` how far it is with it."""
        headers = list(self.target.headers)
        if self._call_header:
            headers.append((b"x-penstock-call", b"%d" % calling.call_id))
        limits = self._client.timeout if self._client is not None else httpx.Timeout(None)
        timeout = {"connect": limits.connect, "pool": limits.pool, "read": None, "write": None}
        build = self._client.build_request if self._client is not None else httpx.Request
        body = bytes(calling.body)
        extensions = {"trace": trace, "timeout": timeout}
        url = self.target.url
        if calling.path:
            url = url.copy_with(raw_path=self.target.path_of(calling))
        request = build(calling.method, url, headers=headers, content=body, extensions=extensions)
        request.stream = OneBody(body)
        return request

    def is_open(self) -> bool:
        """Whether calls can be sent: a user may close his client at any time."""
        return self._client is None or not self._client.is_closed

    def _check_open(self) -> None:
        if not self.is_open():
            raise ConnectFailed("http_client= was closed; keep it open for as long as the engine. Nothing was sent.")

    def __repr__(self) -> str:
        way = "a client of the user's" if self._client is not None else self.place
        return f"<ClientTransport {self.target} by {way}>"


class ClientConnection:
    """A worker's own httpx connection, or its share of a user's client. Made by `ClientTransport.connect`."""

    def __init__(
        self, transport: ClientTransport, send: _Send, wire: httpx.AsyncHTTPTransport | None, *, tells: bool
    ) -> None:
        self._transport = transport
        self._target = transport.target
        self._send = send
        self._wire = wire
        self._tells = tells
        self._socket: Any = None
        self._closed = False
        self._exchanges = 0

    def usable(self) -> bool:
        """Whether a call may be tried: httpx itself looks, right before use, whether its connection still stands."""
        return not self._closed and self._transport.is_open()

    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        """See `HttpConnection.exchange`; `TooLate` may come with the connection still to be opened.

        `attempt.sent` is called when the last byte was handed to the kernel; where the transport does not tell, when
        the response begins, which is never too early.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self.usable():
            raise ConnectFailed(f"the connection to {self._transport.place} is closed. Nothing was sent.")
        with trio.CancelScope(deadline=trio.current_time() + OPEN_WITHIN_S) as opening:
            progress = Progress(attempt, opening, lambda: self._target.note_request(calling))
            hearing = Hearing(self._target, calling, attempt)
            response = Received(self._target.cap_bytes, hearing)
            trouble: Exception | None = None
            try:
                await self._converse(calling, progress, response)
            except Exception as error:  # noqa: BLE001  # a user's client may raise anything, and it is an answer
                trouble = error
            finally:
                self._socket = progress.socket or self._socket
            answer = self._end(calling, progress, response, hearing, trouble)
            self._target.note_answer(calling, answer, progress.begun_us)
            if not answer.keep:
                await self.aclose()
            return answer
        raise ConnectFailed(f"no connection to {self._transport.place} in {OPEN_WITHIN_S:.0f} s. Nothing was sent.")

    async def aclose(self) -> None:
        """Close at once; a user's client stays open. May be called twice, and in a cancelled scope."""
        if not self._closed:
            self._closed = True
            if self._wire is not None:
                with trio.CancelScope(shield=True):
                    await self._wire.aclose()
                    if self._socket is not None:
                        # httpx forgets the socket of a connection that broke off while it was made: in the TLS
                        # handshake, or when a SOCKS proxy refused.
                        await self._socket.aclose()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<ClientConnection {self._transport.place} {state}, {self._exchanges} exchanges>"

    async def _converse(self, calling: APICalling, progress: Progress, response: Received) -> None:
        request = self._transport.request(calling, progress.trace)
        if not self._tells:
            await progress.begin()
        answered = await self._send(request)
        progress.arrived()
        await response.read(answered)

    def _end(
        self,
        calling: APICalling,
        progress: Progress,
        response: Received,
        hearing: Hearing,
        trouble: Exception | None,
    ) -> Answer:
        if progress.refusal is not None:  # whatever a transport that caught it has made of it
            raise progress.refusal
        if not progress.begun:
            reason = self._target.clean(reason_of(trouble))
            self._target.note_no_connection(reason)
            raise ConnectFailed(f"no connection to {self._transport.place}: {reason}. Nothing was sent.") from None
        self._exchanges += 1
        target, status, headers = self._target, response.status, response.headers
        if isinstance(trouble, TooLarge):
            return target.too_large(status, headers)
        if progress.again:
            return target.lost(0, (), "the client of http_client= wanted to send it twice, which no limit counts")
        if trouble is not None:
            return hearing.lost(response, reason_of(trouble))
        return hearing.answer(response, keep=progress.sent and response.whole and not self._left_over())

    def _left_over(self) -> bool:
        """Whether bytes came behind the answer: httpx would take them for the answer to the next call.

        It has no public way to ask, and what a user's own client does is its own affair.
        """
        for link in self._wire._pool.connections if self._wire is not None else ():
            connection: Any = link
            while hasattr(connection, "_connection"):
                connection = connection._connection
            parser = getattr(connection, "_h11_state", None)
            if parser is not None and parser.trailing_data[0]:
                return True
        return False


def _tells(client: HttpClient, url: httpx.URL) -> bool:
    """Whether a user's client sends through httpx's own transport, which tells how far it is with a request.

    httpx has no public way to ask; without this one nothing is lost but the difference between a connection that
    failed and a request whose outcome is unknown. An authentication of the user's own may send other requests.
    """
    find = getattr(client, "_transport_for_url", None)
    wire = find(url) if find is not None else None
    return (
        isinstance(wire, httpx.AsyncHTTPTransport)
        and type(wire).handle_async_request is httpx.AsyncHTTPTransport.handle_async_request
        and type(client).send is httpx.AsyncClient.send
        and (client.auth is None or isinstance(client.auth, httpx.BasicAuth | httpx.NetRCAuth))
    )


@functools.cache
def _tls_with_http2() -> ssl.SSLContext:
    """Like `default_tls`; one of its own, since httpx sets the protocols to agree on."""
    return ssl.create_default_context(cafile=certifi.where())


def _passwords(proxy: httpx.Proxy | None) -> Iterator[str]:
    """What of a proxy's address must not be repeated."""
    if proxy is not None and proxy.auth is not None:
        name, password = proxy.auth
        yield basic(name, password).partition(" ")[2]
        if len(password) >= SHORTEST_SECRET:
            yield password
