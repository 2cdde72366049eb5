"""HTTP/1.1 as bytes: how a request begins, and how a response is read. The parser is llhttp, through httptools.

A response is fed to its reader as it arrives, in any pieces. Its connection can be used again only if it was *clean*:
complete, with keep-alive, and with nothing behind it but line ends, which every parser passes over. Interim responses
(1xx) are passed over too. Caps bound what one answer may hold, and what is wrong with it is said without quoting it.

No sockets and no waiting: bytes in, bytes out. Must not import httpx or trio.
"""

from __future__ import annotations

from collections.abc import Iterable

import httptools

HEAD_BYTES = 256 * 1024
"""The most that may arrive without a byte of body in it: interim responses, headers, chunk extensions, trailers."""

_CHUNKS = b"transfer-encoding"
_FRAMING = (b"content-length", _CHUNKS)
_LENGTHS = frozenset(map(len, _FRAMING))
_MOST_PARTS = 4_096


class NotHttp(Exception):  # a signal from the reader to the connection above it, never seen by a caller
    """What arrived is no response; the text says why, in the parser's words, and quotes none of it."""


class TooLarge(Exception):  # likewise
    """The response is larger than its cap; what was read of it is of no use."""


class Cut(Exception):  # likewise
    """The other side closed the connection before the response was complete."""


def request_head(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Request line and headers, without the empty line that ends them. The caller has checked every byte of it."""
    return b"".join([method, b" ", target, b" HTTP/1.1\r\n", *(b"%b: %b\r\n" % pair for pair in headers)])


class ResponseReader:
    """One response. `status` is 0 until all its headers are there.

    `headers` are as they came, without trailers. `parts` is the body, in pieces, as far as it has arrived; a reader of
    streams takes them away. With `bodiless` the response ends with its headers, as the answer to a HEAD request does.
    """

    __slots__ = (
        "_blocks",
        "_bodiless",
        "_cap_bytes",
        "_framed",
        "_head_room",
        "_keep",
        "_parser",
        "_room",
        "_spoilt",
        "_version",
        "complete",
        "headers",
        "parts",
        "reason",
        "status",
    )

    def __init__(self, *, cap_bytes: int, bodiless: bool = False) -> None:
        self.status = 0
        self.reason = b""
        self._version = "1.1"
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.complete = False
        self._bodiless = bodiless
        self._room = self._cap_bytes = cap_bytes
        self._blocks = 0
        self._head_room = HEAD_BYTES
        self._framed = False
        self._keep = False
        self._spoilt = False
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    @property
    def clean(self) -> bool:
        """Whether another response can follow on the same connection."""
        return self.complete and self._keep and not self._spoilt

    @property
    def may_keep(self) -> bool:
        """Whether the connection could be used again, should the response come to its end."""
        return self._keep and not self._spoilt

    @property
    def body_bytes(self) -> int:
        """How much of the body has come."""
        return self._cap_bytes - self._room

    @property
    def version(self) -> bytes:
        """What the response says it is, like ``HTTP/1.1``."""
        return b"HTTP/" + self._version.encode("ascii")

    def feed(self, data: bytes) -> None:
        """Take what arrived.

        Raises:
          NotHttp: it is no response, or its headers or trailers do not end. Bytes behind the end only spoil the
            connection.
          TooLarge: there is more of the body than allowed.
        """
        if self.complete:
            self._spoilt = self._spoilt or bool(data.strip(b"\r\n"))
            return
        assert self._parser is not None, "a reader has its parser until the response is complete"
        self._head_room -= len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._not_understood(NotHttp("it switches protocols, which was not asked for"))
        except httptools.HttpParserError as error:
            self._not_understood(error)
        self._check_fed()

    def _check_fed(self) -> None:
        if self._room < 0:
            raise TooLarge
        if self.complete:
            self._parser = None  # it holds the reader in turn: without this each answer is garbage for the collector
        elif self._head_room < 0:
            raise NotHttp(f"its headers or trailers do not end within {HEAD_BYTES} bytes")

    def _not_understood(self, error: Exception) -> None:
        """Behind the end of a response it only spoils the connection."""
        if isinstance(error, httptools.HttpParserCallbackError) and error.__context__ is not None:
            raise error.__context__ from None  # from one of the methods below, or an interrupt that struck there
        if not self.complete:
            raise NotHttp(str(error)) from None
        self._spoilt = True

    def end(self) -> None:
        """The other side has closed, which ends a body whose headers do not say where it ends.

        Raises:
          Cut: the response was not complete.
        """
        self._keep = False
        if not self.complete:
            if not self.status or self._framed:
                raise Cut
            self.complete = True

    # --- what the parser calls, in this order ---

    def on_message_begin(self) -> None:
        if self.complete:
            self._spoilt = True

    def on_status(self, reason: bytes) -> None:
        if not self.complete:
            self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:
            self.headers.append((name, value.rstrip(b" \t")))  # the parser takes away only what stands before a value

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        parser = self._parser
        assert parser is not None, "called by it"
        status = parser.get_status_code()
        if status < 100 or status == 101:
            raise NotHttp("it switches protocols, which was not asked for" if status == 101 else "no status is so low")
        if status < 200:
            self.headers.clear()
            self.reason = b""
            return
        self.status = status
        self._version = parser.get_http_version()
        # The lengths alone rule out nearly all of them.
        framing = [lower for name, _ in self.headers if len(name) in _LENGTHS and (lower := name.lower()) in _FRAMING]
        self._framed = bool(framing)
        # Chunks behind a response that may have none would be taken for its framing, and not for bytes behind the end.
        self._keep = parser.should_keep_alive() and not (self._bodiless and _CHUNKS in framing)
        self.complete = self._bodiless

    def on_body(self, data: bytes) -> None:
        if self.complete:
            self._spoilt = True
            return
        self._head_room = HEAD_BYTES
        self._room -= len(data)
        if self._room >= 0:
            self.parts.append(data)
            if len(self.parts) > self._blocks + _MOST_PARTS:
                self._gather()

    def _gather(self) -> None:
        """Chunks of a few bytes each would take thirty times their size: many together become one block."""
        self._blocks = min(self._blocks, len(self.parts))  # a reader of streams may have taken some away
        tail = b"".join(self.parts[self._blocks :])
        del self.parts[self._blocks :]
        self.parts.append(tail)
        self._blocks += 1

    def on_message_complete(self) -> None:
        if self.status:
            self.complete = True
