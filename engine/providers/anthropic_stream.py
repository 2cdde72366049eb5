"""Streams of the Messages format: what the worker hears of one, and the chunks and the answer the caller reads.

Every event names what it is, so the monitor passes over nearly all of them unread: the usage stands in the first event
and, cumulative, in the last but one. An answer is a list of blocks; each begins whole or empty, grows by deltas, and
stops. Deltas of text, thought and tool input are decoded narrowly; whatever holds more than such a delta is decoded in
full and merged, so nothing is lost. ``message_stop`` is the one terminator.

Pure: no trio, no httpx, no I/O. Never raises, whatever a provider sends.
Source: platform.claude.com/docs/en/build-with-claude/streaming and anthropic 2.11.0, 2026-11-20.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from engine.providers.json_format import JsonFormat, JsonMonitor, decoded_or_none, named
from engine.providers.openai_choice import Fragments, merged
from engine.providers.openai_stream import error_of_event
from engine.providers.wire import RawEvent, StreamChunk, count, mapping, text_or_none, whole_text, without_halves
from engine.sse import Event, Named

_DELTA = b"content_block_delta"
_PING = b"ping"
_QUIET = frozenset({_DELTA, b"content_block_start", b"content_block_stop", _PING})
"""The events that say nothing of cost or the end, nor of an error, unless that word with its quotes stands in them."""


class MessagesMonitor(JsonMonitor):
    """`StreamMonitor` of one attempt."""

    __slots__ = ("_counted",)

    def __init__(self, wire: JsonFormat) -> None:
        super().__init__(wire)
        self._counted: dict[str, object] = {}

    def heard(self, block: Sequence[Event]) -> None:
        """Take note of these events, in the order in which they came."""
        self.events += len(block)
        for event in block:
            if type(event) is Named and event.name in _QUIET:
                data = event.data
                if (data[-1:] == b"}" and b'"error"' not in data) or event.name == _PING:
                    continue
            if self._done:
                return  # what stands behind the end is no part of it
            self._note(*named(event))

    def _note(self, name: bytes, data: bytes) -> None:
        payload = decoded_or_none(data)
        kind = _kind_of(name, payload)
        # What does not even begin like JSON is somebody's heartbeat, and costs nobody an answer.
        self._damaged += payload is None and data[:1] == b"{"
        error = error_of_event(name, payload)
        if error is not None:
            self.note_error(error, payload, data)
        elif kind == "message_stop":
            self._done = True
        if found := _usage_in(kind, payload):
            if kind == "message_start":
                # A stub: until a message_delta says what was made, the output is not known.
                found.pop("output_tokens", None)
            self._counted |= found
            self.usage = self._format.usage_of({"usage": self._counted})


def _kind_of(name: bytes, payload: object) -> str:
    """What an event is: its own word for it, else its name, which some gateways strip."""
    return text_or_none(mapping(payload).get("type")) or name.decode("utf-8", "replace")


def _usage_in(kind: str, payload: object) -> dict[str, object]:
    """The counts an event states. They replace those before: each event holds the sum up to it."""
    body = mapping(payload)
    holder = mapping(body.get("message")) if kind == "message_start" else body
    return {name: value for name, value in mapping(holder.get("usage")).items() if value is not None}


# --- what the caller reads --------------------------------------------------------------------------------------------


class _TextDelta(msgspec.Struct, tag="text_delta", forbid_unknown_fields=True, gc=False):
    text: str


class _ThinkingDelta(msgspec.Struct, tag="thinking_delta", forbid_unknown_fields=True, gc=False):
    thinking: str


class _InputDelta(msgspec.Struct, tag="input_json_delta", forbid_unknown_fields=True, gc=False):
    partial_json: str


class _PlainEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A delta that says one of three things and nothing else."""

    type: Literal["content_block_delta"]
    index: int
    delta: _TextDelta | _ThinkingDelta | _InputDelta


_decode_plain = msgspec.json.Decoder(_PlainEvent).decode

_PIECES = ("text", "thinking", "partial_json")
"""The fields of a delta that are pieces of a text."""

_HOLDERS = {"text": "text", "citation": "text", "thinking": "thinking", "signature": "thinking"}
"""The block that a field of a delta belongs to, for one whose beginning never came; every other is of a tool call."""

_UNREADABLE = object()


class _Block:
    """One block of the answer, as far as it has come. `start` is what it began with, and what was merged since."""

    __slots__ = ("start", "texts")

    def __init__(self, start: dict[str, object]) -> None:
        self.start = start
        self.texts: dict[str, Fragments] = {}

    @property
    def kind(self) -> object:
        return self.start.get("type")

    def add(self, field: str, text: str) -> str:
        """Append to one of its texts; what of it can be shown now."""
        found = self.texts.get(field)
        if found is None:
            found = self.texts[field] = Fragments()
            if field != "partial_json" and isinstance(before := self.start.get(field), str):
                found.add(before)
        return found.add(text)

    def piece(self, field: str, text: str, metadata: Mapping[str, object]) -> list[StreamChunk]:
        """Append, and give the chunk of it; none where there is nothing to show yet."""
        shown = self.add(field, text)
        return self.shown(field, shown, metadata) if shown else []

    def shown(self, field: str, text: str, metadata: Mapping[str, object]) -> list[StreamChunk]:
        """The chunk for a piece of one of its texts, which is the reader's where it is what the block is for."""
        if field == "text" == self.kind:
            return [StreamChunk("text", text, True, metadata)]
        if field == "thinking" == self.kind:
            return [StreamChunk("thinking", text, True, metadata)]
        if field != "partial_json" or self.kind != "tool_use":
            return [StreamChunk("system", metadata=metadata)]  # a tool that the provider runs itself, say
        name, identity = text_or_none(self.start.get("name")), text_or_none(self.start.get("id"))
        name, identity = name and whole_text(name), identity and whole_text(identity)
        return [StreamChunk("tool_use", None, True, metadata, name, identity, text)]

    def merge(self, delta: Mapping[str, object]) -> None:
        """Take over what is no piece of a text: a signature, a citation, and whatever they may add."""
        for field, value in delta.items():
            if field == "citation":
                self.start["citations"] = merged(self.start.get("citations"), [value])
            elif field != "type":
                self.start[field] = merged(self.start.get(field), value, field)

    def missing_input(self) -> str:
        """The input of a tool call of which no fragment said anything: that it began with, and ``{}`` for none."""
        fragments = self.texts.get("partial_json")
        if self.kind != "tool_use" or (fragments and str(fragments).strip()):
            return ""
        return input_text(self.start.get("input"))

    def whole(self) -> dict[str, object]:
        """The block as it stands in an answer that was not streamed."""
        block = dict(self.start)
        for field, text in self.texts.items():
            if field == "partial_json":
                block["input"] = _input(str(text), block.get("input"))
            else:
                block[field] = str(text)
        return block


def input_text(given: object) -> str:
    """The input of a tool call as JSON text. A text is what a stream left of one that is no JSON object."""
    if given is None or isinstance(given, str):
        return given or "{}"
    try:
        return msgspec.json.encode(given).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        pass
    try:
        return json.dumps(given)  # with half a character in it
    except (TypeError, ValueError, RecursionError):
        return "{}"


def _input(text: str, before: object) -> object:
    """The input of a tool call from its fragments; what is no JSON object, as it is after a cut, stays a text."""
    if not text.strip():
        return before or {}
    found = decoded_or_none(text.encode("utf-8", "replace"))
    return found if isinstance(found, dict) else text


class MessagesAssembler:
    """`StreamAssembler` of one stream. `finish_words` gives the common words for the provider's stop reasons."""

    __slots__ = (
        "_blocks",
        "_by_index",
        "_dirty",
        "_done",
        "_error",
        "_finish_words",
        "_message",
        "_usage",
        "unreadable",
    )

    def __init__(self, finish_words: Mapping[str, str]) -> None:
        self.unreadable = 0
        self._finish_words = finish_words
        self._blocks: list[_Block] = []
        self._by_index: dict[int, _Block] = {}
        self._message: dict[str, object] = {"type": "message", "role": "assistant"}
        self._usage: dict[str, object] = {}
        self._error: object = None
        self._dirty = False
        self._done = False

    def feed(self, event: Event) -> list[StreamChunk]:
        if self._done:
            return []  # what stands behind the end of an answer is no part of it
        if type(event) is Named and event.name == _DELTA:
            try:
                plain = _decode_plain(event.data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return self._feed_any(event)
            block = self._by_index.get(plain.index)
            if block is not None:
                delta = plain.delta
                if type(delta) is _TextDelta:
                    return block.piece("text", delta.text, RawEvent(event))
                if type(delta) is _ThinkingDelta:
                    return block.piece("thinking", delta.thinking, RawEvent(event))
                if type(delta) is _InputDelta:
                    return block.piece("partial_json", delta.partial_json, RawEvent(event))
        return self._feed_any(event)

    def end(self) -> list[StreamChunk]:
        if self._done:
            return []
        self._done = True
        return [
            chunk
            for block in self._blocks
            for field, text in block.texts.items()
            if (lost := text.end())
            for chunk in block.shown(field, lost, {})
        ]

    def response(self) -> dict[str, object]:
        answer = {
            **self._message,
            "content": [block.whole() for block in self._blocks],
            **({"usage": self._usage} if self._usage else {}),
            **({} if self._error is None else {"error": self._error}),
        }
        if self._dirty:
            try:
                return without_halves(answer)  # type: ignore[return-value]  # a dict stays one
            except (ValueError, RecursionError):
                pass
        return answer

    def _feed_any(self, event: Event) -> list[StreamChunk]:
        name, data = named(event)
        if name == _PING:
            return []
        payload = self._decoded(data)
        body, kind, metadata = mapping(payload), _kind_of(name, payload), RawEvent(event)
        if name == b"error" or b'"error"' in data:
            error = error_of_event(name, None if payload is _UNREADABLE else payload)
            if error is not None:
                self._error = self._error or body.get("error") or body or data.decode("utf-8", "replace")
                sentence = whole_text(error.message or error.code or data.decode("utf-8", "replace"))
                return [StreamChunk("error", sentence, metadata=metadata, is_error=True)]
        if kind == "message_stop":
            return [*self.end(), *self._result(event)]
        if payload is _UNREADABLE:
            self.unreadable += 1
            return [StreamChunk("system", metadata=metadata)]
        if kind == "ping":
            return []
        if kind == "content_block_delta":
            return self._delta(body, metadata)
        return self._took(kind, body, metadata) or [StreamChunk("system", metadata=metadata)]

    def _took(self, kind: str, body: Mapping[str, object], metadata: RawEvent) -> list[StreamChunk]:
        """Take over what an event says that is no delta of a block, and give the chunks it makes beside."""
        self._usage |= _usage_in(kind, body)
        if kind == "message_start":
            message = mapping(body.get("message"))
            self._take(message)
            content = message.get("content")  # empty, but where a gateway has the whole answer at once
            blocks = enumerate(content) if isinstance(content, list) else ()
            return [chunk for at, block in blocks for chunk in self._begin(at, block, metadata)]
        if kind == "message_delta":
            self._take(mapping(body.get("delta")))
            self._take(body)
        elif kind == "content_block_start":
            return self._begin(_index_in(body), body.get("content_block"), metadata)
        elif kind == "content_block_stop":
            block = self._by_index.get(_index_in(body))
            if block is not None and (rest := block.missing_input()):
                return block.piece("partial_json", rest, metadata)
        return []

    def _take(self, fields: Mapping[str, object]) -> None:
        """Fields of the message itself. `type` is the event's word; the others left out are read elsewhere."""
        left_out = ("type", "delta", "usage", "content")
        self._message |= {name: value for name, value in fields.items() if name not in left_out}

    def _begin(self, index: int, start: object, metadata: RawEvent) -> list[StreamChunk]:
        block = self._opened(index, dict(mapping(start)))
        field = str(block.kind)
        if field in ("text", "thinking") and isinstance(text := block.start.get(field), str):
            block.start[field] = ""
            return block.piece(field, text, metadata)
        return block.shown("partial_json", "", metadata) if block.kind == "tool_use" else []

    def _delta(self, body: Mapping[str, object], metadata: RawEvent) -> list[StreamChunk]:
        delta, index = mapping(body.get("delta")), _index_in(body)
        block = self._by_index.get(index)
        if block is None:
            kind = next((holder for field, holder in _HOLDERS.items() if field in delta), "tool_use")
            block = self._opened(index, {"type": kind})
        pieces = {field: text for field in _PIECES if isinstance(text := delta.get(field), str)}
        block.merge({field: value for field, value in delta.items() if field not in pieces})
        if not pieces:
            return [StreamChunk("system", metadata=metadata)]
        return [chunk for field, text in pieces.items() for chunk in block.piece(field, text, metadata)]

    def _opened(self, index: int, start: dict[str, object]) -> _Block:
        block = self._by_index[index] = _Block(start)
        self._blocks.append(block)
        return block

    def _decoded(self, data: bytes) -> object:
        """The event, with halves of characters left as they are: the other half may be in the next."""
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

    def _result(self, event: Event) -> list[StreamChunk]:
        if self._error is not None:
            return []
        reason = text_or_none(self._message.get("stop_reason"))
        finish = self._finish_words.get(reason, reason) if reason else None
        metadata = {**RawEvent(event), "finish_reason": finish, "usage": self._usage or None}
        return [StreamChunk("result", metadata=metadata)]


def _index_in(body: Mapping[str, object]) -> int:
    index = count(body.get("index"))
    return 0 if index is None else index
