"""Streams of the Responses format: what the worker needs to judge one, and what the caller reads.

Every event has a name that says what it is. The last one (`response.completed`, `incomplete`, `failed`) holds the
whole answer, so the worker looks at nothing else, and the caller's answer is whole even where a fragment was not. A
stream without its last event was cut; then what its fragments make up is the answer. Events without a name of their
own are known by their ``type``, and a ``[DONE]``, which this protocol does not have, is taken for an end as well.

Pure: no trio, no httpx, no I/O. Never raises, whatever a provider sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from engine.providers.json_format import JsonMonitor, decoded_or_none, named
from engine.providers.openai_stream import DONE
from engine.providers.responses_items import (
    ARGUMENTS,
    CALLS,
    CUSTOM_INPUT,
    REFUSAL,
    SUMMARY,
    TEXT,
    THOUGHT,
    THOUGHTS,
    Item,
    Slot,
    begun_by,
    slot_of,
    texts_in,
)
from engine.providers.responses_output import THOUGHT_BREAK, error_of, items_of, view_of
from engine.providers.wire import RawEvent, StreamChunk, count, mapping, text_or_none
from engine.retry import ErrorView
from engine.sse import Event, Named

_LAST = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_LAST_NAMES = frozenset(kind.encode() for kind in _LAST)
_WORDS = tuple(f'"{kind}"'.encode() for kind in sorted({*_LAST, "error"}))
"""What to look for in events without a name. Strings in JSON escape their quotes, so each is a key or a whole value."""
_DONE_BYTES = 32
"""Nothing of this length or more is ``[DONE]``, whatever white space stands around it."""


class ResponsesMonitor(JsonMonitor):
    """`StreamMonitor` of one attempt. It decodes the last event, and what may be an error."""

    __slots__ = ()

    def heard(self, block: Sequence[Event]) -> None:
        self.events += len(block)
        for event in block:
            if self._done:
                return  # what stands behind the end is no part of it
            if type(event) is Named and event.name[-6:] == b".delta":
                continue
            name, data = named(event)
            if name in _LAST_NAMES:
                self._look_at(name, data)
            elif name[:9] == b"response.":
                continue
            elif _is_done(data):
                self._done = True
            elif name == b"error" or any(word in data for word in _WORDS):
                self._look_at(name, data)

    def _look_at(self, name: bytes, data: bytes) -> None:
        """Decode an event that may be the last one, or an error."""
        payload = decoded_or_none(data)
        kind = _kind_of(name, payload)
        if kind in _LAST:
            if payload is None:
                self._damaged += 1
                return
            response = mapping(payload).get("response")
            self.usage = self._format.usage_of(response) or self.usage
            error = _error_of_last(kind, mapping(payload))
        else:
            response = payload
            error = _error_of_other(kind, payload, data)
        if error is not None:
            self.note_error(error, response, data)
        self._done = kind in _LAST or error is not None


def _is_done(data: bytes) -> bool:
    return len(data) < _DONE_BYTES and data.strip() == DONE


def _kind_of(name: bytes, payload: object) -> str:
    """What an event is: by its name where that is one of this protocol's, else by its type."""
    if name == b"error" or name[:9] == b"response.":
        return name.decode("utf-8", "replace")
    return text_or_none(mapping(payload).get("type")) or ""


def _error_of_last(kind: str, payload: Mapping[str, object]) -> ErrorView | None:
    """The error of a last event: its response holds it, or its kind is one."""
    implied = {"status": kind.removeprefix("response."), "error": payload.get("error")}
    return error_of(payload.get("response"), failed=False) or error_of(implied, failed=False)


def _error_of_other(kind: str, payload: object, data: bytes) -> ErrorView | None:
    """The error that an event is which is none of a response's: ``error``, or a bare body of one."""
    if kind == "error":
        return error_of(payload, failed=True) or ErrorView()
    if kind.startswith("response.") or b'"error"' not in data:
        return None
    return error_of(payload, failed=False)


# --- the caller's view ------------------------------------------------------------------------------------------------


_DELTAS = {
    "response.output_text.delta": TEXT,
    "response.refusal.delta": REFUSAL,
    "response.reasoning_summary_text.delta": SUMMARY,
    "response.reasoning_text.delta": THOUGHT,
    "response.function_call_arguments.delta": ARGUMENTS,
    "response.custom_tool_call_input.delta": CUSTOM_INPUT,
}
_DELTA_NAMES = {kind.encode(): slot for kind, slot in _DELTAS.items()}
_WHOLE_TEXTS = {kind.removesuffix("delta") + "done": slot for kind, slot in _DELTAS.items()}
_PARTS = frozenset({
    "response.content_part.added", "response.content_part.done",
    "response.reasoning_summary_part.added", "response.reasoning_summary_part.done",
})  # fmt: skip
_NOT_OF_PARTS = frozenset({
    "type", "sequence_number", "item_id", "output_index", "content_index", "summary_index", "delta", "obfuscation",
})  # fmt: skip


class _Delta(msgspec.Struct, gc=False):
    """An event with a fragment and nothing else to keep."""

    delta: str
    item_id: str
    output_index: int
    content_index: int = 0
    summary_index: int = 0
    logprobs: Annotated[list[Any], msgspec.Meta(max_length=0)] | None = None


_decode_delta = msgspec.json.Decoder(_Delta).decode


class ResponsesAssembler:
    """`StreamAssembler` of one stream."""

    __slots__ = ("_answer", "_done", "_envelope", "_error", "_items", "_thought", "unreadable")

    def __init__(self) -> None:
        self.unreadable = 0
        self._items: dict[int, Item] = {}
        self._envelope: dict[str, object] = {}
        self._answer: Mapping[str, object] | None = None
        self._error: object = None
        self._thought: tuple[Item, Slot, int] | None = None
        self._done = False

    def feed(self, event: Event) -> list[StreamChunk]:
        if self._done:
            return []  # what stands behind the end of an answer is no part of it
        if type(event) is Named and (slot := _DELTA_NAMES.get(event.name)) is not None:
            try:
                found = _decode_delta(event.data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return self._feed_any(event)
            item = self._items.get(found.output_index)
            if item is None:
                item = self._items[found.output_index] = Item(begun_by(slot, found.item_id))
            index = found.summary_index if slot is SUMMARY else found.content_index
            item.add(slot, index, found.delta)
            if slot is TEXT and found.delta:  # most events by far
                return [StreamChunk("text", found.delta, True, RawEvent(event))]
            return [self._chunk(item, slot, index, found.delta, RawEvent(event))]
        return self._feed_any(event)

    def end(self) -> list[StreamChunk]:
        self._done = True
        return []  # nothing waits for a next event

    def response(self) -> dict[str, object]:
        answer = {**self._envelope, **(self._answer or {})}
        answer.setdefault("object", "response")
        if not answer.get("output"):  # some gateways send their last event without it
            answer["output"] = [item.whole() for _, item in sorted(self._items.items())]
        if self._error is not None:
            answer["error"] = answer.get("error") or self._error
        return answer

    def _feed_any(self, event: Event) -> list[StreamChunk]:
        name, data = named(event)
        metadata = RawEvent(event)
        payload = decoded_or_none(data)
        if payload is None:
            return self._unreadable(name, data, metadata)
        kind = _kind_of(name, payload)
        if kind in _LAST:
            return self._last(kind, mapping(payload), metadata)
        error = _error_of_other(kind, payload, data)
        if error is not None:
            self._done = True
            return [self._failed(error, mapping(payload).get("error") or payload, metadata)]
        return self._said(kind, mapping(payload), metadata) or [StreamChunk("system", metadata=metadata)]

    def _unreadable(self, name: bytes, data: bytes, metadata: RawEvent) -> list[StreamChunk]:
        text = data.decode("utf-8", "replace")
        if name[:9] != b"response." and _is_done(data):
            self._done = True
            return [self._result(metadata)] if self._items or self._envelope else []
        self.unreadable += 1
        if name == b"error":
            self._done = True
            return [self._failed(ErrorView(message=text), text, metadata)]
        return [StreamChunk("system", metadata=metadata)]

    def _said(self, kind: str, payload: Mapping[str, Any], metadata: RawEvent) -> list[StreamChunk]:
        """Merge what an event says, and give its chunks."""
        if kind in _DELTAS:
            return self._delta(_DELTAS[kind], payload, metadata)
        if kind in _WHOLE_TEXTS:
            slot = _WHOLE_TEXTS[kind]
            text = payload.get(slot.key)
            return self._put(slot, payload, text, metadata) if isinstance(text, str) else []
        if kind in _PARTS:
            return self._part(payload, metadata, is_whole=kind.endswith("done"))
        if kind in ("response.output_item.added", "response.output_item.done"):
            return self._item(payload, metadata, is_whole=kind.endswith("done"))
        if kind == "response.output_text.annotation.added":
            item = self._item_of(TEXT, payload)
            item.add_part(TEXT, _index_of(TEXT, payload), {"annotations": [payload.get("annotation")]})
        elif isinstance(payload.get("response"), dict):
            # An error counts where the response ends with it: its last event will say so.
            self._envelope = {name: value for name, value in payload["response"].items() if name != "error"}
        return []

    def _delta(self, slot: Slot, payload: Mapping[str, object], metadata: RawEvent) -> list[StreamChunk]:
        item, index = self._item_of(slot, payload), _index_of(slot, payload)
        text = payload.get("delta")
        rest = {name: value for name, value in payload.items() if name not in _NOT_OF_PARTS and value}
        if rest and slot.field:
            item.add_part(slot, index, rest)
        if not isinstance(text, str):
            return []
        item.add(slot, index, text)
        return [self._chunk(item, slot, index, text, metadata)]

    def _put(self, slot: Slot, payload: Mapping[str, object], text: str, metadata: RawEvent) -> list[StreamChunk]:
        """A text as a whole: a chunk only where no fragment of it came."""
        item, index = self._item_of(slot, payload), _index_of(slot, payload)
        return [self._chunk(item, slot, index, text, metadata)] if item.put(slot, index, text) and text else []

    def _part(self, payload: Mapping[str, object], metadata: RawEvent, *, is_whole: bool) -> list[StreamChunk]:
        part = mapping(payload.get("part"))
        slot = slot_of(part)
        if slot is None:
            return []
        item, index = self._item_of(slot, payload), _index_of(slot, payload)
        if is_whole:
            item.put_part(slot, index, part)
        else:
            item.add_part(slot, index, part)
        text = text_or_none(part.get(slot.key))
        return [] if text is None else self._put(slot, payload, text, metadata)

    def _item(self, payload: Mapping[str, Any], metadata: RawEvent, *, is_whole: bool) -> list[StreamChunk]:
        body = payload.get("item")
        if not isinstance(body, dict):
            return []
        position = self._position_of(payload, body.get("id"), is_new=not is_whole)
        item = self._items.setdefault(position, Item({}))
        if is_whole:
            item.finish(body)
        else:
            item.update(body)
        return self._shown(item, body, metadata)

    def _shown(self, item: Item, body: Mapping[str, Any], metadata: RawEvent) -> list[StreamChunk]:
        """The chunks for what is news in an item that is told at once, and for a tool call that begins."""
        chunks = []
        for slot, index, text in [found for found in texts_in(body) if not item.has(found[0])]:
            if text or (slot in CALLS and not item.is_begun):
                item.add(slot, index, text)
                chunks.append(self._chunk(item, slot, index, text, metadata))
        return chunks

    def _last(self, kind: str, payload: Mapping[str, Any], metadata: RawEvent) -> list[StreamChunk]:
        self._done = True
        self._answer = {"status": kind.removeprefix("response."), **mapping(payload.get("response"))}
        chunks: list[StreamChunk] = []
        if not any(item.is_begun for item in self._items.values()):
            for body in items_of(self._answer):
                chunks += self._shown(Item(dict(body)), body, metadata)
        error = _error_of_last(kind, payload)
        if error is not None:
            found = self._answer.get("error") or payload.get("error")
            return [*chunks, self._failed(error, found, metadata)]
        return [*chunks, self._result(metadata)]

    def _result(self, metadata: RawEvent) -> StreamChunk:
        answer = self.response()
        said = {**metadata, "finish_reason": view_of(answer).finish_reason, "usage": answer.get("usage")}
        return StreamChunk("result", metadata=said)

    def _failed(self, error: ErrorView, found: object, metadata: RawEvent) -> StreamChunk:
        self._error = found or {"message": error.message, "code": error.code}
        return StreamChunk("error", error.message or error.code, metadata=metadata, is_error=True)

    def _chunk(self, item: Item, slot: Slot, index: int, text: str, metadata: RawEvent) -> StreamChunk:
        if slot in CALLS:
            return StreamChunk("tool_use", None, True, metadata, item.name, item.call_id, text)
        if slot is TEXT and text:
            return StreamChunk("text", text, True, metadata)
        if slot in THOUGHTS and text:
            place = (item, slot, index)
            before, self._thought = self._thought, place
            starts = before is not None and before != place
            return StreamChunk("thinking", THOUGHT_BREAK + text if starts else text, True, metadata)
        return StreamChunk("system", text or None, True, metadata)

    def _item_of(self, slot: Slot, payload: Mapping[str, object]) -> Item:
        """The item that an event belongs to, which may never have been announced."""
        position = self._position_of(payload, payload.get("item_id"), is_new=False)
        item = self._items.get(position)
        if item is None:
            item = self._items[position] = Item(begun_by(slot, payload.get("item_id")))
        return item

    def _position_of(self, payload: Mapping[str, object], identity: object, *, is_new: bool) -> int:
        """Where an item stands: by its index, else by its id, else a new place or the last one."""
        index = count(payload.get("output_index"))
        if index is not None:
            return index
        for position, item in self._items.items():
            if identity and item.body.get("id") == identity:
                return position
        last = max(self._items, default=-1)
        return last + 1 if is_new or last < 0 else last


def _index_of(slot: Slot, payload: Mapping[str, object]) -> int:
    return count(payload.get("summary_index" if slot is SUMMARY else "content_index")) or 0
