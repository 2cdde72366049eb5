"""The arguments of an Anthropic Messages call: checked, and conversations written for OpenAI turned into Anthropic's.

What is Anthropic's own passes untouched: a thinking block must go back with the signature it came with. What is
OpenAI's is rewritten: system messages, tool calls and their results, images, tools, the names of a few arguments.
Their API refuses what it does not know, so an unknown argument is refused here. Words (an effort, a tier) are not held
against a list: they add some faster than anybody lists them, and refusing one costs nothing.

Pure: no trio, no httpx, no I/O. Source: platform.claude.com/docs/en/api/messages and anthropic 2.11.0, 2026-11-20.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from engine.providers.arguments import checked, invalid
from engine.providers.chat_arguments import one_cap
from engine.providers.wire import decode_json, mapping, text_or_none

DEFAULT_MAX_TOKENS = 8192
"""Sent where the caller sets no cap: the API takes no request without one, and lionagi, whose calls run here
unchanged, sends this."""

STRICT_SINCE = "2026-10-21"
"""From this version on the sampling parameters and two kinds of block are refused (their changelog, 2026-10-21)."""

_SAMPLING = ("temperature", "top_p", "top_k")
_NOT_THEIRS = frozenset({
    "annotations", "audio", "content", "name", "reasoning", "reasoning_content", "reasoning_details", "refusal",
    "tool_calls", "tool_call_id",
})  # fmt: skip
"""Fields of OpenAI's messages that are rewritten, or that Anthropic's have no place for and would be refused for."""

_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Words = Annotated[str, msgspec.Meta(min_length=1)]


class Turn(msgspec.Struct):
    """A message, in either spelling. What else it holds is looked at where it is rewritten."""

    role: str
    content: str | list[Any] | None = None


class Thinking(msgspec.Struct):
    """``enabled`` (with a budget), ``adaptive`` (the only one newer models take), ``disabled``, or a newer word."""

    type: str
    budget_tokens: Annotated[int, msgspec.Meta(ge=1024)] | None = None


class OutputConfig(msgspec.Struct):
    """`effort`: ``low``, ``medium``, ``high``, ``xhigh``, ``max``. `format`: ``{"type": "json_schema", ...}``."""

    effort: str | None = None
    format: dict[str, Any] | None = None


class MessagesOptions(msgspec.Struct, kw_only=True):
    """Every argument of a Messages call.

    `max_tokens` may be zero, which only warms the cache. `max_completion_tokens` and `stop` are OpenAI's names for
    `max_tokens` and `stop_sequences`, and are sent as these. `temperature`, `top_p` and `top_k` are taken up to
    version 2023-06-01 alone.
    """

    model: _Words
    messages: Annotated[list[Turn], msgspec.Meta(min_length=1, max_length=100_000)]
    max_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    system: str | list[Any] | None = None
    stop_sequences: list[str] | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    temperature: _Share | None = None
    top_p: _Share | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    cache_control: dict[str, Any] | None = None
    container: str | dict[str, Any] | None = None
    inference_geo: str | None = None
    speed: str | None = None


def written(arguments: Mapping[str, object], version: str) -> tuple[dict[str, Any], int | None]:
    """The fields of the body for this version of the API, and the cap on the output that the caller set, if he did.

    Raises:
      InvalidCall: an argument is missing, unknown, out of its range, refused by this version, or cannot be rewritten.
    """
    payload = checked(arguments, MessagesOptions, provider="anthropic", closed=True)
    if version >= STRICT_SINCE:
        _check_strict(payload, version)
    one_cap(payload, "max_tokens")
    cap = payload.setdefault("max_tokens", None)
    if cap is None:
        payload["max_tokens"] = DEFAULT_MAX_TOKENS
    _check_budget(payload, cap)
    _one_stop(payload)
    told, payload["messages"] = _turns(payload["messages"])
    system = _merged_system([payload.pop("system", None), *told])
    if system:
        payload["system"] = system
    if "tools" in payload:
        payload["tools"] = [_tool(tool, f"tools[{position}]") for position, tool in enumerate(payload["tools"])]
    if "tool_choice" in payload:
        payload["tool_choice"] = _tool_choice(payload["tool_choice"])
    return payload, cap


# --- what is refused --------------------------------------------------------------------------------------------------


def _check_strict(payload: Mapping[str, Any], version: str) -> None:
    """Refuse what the versions since `STRICT_SINCE` answer 400 to."""
    older = 'leave it out, or set the header "anthropic-version" to 2023-06-01'
    for name in _SAMPLING:
        if name in payload:
            raise invalid(name, f"anthropic does not take it in version {version}, whatever its value; {older}")
    for position, message in enumerate(payload["messages"]):
        content = message.get("content")
        for number, block in enumerate(content if isinstance(content, (list, tuple)) else ()):
            kind, place = mapping(block).get("type"), f"messages[{position}].content[{number}]"
            if message.get("role") == "assistant" and kind == "document":
                raise invalid(place, f"version {version} takes no document in an assistant's message; {older}")
            if message.get("role") == "user" and kind == "text" and mapping(block).get("citations"):
                raise invalid(place, f"version {version} takes no citations in a user's text; {older}")


def _check_budget(payload: Mapping[str, Any], cap: int | None) -> None:
    budget = mapping(payload.get("thinking")).get("budget_tokens")
    if isinstance(budget, int) and budget >= payload["max_tokens"]:
        sent = "" if cap is not None else ", which is sent where none is set"
        problem = f"it must be less than max_tokens ({payload['max_tokens']}{sent}), of which it is a part"
        raise invalid("thinking.budget_tokens", problem)


def _one_stop(payload: dict[str, Any]) -> None:
    """Send the stop sequences once, as a list under their own name."""
    stop = payload.pop("stop", None)
    if stop is None:
        return
    if "stop_sequences" in payload:
        raise invalid("stop", "it is the same thing as stop_sequences; pass one of them")
    payload["stop_sequences"] = [stop] if isinstance(stop, str) else stop


# --- messages ---------------------------------------------------------------------------------------------------------


def _turns(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[dict[str, Any]]]:
    """What the system messages say, and the turns of user and assistant. The results of one turn's tool calls are one
    user message, whatever system messages stood between them."""
    told: list[Any] = []
    turns: list[dict[str, Any]] = []
    results: list[object] | None = None
    for position, message in enumerate(messages):
        role, place = message["role"], f"messages[{position}]"
        if role in ("system", "developer"):
            told.append(message.get("content"))
        elif role == "tool":
            if results is None:
                results = []
                turns.append({"role": "user", "content": results})
            results.append(_tool_result(message, place))
        elif role in ("user", "assistant"):
            results = None
            turns.append(_turn(message, place))
        else:
            raise invalid(f"{place}.role", 'it must be "user", "assistant", "tool", "system" or "developer"')
    if not turns:
        raise invalid("messages", "there is none beside the system's; add one of the role user")
    return told, turns


def _merged_system(told: Sequence[Any]) -> str | list[object] | None:
    """All that the system says, in its order: one text, or blocks where some of it was given as blocks."""
    said = [each for each in told if each]
    if not said:
        return None
    if all(isinstance(each, str) for each in said):
        return "\n\n".join(said)
    blocks: list[object] = []
    for position, each in enumerate(said):
        blocks += [_text(each)] if isinstance(each, str) else _blocks(each, f"system[{position}]")
    return blocks


def _turn(message: Mapping[str, Any], place: str) -> dict[str, Any]:
    rest = {name: value for name, value in message.items() if name not in _NOT_THEIRS and value is not None}
    if rest.get("function_call"):
        raise invalid(f"{place}.function_call", "it has no id to answer to; give it as one of tool_calls")
    content = message.get("content")
    blocks = content if content is None or isinstance(content, str) else _blocks(content, f"{place}.content")
    calls = message.get("tool_calls")
    if calls:
        if not isinstance(calls, (list, tuple)):
            raise invalid(f"{place}.tool_calls", "it must be a list")
        before = ([_text(blocks)] if blocks else []) if isinstance(blocks, str) else blocks or []
        uses = [_tool_use(call, f"{place}.tool_calls[{number}]") for number, call in enumerate(calls)]
        blocks = [*before, *uses]
    if blocks is None:
        raise invalid(f"{place}.content", "it is missing; pass a text or a list of blocks")
    return {**rest, "content": blocks}


def _tool_result(message: Mapping[str, Any], place: str) -> dict[str, Any]:
    identity = text_or_none(message.get("tool_call_id"))
    if identity is None:
        raise invalid(f"{place}.tool_call_id", "it is missing; it is the id of the tool call that this answers")
    content = message.get("content")
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": identity}
    if content is not None:
        result["content"] = content if isinstance(content, str) else _blocks(content, f"{place}.content")
    return result | {name: message[name] for name in ("is_error", "cache_control") if message.get(name) is not None}


def _tool_use(call: object, place: str) -> dict[str, Any]:
    function = mapping(mapping(call).get("function"))
    identity, name = text_or_none(mapping(call).get("id")), text_or_none(function.get("name"))
    if identity is None or name is None:
        raise invalid(place, 'it needs an "id", and a "function" with a "name"')
    given = function.get("arguments")
    if isinstance(given, str):
        try:
            given = decode_json(given.encode("utf-8", "surrogatepass")) if given.strip() else {}
        except msgspec.DecodeError:
            given = ""
    if given is not None and not isinstance(given, dict):
        raise invalid(f"{place}.function.arguments", "it must be a JSON object, as text or as a dict; repair it")
    return {"type": "tool_use", "id": identity, "name": name, "input": given or {}}


def _blocks(parts: Sequence[object], place: str) -> list[object]:
    return [_block(part, f"{place}[{number}]") for number, part in enumerate(parts)]


def _block(part: object, place: str) -> object:
    """A part of a content in Anthropic's words; what is in them already is the same object."""
    if isinstance(part, str):
        return _text(part)
    if not isinstance(part, dict):
        raise invalid(place, f"it must be a text or a dict, not a {type(part).__name__}")
    return _image(part, place) if part.get("type") == "image_url" else part


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _image(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    given = part.get("image_url")
    url = given.get("url") if isinstance(given, dict) else given
    if not isinstance(url, str):
        raise invalid(f"{place}.image_url", 'it must be {"url": "https://..."} or {"url": "data:image/png;base64,..."}')
    rest = {name: value for name, value in part.items() if name not in ("type", "image_url") and value is not None}
    return {**rest, "type": "image", "source": _source(url, f"{place}.image_url")}


def _source(url: str, place: str) -> dict[str, str]:
    scheme = url[:8].lower()
    if scheme.startswith(("http://", "https://")):
        return {"type": "url", "url": url}
    head, comma, data = url.partition(",")
    parameters = head[5:].split(";")
    if not (scheme.startswith("data:") and comma and parameters[0] and parameters[-1].strip().lower() == "base64"):
        raise invalid(place, "its url must begin with https:// or be like data:image/png;base64,...")
    return {"type": "base64", "media_type": parameters[0].strip().lower(), "data": data}


# --- tools ------------------------------------------------------------------------------------------------------------


def _tool(tool: dict[str, Any], place: str) -> dict[str, Any]:
    """A tool in Anthropic's words; OpenAI's are told by their type, ``function``."""
    if tool.get("type") != "function":
        return tool
    function = tool["function"] if isinstance(tool.get("function"), dict) else tool
    if text_or_none(function.get("name")) is None:
        raise invalid(place, 'it needs a "function" with a "name"')
    given = {**tool, **function}
    schema = given.get("parameters") or {"type": "object", "properties": {}}
    rest = {
        name: value
        for name, value in given.items()
        if name not in ("type", "function", "parameters") and value is not None
    }
    return {**rest, "input_schema": schema}


_CHOICES = {"auto": "auto", "none": "none", "required": "any", "any": "any"}


def _tool_choice(choice: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(choice, str):
        if choice not in _CHOICES:
            raise invalid("tool_choice", 'it must be "auto", "required", "none", or a dict like {"type": "auto"}')
        return {"type": _CHOICES[choice]}
    if choice.get("type") != "function":
        return choice
    name = mapping(choice.get("function")).get("name", choice.get("name"))
    return {"type": "tool", "name": name}
