"""The arguments of a chat call: checked against the documented ranges, and written as JSON.

Refused here is what no provider would take and what must never be sent; all else is the provider's to judge, because
a refusal of theirs costs nothing and their lists of fields grow faster than ours. The sentences name the argument,
what is wrong with it and what to do, and quote no text of the caller's.

Pure: no trio, no httpx, no I/O. Ranges: platform.openai.com/docs/api-reference/chat (2026-11-20).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.providers.arguments import SECRETS, invalid

_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
_INTEGERS: dict[str, tuple[int, int | None]] = {
    "max_tokens": (1, None),
    "max_completion_tokens": (1, None),
    "n": (1, None),
    "top_logprobs": (0, 20),
    "seed": (-(2**63), 2**63 - 1),
}
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "stream": ((bool,), "True or False"),
    "logprobs": ((bool,), "True or False"),
    "parallel_tool_calls": ((bool,), "True or False"),
    "stop": ((str, list, tuple), "a text or a list of texts"),
    "logit_bias": ((dict,), "a dict from vocabulary number to bias"),
    "response_format": ((dict,), 'a dict like {"type": "json_object"}'),
    "stream_options": ((dict,), "a dict"),
    "tools": ((list, tuple), "a list of dicts"),
    "tool_choice": ((str, dict), 'a text like "auto" or a dict'),
    "user": ((str,), "a text"),
}
_CONTENT = (str, list, tuple, type(None))


def check(payload: Mapping[str, object]) -> None:
    """Refuse what no provider would take, and what must never be sent."""
    for name, value in payload.items():
        rule = _RULES.get(name)
        if rule is not None:
            rule(name, value)
        else:
            _check_name(name)
    if "model" not in payload:
        _check_model("model", None)
    if "messages" not in payload:
        _check_missing_messages(payload)


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise invalid(repr(name)[:60], "an argument's name must be a text")
    if name.lower() in SECRETS:
        raise invalid(name, "it is not part of a call and is never sent in its body; give it to iModel(...)")


def _check_model(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise invalid(name, 'it must be a text with something in it; pass model="..."')


def _check_missing_messages(payload: Mapping[str, object]) -> None:
    if "prompt" in payload:
        raise invalid("prompt", 'a chat has messages; pass messages=[{"role": "user", "content": "..."}] instead')
    raise invalid("messages", 'it is missing; pass a list like [{"role": "user", "content": "..."}]')


def _check_messages(name: str, messages: object) -> None:
    if not isinstance(messages, (list, tuple)) or not messages:
        given = "it is empty" if isinstance(messages, (list, tuple)) else f"it is {_kind(messages)}"
        raise invalid(name, f'{given}; pass a list like [{{"role": "user", "content": "..."}}]')
    for position, message in enumerate(messages):
        if not isinstance(message, dict):
            problem = f'it must be a dict like {{"role": "user", "content": "..."}}, not {_kind(message)}'
            raise invalid(f"{name}[{position}]", problem)
        role = message.get("role")
        if not isinstance(role, str) or not role:
            raise invalid(f"{name}[{position}]", 'it has no "role"; use "system", "user", "assistant" or "tool"')
        content = message.get("content")
        if not isinstance(content, _CONTENT):
            problem = f"it must be a text or a list of parts, not {_kind(content)}"
            raise invalid(f'{name}[{position}]["content"]', problem)


def _check_number(name: str, value: Any) -> None:
    low, high = _RANGES[name]
    if not _is_number(value) or not low <= value <= high:
        raise invalid(name, f"it must be a number from {low} to {high}, not {_shown(value)}")


def _check_integer(name: str, value: object) -> None:
    low, high = _INTEGERS[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        bounds = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise invalid(name, f"it must be a whole number {bounds}, not {_shown(value)}")


def _check_type(name: str, value: object) -> None:
    types, wanted = _TYPES[name]
    if not isinstance(value, types):
        raise invalid(name, f"it must be {wanted}, not {_kind(value)}")


def _check_biases(name: str, biases: object) -> None:
    _check_type(name, biases)
    for bias in biases.values() if isinstance(biases, dict) else ():
        if not _is_number(bias) or not -100 <= bias <= 100:
            raise invalid(name, f"each bias must be a number from -100 to 100, not {_shown(bias)}")


_RULES: dict[str, Callable[[str, object], None]] = {
    **dict.fromkeys(_RANGES, _check_number),
    **dict.fromkeys(_INTEGERS, _check_integer),
    **dict.fromkeys(_TYPES, _check_type),
    "logit_bias": _check_biases,
    "model": _check_model,
    "messages": _check_messages,
}


def one_cap(payload: dict[str, object], field: str | None) -> None:
    """Send the cap on the output once, under the name this provider takes."""
    older = payload.pop("max_tokens", None)
    newer = payload.pop("max_completion_tokens", None)
    if older is not None and newer is not None and older != newer:
        raise invalid("max_tokens", "it differs from max_completion_tokens, which is the same thing; pass one of them")
    if newer is not None:
        payload[field or "max_completion_tokens"] = newer
    elif older is not None:
        payload[field or "max_tokens"] = older


def without_nulls(messages: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """The messages without the nulls that SDK objects are dumped with and strict gateways refuse. `content` may be
    null: with tool calls it says that there is no text."""
    clean = []
    for message in messages:
        for name, value in message.items():
            if value is None and name != "content":
                message = {name: value for name, value in message.items() if value is not None or name == "content"}
                break
        clean.append(message)
    return clean


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"


def _shown(value: object) -> str:
    return repr(value)[:40] if isinstance(value, (int, float)) else _kind(value)
