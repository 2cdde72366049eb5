"""The arguments of a call to OpenAI's Responses endpoint: their schema, what is refused, and what they will count as.

Refused is what the schema or the shape of a tool excludes, and the words of the chat endpoint, because whoever writes
`messages` or `max_tokens` here is one line away from what he meant. Everything else is passed on: OpenAI adds fields
faster than anybody lists them, and a refusal of theirs costs nothing.

Pure: no trio, no httpx, no I/O. Names and ranges: platform.openai.com/docs/api-reference/responses/create and the
official SDK (2026-11-20).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from engine.estimate import (
    PER_MEDIUM,
    PER_MESSAGE,
    CountText,
    estimate_content,
    estimate_json,
    estimate_tools,
    with_margin,
)
from engine.providers.arguments import checked, invalid
from engine.providers.wire import mapping

_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Positive = Annotated[int, msgspec.Meta(ge=1)]
_Metadata = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=512)]],
    msgspec.Meta(max_length=16),
]


class ReasoningOptions(msgspec.Struct):
    """`effort` goes from ``none`` to ``max``; `summary` is ``auto``, ``concise`` or ``detailed``. Models differ."""

    effort: str | None = None
    summary: str | None = None


class FormatOptions(msgspec.Struct):
    """``{"type": "json_schema", "name": ..., "schema": ..., "strict": ...}``, ``json_object`` or ``text``."""

    type: _Name
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class TextOptions(msgspec.Struct):
    """The form of the answer's text; `verbosity` is ``low``, ``medium`` or ``high``."""

    format: FormatOptions | None = None
    verbosity: str | None = None


class ResponsesOptions(msgspec.Struct, kw_only=True):
    """Every documented argument. Words that OpenAI adds to (efforts, tiers, includes) are texts, not closed lists.

    `model` may be left out where `prompt` (a stored template) names it, `input` where the conversation goes on by
    itself: with `prompt`, `previous_response_id` or `conversation`.
    """

    model: _Name | None = None
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    previous_response_id: _Name | None = None
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None
    max_output_tokens: _Positive | None = None
    max_tool_calls: _Positive | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    context_management: list[dict[str, Any]] | None = None
    include: list[str] | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    user: str | None = None
    metadata: _Metadata | None = None


_CHAT_WORDS = {
    "messages": "pass input=[...] instead, a list of the same dicts, or input='...' for one text",
    "max_tokens": "pass max_output_tokens instead",
    "max_completion_tokens": "pass max_output_tokens instead",
    "response_format": 'pass text={"format": ...} instead, with the name and the schema beside the type',
    "reasoning_effort": 'pass reasoning={"effort": ...} instead',
    "verbosity": 'pass text={"verbosity": ...} instead',
    "functions": "pass tools=[...] instead",
    "function_call": "pass tool_choice instead",
}


def checked_responses(arguments: Mapping[str, object]) -> dict[str, Any]:
    """The body of a call, without what is None.

    Raises:
      InvalidCall: an argument is missing, of the wrong type, out of its range, or the chat endpoint's.
    """
    for name, instead in _CHAT_WORDS.items():
        if arguments.get(name) is not None:
            raise invalid(name, f"that is the chat endpoint's word; {instead}")
    if isinstance(arguments.get("prompt"), str):
        raise invalid("prompt", "it is a stored template, a dict with its id; pass a text as input='...'")
    payload = checked(arguments, ResponsesOptions, provider="openai", closed=False)
    _check_presence(payload)
    _check_format(payload)
    _check_tools(payload)
    return payload


def _check_presence(payload: Mapping[str, object]) -> None:
    if "model" not in payload and "prompt" not in payload:
        raise invalid("model", 'it is missing; pass model="..."')
    if not payload.keys() & {"input", "prompt", "previous_response_id", "conversation"}:
        raise invalid("input", "it is missing; pass a text, or a list like [{'role': 'user', 'content': '...'}]")


def _check_format(payload: Mapping[str, object]) -> None:
    found = mapping(mapping(payload.get("text")).get("format"))
    if found.get("type") != "json_schema":
        return
    for name in ("name", "schema"):
        if found.get(name) is None:
            nested = "take it out of json_schema" if isinstance(found.get("json_schema"), dict) else "add it"
            raise invalid(f"text.format.{name}", f"it is missing beside the type; {nested}")


def _check_tools(payload: Mapping[str, Any]) -> None:
    """Function tools are flat here; in the chat format they are nested, which OpenAI answers with a 400."""
    for position, tool in enumerate(payload.get("tools", ())):
        _check_flat(f"tools[{position}]", tool)
        if not isinstance(tool.get("type"), str):
            raise invalid(f"tools[{position}]", 'it has no "type"; use "function" for your own')
    _check_flat("tool_choice", payload.get("tool_choice"))


def _check_flat(place: str, tool: object) -> None:
    if mapping(tool).get("type") != "function" or isinstance(mapping(tool).get("name"), str):
        return
    if isinstance(mapping(tool).get("function"), dict):
        raise invalid(place, 'it is written as for chat; put what is in its "function" beside its "type"')
    raise invalid(place, 'it has no "name"; it looks like {"type": "function", "name": "...", ...}')


# --- what it will count as --------------------------------------------------------------------------------------------

# Not part of what the model reads, or (input, instructions) counted by themselves.
_UNCOUNTED = frozenset({
    "input", "model", "metadata", "include", "reasoning", "stream_options", "conversation", "context_management",
})  # fmt: skip
_NO_TEXT = frozenset({"type", "role", "id", "status", "call_id"})
_SHOWN_AS_IMAGE = frozenset({"computer_screenshot", "image_generation_call"})


def estimate_responses(arguments: Mapping[str, object], count_text: CountText) -> int:
    """The input of a call, with everything that is sent, ready to be reserved: the margin of a tenth is in it.

    What a `previous_response_id`, a `conversation` or a stored `prompt` adds at OpenAI's is not known here.
    """
    given = arguments.get("input")
    total = 0
    if isinstance(given, str):
        total += PER_MESSAGE + count_text(given)
    for item in given if isinstance(given, (list, tuple)) else ():
        total += PER_MESSAGE + _estimate_item(item, count_text)
    if isinstance(arguments.get("instructions"), str):
        total += PER_MESSAGE + count_text(str(arguments["instructions"]))
    for name, value in arguments.items():
        if name not in _UNCOUNTED and isinstance(value, (dict, list, tuple)) and value:
            total += estimate_tools(value) if name == "tools" and isinstance(value, list) else estimate_json(value)
    return with_margin(total)


def _estimate_item(item: object, count_text: CountText) -> int:
    """A message, a tool call, what a tool said, a thought given back, an image: anything that may stand in `input`."""
    fields = mapping(item)
    if fields.get("type") in _SHOWN_AS_IMAGE:
        return PER_MEDIUM
    total = 0
    for name, value in fields.items():
        if name in _NO_TEXT or value is None:
            continue
        if name in ("content", "output", "summary"):
            parts = [value] if isinstance(value, dict) else value
            total += _estimate_parts(parts, count_text)
        elif isinstance(value, str):
            total += count_text(value)
        else:
            total += estimate_json(value)
    return total


def _estimate_parts(parts: object, count_text: CountText) -> int:
    if not isinstance(parts, (list, tuple)):
        return estimate_content(parts, count_text)
    pictures = [part for part in parts if mapping(part).get("type") in _SHOWN_AS_IMAGE]
    rest = [part for part in parts if mapping(part).get("type") not in _SHOWN_AS_IMAGE]
    return PER_MEDIUM * len(pictures) + estimate_content(rest, count_text)
