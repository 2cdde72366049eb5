"""aiXplain's streams: seen from the worker (over, its cost, an error), and put together for the caller.

One backend streams in several manners, as the model behind it does: envelopes (``{"data": "..."}``, the text also
under ``text`` or ``output``), chunks of OpenAI's chat, plain words, and JSON that is split over several events, which
are joined until they parse. It is over with ``[DONE]``, bare or in an envelope; a reason why it finished, or a status
that says so, is an end as well, after which the usage may still come. Errors stand in the stream.

Pure: no trio, no httpx, no I/O. Never raises, whatever aiXplain sends. Manners: the streamers of its SDK 0.2.34 and
0.2.48, and their tests (2026-11-20).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.providers.aixplain_answers import FAILED, problem_in, text_of, word_of
from engine.providers.answers import error_in
from engine.providers.json_format import JsonMonitor, decoded_or_none
from engine.providers.openai_chunks import ChatAssembler, is_stream
from engine.providers.openai_stream import DONE, first_choice
from engine.providers.wire import RawEvent, Reading, StreamChunk, mapping, text_or_none, whole_text
from engine.retry import ErrorView
from engine.sse import Event, EventReader, LineReader, Named

_MOST_HELD = 262_144
"""Bytes of JSON that does not end; what is longer is damaged."""

_END = object()
_DAMAGED = object()
_OVER = ("SUCCESS", "COMPLETED")
_FAILURES = ("FAILED", "ERROR", "ABORTED")

is_aixplain_stream = is_stream


class _Pieces:
    """What the events of a stream say, one after the other: objects, texts, the end; split JSON is joined."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    @property
    def waiting(self) -> bool:
        """Whether JSON has begun that has not ended."""
        return bool(self._held)

    def take(self, event: Event) -> list[tuple[Any, bytes]]:
        """What this event says or completes, each with its bytes."""
        data = event.data if isinstance(event, Named) else event
        if not self._held:
            found = _whole(data)
            if found is not None:
                return [(found, data)]
            if not any(line.lstrip()[:1] == b"{" for line in data.split(b"\n")):
                return [(_words(data), data)]
        return [said for line in data.split(b"\n") if line.strip() for said in self._line(line)]

    def _line(self, line: bytes) -> list[tuple[Any, bytes]]:
        alone = _whole(line)
        if not self._held:
            if alone is None and line.lstrip()[:1] == b"{":
                self._held = line
                return []
            return [(_words(line) if alone is None else alone, line)]
        joined = self._held + line
        found = _whole(joined) if line.rstrip()[-1:] == b"}" else None
        if isinstance(found, dict):
            self._held = b""
            return [(found, joined)]
        # An object where a value is due may be that value; anywhere else what was held will never end.
        if alone is _END or (alone is not None and self._held.rstrip()[-1:] not in (b":", b",", b"[")):
            held, self._held = self._held, b""
            return [(_DAMAGED, held), (alone, line)]
        if len(joined) > _MOST_HELD:
            self._held = b""
            return [(_DAMAGED, joined)]
        self._held = joined
        return []


def _whole(data: bytes) -> Any:
    """An object, or the end of the stream; None for anything else."""
    text = data.strip()
    if text == DONE:
        return _END
    if text[:1] != b"{" or text[-1:] != b"}":
        return None
    found = decoded_or_none(text)
    if not isinstance(found, dict):
        return None
    inner = found.get("data")
    return _END if isinstance(inner, str) and inner.strip() == "[DONE]" else found


def _words(data: bytes) -> str:
    """What is no object, as a text for the reader."""
    if data.lstrip()[:1] == b'"':
        found = decoded_or_none(data)
        if isinstance(found, str):
            return whole_text(found)
    return data.decode("utf-8", "replace")


def _failure(name: bytes, body: Mapping[str, object]) -> ErrorView | None:
    """The error that one object of a stream holds, or None."""
    choice = mapping(first_choice(body))
    said = problem_in(body) or text_or_none(body.get("message")) or ""
    failed = word_of(body.get("status")) in _FAILURES or name == b"error" or choice.get("finish_reason") == "error"
    error = error_in(body, failed=False) or error_in({"error": choice.get("error")}, failed=False)
    if error is not None:
        return error if error.message else msgspec.structs.replace(error, message=said)
    return ErrorView(message=said or FAILED) if failed else None


def _is_over(body: Mapping[str, object]) -> bool:
    """Whether an object says that the answer is complete."""
    reason = mapping(first_choice(body)).get("finish_reason")
    return bool(reason) or word_of(body.get("status")) in _OVER


class AixplainMonitor(JsonMonitor):
    """`StreamMonitor` of one attempt."""

    __slots__ = ("_over", "_pieces")

    def __init__(self, wire: Any) -> None:
        super().__init__(wire)
        self._over = False
        self._pieces = _Pieces()

    @property
    def finished(self) -> bool:
        return self._done or self._over

    def heard(self, block: Sequence[Event]) -> None:
        self.events += len(block)
        for event in block:
            if self._done:
                return  # what stands behind the end is no part of it
            name = event.name if isinstance(event, Named) else b""
            for said, data in self._pieces.take(event):
                self._note(name, said, data)

    def heard_all(self, body: bytes | memoryview) -> None:
        """Take note of a whole stream."""
        self.heard(_events(body))

    def reading(self, status: int, headers: Mapping[str, str], *, now_s: float) -> Reading:
        """See `StreamMonitor.reading`. What failed within a stream is not tried again: it ran, and may be billed."""
        if self._pieces.waiting:
            self._damaged += 1
            self._pieces = _Pieces()
        reading = super().reading(status, headers, now_s=now_s)
        if reading.advice.verdict == "retry" and reading.advice.kind != "RateLimited":
            return msgspec.structs.replace(reading, advice=msgspec.structs.replace(reading.advice, verdict="failed"))
        return reading

    def _note(self, name: bytes, said: Any, data: bytes) -> None:
        if said is _END:
            self._done = True
        elif said is _DAMAGED:
            self._damaged += 1
        elif isinstance(said, dict):
            error = _failure(name, said)
            if error is not None:
                self.note_error(error, said, data)
            self.usage = self._format.usage_of(said) or self.usage
            self._over = self._over or _is_over(said)


class AixplainAssembler:
    """`StreamAssembler` of one stream."""

    __slots__ = ("_chat", "_done", "_error", "_events", "_finish", "_pieces", "_reason", "_texts", "_top", "unreadable")

    def __init__(self) -> None:
        self.unreadable = 0
        self._events = 0
        self._pieces = _Pieces()
        self._chat: ChatAssembler | None = None
        self._texts: list[str] = []
        self._top: dict[str, object] = {}
        self._finish: RawEvent | None = None
        self._reason: str | None = None
        self._error: object = None
        self._done = False

    def feed(self, event: Event) -> list[StreamChunk]:
        if self._done:
            return []  # what stands behind the end of an answer is no part of it
        self._events += 1
        metadata = RawEvent(event)
        name = event.name if isinstance(event, Named) else b""
        chunks: list[StreamChunk] = []
        for said, data in self._pieces.take(event):
            if said is _END:
                self._finish = self._finish or metadata
                chunks += self.end()
                return chunks
            chunks += self._say(name, said, data, metadata)
        return chunks or [StreamChunk("system", metadata=metadata)]

    def end(self) -> list[StreamChunk]:
        if self._done:
            return []
        self._done = True
        if self._pieces.waiting:
            self._count_unreadable()
        chunks = [chunk for chunk in self._chat.end() if chunk.type != "result"] if self._chat is not None else []
        self._texts += [chunk.content or "" for chunk in chunks if chunk.type == "text"]
        if self._finish is not None and self._error is None:
            metadata = {**self._finish, "finish_reason": self._reason, "usage": self._top.get("usage")}
            chunks.append(StreamChunk("result", metadata=metadata))
        return chunks

    def response(self) -> dict[str, object]:
        answer = dict(self._top)
        if self._chat is not None:
            answer = {**self._chat.response(), **answer}
        if self._texts:
            answer["data"] = "".join(self._texts)
        if self._error is not None:
            answer |= {"status": "FAILED", "completed": True, "error": self._error}
        elif self._finish is not None:
            answer |= {"status": "SUCCESS", "completed": True}
        return answer

    def _say(self, name: bytes, said: Any, data: bytes, metadata: RawEvent) -> list[StreamChunk]:
        if said is _DAMAGED:
            self._count_unreadable()
            return [StreamChunk("system", metadata=metadata)]
        if isinstance(said, str):
            return self._text(said, metadata)
        body = mapping(said)
        chunks: list[StreamChunk] = []
        if isinstance(body.get("choices"), list):
            chunks = self._chat_chunks(body, data)
        chunks += self._text(text_of(body.get("data")) or "", metadata)
        self._top.update(
            (field, value)
            for field, value in body.items()
            if value is not None and field not in ("data", "status", "completed", "choices", "object", "error")
        )
        error = _failure(name, body)
        if error is not None:
            self._error = self._error or body.get("error") or error.message or FAILED
            if not any(chunk.type == "error" for chunk in chunks):
                sentence = whole_text(error.message or error.code or FAILED)
                chunks.append(StreamChunk("error", sentence, metadata=metadata, is_error=True))
        elif _is_over(body):
            self._finish = metadata
            self._reason = text_or_none(mapping(first_choice(body)).get("finish_reason")) or self._reason
        return chunks

    def _chat_chunks(self, body: Mapping[str, object], data: bytes) -> list[StreamChunk]:
        """The chunks of a piece in OpenAI's shape."""
        if self._chat is None:
            self._chat = ChatAssembler()
        chunks = [chunk for chunk in self._chat.feed(data) if chunk.type not in ("result", "system")]
        self._texts += [chunk.content or "" for chunk in chunks if chunk.type == "text"]
        return chunks

    def _text(self, text: str, metadata: RawEvent) -> list[StreamChunk]:
        if not text:
            return []
        text = whole_text(text)
        self._texts.append(text)
        return [StreamChunk("text", text, True, metadata)]

    def _count_unreadable(self) -> None:
        self.unreadable = min(self.unreadable + 1, self._events)


def _events(body: bytes | memoryview) -> list[Event]:
    reader = (EventReader if is_stream(body) else LineReader)(cap_bytes=len(body))
    return [*reader.feed(bytes(body)), *reader.end()]


def decode_stream(body: bytes | memoryview) -> dict[str, object]:
    """A recorded stream as the one answer that it makes up. Never raises."""
    assembler = AixplainAssembler()
    for event in _events(body):
        assembler.feed(event)
    return assembler.response()
