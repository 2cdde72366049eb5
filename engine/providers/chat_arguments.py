"""What the schema of a chat's arguments cannot say: its messages, its one cap, and sentences for the usual mistakes.

Types and ranges are in `chat_options`. Refused here is what no provider would take; all else is the provider's to
judge, because a refusal of theirs costs nothing. The sentences name the argument, what is wrong with it and what to do,
and quote no text of the caller's.

Pure: no trio, no httpx, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.providers.arguments import invalid

_CONTENT = (str, list, tuple, type(None))


def check_model(model: object, required: bool) -> None:
    """Refuse a model's name that is none, or that there is none where the provider has no default."""
    if not (isinstance(model, str) and model.strip()) and (required or model is not None):
        raise invalid("model", 'it must be a text with something in it; pass model="..."')


def check_messages(arguments: Mapping[str, object], with_names: bool) -> None:
    """Refuse messages that are no list of dicts with a role and a content. Not `with_names`: their `name` too."""
    messages = arguments.get("messages")
    if messages is None:
        _refuse_missing(arguments)
    if not isinstance(messages, (list, tuple)) or not messages:
        given = "it is empty" if isinstance(messages, (list, tuple)) else f"it is {_kind(messages)}"
        raise invalid("messages", f'{given}; pass a list like [{{"role": "user", "content": "..."}}]')
    for position, message in enumerate(messages):
        if not isinstance(message, dict):
            problem = f'it must be a dict like {{"role": "user", "content": "..."}}, not {_kind(message)}'
            raise invalid(f"messages[{position}]", problem)
        role = message.get("role")
        if not isinstance(role, str) or not role:
            raise invalid(f"messages[{position}]", 'it has no "role"; use "system", "user", "assistant" or "tool"')
        content = message.get("content")
        if not isinstance(content, _CONTENT):
            problem = f"it must be a text or a list of parts, not {_kind(content)}"
            raise invalid(f'messages[{position}]["content"]', problem)
        if not with_names and message.get("name") is not None:
            raise invalid(f'messages[{position}]["name"]', "this provider takes no names; leave it out")


def _refuse_missing(arguments: Mapping[str, object]) -> None:
    if "prompt" in arguments:
        raise invalid("prompt", 'a chat has messages; pass messages=[{"role": "user", "content": "..."}] instead')
    raise invalid("messages", 'it is missing; pass a list like [{"role": "user", "content": "..."}]')


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
        if isinstance(calls := message.get("tool_calls"), list):
            message = {**message, "tool_calls": _without_nulls(calls)}
        clean.append(message)
    return clean


def _without_nulls(value: object, depth: int = 3) -> object:
    """Without nulls as deep as a tool call is."""
    if isinstance(value, dict) and depth:
        return {name: _without_nulls(inner, depth - 1) for name, inner in value.items() if inner is not None}
    return [_without_nulls(item, depth - 1) for item in value] if isinstance(value, list) and depth else value


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
