"""Reads the body of a chat completion request: what it asks for, or why it is wrong.

Only what the simulator itself needs is checked; everything else a client may send is welcome and ignored. What is
wrong comes back as a `Failure`, and what a provider refuses besides is the matter of its manner.

Pure: no trio, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from engine.simulator.directives import Directed, directed, tools_of, turns_of
from engine.simulator.failure import Failure, invalid

MAX_CHOICES: Final = 16
MAX_OUTPUT: Final = 2**31
CRASH_FAULT: Final = "crash"
"""The fault that a request asks for which crashes its engine: everybody's from then on, and none of chance."""
CAPS: Final = ("max_completion_tokens", "max_tokens")

_decode = msgspec.json.Decoder().decode


class StreamRequest(NamedTuple):
    """What a request says of the stream it asks for. `tool` is the function to be called, or empty."""

    usage: bool = False
    obfuscation: bool = True
    tool: str = ""


class ChatRequest(NamedTuple):
    """A request that is well formed. `output_cap` is per choice, None if it sets none. `stream` is None if the answer
    is to come in one piece.

    `arguments` is the decoded body; where a format keeps its prompt elsewhere, with that as further ``messages``, so
    that all are counted alike. `known_input` are input tokens that need no counting. `tool` is the function to be
    called, or empty. `fault` is one that the request itself asks for, as by the name of its model; one that chance has
    for it comes first. `directed` is what its prompt tells the simulator to answer, None where that tells nothing.
    """

    arguments: Mapping[str, object]
    model: str
    choices: int
    output_cap: int | None
    stream: StreamRequest | None = None
    tool: str = ""
    known_input: int = 0
    fault: str = ""
    directed: Directed | None = None


def count_of(arguments: Mapping[str, object], name: str, most: int) -> int | Failure | None:
    """A whole number from 1 that may be left out."""
    value = arguments.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        return invalid(f"Invalid '{name}': it must be an integer from 1 to {most}.", param=name, code="invalid_value")
    return value


def wrong_type(name: str, what: str) -> Failure:
    """What is said of a field of the wrong type."""
    return invalid(f"Invalid type for '{name}': it must be {what}.", param=name, code="invalid_type")


def _stream_of(arguments: Mapping[str, object]) -> StreamRequest | Failure | None:
    stream, options = arguments.get("stream"), arguments.get("stream_options")
    if stream is not None and not isinstance(stream, bool):
        return wrong_type("stream", "a boolean")
    if options is not None and not isinstance(options, dict):
        return wrong_type("stream_options", "an object")
    if not stream:
        if options is None:
            return None
        text = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        return invalid(text, param="stream_options")
    options = options or {}
    flags = [options.get("include_usage", False), options.get("include_obfuscation", True)]
    if not all(isinstance(flag, bool) for flag in flags):
        return wrong_type("stream_options", "an object of booleans")
    return StreamRequest(flags[0], flags[1], tool_of(arguments))


def tool_of(arguments: Mapping[str, object]) -> str:
    """The function that a request's tools have called: the one its choice names, else the first; or none."""
    choice, tools = arguments.get("tool_choice"), arguments.get("tools")
    if choice == "none" or not isinstance(tools, list):
        return ""
    for tool in (choice, *tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(name, str):
            return name
    return ""


def follow(body: bytes | bytearray, request: ChatRequest, items: Iterable[object]) -> ChatRequest | Failure:
    """The request with what the directives in its messages want; `items` are those messages, or what stands for them,
    and `body` is the request as it came."""
    wanted = directed(body, lambda: turns_of(items), lambda: tools_of(request.arguments.get("tools")))
    if wanted is None or isinstance(wanted, Failure):
        return request if wanted is None else wanted
    return request._replace(directed=wanted)


def read_object(body: bytes | bytearray) -> dict[str, object] | Failure:
    """Read a body that must be a JSON object. Never raises."""
    try:
        arguments = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return invalid("The body of the request is not valid JSON.")
    if not isinstance(arguments, dict):
        return invalid("The body of the request must be a JSON object.")
    return arguments


def model_of(arguments: Mapping[str, object]) -> str | Failure:
    """The model a request names."""
    model = arguments.get("model")
    if not isinstance(model, str) or not model:
        return invalid("You must provide a 'model', as a string.", param="model", code="missing_required_parameter")
    return model


def read_chat(body: bytes | bytearray, caps: Sequence[str] = CAPS) -> ChatRequest | Failure:
    """Read a request's body; `caps` are the names its output cap may have, the first found counts. Never raises."""
    arguments = read_object(body)
    if isinstance(arguments, Failure):
        return arguments
    model, messages = model_of(arguments), arguments.get("messages")
    if isinstance(model, Failure):
        return model
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        text = "You must provide 'messages', a list of one or more objects."
        return invalid(text, param="messages", code="missing_required_parameter")
    stream = _stream_of(arguments)
    if isinstance(stream, Failure):
        return stream
    choices = count_of(arguments, "n", MAX_CHOICES)
    if isinstance(choices, Failure):
        return choices
    cap = None
    for name in caps:
        cap = count_of(arguments, name, MAX_OUTPUT)
        if cap is not None:
            break
    if isinstance(cap, Failure):
        return cap
    return follow(body, ChatRequest(arguments, model, choices or 1, cap, stream, tool_of(arguments)), messages)
