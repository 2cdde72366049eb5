"""One item of a Responses answer, put together from the events of a stream as they come.

An item is announced, its parts are, then their texts come in fragments, and at last each is said again as a whole; any
of these may be missing. What was said whole stands, else what the fragments make up, so that a stream that is cut
leaves all that came, in the shape of an answer that was not streamed.

Pure: no trio, no httpx, no I/O. Never raises, whatever a provider sends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from engine.providers.responses_output import CALL_INPUTS


class Slot(NamedTuple):
    """A kind of text in an item: the list its part stands in (none: the item itself), the part's type, and its key."""

    item: str
    field: str
    part: str
    key: str


TEXT = Slot("message", "content", "output_text", "text")
REFUSAL = Slot("message", "content", "refusal", "refusal")
SUMMARY = Slot("reasoning", "summary", "summary_text", "text")
THOUGHT = Slot("reasoning", "content", "reasoning_text", "text")
ARGUMENTS = Slot("function_call", "", "", "arguments")
CUSTOM_INPUT = Slot("custom_tool_call", "", "", "input")

THOUGHTS = (SUMMARY, THOUGHT)
CALLS = (ARGUMENTS, CUSTOM_INPUT)
_OF_PARTS = {slot.part: slot for slot in (TEXT, REFUSAL, SUMMARY, THOUGHT)}
_OF_ITEMS = {slot.item: slot for slot in CALLS}


def slot_of(part: Mapping[str, object]) -> Slot | None:
    """Where a part of this type belongs; None for parts that hold no text."""
    kind = part.get("type")
    return _OF_PARTS.get(kind) if isinstance(kind, str) else None


class Item:
    """An item as far as it has come. `body` is what was said of it as a whole."""

    __slots__ = ("_parts", "_texts", "_whole", "body")

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self._whole = False
        self._texts: dict[tuple[Slot, int], list[str]] = {}
        self._parts: dict[tuple[Slot, int], dict[str, Any]] = {}

    @property
    def is_begun(self) -> bool:
        """Whether any text of it has come."""
        return bool(self._texts)

    def has(self, slot: Slot) -> bool:
        """Whether a text of this kind has come, with something in it."""
        return any(any(texts) for (found, _), texts in self._texts.items() if found is slot)

    @property
    def name(self) -> str | None:
        """The name of the tool it calls, as far as it is known."""
        return _text(self.body.get("name"))

    @property
    def call_id(self) -> str | None:
        """The identifier the tool's output will have to name, as far as it is known."""
        return _text(self.body.get("call_id")) or _text(self.body.get("id"))

    def add(self, slot: Slot, index: int, text: str) -> None:
        """Append a fragment."""
        texts = self._texts.get((slot, index))
        if texts is None:
            self._texts[slot, index] = [text]
        else:
            texts.append(text)

    def put(self, slot: Slot, index: int, text: str) -> bool:
        """Take a text as a whole, in place of its fragments; whether there were none, so that it is news."""
        is_news = not any(self._texts.get((slot, index), ()))
        self._texts[slot, index] = [text]
        return is_news

    def add_part(self, slot: Slot, index: int, part: Mapping[str, object]) -> None:
        """What an event says of a part beside its text; a list goes on."""
        known = self._parts.setdefault((slot, index), {})
        for field, value in part.items():
            if field == slot.key:
                continue
            before = known.get(field)
            if isinstance(before, list) and isinstance(value, list):
                before.extend(value)
            else:
                known[field] = list(value) if isinstance(value, list) else value

    def put_part(self, slot: Slot, index: int, part: Mapping[str, object]) -> None:
        """A part as a whole."""
        self._parts[slot, index] = {field: value for field, value in part.items() if field != slot.key}

    def update(self, body: Mapping[str, object]) -> None:
        """The item was announced, after something of it had come."""
        self.body.update(body)

    def finish(self, body: dict[str, Any]) -> None:
        """The item was said as a whole."""
        self.body = body
        self._whole = True

    def whole(self) -> dict[str, Any]:
        """The item as it stands in an answer that was not streamed."""
        if self._whole:
            return self.body
        item = dict(self.body)
        lists: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for slot, index in dict.fromkeys([*self._parts, *self._texts]):
            text = "".join(self._texts.get((slot, index), ()))
            if slot.field:
                part = {"type": slot.part, **self._parts.get((slot, index), {}), slot.key: text}
                lists.setdefault(slot.field, []).append((index, part))
            else:
                item[slot.key] = text
        for field, found in lists.items():
            item[field] = [part for _, part in sorted(found, key=lambda entry: entry[0])]
        return item


def begun_by(slot: Slot, identity: object) -> dict[str, Any]:
    """An item that was never announced, by the first text of it that came."""
    body: dict[str, Any] = {"type": slot.item, "status": "in_progress"}
    if isinstance(identity, str) and identity:
        body["id"] = identity
    if slot.item == "message":
        body["role"] = "assistant"
    return body


def texts_in(item: Mapping[str, Any]) -> Iterator[tuple[Slot, int, str]]:
    """The texts of an item that was said as a whole."""
    kind = item.get("type")
    if isinstance(kind, str) and kind in CALL_INPUTS:
        text = item.get(CALL_INPUTS[kind])
        yield _OF_ITEMS[kind], 0, text if isinstance(text, str) else ""
    for field in ("summary", "content"):
        parts = item.get(field)
        for index, part in enumerate(parts if isinstance(parts, list) else ()):
            slot = slot_of(part) if isinstance(part, dict) else None
            if slot is not None and slot.item == kind and isinstance(text := part.get(slot.key), str):
                yield slot, index, text


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
