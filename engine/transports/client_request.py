"""One request through httpx: its body, how far it is, what has arrived of its response, and why it broke.

httpx tells by its request extension "trace" when it connects, begins to write and has written; a transport of somebody
else's may tell nothing. For one attempt one request leaves, whatever a client would like. No choice of a client and no
proxies here: those are in `engine.transports.client`.
"""

from __future__ import annotations

import contextlib
import math
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx
import trio

from actors.transport import Attempt, TooLate
from engine.transports.hearing import LINGER_S, Hearing
from engine.transports.http1 import TooLarge
from engine.transports.streams import connect_cause, tls_cause

_MOST_SHOWN = 200
_LET_GO_S = 0.1


class OneBody(httpx.AsyncByteStream):
    """The body of a request, in one part. An iterator and no generator, as httpx's own is: one that is left suspended,
    when a connection breaks or an attempt is cancelled, is closed by nobody in time."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Once(self._body)


class _Once:
    def __init__(self, part: bytes) -> None:
        self._parts = [part] if part else []

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._parts:
            raise StopAsyncIteration
        return self._parts.pop()


class Progress:
    """How far one request is: what httpx tells, passed on to the attempt. `opening` ends when the request begins.

    `note` is then called, and its answer kept as `begun_us`.
    """

    def __init__(self, attempt: Attempt, opening: trio.CancelScope, note: Callable[[], int]) -> None:
        self._attempt = attempt
        self._note = note
        self.begun_us = -1
        self._opening = opening
        self._told = False
        self.socket: Any = None
        self.begun = False
        self.sent = False
        self.again = False
        self.refusal: TooLate | None = None

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpx's request extension "trace". A CONNECT asks a proxy for a tunnel and is no part of the request."""
        _, _, step = event.partition(".")
        if step == "send_request_headers.started" and info["request"].method != b"CONNECT":
            if self._told:
                self.again = True
                raise SecondRequest
            self._told = True
            if not self.begun:
                await self.begin()
        elif step == "send_request_body.complete" and self._told:
            self._end()
        elif step == "connect_tcp.complete":
            self.socket = info["return_value"]

    async def begin(self) -> None:
        """The first byte is about to leave; whatever is raised here keeps it."""
        # A cancellation that was asked for meanwhile is seen before a byte is written, not after.
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._attempt.begin()
        except TooLate as refusal:
            self.refusal = refusal
            raise
        self.begun = True
        self.begun_us = self._note()
        self._opening.deadline = math.inf

    def arrived(self) -> None:
        """The response is there: where nobody told, all has left by now."""
        if self._told:
            return
        if not self.begun:  # a hook of the user's took the ear away: then this is the first that is heard of it
            self.begun = True
            with contextlib.suppress(TooLate):
                self._attempt.begin()
        self._end()

    def _end(self) -> None:
        if not self.sent:
            self.sent = True
            self._attempt.sent()


class SecondRequest(Exception):  # a signal through httpx, never seen by a caller
    """A client that authenticates or retries by itself was about to send a request again."""


class Received:
    """What has arrived of a response: its parts as they came over the wire, or decoded if `headers` name no coding.

    `hearing` looks at it as it comes. `whole`: it has come to its end, and not only to that of the stream it holds.
    """

    def __init__(self, cap_bytes: int, hearing: Hearing) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.whole = False
        self._room = cap_bytes
        self._hearing = hearing

    async def read(self, response: httpx.Response) -> None:
        """Read all of it.

        Raises:
          TooLarge: there is more than the cap.
          Exception: what httpx or a user's client raises.
        """
        try:
            if response.status_code < 200:
                raise httpx.RemoteProtocolError(f"it answered {response.status_code}")
            self.status, self.headers = response.status_code, response.headers.raw
            if response.is_stream_consumed:  # read by a hook, or made whole: httpx has decoded it then
                self.headers = [pair for pair in self.headers if pair[0].lower() != b"content-encoding"]
                self._room -= len(response.content)
                self.parts.append(response.content)
                self.whole = True
            await self._hearing.look(self)  # also where no part will follow: then this, too, is how it began
            if not self.whole:
                with trio.CancelScope() as lingering:
                    self.whole = await self._read_parts(response, lingering)
            if self._room < 0:
                raise TooLarge
            await self._hearing.end()
        finally:
            with trio.CancelScope(shield=True):
                await response.aclose()

    async def _read_parts(self, response: httpx.Response, lingering: trio.CancelScope) -> bool:
        """Read until all has come, or the stream in it is over. Whether it was all."""
        parts = response.aiter_raw()
        end_by = math.inf
        try:
            async for part in parts:
                lingering.deadline = math.inf  # only the other side is not waited for, a slow reader is
                self._room -= len(part)
                if self._room < 0:
                    await response.aclose()
                    continue
                self.parts.append(part)
                try:
                    await self._hearing.look(self)
                except BaseException:
                    await _let_go(response, parts)
                    raise
                # What seemed to be the end need not be: where none is announced, more may follow.
                end_by = min(end_by, trio.current_time() + LINGER_S) if self._hearing.is_over() else math.inf
                lingering.deadline = end_by
        except trio.Cancelled:
            # Whoever gives the call up by now has an answer all the same: nothing of it is missing but the goodbye.
            if not self._hearing.is_over():
                raise
            return False
        except Exception:
            await self._hearing.break_off(self)  # what came before may have been all of it
            if self._room >= 0 and not self._hearing.is_over():
                raise
            return False
        return True


async def _let_go(response: httpx.Response, parts: AsyncIterator[bytes]) -> None:
    """Close a response that is not read to its end.

    The generators of httpx are to end by themselves, which they do on a closed connection: one that is left suspended
    is closed by nobody in time. Those of HTTP/2 may wait for ever, and are not waited for.
    """
    with trio.move_on_after(_LET_GO_S, shield=True), contextlib.suppress(Exception):
        await response.aclose()
        async for _ in parts:
            pass


def reason_of(error: BaseException | None) -> str:
    """Why an exchange broke, in few words: of the errors that httpx wraps, the one that says most."""
    link = error
    while link is not None:
        if isinstance(link, ssl.SSLError):
            return tls_cause(link)
        if isinstance(link, OSError):
            return connect_cause(link)
        link = link.__cause__ or link.__context__
    if isinstance(error, httpx.PoolTimeout):
        return "the client of http_client= had no place for it in its pool"
    if isinstance(error, httpx.RemoteProtocolError) and "isconnect" not in str(error) and "closed" not in str(error):
        return f"what it sent is not HTTP: {str(error)[:_MOST_SHOWN]}"
    return str(error)[:_MOST_SHOWN] or type(error).__name__
