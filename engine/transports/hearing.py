"""What is done while an answer arrives: its life is told to the worker, and the events of a stream to whoever reads it.

A call without a stream and without bounds on silence needs none of this. A stream is cut into events as it comes; its
monitor hears them, then they are handed over, encoded, all that came at once together. An error that is the first thing
a stream says is withheld: nobody has read anything yet, so the call may be tried again. The body is kept as well, for
it is the answer.

How the bytes travel is for `engine.transports.http` and `engine.transports.client`. No sockets here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Protocol, cast

import msgspec

from actors.messages import APICalling
from actors.transport import Answer, Attempt
from engine.providers.wire import StreamFormat, StreamMonitor, decode_json
from engine.sse import Event, EventReader, LineReader, Named, TooLong
from engine.transports.answers import Inflater, Undecodable, answer_of, without_in_bytes
from engine.transports.http1 import TooLarge
from engine.transports.target import Target, by_name

LINGER_S = 1.0
"""How long the end of a response is waited for once its stream has said that it is over, to keep the connection."""

EVENT_BYTES = 16 * 1024 * 1024
"""The most one event may hold."""

_KEPT = "What came is kept, and was probably billed"

encode_events = msgspec.msgpack.Encoder().encode


class Arrived(Protocol):
    """What has come of a response so far; `status` is 0 until its headers are there."""

    status: int
    headers: list[tuple[bytes, bytes]]
    parts: list[bytes]


class Hearing:
    """One answer as it arrives, be it a stream or not."""

    def __init__(self, target: Target, calling: APICalling, attempt: Attempt) -> None:
        self._target = target
        self._calling = calling
        self._attempt = attempt
        self._stream: _Stream | None = None
        self._arrived: Arrived | None = None
        self._is_plain = not calling.streaming

    def is_over(self) -> bool:
        """Whether the stream has said that it is over; what then still comes is of no interest."""
        return self._stream is not None and self._stream.monitor.terminated

    async def look(self, arrived: Arrived) -> None:
        """Something has come. The parts of a stream are taken away.

        Waits while the reader of a stream has enough to read; a checkpoint only then.

        Raises:
          TooLarge: one event of a stream, or all of it decompressed, is larger than its cap.
          Undecodable: its compression is damaged.
        """
        if not arrived.status:
            return
        self._arrived = arrived
        if self._stream is None and not self._is_plain:
            headers = by_name(arrived.headers)
            self._is_plain = not _is_stream(arrived.status, headers)
            if not self._is_plain:
                self._stream = _Stream(self._target, headers, self._attempt)
                if observed := self._target.limits_in(headers):
                    self._attempt.observed(observed)
        if self._stream is None:
            self._attempt.heard()
        elif arrived.parts:
            parts, arrived.parts = arrived.parts, []
            piece = self._stream.take(parts[0] if len(parts) == 1 else b"".join(parts))
            if piece:
                await self._attempt.hand_over(piece)

    async def end(self) -> None:
        """All has come. What was not looked at yet is, and an event that lacks only its blank line is handed over, too.

        Raises: what `look` does.
        """
        if self._stream is not None and self._arrived is not None:
            await self.look(self._arrived)
            piece = self._stream.end()
            if piece:
                await self._attempt.hand_over(piece)

    async def break_off(self, arrived: Arrived) -> None:
        """Nothing more will come. What had come is looked at to its last event, if that is whole.

        A body that is too large or damaged besides is no news.
        """
        with contextlib.suppress(TooLarge, Undecodable):
            await self.look(arrived)
            piece = self._stream.end(only_whole=True) if self._stream is not None else b""
            if piece:
                await self._attempt.hand_over(piece)

    def answer(self, arrived: Arrived, *, keep: bool) -> Answer:
        """The answer for a response that has come whole, or whose stream has."""
        if self._stream is None:
            body = b"".join(arrived.parts)
            return self._target.answer(self._calling, arrived.status, arrived.headers, body, keep=keep)
        document = self._stream.document()
        if document is not None:
            headers = [pair for pair in arrived.headers if pair[0].lower() != b"content-encoding"]
            return self._target.answer(self._calling, arrived.status, headers, document, keep=keep)
        return self._stream.answer(self._calling, arrived.status, keep=keep)

    def lost(self, arrived: Arrived, reason: str) -> Answer:
        """The answer for a response that broke off: of a stream, what came of it."""
        if self._stream is None or not self._stream.monitor.events:
            return self._target.lost(arrived.status, arrived.headers, reason)
        return self._stream.answer(self._calling, arrived.status, keep=False, reason=reason)


class _Stream:
    """A stream of events on its way through a worker. What it returns is to be handed over, if there is any of it."""

    def __init__(self, target: Target, headers: Mapping[str, str], attempt: Attempt) -> None:
        self.monitor: StreamMonitor = cast(StreamFormat, target.format).monitor()
        self._target = target
        self._headers = headers
        self._attempt = attempt
        self._handed = False
        self._body: list[bytes] = []
        coding = headers.get("content-encoding", "")
        self._inflater = Inflater(coding, cap_bytes=target.cap_bytes) if coding else None
        lines = "ndjson" in headers.get("content-type", "")
        self._reader = (LineReader if lines else EventReader)(cap_bytes=EVENT_BYTES)

    def take(self, data: bytes) -> bytes:
        if self._inflater is not None:
            data = self._inflater.feed(data)
        self._body.append(data)
        try:
            events = self._reader.feed(data)
        except TooLong:
            raise TooLarge from None
        return self._pass_on(events) if events else b""

    def end(self, *, only_whole: bool = False) -> bytes:
        try:
            events = self._reader.end()
        except TooLong:
            raise TooLarge from None
        if only_whole:
            events = [event for event in events if _is_whole(event)]
        return self._pass_on(events) if events else b""

    def _pass_on(self, events: list[Event]) -> bytes:
        if self._handed:
            self.monitor.heard(events)
        else:
            # The first one by itself: what is withheld must not depend on how much came together.
            self.monitor.heard(events[:1])
            self._handed = self.monitor.error is None
            self.monitor.heard(events[1:])
        if not all(map(_is_heartbeat, events)):
            self._attempt.heard()
        if not self._handed:
            return b""
        if self.monitor.error is not None:  # some repeat the key that they refuse
            events = [_cleaned(event, self._target.secrets) for event in events]
        return encode_events(events)

    def document(self) -> bytes | None:
        """All that came, if it holds no event and begins as one JSON document: some servers do not name it so."""
        if self.monitor.events:
            return None
        body = b"".join(self._body)
        return body if body.lstrip()[:1] in (b"{", b"[") else None

    def answer(self, calling: APICalling, status: int, *, keep: bool, reason: str = "") -> Answer:
        """What has come of it, whole or not; `reason` says why it broke off."""
        reading = self.monitor.reading(status, self._headers, now_s=time.time())
        self._target.learn(calling, reading)
        fault = reading.fault
        cut = fault is not None and fault.kind == "Truncated"
        if fault is not None and cut and reason:
            text = f"the stream broke off after {self.monitor.events} events ({reason}). {_KEPT}"
            reading = msgspec.structs.replace(reading, fault=msgspec.structs.replace(fault, message=text))
        body, secrets = b"".join(self._body), self._target.secrets
        answer = answer_of(reading, status=status, body=body, keep=keep and not cut, secrets=secrets, streamed=True)
        # Whether another attempt may follow is not for the wire to say: see `Verdict`.
        return msgspec.structs.replace(answer, verdict="unknown") if cut else answer


def _cleaned(event: Event, secrets: Iterable[str]) -> Event:
    """An event without the secrets in it."""
    if isinstance(event, Named):
        return msgspec.structs.replace(event, data=without_in_bytes(event.data, secrets))
    return without_in_bytes(event, secrets)


def _is_heartbeat(event: Event) -> bool:
    """Whether an event says nothing but that the connection stands (Anthropic's)."""
    return isinstance(event, Named) and event.name == b"ping"


def _is_whole(event: Event) -> bool:
    """Whether an event that the end of everything cut off lacks nothing but its blank line."""
    data = event.data if isinstance(event, Named) else event
    try:
        decode_json(data)
    except msgspec.DecodeError:
        return data.strip() == b"[DONE]"
    return True


def _is_stream(status: int, headers: Mapping[str, str]) -> bool:
    """Whether a body is a stream of events. Some servers call theirs plain text, but an error is never one, nor what
    calls itself one JSON document or a page."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return 200 <= status <= 299 and kind not in ("application/json", "text/html", "application/problem+json")
