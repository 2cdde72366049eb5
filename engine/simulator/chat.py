"""Reads the body of a chat completion request: what it asks for, or why it is wrong.

Only what the simulator itself needs is checked; everything else a client may send is welcome and ignored. What is
wrong comes back as an answer in OpenAI's own error shape.

Pure: no trio, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from engine.simulator.reply import Answer, error_answer

MAX_CHOICES: Final = 16
MAX_OUTPUT: Final = 2**31

_decode = msgspec.json.Decoder().decode


class StreamRequest(NamedTuple):
    """What a request says of the stream it asks for. `tool` is the function to be called, or empty."""

    usage: bool = False
    obfuscation: bool = True
    tool: str = ""


class ChatRequest(NamedTuple):
    """A request that is well formed. `output_cap` is per choice, None if it sets none. `stream` is None if the answer
    is to come in one piece."""

    arguments: Mapping[str, object]
    model: str
    choices: int
    output_cap: int | None
    stream: StreamRequest | None = None


def invalid(message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> Answer:
    """The answer to a request that is wrong."""
    return error_answer(status, message, kind="invalid_request_error", code=code, param=param)


def _count_of(arguments: Mapping[str, object], name: str, most: int) -> int | Answer | None:
    value = arguments.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        return invalid(f"Invalid '{name}': it must be an integer from 1 to {most}.", param=name, code="invalid_value")
    return value


def _wrong_type(name: str, what: str) -> Answer:
    return invalid(f"Invalid type for '{name}': it must be {what}.", param=name, code="invalid_type")


def _stream_of(arguments: Mapping[str, object]) -> StreamRequest | Answer | None:
    stream, options = arguments.get("stream"), arguments.get("stream_options")
    if stream is not None and not isinstance(stream, bool):
        return _wrong_type("stream", "a boolean")
    if options is not None and not isinstance(options, dict):
        return _wrong_type("stream_options", "an object")
    if not stream:
        if options is None:
            return None
        text = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        return invalid(text, param="stream_options")
    options = options or {}
    flags = [options.get("include_usage", False), options.get("include_obfuscation", True)]
    if not all(isinstance(flag, bool) for flag in flags):
        return _wrong_type("stream_options", "an object of booleans")
    return StreamRequest(flags[0], flags[1], _tool_of(arguments))


def _tool_of(arguments: Mapping[str, object]) -> str:
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


def read_chat(body: bytes | bytearray) -> ChatRequest | Answer:
    """Read a request's body. Never raises."""
    try:
        arguments = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return invalid("The body of the request is not valid JSON.")
    if not isinstance(arguments, dict):
        return invalid("The body of the request must be a JSON object.")
    model, messages = arguments.get("model"), arguments.get("messages")
    if not isinstance(model, str) or not model:
        return invalid("You must provide a 'model', as a string.", param="model", code="missing_required_parameter")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        text = "You must provide 'messages', a list of one or more objects."
        return invalid(text, param="messages", code="missing_required_parameter")
    stream = _stream_of(arguments)
    if isinstance(stream, Answer):
        return stream
    choices = _count_of(arguments, "n", MAX_CHOICES)
    cap = _count_of(arguments, "max_completion_tokens", MAX_OUTPUT)
    if cap is None:
        cap = _count_of(arguments, "max_tokens", MAX_OUTPUT)
    if isinstance(choices, Answer):
        return choices
    if isinstance(cap, Answer):
        return cap
    return ChatRequest(arguments, model, choices or 1, cap, stream)
