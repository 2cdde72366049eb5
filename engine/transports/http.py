"""HTTP for endpoint workers: a call's bytes straight to a socket, and its answer straight from one.

`HttpTransport` opens connections that are ready to be written to, TLS included; `HttpConnection` carries one call at a
time and turns everything that can happen to it into an `Answer`. No timeouts here: the caller's cancel scope is the
limit. No redirects, no cookies, no proxies: `engine.transports.client` is for those.

What is in a request, and what becomes of its answer, is said in `engine.transports.target`.
Must not import anything of lanes, quotas or retries beyond the `Transport` protocol.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import trio

from actors.clock import now_us
from actors.errors import ConnectFailed
from actors.messages import APICalling
from actors.transport import Answer, Attempt, Transport
from engine.transports.answers import Undecodable
from engine.transports.exchange import BROKEN, converse
from engine.transports.hearing import Hearing
from engine.transports.http1 import Cut, NotHttp, ResponseReader, TooLarge, request_head
from engine.transports.streams import ByteStream, NothingSent, default_tls, open_stream, tls_cause
from engine.transports.target import CAP_BYTES, Target

if TYPE_CHECKING:
    from engine.providers.wire import Usage, WireFormat

_FRESH_US = 1_000
"""How long a look at a connection holds: a worker looks as it is handed a call, and its turn to send comes at once."""


class HttpTransport(Transport):
    """How to reach one address with one key. Opens connections; holds none of them.

    `url` is the full address of the operation (http or https). `headers` are sent with every request and may replace
    the standard ones; authorisation is one of them. `format` reads the answers. `ssl_context` replaces the shared one
    with certifi's roots. `on_usage` is called with each call and the usage its provider reported, and must not raise.
    `call_header` adds ``x-penstock-call`` with the call's identifier, for a provider that keeps a log of its own.
    `cap_bytes` bounds an answer's body, before and after decompression. `provider` says how limit headers are meant.

    Raises:
      UsageError: the address or a header cannot be used; the message names it and never shows a header's value.
    """

    kind = "http"

    def __init__(
        self,
        *,
        url: str,
        headers: Mapping[str, str],
        format: WireFormat,  # noqa: A002  # the word for it everywhere else
        ssl_context: ssl.SSLContext | None = None,
        on_usage: Callable[[APICalling, Usage], None] | None = None,
        call_header: bool = False,
        cap_bytes: int = CAP_BYTES,
        provider: str = "",
    ) -> None:
        self.target = target = Target(
            url=url, headers=headers, format=format, on_usage=on_usage, cap_bytes=cap_bytes, provider=provider
        )
        self._call_header = call_header
        self._headers = [(b"host", target.url.netloc), *target.headers]
        self._head = request_head(b"POST", target.url.raw_path, self._headers)
        self._tls = (ssl_context or default_tls()) if target.url.scheme == "https" else None

    async def connect(self) -> HttpConnection:
        """Open one connection: name, TCP, TLS. Cancelling leaves nothing open.

        Raises:
          ConnectFailed: naming host, port and cause; nothing was sent.
        """
        return HttpConnection(self, await open_stream(self.target.host, self.target.port, self._tls))

    def request(self, calling: APICalling) -> bytes:
        """The bytes that ask for one call."""
        head = self._head
        if calling.path or calling.method != "POST":
            head = request_head(calling.method.encode(), self.target.path_of(calling), self._headers)
        mark = b"x-penstock-call: %d\r\n" % calling.call_id if self._call_header else b""
        return b"".join((head, mark, b"content-length: %d\r\n\r\n" % len(calling.body), calling.body))

    def __repr__(self) -> str:
        return f"<HttpTransport {self.target}>"


class HttpConnection:
    """One open connection. Made by `HttpTransport.connect`."""

    def __init__(self, transport: HttpTransport, stream: ByteStream) -> None:
        self._transport = transport
        self._target = transport.target
        self._stream = stream
        self._exchanges = 0
        self._looked_us = 0

    def usable(self) -> bool:
        """Whether the other side still holds the connection open and has sent nothing unasked. Never waits."""
        quiet = self._stream.quiet()
        self._looked_us = now_us() if quiet else 0
        return quiet

    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        """Send one call and read its whole answer; what the provider or the network does is an `Answer`.

        Calls `attempt.begin` right before the first byte is handed to the kernel and `attempt.sent` right after the
        last. `keep` is true only if the answer was whole and clean and another call may follow.

        Raises:
          ConnectFailed: the connection was closed, or broke before any byte was taken; nothing was sent.
          TooLate: from `begin`; nothing was written and the connection can be used again.

        Cancellation passes through; once a byte may have left, the connection is closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        # From here to the first byte there is no checkpoint, so neither a cancellation nor a late grant comes between.
        if now_us() - self._looked_us > _FRESH_US and not self._stream.quiet():
            self._stream.close()
            raise ConnectFailed(f"the connection to {self._target.place} was no longer good. Nothing was sent.")
        self._looked_us = 0
        attempt.begin()
        begun_us = self._target.note_request(calling)
        self._exchanges += 1
        reader = ResponseReader(cap_bytes=self._target.cap_bytes)
        watched = calling.streaming or calling.first_byte_us or calling.idle_us
        hearing = Hearing(self._target, calling, attempt) if watched else None
        lost = ""
        try:
            whole = await converse(self._stream, self._transport.request(calling), reader, attempt.sent, hearing)
        except NothingSent as error:
            self._stream.close()
            raise ConnectFailed(f"the connection to {self._target.place} broke. Nothing was sent.") from error
        except TooLarge:
            self._stream.close()
            answer = self._target.too_large(reader.status, reader.headers)
            self._target.note_answer(calling, answer, begun_us)
            return answer
        except BROKEN as error:
            lost = _reason(error)
        except BaseException:
            self._stream.close()
            raise
        if lost:
            answer = (hearing or Hearing(self._target, calling, attempt)).lost(reader, lost)
        elif hearing is not None:
            answer = hearing.answer(reader, keep=whole and reader.clean)
        else:
            body, keep = b"".join(reader.parts), whole and reader.clean
            answer = self._target.answer(calling, reader.status, reader.headers, body, keep=keep)
        self._target.note_answer(calling, answer, begun_us)
        if not answer.keep:
            self._stream.close()
        return answer

    async def aclose(self) -> None:
        """Close at once, without a goodbye. May be called twice, and in a cancelled scope."""
        self._stream.close()

    def __repr__(self) -> str:
        state = "closed" if self._stream.closed else "open"
        return f"<HttpConnection {self._target.place} {state}, {self._exchanges} exchanges>"


def _reason(error: Exception) -> str:
    """Why an exchange broke, in few words."""
    if isinstance(error, NotHttp):
        return f"what it sent is not HTTP: {error}"
    if isinstance(error, Undecodable):
        return str(error)
    if isinstance(error, Cut):
        return "the server disconnected before it was complete"
    if isinstance(error, ssl.SSLError):
        return tls_cause(error)
    return (error.strerror if isinstance(error, OSError) else None) or "the connection broke"
