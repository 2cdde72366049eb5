"""Streams of the OpenAI chat format, seen by the caller: chunks out of events, and all of them together as one answer.

Most events carry one piece of text and repeat everything else. Those are decoded into `_Plain`, which takes no other
event: whatever has a field or a value beyond that is decoded in full and merged field by field, so nothing is lost.

Pure: no trio, no httpx, no I/O. Never raises, whatever a provider sends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from engine.providers.openai_choice import Choice, merged
from engine.providers.openai_stream import DONE, error_of_event, first_choice, is_failure
from engine.providers.wire import RawEvent, StreamChunk, count, mapping, text_or_none, whole_text, without_halves
from engine.sse import Event, EventReader, LineReader, Named

_UNREADABLE = object()
_MOST_PAUSE = 31


class _PlainDelta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: Any = None
    refusal: None = None
    role: Any = None


class _PlainChoice(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    delta: _PlainDelta
    index: int = 0
    logprobs: None = None
    finish_reason: None = None
    native_finish_reason: None = None
    stop_reason: None = None
    token_ids: None = None
    message: msgspec.Raw = msgspec.Raw()
    """All the text so far, at Perplexity."""


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An event that says nothing but some text, or a piece of a tool call, of one choice.

    The fields that may hold anything are taken from the first event, and say the same in all. The last three are told
    anew in each by some.
    """

    choices: tuple[_PlainChoice]
    id: Any = None
    object: Any = None
    created: Any = None
    model: Any = None
    system_fingerprint: Any = None
    service_tier: Any = None
    provider: Any = None
    obfuscation: Any = None
    usage: dict[str, Any] | None = None
    citations: list[Any] | None = None
    search_results: list[Any] | None = None


_decode_plain = msgspec.json.Decoder(_Plain).decode


class ChatAssembler:
    """`StreamAssembler` of one stream."""

    __slots__ = (
        "_choices",
        "_dirty",
        "_done",
        "_error",
        "_finish",
        "_first",
        "_misses",
        "_pause",
        "_top",
        "unreadable",
    )

    def __init__(self) -> None:
        self.unreadable = 0
        self._choices: dict[int, Choice] = {}
        self._first: Choice | None = None
        self._top: dict[str, object] = {}
        self._finish: Event | None = None
        self._error: object = None
        self._dirty = False
        self._done = False
        self._misses = 0
        self._pause = 0

    def feed(self, event: Event) -> list[StreamChunk]:
        if self._done:
            return []  # what stands behind the end of an answer is no part of it
        # Once a choice has begun, an event is taken for a plain one; after each miss in a row fewer are.
        if self._pause:
            self._pause -= 1
        elif self._first is not None and type(event) is bytes:
            try:
                plain = _decode_plain(event)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self._pause = self._misses = min(2 * self._misses + 1, _MOST_PAUSE)
            else:
                self._misses = 0
                choice = plain.choices[0]
                if choice.index == 0 and (chunks := _feed_plain(self._first, choice.delta, event)):
                    if plain.usage is not None or plain.citations is not None or plain.search_results is not None:
                        self._retell(plain)
                    return chunks
        return self._feed_any(event)

    def end(self) -> list[StreamChunk]:
        chunks = [] if self._first is None else self._first.end()
        if self._finish is not None and self._error is None and not self._done:
            chunks.append(self._result(self._finish))
        self._done = True
        return chunks

    def response(self) -> dict[str, object]:
        usage = self._usage()
        answer = {
            **self._top,
            "object": "chat.completion",
            "choices": [choice.whole() for _, choice in sorted(self._choices.items())],
            **({"usage": usage} if usage else {}),
            **({} if self._error is None else {"error": self._error}),
        }
        if self._dirty:
            try:
                return without_halves(answer)  # type: ignore[return-value]  # a dict stays one
            except (ValueError, RecursionError):
                pass
        return answer

    def _retell(self, plain: _Plain) -> None:
        """Take over what an event tells anew."""
        told = {"usage": plain.usage, "citations": plain.citations, "search_results": plain.search_results}
        self._top.update((field, value) for field, value in told.items() if value is not None)

    def _feed_any(self, event: Event) -> list[StreamChunk]:
        name, data = (event.name, event.data) if isinstance(event, Named) else (b"", event)
        payload = self._decoded(data)
        metadata = RawEvent(event)
        if payload is _UNREADABLE and data.strip() == DONE:
            self._finish = self._finish or (event if self._choices else None)
            return self.end()
        if payload is _UNREADABLE and name != b"error":
            self.unreadable += 1
            return [StreamChunk("system", metadata=metadata)]
        before = self._finish
        suspect = bool(name) or b'"error"' in data
        failed = suspect and is_failure(name, payload)
        chunks = [] if failed else self._merge(mapping(payload), event, metadata)
        if suspect and (error := error_of_event(name, payload)) is not None:
            self._error = self._error or _error_body(payload, data)
            sentence = whole_text(error.message or error.code or data.decode("utf-8", "replace"))
            chunks.append(StreamChunk("error", sentence, metadata=metadata, is_error=True))
        if not chunks and self._finish is before:
            chunks.append(StreamChunk("system", metadata=metadata))
        return chunks

    def _merge(self, body: Mapping[str, object], event: Event, metadata: RawEvent) -> list[StreamChunk]:
        for field, value in body.items():
            if value is None or field in ("choices", "object", "obfuscation"):
                continue
            if field == "x_groq":
                self._top[field] = merged(self._top.get(field), value, field)
            elif field not in ("id", "created", "model") or not self._top.get(field):
                self._top[field] = value
        chunks: list[StreamChunk] = []
        choices = body.get("choices")
        for position, found in enumerate(choices if isinstance(choices, list) else ()):
            item = mapping(found)
            index = count(item.get("index"))
            index = position if index is None else index
            choice = self._choices.get(index)
            if choice is None:
                choice = self._choices[index] = Choice(index)
            said = choice.take(item, metadata)
            if index == 0:
                chunks += said
                self._first = choice if choice.is_plain else None
                if text_or_none(item.get("finish_reason")):
                    self._finish = event
        return chunks

    def _decoded(self, data: bytes) -> object:
        """The event, with halves of characters left as they are."""
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        try:
            found = json.loads(data.decode("utf-8-sig", "replace"))
        except (ValueError, RecursionError):
            return _UNREADABLE
        self._dirty = True
        return found

    def _usage(self) -> object:
        return self._top.get("usage") or mapping(self._top.get("x_groq")).get("usage")

    def _result(self, event: Event) -> StreamChunk:
        reason = self._first.finish_reason if self._first else None
        metadata = {**RawEvent(event), "finish_reason": reason, "usage": self._usage()}
        return StreamChunk("result", metadata=metadata)


def _feed_plain(first: Choice, delta: _PlainDelta, event: bytes) -> list[StreamChunk]:
    """The chunk of a delta with a text, a thought or pieces of tool calls; nothing where it has two of them or none."""
    text = delta.content
    if delta.reasoning is None and delta.reasoning_content is None:
        if delta.tool_calls:
            return first.tools(delta.tool_calls, RawEvent(event)) if text is None else []
        return [StreamChunk("text", first.add("content", text), True, RawEvent(event))] if text else []
    thinking = delta.reasoning_content if delta.reasoning is None else delta.reasoning
    if (
        thinking
        and text is None
        and not delta.tool_calls
        and (delta.reasoning is None or delta.reasoning_content is None)
    ):
        field = "reasoning_content" if delta.reasoning is None else "reasoning"
        return [StreamChunk("thinking", first.add(field, thinking), True, RawEvent(event))]
    return []


_STREAM_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry|:)")


def is_stream(body: bytes | memoryview) -> bool:
    """Whether a body begins as event streams do, and as no JSON does."""
    return _STREAM_START.match(body) is not None


def decode_stream(body: bytes | memoryview, assembler: ChatAssembler | None = None) -> dict[str, object]:
    """A recorded stream of events as the one answer that it makes up, by this assembler, a chat's if none is given.
    Never raises."""
    reader = (EventReader if is_stream(body) else LineReader)(cap_bytes=len(body))
    assembler = assembler or ChatAssembler()
    for event in [*reader.feed(bytes(body)), *reader.end()]:
        assembler.feed(event)
    return assembler.response()


def _error_body(payload: object, data: bytes) -> object:
    """The error itself, for the answer that the stream makes up."""
    body = mapping(payload)
    places = (body.get("error"), mapping(body.get("x_groq")).get("error"), mapping(first_choice(body)).get("error"))
    return next((place for place in places if place), payload if payload is not _UNREADABLE else None) or data.decode(
        "utf-8", "replace"
    )
