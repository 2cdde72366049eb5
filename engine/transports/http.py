"""HTTP for endpoint workers: a call's bytes straight to a socket, and its answer straight from one.

`HttpTransport` opens connections that are ready to be written to, TLS included; `HttpConnection` carries one call at a
time and turns everything that can happen to it into an `Answer`. No timeouts here: the caller's cancel scope is the
limit. No redirects, no cookies, no proxies: `engine.transports.client` is for those.

The key is in the headers of every request and nowhere else: no repr, no message and no answer holds it.
Must not import anything of lanes, quotas or retries beyond the `Transport` protocol.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import importlib.metadata
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import httpx
import trio

from actors.errors import ConnectFailed, UsageError
from actors.messages import APICalling
from actors.transport import Answer, Attempt, Transport
from engine.log import debugging, log
from engine.transports.answers import Undecodable, answer_of, decompressed, lost_answer
from engine.transports.exchange import BROKEN, converse
from engine.transports.http1 import Cut, NotHttp, ResponseReader, TooLarge, request_head
from engine.transports.streams import ByteStream, default_tls, open_stream

if TYPE_CHECKING:
    from engine.providers.wire import Usage, WireFormat

CAP_BYTES = 64 * 1024 * 1024

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t \x21-\x7e\x80-\xff]*")
_SECRET = re.compile(r"auth|key|secret|credential|cookie|passw", re.IGNORECASE)
_SHORTEST_SECRET = 6


@functools.cache
def user_agent() -> str:
    """The name and version this project goes by on the wire."""
    try:
        return f"penstock/{importlib.metadata.version('penstock')}"
    except importlib.metadata.PackageNotFoundError:
        return "penstock"


class HttpTransport(Transport):
    """How to reach one address with one key. Opens connections; holds none of them.

    `url` is the full address of the operation (http or https). `headers` are sent with every request and may replace
    the standard ones; authorisation is one of them. `format` reads the answers. `ssl_context` replaces the shared one
    with certifi's roots. `on_usage` is called with each call and the usage its provider reported, and must not raise.
    `call_header` adds ``x-penstock-call`` with the call's identifier, for a provider that keeps a log of its own.
    `cap_bytes` bounds an answer's body, before and after decompression.

    Raises:
      UsageError: the address or a header cannot be used; the message names it and never shows a header's value.
    """

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
    ) -> None:
        self.url, signed = _address(url)
        lowered = {name.lower(): value.strip() for name, value in headers.items()}
        merged = {
            "accept": "application/json",
            "accept-encoding": "gzip, deflate",
            "content-type": "application/json",
            "user-agent": user_agent(),
            **signed,
            **lowered,
        }
        checked = [_checked(name, value) for name, value in merged.items()]
        self.secrets = tuple(_secrets(merged))
        self.format = format
        self.on_usage = on_usage
        self.call_header = call_header
        self.cap_bytes = cap_bytes
        self.host = self.url.raw_host.decode("ascii")
        self.port = self.url.port or (443 if self.url.scheme == "https" else 80)
        self.place = f"{self.url.host}:{self.port}"
        self._head = request_head(b"POST", self.url.raw_path, [(b"host", self.url.netloc), *checked])
        self._tls = (ssl_context or default_tls()) if self.url.scheme == "https" else None

    async def connect(self) -> HttpConnection:
        """Open one connection: name, TCP, TLS. Cancelling leaves nothing open.

        Raises:
          ConnectFailed: naming host, port and cause; nothing was sent.
        """
        return HttpConnection(self, await open_stream(self.host, self.port, self._tls))

    def request(self, calling: APICalling) -> bytes:
        """The bytes that ask for one call."""
        mark = b"x-penstock-call: %d\r\n" % calling.call_id if self.call_header else b""
        return b"".join((self._head, mark, b"content-length: %d\r\n\r\n" % len(calling.body), calling.body))

    def __repr__(self) -> str:
        path = self.url.raw_path.partition(b"?")[0].decode("ascii")
        return f"<HttpTransport POST {self.url.scheme}://{self.place}{path}>"


class HttpConnection:
    """One open connection. Made by `HttpTransport.connect`."""

    def __init__(self, transport: HttpTransport, stream: ByteStream) -> None:
        self._transport = transport
        self._stream = stream
        self._exchanges = 0

    def usable(self) -> bool:
        """Whether the other side still holds the connection open and has sent nothing unasked. Never waits."""
        return self._stream.quiet()

    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        """Send one call and read its whole answer; what the provider or the network does is an `Answer`.

        Calls `attempt.begin` right before the first byte is handed to the kernel and `attempt.sent` right after the
        last. `keep` is true only if the answer was whole and clean and another call may follow.

        Raises:
          ConnectFailed: the connection was found closed before anything was written.
          TooLate: from `begin`; nothing was written and the connection can be used again.

        Cancellation passes through, and the connection is closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        # From here to the first byte there is no checkpoint, so neither a cancellation nor a late grant comes between.
        if not self._stream.quiet():
            self._stream.close()
            raise ConnectFailed(f"the connection to {self._transport.place} was no longer good. Nothing was sent.")
        attempt.begin()
        self._exchanges += 1
        reader = ResponseReader(cap_bytes=self._transport.cap_bytes)
        lost = ""
        try:
            whole = await converse(self._stream, self._transport.request(calling), reader, attempt.sent)
        except TooLarge:
            return self._too_large(reader)
        except BROKEN as error:
            lost = _reason(error)
        except BaseException:
            self._stream.close()
            raise
        if debugging():
            size = len(calling.body)
            log.debug("request", call=calling.call_id, to=self._transport.place, status=reader.status, body_bytes=size)
        if lost:
            self._stream.close()
            return self._lost(reader, lost)
        return self._read(calling, reader, keep=whole and reader.clean)

    async def aclose(self) -> None:
        """Close at once, without a goodbye. May be called twice, and in a cancelled scope."""
        self._stream.close()

    def __repr__(self) -> str:
        state = "closed" if self._stream.closed else "open"
        return f"<HttpConnection {self._transport.place} {state}, {self._exchanges} exchanges>"

    def _read(self, calling: APICalling, reader: ResponseReader, *, keep: bool) -> Answer:
        transport = self._transport
        headers = _by_name(reader.headers)
        body, flaw = b"".join(reader.parts), ""
        shown = body
        coding = headers.get("content-encoding", "")
        if coding and body:
            try:
                body = shown = decompressed(body, coding, cap_bytes=transport.cap_bytes)
            except Undecodable as error:
                body, flaw, keep = b"", str(error), False
        reading = transport.format.read(reader.status, headers, body, now_s=time.time())
        if reading.usage is not None and transport.on_usage is not None:
            transport.on_usage(calling, reading.usage)
        if not keep:
            self._stream.close()
        return answer_of(reading, status=reader.status, body=shown, keep=keep, flaw=flaw, secrets=transport.secrets)

    def _lost(self, reader: ResponseReader, reason: str) -> Answer:
        transport = self._transport
        if reader.status >= 400:
            # The provider refused, and said so before the line broke: the status tells what to do next.
            reading = transport.format.read(reader.status, _by_name(reader.headers), b"", now_s=time.time())
            return answer_of(reading, status=reader.status, body=b"", keep=False, secrets=transport.secrets)
        message = (
            f"{transport.place} gave no complete answer ({reason}). The request had left, so it may have been billed."
        )
        return lost_answer(message, status=reader.status, secrets=transport.secrets)

    def _too_large(self, reader: ResponseReader) -> Answer:
        self._stream.close()
        if reader.status >= 400:
            return self._lost(reader, "too large")
        transport = self._transport
        message = (
            f"{transport.place} sent an answer of more than {transport.cap_bytes} bytes, which was not read to its "
            "end. The request was served, so it may have been billed. Ask for less at a time."
        )
        # Not "unknown": another attempt would be as large, and billed again.
        return lost_answer(message, status=reader.status, verdict="failed", secrets=transport.secrets)


@functools.lru_cache(maxsize=1024)
def _name(raw: bytes) -> str:
    return raw.decode("latin-1").lower()


def _by_name(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Response headers by lower-case name; repeated ones joined as RFC 9110, section 5.3, joins them."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = _name(name), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _reason(error: Exception) -> str:
    """Why an exchange broke, in few words."""
    if isinstance(error, NotHttp):
        return f"what it sent is not HTTP: {error}"
    if isinstance(error, Cut):
        return "the server disconnected before it was complete"
    return (error.strerror if isinstance(error, OSError) else None) or "the connection broke"


def _address(url: str) -> tuple[httpx.URL, dict[str, str]]:
    """The address without user name and password, and the header these make."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise UsageError(f"the address of the endpoint is not valid: {error}. Nothing was sent.") from None
    if parsed.scheme not in ("http", "https") or not parsed.host or not 0 < (parsed.port or 1) < 65_536:
        raise UsageError(
            f"the address of the endpoint must be like https://host/path, and {parsed.scheme or 'no scheme'!r} with "
            f"host {parsed.host!r} and port {parsed.port} is not. Nothing was sent."
        )
    if not parsed.userinfo:
        return parsed, {}
    pair = base64.b64encode(f"{parsed.username}:{parsed.password}".encode()).decode("ascii")
    return parsed.copy_with(username=None, password=None), {"authorization": f"Basic {pair}"}


def _checked(name: str, value: str) -> tuple[bytes, bytes]:
    """A header as bytes. Checked here because h11's complaint about a bad value quotes the value, and that is a key."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a name a header can have. Nothing was sent.")
    if not _VALUE.fullmatch(value):
        raise UsageError(
            f"the value for the header {name!r} holds a character that HTTP does not allow, such as a line break "
            "(the value is not shown: it may be a key). Nothing was sent."
        )
    return name.encode("ascii"), value.encode("latin-1")


def _secrets(headers: Mapping[str, str]) -> Iterator[str]:
    """What must not be repeated: the values of the headers that look like keys, longest form first."""
    for name, value in headers.items():
        if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET:
            yield value
            with contextlib.suppress(IndexError):
                last = value.split()[-1]
                if last != value and len(last) >= _SHORTEST_SECRET:
                    yield last
