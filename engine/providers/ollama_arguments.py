"""The arguments of a call to Ollama's own chat path: the documented ones, and OpenAI's in their place.

A caller may write a call as for any other provider: the parameters of the sampler go into ``options``, images out of
their data URLs, the arguments of tool calls from text to objects. What the server would ignore although it matters
(an ``options`` field at the top, say) is put where it is read; fields nobody knows are passed on, for it ignores them.

Pure: no trio, no httpx, no I/O. Fields: docs.ollama.com/api/chat and ollama-python 0.6.3 (2026-11-20). That `stop` must
be a list, and that unknown options are ignored: the server's api/types.go, at commit 00a4cb2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from engine.providers.arguments import invalid
from engine.providers.wire import mapping, text_or_none

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Least1 = Annotated[int, msgspec.Meta(ge=1)]


class RunOptions(msgspec.Struct, kw_only=True):
    """How the model is run and sampled. More fields than these exist; they are passed on within ``options``.

    `num_predict` caps the output (-1: no cap, -2: until the context is full). `num_ctx` is the size of the context:
    a longer prompt is cut without a word.
    """

    temperature: Annotated[float, msgspec.Meta(ge=0)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0)] | None = None
    min_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    num_predict: Annotated[int, msgspec.Meta(ge=-2)] | None = None
    num_ctx: _Least1 | None = None
    repeat_penalty: float | None = None
    repeat_last_n: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class _Function(msgspec.Struct):
    name: _Text
    arguments: str | dict[str, Any] | None = None


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    role: _Text
    content: str | list[Any] | None = None
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None


class ChatArguments(RunOptions, kw_only=True):
    """Ollama's own arguments and, from `max_tokens` on, OpenAI's names for them.

    Without any messages the model is only loaded, or unloaded with a `keep_alive` of 0. `think` is True, False or an
    effort, `format` is ``"json"`` or a JSON schema. There is one answer to a call.
    """

    model: _Text
    messages: list[_Message]
    tools: list[dict[str, Any]] | None = None
    think: bool | str | None = None
    format: str | dict[str, Any] | None = None
    options: RunOptions | None = None
    keep_alive: str | float | None = None
    stream: bool | None = None
    max_tokens: _Least1 | None = None
    max_completion_tokens: _Least1 | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: _Text | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=1)] | None = None


_OPTION_OF = {field.name: field.name for field in msgspec.structs.fields(RunOptions)} | {
    "max_tokens": "num_predict",
    "max_completion_tokens": "num_predict",
}


def to_native(payload: dict[str, Any]) -> None:
    """Rewrite checked arguments as the server reads them; `payload` is changed, what it holds is not.

    Raises:
      InvalidCall: two of them contradict each other, or one cannot be written in Ollama's terms.
    """
    payload["messages"] = _native_messages(payload["messages"])
    _gather_options(payload)
    if "response_format" in payload:
        wanted = _format_of(payload.pop("response_format"))
        if wanted is not None and payload.setdefault("format", wanted) != wanted:
            raise invalid("response_format", "it differs from format, which is the same thing; pass one of them")
    if "reasoning_effort" in payload:
        effort = payload.pop("reasoning_effort")
        payload.setdefault("think", False if effort == "none" else effort)
    payload.setdefault("stream", False)  # never left out: the server streams unless told not to


def _gather_options(payload: dict[str, Any]) -> None:
    given = payload.pop("options", None)
    options = {name: _listed(name, value) for name, value in (given or {}).items() if value is not None}
    for name in [name for name in payload if name in _OPTION_OF]:
        option = _OPTION_OF[name]
        value = _listed(option, payload.pop(name))
        if options.setdefault(option, value) != value:
            raise invalid(name, f"another argument says something else for options[{option!r}]; pass one of them")
    if options or given is not None:
        payload["options"] = options


def _listed(option: str, value: object) -> object:
    """The server takes `stop` as a list alone."""
    return [value] if option == "stop" and isinstance(value, str) else value


def _format_of(response_format: Mapping[str, object]) -> object:
    """OpenAI's `response_format` as Ollama's `format`; None where it asks for plain text."""
    kind = response_format.get("type")
    schema = mapping(response_format.get("json_schema")).get("schema")
    if kind == "json_object":
        return "json"
    if kind == "json_schema" and isinstance(schema, dict):
        return schema
    if kind == "text":
        return None
    raise invalid(
        "response_format",
        'it must be {"type": "json_object"} or {"type": "json_schema", "json_schema": {"schema": {...}}}',
    )


# --- messages ---------------------------------------------------------------------------------------------------------


def _native_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    tools: dict[str, str] = {}
    return [_native_message(message, f"messages[{position}]", tools) for position, message in enumerate(messages)]


def _native_message(message: Mapping[str, Any], place: str, tools: dict[str, str]) -> dict[str, Any]:
    """A message in Ollama's terms. `tools` remembers which tool each tool call so far was for."""
    native = {name: value for name, value in message.items() if value is not None}
    if native["role"] == "developer":
        native["role"] = "system"
    if isinstance(native.setdefault("content", ""), (list, tuple)):
        native["content"], shown = _text_and_images(native["content"], f'{place}["content"]')
        if shown:
            native["images"] = [*native.get("images", ()), *shown]
    thoughts = [native.pop(name, None) for name in ("reasoning_content", "reasoning")]
    thought = next((thought for thought in thoughts if isinstance(thought, str)), None)
    if thought is not None:
        native.setdefault("thinking", thought)
    if "tool_calls" in native:
        calls = native["tool_calls"]
        native["tool_calls"] = [_native_call(call, f"{place}.tool_calls[{at}]") for at, call in enumerate(calls)]
        tools.update((call["id"], call["function"]["name"]) for call in native["tool_calls"] if call.get("id"))
    if native["role"] == "tool" and "tool_name" not in native:
        tool = text_or_none(native.pop("name", None)) or tools.get(native.get("tool_call_id", ""))
        if tool is not None:
            native["tool_name"] = tool
    return native


def _text_and_images(parts: Sequence[object], place: str) -> tuple[str, list[str]]:
    """A list of parts as one text, a line for each, and the images beside it."""
    texts: list[str] = []
    images: list[str] = []
    for position, part in enumerate(parts):
        found: Mapping[str, object] = {"type": "text", "text": part} if isinstance(part, str) else mapping(part)
        kind, text = found.get("type"), found.get("text")
        if kind in ("text", "input_text") and isinstance(text, str):
            texts.append(text)
        elif kind in ("image_url", "input_image"):
            images.append(_image(found.get("image_url"), f"{place}[{position}]"))
        else:
            raise invalid(f"{place}[{position}]", 'it must be a text part or an image part like {"type": "image_url"}')
    return "\n".join(texts), images


def _image(given: object, place: str) -> str:
    url = given if isinstance(given, str) else mapping(given).get("url")
    head, comma, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise invalid(place, 'Ollama fetches no images; pass the image itself as "data:image/png;base64,..."')
    return data


def _native_call(call: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A tool call of an earlier turn, its arguments an object."""
    function = call["function"]
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments) if arguments.strip() else {}
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            arguments = None  # no object either
    elif arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise invalid(f"{place}.function.arguments", "it must be a JSON object, which is all that Ollama takes there")
    return {**call, "function": {**function, "arguments": arguments}}
