"""An answer of Ollama's own chat path in the common terms. It has the same shape whether it was streamed or not.

The arguments of a tool call are an object here and become JSON text, as everywhere else; a call without an id is given
one by its place. The server says ``stop`` also where it stopped to have tools called.

Pure: no trio, no httpx, no I/O. Never raises, whatever a provider sends.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from engine.providers.wire import ToolCall, View, mapping, text_or_none

_FINISH = {"load": "pause", "unload": "pause"}
"""The model was loaded or unloaded instead of answering: the call can be sent again."""


def view_of(response: object) -> View:
    """A decoded answer, or what a stream made up, in the common terms."""
    body = mapping(response)
    message = mapping(body.get("message"))
    text = message.get("content")
    calls = tool_calls_of(message.get("tool_calls"))
    return View(
        text=text if isinstance(text, str) else None,
        reasoning=text_or_none(message.get("thinking")),
        tool_calls=calls,
        finish_reason=finish_reason_of(body, called=bool(calls)),
        model=text_or_none(body.get("model")),
    )


def finish_reason_of(body: Mapping[str, object], *, called: bool) -> str | None:
    """Why the answer ended, in the common terms; `called`: there are tool calls in it."""
    reason = text_or_none(body.get("done_reason"))
    if called and (reason == "stop" or (reason is None and body.get("done") is True)):
        return "tool_calls"
    return _FINISH.get(reason, reason) if reason else None


def tool_calls_of(given: object, first: int = 0) -> tuple[ToolCall, ...]:
    """These tool calls, of which so many came before."""
    calls = []
    for position, entry in enumerate(given if isinstance(given, list) else (), first):
        function = mapping(mapping(entry).get("function"))
        name = function.get("name")
        if isinstance(name, str):
            identity = text_or_none(mapping(entry).get("id")) or f"call_{position}"
            calls.append(ToolCall(identity, name, _arguments(function.get("arguments"))))
    return tuple(calls)


def _arguments(value: object) -> str:
    if isinstance(value, str):
        return value if value.strip() else "{}"
    try:
        return "{}" if value is None else msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return "{}"
