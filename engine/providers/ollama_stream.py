"""Ollama's stream of JSON lines: seen from the worker (over, its cost, an error), and put together for the caller.

Each line is a piece of the answer in the answer's own shape; the one that says ``"done": true`` is the last and holds
the counts; one that holds ``"error"`` may come at any time, although the status was 200. Most lines carry one piece of
text: the worker does not decode those, and the caller's side decodes them into `_Plain`, which takes no other line.

Pure: no trio, no httpx, no I/O. Never raises, whatever a provider sends. The server writes UTF-8 and cuts no character
in half, so no halves are joined here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from engine.providers.answers import error_in
from engine.providers.json_format import JsonFormat, JsonMonitor, decoded_or_none
from engine.providers.ollama_view import finish_reason_of, tool_calls_of
from engine.providers.openai_choice import merged
from engine.providers.wire import RawEvent, StreamChunk, mapping
from engine.sse import Event, LineReader

_NOT_DONE = b'"done":false}'
"""How the server ends each line but the last. In a text its quotes would be escaped."""

_TEXTS: tuple[tuple[str, Literal["thinking", "text"]], ...] = (("thinking", "thinking"), ("content", "text"))
_COUNTS = ("prompt_eval_count", "eval_count")


class OllamaMonitor(JsonMonitor):
    """`StreamMonitor` of one attempt."""

    __slots__ = ("is_stream",)

    def __init__(self, wire: JsonFormat) -> None:
        super().__init__(wire)
        self.is_stream = False
        """Whether one of the lines was a piece of an answer, its end or an error."""

    def heard(self, block: Sequence[Event]) -> None:
        self.events += len(block)
        for event in block:
            if self._done:
                return  # what stands behind the end is no part of it
            data = event if isinstance(event, bytes) else event.data
            if not data.endswith(_NOT_DONE) or b'"error"' in data:
                self._note(data)
            else:
                self.is_stream = True

    def _note(self, data: bytes) -> None:
        payload = decoded_or_none(data)
        # What does not even begin like JSON is somebody's heartbeat, and costs nobody an answer.
        self._damaged += payload is None and data[:1] == b"{"
        error = self._format.error_of(payload, failed=False)
        if error is not None:
            self.note_error(error, payload, data)
        self.is_stream = self.is_stream or error is not None or "done" in mapping(payload)
        self.usage = self._format.usage_of(payload) or self.usage
        self._done = mapping(payload).get("done") is True


class _PlainMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str
    role: Any = None


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A line that says nothing but some text."""

    message: _PlainMessage
    done: bool
    model: Any = None
    created_at: Any = None


_decode_plain = msgspec.json.Decoder(_Plain).decode


class OllamaAssembler:
    """`StreamAssembler` of one stream."""

    __slots__ = ("_calls", "_done", "_error", "_message", "_texts", "_top", "unreadable")

    def __init__(self) -> None:
        self.unreadable = 0
        self._top: dict[str, object] = {}
        self._message: dict[str, object] = {}
        self._texts: dict[str, list[str]] = {}
        self._calls: list[object] = []
        self._error: object = None
        self._done = False

    def feed(self, event: Event) -> list[StreamChunk]:
        if self._done:
            return []  # what stands behind the end of an answer is no part of it
        # Once the first line was read, one is taken for plain: what it has besides its text is known.
        if "content" in self._texts and isinstance(event, bytes):
            try:
                plain = _decode_plain(event)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass
            else:
                text = plain.message.content
                if text and not plain.done:
                    if plain.created_at is not None:
                        self._top["created_at"] = plain.created_at
                    self._texts["content"].append(text)
                    return [StreamChunk("text", text, True, RawEvent(event))]
        return self._feed_any(event)

    def end(self) -> list[StreamChunk]:
        self._done = True
        return []

    def response(self) -> dict[str, object]:
        message = dict(self._message)
        message.update((field, "".join(parts)) for field, parts in self._texts.items())
        if self._calls:
            message["tool_calls"] = list(self._calls)
        answer = {field: list(value) if isinstance(value, list) else value for field, value in self._top.items()}
        if message:
            answer["message"] = message
        return answer if self._error is None else {**answer, "error": self._error}

    def _feed_any(self, event: Event) -> list[StreamChunk]:
        data = event if isinstance(event, bytes) else event.data
        metadata = RawEvent(event)
        payload = decoded_or_none(data)
        if payload is None:
            self.unreadable += 1
            return [StreamChunk("system", metadata=metadata)]
        body = mapping(payload)
        self._merge_top(body)
        chunks = self._merge_message(mapping(body.get("message")), metadata)
        error = error_in(payload, failed=False)
        if error is not None:
            self._error = self._error or body.get("error") or payload
            sentence = error.message or error.code or data.decode("utf-8", "replace")
            chunks.append(StreamChunk("error", sentence, metadata=metadata, is_error=True))
        if body.get("done") is True:
            self._done = True
            if self._error is None:
                chunks.append(self._result(body, metadata))
        return chunks or [StreamChunk("system", metadata=metadata)]

    def _merge_top(self, body: Mapping[str, object]) -> None:
        for field, value in body.items():
            before = self._top.get(field)
            if isinstance(before, list) and isinstance(value, list):
                before.extend(value)  # log probabilities come with each piece
            elif field not in ("message", "error") and value is not None:
                self._top[field] = value

    def _merge_message(self, said: Mapping[str, object], metadata: RawEvent) -> list[StreamChunk]:
        chunks: list[StreamChunk] = []
        for field, kind in _TEXTS:
            text = said.get(field)
            if isinstance(text, str):
                self._texts.setdefault(field, []).append(text)
                if text:
                    chunks.append(StreamChunk(kind, text, True, metadata))
        calls = said.get("tool_calls")
        if isinstance(calls, list):
            chunks += [
                StreamChunk("tool_use", None, False, metadata, call.name, call.id, call.arguments)
                for call in tool_calls_of(calls, len(self._calls))
            ]
            self._calls += calls
        for field, value in said.items():
            if field not in ("thinking", "content", "tool_calls") and value is not None:
                self._message[field] = merged(self._message.get(field), value, field)
        return chunks

    def _result(self, body: Mapping[str, object], metadata: RawEvent) -> StreamChunk:
        usage = {field: body[field] for field in _COUNTS if field in body}
        reason = finish_reason_of(body, called=bool(self._calls))
        return StreamChunk("result", metadata={**metadata, "finish_reason": reason, "usage": usage or None})


def lines_of(body: bytes | memoryview) -> list[Event]:
    """A recorded stream as its lines."""
    reader = LineReader(cap_bytes=len(body))
    return [*reader.feed(bytes(body)), *reader.end()]


def whole_answer(body: bytes | memoryview) -> dict[str, object]:
    """A recorded stream as the one answer that it makes up; empty if none of its lines is JSON. Never raises."""
    assembler = OllamaAssembler()
    for line in lines_of(body):
        assembler.feed(line)
    return assembler.response()
