"""Streams of the OpenAI chat format: one choice of the answer, put together from the fragments that its deltas are.

Texts are joined, tool calls found again by their index (or id, or place), and every other field of a delta merged, so
that the choice holds whatever the stream said. Half an emoji at the end of one delta waits for its other half in the
next. Of each delta, the chunks that it makes are given at once.

Pure: no trio, no httpx, no I/O. Never raises, whatever a provider sends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from engine.providers.wire import RawEvent, StreamChunk, count, mapping, text_or_none, whole_text

_MERGE_DEPTH = 4
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")
_REPLACED = frozenset({"id", "type", "index", "role", "object", "format", "signature"})
"""Fields of a delta whose text is whole each time; other texts are fragments."""


class Fragments:
    """A text that arrives in fragments."""

    __slots__ = ("half", "parts")

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.half = ""

    def add(self, text: str) -> str:
        """Append a fragment; what of it can be shown now."""
        if not self.half and text.isascii():
            self.parts.append(text)
            return text
        text = self.half + text
        self.half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        text = whole_text(text[:-1] if self.half else text)
        self.parts.append(text)
        return text

    def end(self) -> str:
        """What stands for half a character whose other half never came."""
        if not self.half:
            return ""
        self.half = ""
        self.parts.append("\ufffd")
        return "\ufffd"

    def __str__(self) -> str:
        return "".join(self.parts) + ("\ufffd" if self.half else "")


class _ToolCall:
    """A tool call that arrives in fragments."""

    __slots__ = ("arguments", "id", "kind", "name", "rest")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.kind = "function"
        self.arguments = Fragments()
        self.rest: dict[str, object] = {}

    def add(self, fragment: Mapping[str, object]) -> str:
        """Merge a fragment; the piece of the arguments that it adds."""
        self.id = self.id or text_or_none(fragment.get("id")) or ""
        if "custom" in fragment:
            self.kind = "custom"
        function = mapping(fragment.get(self.kind))
        name = function.get("name")
        if isinstance(name, str) and name != self.name:  # some repeat it in every fragment, some cut it in pieces
            self.name += name
        for field, value in fragment.items():
            if field not in ("id", "index", self.kind) and value is not None:
                self.rest[field] = merged(self.rest.get(field), value, field)
        arguments = function.get("arguments", function.get("input"))
        if isinstance(arguments, (dict, list)):
            arguments = json.dumps(arguments, ensure_ascii=False)
        return self.arguments.add(arguments) if isinstance(arguments, str) else ""

    def whole(self) -> dict[str, object]:
        field = "input" if self.kind == "custom" else "arguments"
        call = {"type": self.kind, **self.rest, self.kind: {"name": self.name, field: str(self.arguments)}}
        return {"id": self.id, **call} if self.id else call


class Choice:
    """One choice of the answer, as far as it has come."""

    __slots__ = ("_by_index", "_calls", "_message", "_parts", "_rest", "finish_reason", "index", "texts")

    def __init__(self, index: int) -> None:
        self.index = index
        self.finish_reason: str | None = None
        self.texts: dict[str, Fragments] = {}
        self._parts: list[object] = []
        self._calls: list[_ToolCall] = []
        self._by_index: dict[int, _ToolCall] = {}
        self._message: dict[str, object] = {}
        self._rest: dict[str, object] = {}

    @property
    def is_plain(self) -> bool:
        """Whether its content is one text, not a list of parts."""
        return not self._parts

    def take(self, choice: Mapping[str, object], metadata: RawEvent) -> list[StreamChunk]:
        """Merge what an event says of this choice, and give its chunks."""
        self.finish_reason = text_or_none(choice.get("finish_reason")) or self.finish_reason
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            # Some answer whole although a stream was asked for; some repeat the whole at the end of a stream.
            delta = {} if self.texts or self._calls else mapping(choice.get("message"))
        for field, value in choice.items():
            if field not in ("delta", "message", "index", "finish_reason") and value is not None:
                self._rest[field] = merged(self._rest.get(field), value) if field == "logprobs" else value
        chunks = []
        if thinking := self._reasoning(delta):
            chunks.append(StreamChunk("thinking", thinking, True, metadata))
        if text := self._content(delta.get("content")):
            chunks.append(StreamChunk("text", text, True, metadata))
        self._refusal_and_others(delta)
        return [*chunks, *self.tools(delta.get("tool_calls"), metadata), *self._older_call(delta, metadata)]

    def add(self, field: str, text: str) -> str:
        """Append to one of its texts; what of it can be shown now."""
        found = self.texts.get(field)
        if found is None:
            found = self.texts[field] = Fragments()
        return found.add(text)

    def end(self) -> list[StreamChunk]:
        """The chunks for half characters that will not become whole any more."""
        lost = {field: text.end() for field, text in self.texts.items()}
        chunks = [StreamChunk("thinking", lost[field], True) for field in _TEXTS[1:3] if lost.get(field)]
        return [*chunks, StreamChunk("text", lost["content"], True)] if lost.get("content") else chunks

    def whole(self) -> dict[str, object]:
        """The choice as it stands in an answer that was not streamed."""
        message: dict[str, object] = {"role": "assistant", **self._message, "content": None}
        message.update((field, str(text)) for field, text in self.texts.items())
        if self._parts:
            before = message["content"]
            message["content"] = [*([{"type": "text", "text": before}] if before else []), *self._parts]
        if self._calls:
            message["tool_calls"] = [call.whole() for call in self._calls]
        return {"index": self.index, "message": message, "finish_reason": self.finish_reason, **self._rest}

    def _reasoning(self, delta: Mapping[str, object]) -> str:
        shown = [self.add(field, text) for field in _TEXTS[1:3] if isinstance(text := delta.get(field), str)]
        return next((text for text in shown if text), "")  # where a server sends both, they are the same

    def _content(self, content: object) -> str:
        if isinstance(content, list):
            self._parts += content
            return whole_text("".join(_text_of_part(part) for part in content))
        if not isinstance(content, str):
            return ""
        if self._parts:
            self._parts.append({"type": "text", "text": content})
            return whole_text(content)
        return self.add("content", content)

    def _refusal_and_others(self, delta: Mapping[str, object]) -> None:
        if isinstance(refusal := delta.get("refusal"), str):
            self.add("refusal", refusal)
        for field, value in delta.items():
            if field not in _TEXTS and field != "tool_calls" and value is not None:
                self._message[field] = merged(self._message.get(field), value, field)

    def tools(self, fragments: object, metadata: RawEvent) -> list[StreamChunk]:
        """Merge fragments of tool calls, and give their chunks."""
        chunks = []
        entries = [entry for entry in fragments if isinstance(entry, dict)] if isinstance(fragments, list) else []
        for position, fragment in enumerate(entries):
            call = self._call_of(fragment, position, alone=len(entries) == 1)
            piece = call.add(fragment)
            name, identity = whole_text(call.name) or None, whole_text(call.id) or None
            chunks.append(StreamChunk("tool_use", None, True, metadata, name, identity, piece))
        return chunks

    def _older_call(self, delta: Mapping[str, object], metadata: RawEvent) -> list[StreamChunk]:
        """The chunk for a fragment of `function_call`, which has been merged like any other field."""
        fragment = delta.get("function_call")
        if not isinstance(fragment, dict):
            return []
        name = text_or_none(mapping(self._message.get("function_call")).get("name")) or ""
        piece = whole_text(text_or_none(fragment.get("arguments")) or "")
        return [StreamChunk("tool_use", None, True, metadata, whole_text(name) or None, None, piece)]

    def _call_of(self, fragment: Mapping[str, object], position: int, *, alone: bool) -> _ToolCall:
        """The call a fragment belongs to: by its index, else by its id, else by where it stands."""
        index = count(fragment.get("index"))
        identity = text_or_none(fragment.get("id"))
        if index is not None and identity is None and index in self._by_index:
            return self._by_index[index]
        found: _ToolCall | None = None
        if index is not None:
            found = self._by_index.get(index)
            named = text_or_none(mapping(fragment.get("function")).get("name"))
            if found is not None and named and identity and found.id and identity != found.id:
                found = None  # several calls, all with the same index: the id is right
        elif identity is not None:
            found = next((call for call in self._calls if call.id == identity), None)
        elif not text_or_none(mapping(fragment.get("function")).get("name")) and self._calls:
            found = self._calls[-1 if alone else min(position, len(self._calls) - 1)]
        if found is None:
            found = _ToolCall()
            self._calls.append(found)
        if index is not None:
            self._by_index[index] = found
        return found


def merged(old: object, new: object, field: str = "", depth: int = _MERGE_DEPTH) -> object:
    """A field that came before and has come again: texts are joined, lists go on, objects are merged.

    A list goes on in place: there may be one for each of a hundred thousand events.
    """
    if isinstance(old, str) and isinstance(new, str) and field not in _REPLACED:
        return old + new
    if isinstance(old, list) and isinstance(new, list):
        old.extend(new)
        return old
    if isinstance(old, dict) and isinstance(new, dict) and depth:
        both = dict(old)
        for name, value in new.items():
            if value is not None or name not in both:
                both[name] = merged(both.get(name), value, name, depth - 1)
        return both
    return new


def _text_of_part(part: object) -> str:
    if isinstance(part, str):
        return part
    found = mapping(part)
    text = found.get("text")
    return text if found.get("type", "text") in ("text", "output_text") and isinstance(text, str) else ""
