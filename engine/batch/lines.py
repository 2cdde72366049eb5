"""What a line of a batch means: an OpenAI Batch request, or the arguments of a call as they are.

Nothing is raised for what is wrong with a line: it becomes the `problem` of its request, beside whatever could be read
of its names, so that the result can still be matched to it. What a provider would judge is left to it; what nobody
would understand, such as a misspelt name beside a ``body``, is refused.

No I/O, no trio.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from engine.call import OPTION_NAMES, CallOptions
from engine.errors import InvalidCall

MAX_LINE_BYTES: Final = 64 << 20
"""No line may be longer."""

CHAT: Final = "chat/completions"
LINE: Final = "line"
"""The `argument` of an `InvalidCall` whose fault is the line itself, not what it asks for."""

_FORM: Final = 'a line is one JSON object, like {"prompt": "Say hello."}'

_ENVELOPE = frozenset({"custom_id", "id", "method", "url", "body", *OPTION_NAMES})


class RawLine(NamedTuple):
    """A line of the input, counted from 1, without its end; None in place of one that is too long."""

    number: int
    data: bytes | None


class Request(NamedTuple):
    """What one line asks for. `model` None: it names none. With a `problem`, the rest of it may be missing.

    `id` and `custom_id` are as they will stand in the result, `endpoint` as the catalogue takes it.
    """

    number: int
    id: str | int
    custom_id: str | int | None = None
    model: str | None = None
    endpoint: str = CHAT
    arguments: Mapping[str, Any] = {}
    options: CallOptions = CallOptions()
    problem: InvalidCall | None = None
    size_bytes: int = 0


def read_request(line: RawLine, defaults: Mapping[str, Any], *, max_bytes: int = MAX_LINE_BYTES) -> Request:
    """Read a line. Never raises.

    Args:
      line: what stands in the input.
      defaults: fields of `CallOptions` for lines that do not say otherwise.
      max_bytes: the limit that `line` was cut by, for the message.
    """
    request = Request(line.number, f"line-{line.number}", size_bytes=len(line.data or b""))
    try:
        found = _object(line.data, max_bytes)
        request = _named(request, found)
        arguments = _checked(_arguments(found))
        return request._replace(
            model=_model(arguments.pop("model", None)),
            endpoint=_endpoint(found),
            arguments=arguments,
            options=CallOptions(**{**defaults, **_options(found)}),
        )
    except InvalidCall as error:
        return request._replace(problem=error)


def _object(data: bytes | None, max_bytes: int) -> dict[str, Any]:
    if data is None:
        raise _bad(f"is longer than {max_bytes} bytes, which is the most a line may be")
    try:
        found = msgspec.json.decode(data)
    except UnicodeDecodeError:
        raise _bad(f"is not UTF-8 text; {_FORM}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _bad(f"is not valid JSON ({error}); {_FORM}") from None
    if not isinstance(found, dict):
        raise _bad(f"is {_kind(found)}; {_FORM}")
    return found


def _named(request: Request, found: Mapping[str, Any]) -> Request:
    """The request under the names its line gives it: for both, either stands in for the other."""
    for name in ("custom_id", "id"):
        value = found.get(name)
        if value is not None and not _is_name(value):
            raise _bad(f"has {_kind(value)} as its {name}; it must be a text or a whole number")
        if value is not None:
            request = request._replace(**{name: value})
    if found.get("custom_id") is None and found.get("id") is not None:
        request = request._replace(custom_id=found["id"])
    return request


def _is_name(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _arguments(found: Mapping[str, Any]) -> dict[str, Any]:
    """What goes to the provider, the model's name included."""
    if "body" in found:
        unknown = next((key for key in found if key not in _ENVELOPE), None)
        if unknown is not None:
            raise _bad(f"has {unknown!r:.60} beside its body; what the provider is to see belongs into the body")
        if not isinstance(found["body"], dict):
            raise _bad(f"has {_kind(found['body'])} as its body; it must be a JSON object")
        return dict(found["body"])
    arguments = {key: value for key, value in found.items() if key not in _ENVELOPE}
    prompt = arguments.pop("prompt", None)
    if prompt is None:
        if arguments.get("messages") is None:
            raise _bad('asks for nothing: it needs "body" (as in a batch of OpenAI\'s), "messages" or "prompt"')
        return arguments
    if arguments.get("messages") is not None:
        raise _bad('has both "messages" and "prompt"; leave one out')
    if not isinstance(prompt, str):
        raise _bad(f"has {_kind(prompt)} as its prompt; it must be a text")
    return {**arguments, "messages": [{"role": "user", "content": prompt}]}


def _checked(arguments: dict[str, Any]) -> dict[str, Any]:
    if arguments.get("stream"):
        raise InvalidCall("stream: a batch has whole answers; leave it out. Nothing was sent.", argument="stream")
    return arguments


def _model(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise InvalidCall('model: it must be a text with something in it, like "openai/gpt-4o-mini"', argument="model")
    return value


def _endpoint(found: Mapping[str, Any]) -> str:
    """The endpoint the line's `url` names, which is a path: where that is, the model's address says."""
    method, url = found.get("method"), found.get("url")
    if method is not None and (not isinstance(method, str) or method.upper() != "POST"):
        raise _bad("has a method other than POST, which is the only one there is")
    if url is None:
        return CHAT
    if not isinstance(url, str) or not url.startswith("/"):
        raise _bad('has a url that is not a path like "/v1/chat/completions"; the address is that of its model')
    return url.removeprefix("/v1").strip("/")


def _options(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in OPTION_NAMES & found.keys() if found[name] is not None}


def _bad(what: str) -> InvalidCall:
    return InvalidCall(f"the line {what}. Nothing was sent.", argument=LINE)


_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a number")
