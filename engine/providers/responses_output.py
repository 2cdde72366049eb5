"""What a decoded answer of the Responses endpoint says: text, thoughts, tool calls, citations, its end, its cost.

An answer holds a list of items of many kinds (thoughts, messages, tool calls, searches) in any order; each is found by
its type, never by its place, and types not known here stay in the raw answer. A failed answer comes with HTTP 200.

Pure: no trio, no httpx, no I/O. Never raises, whatever was decoded. Shapes: OpenAI's reference and SDK (2026-11-20).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.providers.answers import error_in
from engine.providers.wire import Citation, ToolCall, Usage, View, count, mapping, text_or_none
from engine.retry import ErrorView

CALL_INPUTS = {"function_call": "arguments", "custom_tool_call": "input"}
"""The kinds of item that ask for a tool of the caller's, and where each holds what the tool is to be given. The tool's
output names the call by its `call_id`, not by the item's `id`."""

THOUGHT_BREAK = "\n\n"
"""Stands between the parts of a reasoning, each of which is a paragraph."""

_FAILURES = {"failed": "the response failed, without a reason given", "cancelled": "the response was cancelled"}
_TEXT_PARTS = ("output_text", "text")
_INCOMPLETE = {"max_output_tokens": "length"}
# Codes of a failure in a success that lie with the request, beside those whose words `engine.retry` knows.
_OF_THE_REQUEST = ("image", "unsupported", "policy")


def view_of(response: object) -> View:
    """A decoded answer in the common terms."""
    body = mapping(response)
    texts: list[str] = []
    thoughts: list[str] = []
    tool_calls: list[ToolCall] = []
    citations: list[Citation] = []
    refused = False
    for position, item in enumerate(items_of(body)):
        kind = item.get("type")
        if kind == "message":
            refused = _read_message(item.get("content"), texts, citations) or refused
        elif kind == "reasoning":
            # A summary is what OpenAI shows; open models give the thought itself.
            parts = [*_dicts(item.get("summary")), *_dicts(item.get("content"))]
            thoughts += [text for part in parts if (text := text_or_none(part.get("text")))]
        elif isinstance(kind, str) and kind in CALL_INPUTS and isinstance(name := item.get("name"), str):
            identity = text_or_none(item.get("call_id")) or text_or_none(item.get("id")) or f"call_{position}"
            tool_calls.append(ToolCall(identity, name, _arguments(item.get(CALL_INPUTS[kind]))))
    return View(
        text="".join(texts) if texts else None,
        reasoning=THOUGHT_BREAK.join(thoughts) if thoughts else None,
        tool_calls=tuple(tool_calls),
        finish_reason=_finish(body, calls_tools=bool(tool_calls), refused=refused),
        provider_id=text_or_none(body.get("id")),
        model=text_or_none(body.get("model")),
        citations=tuple(citations),
    )


def items_of(body: Mapping[str, object]) -> list[dict[str, Any]]:
    """The items of an answer's output that are objects."""
    return _dicts(body.get("output"))


def _read_message(content: object, texts: list[str], citations: list[Citation]) -> bool:
    """Add what a message says to these lists; whether it is a refusal."""
    if isinstance(content, str):
        texts.append(content)
    refused = False
    for part in _dicts(content):
        if isinstance(text := part.get("text"), str) and part.get("type", "output_text") in _TEXT_PARTS:
            texts.append(text)
        refused = refused or part.get("type") == "refusal"
        for found in _dicts(part.get("annotations")):
            url = text_or_none(found.get("url"))
            if url is not None and found.get("type") == "url_citation":
                citations.append(Citation(url, text_or_none(found.get("title"))))
    return refused


def _finish(body: Mapping[str, object], *, calls_tools: bool, refused: bool) -> str | None:
    """Why it ended, in the words of `View.finish_reason`; None where it did not: a stream that was cut."""
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
    if refused:
        return "content_filter"
    return "stop" if status == "completed" else status


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


def _dicts(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _arguments(value: object) -> str:
    """What a tool is to be given, as text. Some servers send an object; nothing means no arguments."""
    if isinstance(value, str):
        return value if value.strip() else "{}"
    try:
        return "{}" if value is None else msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return "{}"
