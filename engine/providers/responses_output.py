"""What a decoded answer of the Responses endpoint says: text, thoughts, tool calls, citations, its end, its cost.

An answer holds a list of items of many kinds (thoughts, messages, tool calls, searches) in any order; each is found by
its type, never by its place, and types not known here stay in the raw answer. A failed answer comes with HTTP 200.

Pure: no trio, no httpx, no I/O. Never raises, whatever was decoded. Shapes: OpenAI's reference and SDK (2026-11-20).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from engine.providers.answers import error_in
from engine.providers.wire import Citation, ToolCall, Usage, View, count, mapping, text_or_none
from engine.retry import ErrorView

CALL_INPUTS = {"function_call": "arguments", "custom_tool_call": "input"}
"""The kinds of item that ask for a tool of the caller's, and where each holds what the tool is to be given."""

THOUGHT_BREAK = "\n\n"
"""Stands between the parts of a reasoning, each of which is a paragraph."""

_FAILURES = {"failed": "the response failed, without a reason given", "cancelled": "the response was cancelled"}
_INCOMPLETE = {"max_output_tokens": "length"}
# Codes of a failure in a success that lie with the request, beside those whose words `engine.retry` knows.
_OF_THE_REQUEST = ("image", "unsupported", "policy")


def view_of(response: object) -> View:
    """A decoded answer in the common terms."""
    body = mapping(response)
    tool_calls = tool_calls_of(body)
    return View(
        text=text_of(body),
        reasoning=reasoning_of(body),
        tool_calls=tool_calls,
        finish_reason=_finish_of(body, calls_tools=bool(tool_calls)),
        provider_id=text_or_none(body.get("id")),
        model=text_or_none(body.get("model")),
        citations=tuple(_citations(body)),
    )


def text_of(body: Mapping[str, object]) -> str | None:
    """What all its messages say, joined; None where none says anything."""
    texts = [text for part in _message_parts(body) if isinstance(text := part.get("text"), str)]
    return "".join(texts) if texts else None


def reasoning_of(body: Mapping[str, object]) -> str | None:
    """Its thoughts: the summaries OpenAI shows, or the text itself, which open models give."""
    texts: list[str] = []
    for item in items_of(body):
        if item.get("type") == "reasoning":
            parts = [*_dicts(item.get("summary")), *_dicts(item.get("content"))]
            texts += [text for part in parts if (text := text_or_none(part.get("text")))]
    return THOUGHT_BREAK.join(texts) if texts else None


def tool_calls_of(body: Mapping[str, object]) -> tuple[ToolCall, ...]:
    """The tools to be called. `ToolCall.id` is the item's `call_id`, which the tool's output has to name."""
    calls = []
    for position, item in enumerate(items_of(body)):
        field = CALL_INPUTS.get(_type_of(item))
        name = item.get("name")
        if field is not None and isinstance(name, str):
            identity = text_or_none(item.get("call_id")) or text_or_none(item.get("id")) or f"call_{position}"
            calls.append(ToolCall(identity, name, _arguments(item.get(field))))
    return tuple(calls)


def finish_of(body: Mapping[str, object]) -> str | None:
    """Why it ended, in the words of `View.finish_reason`; None where it did not: a stream that was cut."""
    return _finish_of(body, calls_tools=bool(tool_calls_of(body)))


def usage_of(body: Mapping[str, object]) -> Usage | None:
    """The usage; a side that is missing is what the other leaves of the total. None where nothing is a number."""
    found = mapping(body.get("usage"))
    given, made = count(found.get("input_tokens")), count(found.get("output_tokens"))
    total = count(found.get("total_tokens"))
    if given is None and made is None and total is None:
        return None
    if total is None:
        total = None if given is None or made is None else given + made
    elif made is None and given is not None and given <= total:
        made = total - given
    elif given is None and made is not None and made <= total:
        given = total - made
    return Usage(
        input_tokens=given,
        output_tokens=made,
        total_tokens=total,
        cached_tokens=count(mapping(found.get("input_tokens_details")).get("cached_tokens")),
        reasoning_tokens=count(mapping(found.get("output_tokens_details")).get("reasoning_tokens")),
    )


def error_of(payload: object, *, failed: bool) -> ErrorView | None:
    """The error of an answer, or None. One that was cancelled is its caller's doing: 499, as proxies call it."""
    status = mapping(payload).get("status")
    error = error_in(payload, failed=failed)
    if error is None and isinstance(status, str) and status in _FAILURES:
        error = ErrorView(message=_FAILURES[status], code=status)
    if error is None:
        return None
    if error.type == "error":  # the type of an event, which says nothing about the error
        error = msgspec.structs.replace(error, type="")
    if error.status:
        return error
    if status == "cancelled":
        return msgspec.structs.replace(error, status=499)
    if any(word in error.code for word in _OF_THE_REQUEST):
        return msgspec.structs.replace(error, status=400)
    return error


def items_of(body: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """The items of an answer's output that are objects."""
    return _dicts(body.get("output"))


def _finish_of(body: Mapping[str, object], *, calls_tools: bool) -> str | None:
    status = text_or_none(body.get("status"))
    if body.get("error") or status in _FAILURES:
        return "error"
    if status == "incomplete":
        reason = text_or_none(mapping(body.get("incomplete_details")).get("reason")) or status
        return _INCOMPLETE.get(reason, reason)
    if status == "queued":
        return "pause"
    if status == "in_progress":  # what a stream in the foreground says until its end
        return None if body.get("background") is False else "pause"
    if calls_tools:
        return "tool_calls"
    if any(part.get("type") == "refusal" for part in _message_parts(body)):
        return "content_filter"
    return "stop" if status == "completed" else status


def _message_parts(body: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    for item in items_of(body):
        if item.get("type") == "message":
            content = item.get("content")
            yield from [{"text": content}] if isinstance(content, str) else _dicts(content)


def _citations(body: Mapping[str, object]) -> Iterator[Citation]:
    for part in _message_parts(body):
        for found in _dicts(part.get("annotations")):
            url = text_or_none(found.get("url"))
            if url is not None and found.get("type") == "url_citation":
                yield Citation(url, text_or_none(found.get("title")))


def _type_of(item: Mapping[str, object]) -> str:
    return text_or_none(item.get("type")) or ""


def _dicts(value: object) -> Iterator[Mapping[str, object]]:
    return (entry for entry in value if isinstance(entry, dict)) if isinstance(value, list) else iter(())


def _arguments(value: object) -> str:
    """What a tool is to be given, as text. Some servers send an object; nothing means no arguments."""
    if isinstance(value, str):
        return value if value.strip() else "{}"
    try:
        return "{}" if value is None else msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return "{}"
