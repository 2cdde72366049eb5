"""Streams of the OpenAI chat format, seen from the worker: over or cut, what it cost, an error inside a 200.

`ChatMonitor` searches the bytes of the events for the few words that matter and decodes only the events that hold one.
Strings in JSON escape their quotes, so ``"error"`` with both of its own is a key or a whole value. What the caller
reads is put together in `engine.providers.openai_chunks`.

Pure: no trio, no httpx, no I/O. Never raises.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.providers.answers import error_in
from engine.providers.json_format import JsonFormat, JsonMonitor, decoded_or_none, named
from engine.providers.wire import count, mapping
from engine.retry import ErrorView
from engine.sse import Event, Named

DONE = b"[DONE]"
_DONE_BYTES = 32
"""Nothing of this length or more is the terminator, whatever white space stands around it."""

_LAST_EVENTS = 8


class ChatMonitor(JsonMonitor):
    """`StreamMonitor` of one attempt.

    `ends_with_done`: the provider ends every stream with ``[DONE]``. Where that is not certain, a choice that says why
    it finished, and nothing said after it, is an end too.
    """

    __slots__ = ("_last", "_sure_of_done")

    def __init__(self, wire: JsonFormat, *, ends_with_done: bool) -> None:
        super().__init__(wire)
        self._last: list[Event] = []
        self._sure_of_done = ends_with_done

    @property
    def finished(self) -> bool:
        return self._done or _is_end(self._last)  # where the terminator is sure, no last events are kept

    def heard(self, block: Sequence[Event]) -> None:
        if not block:
            return
        self.events += len(block)
        if not self._sure_of_done:
            self._last = [*self._last, *block[-_LAST_EVENTS:]][-_LAST_EVENTS:]
        try:
            if len(block) == 1:
                text: bytes = block[0]  # type: ignore[assignment]  # a named one fails at the next line
                shortest = len(text)
                is_whole = text[-1:] == b"}"
            else:
                text = b"\n".join(block)  # type: ignore[arg-type]  # as above
                shortest = min(map(len, block))  # type: ignore[arg-type]  # as above
                is_whole = text[-1:] == b"}" and text.count(b"}\n") >= len(block) - 1
        except TypeError:
            self._look_at(block)
        else:
            if shortest < _DONE_BYTES or not is_whole or b'_tokens"' in text or b'"error"' in text:
                self._look_at(block)

    def _look_at(self, block: Sequence[Event]) -> None:
        """Decode the events of a block that hold a word that matters."""
        for event in block:
            if self._done:
                return  # what stands behind the end is no part of it
            name, data = named(event)
            if len(data) < _DONE_BYTES and data.strip() == DONE:
                self._done = True
            elif name or b'_tokens"' in data or b'"error"' in data or data.rstrip()[-1:] != b"}":
                self._note(name, data)

    def _note(self, name: bytes, data: bytes) -> None:
        # Some tell their usage in every event; nothing else of such an event is of interest.
        usage = None if name else self._format.plain_usage(data)
        if usage is not None:
            self.usage = usage
            return
        payload = decoded_or_none(data)
        # What does not even begin like JSON is somebody's heartbeat, and costs nobody an answer.
        self._damaged += payload is None and data[:1] == b"{"
        if self.error is None and (name or b'"error"' in data):
            error = error_of_event(name, payload)
            if error is not None:
                self.note_error(error, payload, data)
        self.usage = self._format.usage_of(payload) or self.usage


def error_of_event(name: bytes, payload: object) -> ErrorView | None:
    """The error that an event of a success holds, or None."""
    error = error_in(payload, failed=is_failure(name, payload))
    if error is None:
        if name == b"error":
            return ErrorView()
        failed = mapping(first_choice(payload)).get("error")
        error = error_in({"error": failed}, failed=False) if failed else None
    return error


def is_failure(name: bytes, payload: object) -> bool:
    """Whether the whole event is an error by its name or kind, so that its sentence may stand anywhere in it."""
    body = mapping(payload)
    return name == b"error" or body.get("object") == "error" or body.get("type") == "error"


def first_choice(payload: object) -> object:
    choices = mapping(payload).get("choices")
    return choices[0] if isinstance(choices, list) and choices else None


def _is_end(events: Sequence[Event]) -> bool:
    """Whether the last thing that was said is why a choice finished, and nobody else was in the middle of something."""
    finished: set[int] = set()
    for event in reversed(events):
        payload = decoded_or_none(event.data if isinstance(event, Named) else event)
        choices = mapping(payload).get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            told = count(mapping(choice).get("index"))
            index = position if told is None else told
            if mapping(choice).get("finish_reason"):
                finished.add(index)
                continue
            said = mapping(mapping(choice).get("delta"))
            more = mapping(choice).get("text") or any(value for field, value in said.items() if field != "role")
            if index not in finished and more:
                return False
    return bool(finished)
