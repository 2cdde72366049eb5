"""Gemini's own API: the manners of ``/v1beta/models/{model}:generateContent`` and ``:streamGenerateContent``.

The model and whether it is a stream stand in the path, the key is ``x-goog-api-key``, and a call of a function comes
whole, in one part. A stream is always one of events, as with ``alt=sse``, each with what has been used so far, and has
no ``[DONE]``: its last event has the reason why it ends. An error is an object, and a wrong key a 400. Shapes from
ai.google.dev/api/generate-content and from what Gemini CLI 0.61.0 reads, as of 2026-11-20.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

from engine.simulator.chat import MAX_OUTPUT, ChatRequest, StreamRequest, count_of, follow, read_object
from engine.simulator.chunks import Wording
from engine.simulator.events import Block, CrlfEvents, Event, Events, Script
from engine.simulator.failure import Failure, invalid
from engine.simulator.formats.dialects import GEMINI_OVERLOADED, gemini_error, gemini_status
from engine.simulator.formats.manner import HeadersSeen, Manner, Moment, header
from engine.simulator.formats.words import (
    Call,
    body,
    calls,
    names,
    reasoning_pieces,
    reasoning_tokens,
    spoiled,
    text_pieces,
)
from engine.simulator.reply import encode

_KNOWN: Final = names("""
    contents tools toolConfig safetySettings systemInstruction generationConfig cachedContent labels store serviceTier
""")
_ROLES: Final = ("user", "model", "function")


class GeminiNative(Manner):
    """``:generateContent``, and as a `stream` ``:streamGenerateContent``; bound to a `model`."""

    def __init__(self, *, stream: bool, model: str = "") -> None:
        self._stream = stream
        self._model = model

    def at(self, name: str, headers: HeadersSeen) -> Self:
        return type(self)(stream=self._stream, model=name)

    def credential(self, headers: HeadersSeen) -> bytes:
        key = header(headers, b"x-goog-api-key")
        return b"Bearer " + key if key else header(headers, b"authorization")

    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        given = read_object(body)
        if isinstance(given, Failure):
            return given
        arguments = {_camel(name): value for name, value in given.items()}
        wrong = _wrong(arguments)
        if wrong is not None:
            return wrong
        cap = count_of(_object(arguments.get("generationConfig")), "maxOutputTokens", MAX_OUTPUT)
        if isinstance(cap, Failure):
            return cap
        tools = list(_declared(arguments.get("tools")))
        tool = _called(tools, _object(_object(arguments.get("toolConfig")).get("functionCallingConfig")))
        stream = StreamRequest(True, tool=tool) if self._stream else None
        messages = list(_messages(arguments))
        counted = {**arguments, "messages": messages, "tools": tools}
        return follow(body, ChatRequest(counted, self._model, 1, cap, stream, tool), messages)

    def whole(self, said: Wording) -> bytes:
        thoughts = reasoning_pieces(said)
        parts: list[dict[str, object]] = [{"text": "".join(thoughts), "thought": True}] if thoughts else []
        made = calls(said)
        parts += [_part_of(call) for call in made] if made else [{"text": said.done.text}]
        return body(said, _answer(said, parts, said.done.cost.output_tokens, "STOP"))

    def events(self, said: Wording) -> Events:
        def frame(_: int, event: Event) -> bytes:
            return b"data: %b\r\n\r\n" % encode(spoiled(said, event))

        return _Events(_script(said), frame, error=frame(0, GEMINI_OVERLOADED))

    def status(self, failure: Failure) -> int:
        return gemini_status(failure)

    def error(self, failure: Failure, now: Moment) -> object:
        return gemini_error(failure)


class _Events(CrlfEvents):
    """A stream without comments: Google sends none, and its own SDK for JavaScript breaks at one."""

    comment = b""


def _camel(name: str) -> str:
    """A name as Google writes it: it may come with underscores as well."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _wrong(arguments: Mapping[str, Any]) -> Failure | None:
    """What the provider refuses in a request."""
    for name in arguments:
        if name not in _KNOWN:
            return invalid(f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.', param=name)
    contents = arguments.get("contents")
    if not isinstance(contents, list) or not contents:
        return invalid("* GenerateContentRequest.contents: contents is not specified", param="contents")
    for place, content in enumerate(contents):
        parts = content.get("parts") if isinstance(content, dict) else None
        if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
            text = f"* GenerateContentRequest.contents[{place}].parts: contents.parts must not be empty."
            return invalid(text, param="contents")
        if content.get("role", "user") not in _ROLES:
            return invalid("Please use a valid role: user, model.", param="contents")
    return None


def _messages(arguments: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    """The prompt as messages, so that it is counted as those are. The result of a function is a message of a tool."""
    system = _object(arguments.get("systemInstruction")).get("parts")
    if system:
        yield {"role": "system", "content": system}
    for content in arguments["contents"]:
        results = any("functionResponse" in part for part in content["parts"])
        yield {"role": "tool" if results else content.get("role", "user"), "content": content["parts"]}


def _declared(tools: object) -> Iterator[dict[str, Any]]:
    """The functions in a request's tools, each with a name."""
    for tool in tools if isinstance(tools, list) else ():
        functions = _object(tool).get("functionDeclarations") or _object(tool).get("function_declarations")
        for function in functions if isinstance(functions, list) else ():
            if isinstance(function, dict) and isinstance(function.get("name"), str):
                yield function


def _called(tools: list[dict[str, Any]], config: Mapping[str, Any]) -> str:
    """The function that a request's tools have called: the first it allows, else the first; or none."""
    if config.get("mode") == "NONE":
        return ""
    known = [str(tool["name"]) for tool in tools]
    allowed = config.get("allowedFunctionNames")
    wanted = [name for name in allowed if name in known] if isinstance(allowed, list) else []
    return next(iter([*wanted, *known]), "")


def _part_of(call: Call) -> dict[str, object]:
    return {"functionCall": {"name": call.name, "args": call.arguments}}


def _usage(said: Wording, output: int) -> dict[str, object]:
    """What has been used with so many of the output tokens; the first of them are thoughts."""
    given, thoughts = said.done.cost.input_tokens, min(output, reasoning_tokens(said))
    told: dict[str, object] = {"promptTokenCount": given, "candidatesTokenCount": output - thoughts}
    details = {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": given}]}
    return told | {"totalTokenCount": given + output} | details | ({"thoughtsTokenCount": thoughts} if thoughts else {})


def _answer(said: Wording, parts: list[dict[str, object]], output: int, reason: str = "") -> dict[str, object]:
    """An answer, or an event of one."""
    candidate: dict[str, object] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if reason:
        candidate["finishReason"] = reason
    answer: dict[str, object] = {"candidates": [candidate]}
    if said.fault != "null_usage":
        answer["usageMetadata"] = _usage(said, output)
    return answer | {"modelVersion": said.done.model, "responseId": said.done.identity}


def _script(said: Wording) -> Script:
    """The parts of a stream: thoughts, then the text or the calls, then why it ends."""
    most, thoughts, made = said.done.cost.output_tokens, reasoning_pieces(said), calls(said)

    def delta(part: dict[str, object], place: int) -> Event:
        return _answer(said, [part], min(most, place + 1))

    blocks = [Block(thoughts, lambda piece, place: delta({"text": piece, "thought": True}, place))]
    if made:
        blocks.append(Block([], lambda _, __: {}, [delta(_part_of(call), most) for call in made]))
    else:
        blocks.append(Block(text_pieces(said), lambda piece, place: delta({"text": piece}, len(thoughts) + place)))
    ends = said.fault != "stream_no_done"
    tail: list[Event | bytes] = [_answer(said, [{"text": ""}], most, "STOP")] if ends else []
    usage = 0 if tail and said.fault != "null_usage" else None
    return Script([], blocks, tail, lambda piece: delta({"text": piece}, len(thoughts)), usage)
