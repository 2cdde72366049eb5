"""OpenAI's Responses: the manner of ``/v1/responses``.

Shapes and order of events from the SDK 3.52.0 and the reference at platform.openai.com, read on 2026-11-20. Streams
have named events with numbers, tell everything once more at their end, and have no ``[DONE]``. Unknown parameters are
refused. The fault ``stream_error`` sends an event ``error``, ``error_in_200`` a ``response.failed``.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.simulator.chat import (
    MAX_OUTPUT,
    ChatRequest,
    StreamRequest,
    count_of,
    follow,
    model_of,
    read_object,
    wrong_type,
)
from engine.simulator.chunks import Wording
from engine.simulator.events import Block, Composed, Event, Events, Script
from engine.simulator.failure import Failure, invalid
from engine.simulator.formats.manner import HeadersSeen, Moment
from engine.simulator.formats.openai_chat import OpenAI, refused_by_reasoning
from engine.simulator.formats.words import (
    Call,
    body,
    calls,
    names,
    reasoning_pieces,
    reasoning_tokens,
    spoiled,
    text_pieces,
    usage,
    with_split,
)
from engine.simulator.reply import encode

_KNOWN: Final = names("""
    model input instructions max_output_tokens reasoning text tools tool_choice parallel_tool_calls
    previous_response_id conversation store include truncation temperature top_p top_logprobs background max_tool_calls
    metadata service_tier stream stream_options prompt prompt_cache_key prompt_cache_options prompt_cache_retention
    safety_identifier user moderation context_management client_metadata
""")
_MOVED: Final = {"messages": "input", "max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}


def flat_tool(arguments: Mapping[str, Any]) -> str:
    """The function that tools without an envelope have called: the one the choice names, else the first; or none."""
    choice, tools = arguments.get("tool_choice"), arguments.get("tools")
    if choice == "none" or not isinstance(tools, list) or (isinstance(choice, dict) and choice.get("type") == "none"):
        return ""
    names = (tool.get("name") for tool in (choice, *tools) if isinstance(tool, dict))
    return next((name for name in names if isinstance(name, str)), "")


def _messages(arguments: Mapping[str, Any]) -> list[object]:
    """The prompt as messages, so that it is counted as those are."""
    given = arguments.get("input")
    messages = list(given) if isinstance(given, list) else [{"role": "user", "content": given}]
    if isinstance(arguments.get("instructions"), str):
        messages.insert(0, {"role": "system", "content": arguments["instructions"]})
    return messages


class Responses(OpenAI):
    """``/v1/responses``."""

    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        arguments = read_object(body)
        if isinstance(arguments, Failure):
            return arguments
        model = model_of(arguments)
        if isinstance(model, Failure):
            return model
        wrong = _wrong(arguments) or refused_by_reasoning(arguments, model)
        if wrong is not None:
            return wrong
        cap = count_of(arguments, "max_output_tokens", MAX_OUTPUT)
        if isinstance(cap, Failure):
            return cap
        tool = flat_tool(arguments)
        stream = StreamRequest(True, tool=tool) if arguments.get("stream") else None
        messages = _messages(arguments)
        return follow(body, ChatRequest({**arguments, "messages": messages}, model, 1, cap, stream, tool), messages)

    def whole(self, said: Wording) -> bytes:
        items = _items(said, text_pieces(said))
        return body(said, _response(said, "completed", items, usage(said, _usage(said))))

    def error_in_200(self, said: Wording, now: Moment) -> bytes:
        return encode(_failed(said))

    def events(self, said: Wording) -> Events:
        def frame(number: int, event: Event) -> bytes:
            data = encode(spoiled(said, {**event, "sequence_number": number}))
            return b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), data)

        script = _script(said)
        wrong: Event = {"type": "error", "code": "server_error", "message": "The server had an error.", "param": None}
        if said.fault == "error_in_200":
            wrong = {"type": "response.failed", "response": _failed(said)}
        error = frame(script.size, wrong)
        return Composed(script, frame, error=error, splits=said.fault == "stream_split")


def _wrong(arguments: Mapping[str, Any]) -> Failure | None:
    for name in arguments:
        if name in _MOVED:
            text = f"Unsupported parameter: '{name}'. In the Responses API, this parameter is '{_MOVED[name]}'."
            return invalid(text, param=name, code="unsupported_parameter")
        if name not in _KNOWN:
            return invalid(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    given, stream, options = arguments.get("input"), arguments.get("stream"), arguments.get("stream_options")
    if not isinstance(given, (str, list)) or not given:
        text = "You must provide 'input', a string or a list of items."
        return invalid(text, param="input", code="missing_required_parameter")
    if stream is not None and not isinstance(stream, bool):
        return wrong_type("stream", "a boolean")
    if isinstance(options, dict) and (unknown := options.keys() - {"include_obfuscation"}):
        name = f"stream_options.{min(unknown)}"
        return invalid(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    return None


def _usage(said: Wording) -> dict[str, object]:
    cost = said.done.cost
    return {
        "input_tokens": cost.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": cost.output_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens(said)},
        "total_tokens": cost.input_tokens + cost.output_tokens,
    }


def _response(said: Wording, status: str, items: list[dict[str, object]], used: object = None) -> dict[str, object]:
    """A whole response, which repeats what was asked of it."""
    done, asked = said.done, said.asked.arguments if said.asked is not None else {}
    finished = {"completed_at": done.created_s} if status == "completed" else {}
    defaults: dict[str, object] = {
        "instructions": None, "max_output_tokens": None, "parallel_tool_calls": True, "previous_response_id": None,
        "reasoning": {"effort": "medium", "summary": None}, "store": True, "temperature": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "truncation": "disabled", "user": None, "metadata": {}, "background": False,
    }  # fmt: skip
    return {
        "id": f"resp_{done.identity}",
        "object": "response",
        "created_at": done.created_s,
        "status": status,
        **finished,
        "error": None,
        "incomplete_details": None,
        "model": done.model,
        "output": items,
        **{name: asked.get(name, default) for name, default in defaults.items()},
        "usage": used,
    }


def _failed(said: Wording) -> dict[str, object]:
    wrong = {"code": "server_error", "message": "The server had an error while processing your request. (injected)"}
    return _response(said, "failed", []) | {"error": wrong}


def _reasoning(said: Wording) -> list[dict[str, object]]:
    """The item with the reasoning, if there is any."""
    thought = reasoning_pieces(said)
    if not thought:
        return []
    return [_thought(said, [{"type": "summary_text", "text": "".join(thought)}])]


def _thought(said: Wording, summary: list[object]) -> dict[str, object]:
    return {"id": f"rs_{said.done.identity}", "type": "reasoning", "summary": summary}


def _part(text: str) -> dict[str, object]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(said: Wording, status: str, parts: list[object]) -> dict[str, object]:
    identity = f"msg_{said.done.identity}"
    return {"id": identity, "type": "message", "status": status, "role": "assistant", "content": parts}


def _function(call: Call, status: str, arguments: str) -> dict[str, object]:
    ids = {"id": f"fc_{call.identity}", "call_id": f"call_{call.identity}"}
    return {**ids, "type": "function_call", "status": status, "name": call.name, "arguments": arguments}


def _items(said: Wording, pieces: list[str]) -> list[dict[str, object]]:
    """What an answer consists of."""
    made = calls(said)
    items = [_function(call, "completed", _arguments(said, call, number)) for number, call in enumerate(made)]
    text = with_split(said, pieces, len(pieces))
    return [*_reasoning(said), *(items or [_message(said, "completed", [_part(text)])])]


def _arguments(said: Wording, call: Call, number: int) -> str:
    """The arguments of a call; what is split is in those of the first."""
    return call.text if number else with_split(said, call.fragments, len(call.fragments) - 1)


def _script(said: Wording) -> Script:
    begun = _response(said, "in_progress", [])
    head: list[Event] = [{"type": f"response.{name}", "response": begun} for name in ("created", "in_progress")]
    blocks = [_reasoning_block(said)] if reasoning_pieces(said) else []
    split = len(head) + sum(block.size for block in blocks)
    made = calls(said)
    if made:
        first = len(blocks)
        blocks += [_call_block(said, call, number, first + number) for number, call in enumerate(made)]
        split += 1 + len(made[0].fragments) - 1
    else:
        blocks.append(_text_block(said, len(blocks)))
        split += 2 + len(text_pieces(said))
    told = blocks[1 if reasoning_pieces(said) else 0]
    response = _response(said, "completed", _items(said, text_pieces(said)), usage(said, _usage(said)))
    tail: list[Event | bytes] = (
        [] if said.fault == "stream_no_done" else [{"type": "response.completed", "response": response}]
    )
    usage_at = 0 if tail and said.fault != "null_usage" else None
    return Script(head, blocks, tail, lambda piece: told.delta(piece, 0), usage_at, split)


def _reasoning_block(said: Wording) -> Block:
    at = {"output_index": 0}
    inner = {"item_id": f"rs_{said.done.identity}", **at, "summary_index": 0}
    name, done = "response.reasoning_summary", _reasoning(said)[0]
    part = {"type": "summary_text", "text": "".join(reasoning_pieces(said))}
    return Block(
        reasoning_pieces(said),
        lambda piece, _: {"type": f"{name}_text.delta", **inner, "delta": piece},
        [
            {"type": "response.output_item.added", **at, "item": _thought(said, [])},
            {"type": f"{name}_part.added", **inner, "part": part | {"text": ""}},
        ],
        [
            {"type": f"{name}_text.done", **inner, "text": part["text"]},
            {"type": f"{name}_part.done", **inner, "part": part},
            {"type": "response.output_item.done", **at, "item": done},
        ],
    )


def _text_block(said: Wording, place: int) -> Block:
    at = {"output_index": place}
    inner = {"item_id": f"msg_{said.done.identity}", **at, "content_index": 0}
    pieces = text_pieces(said)
    text = with_split(said, pieces, len(pieces))
    return Block(
        pieces,
        lambda piece, _: {"type": "response.output_text.delta", **inner, "delta": piece, "logprobs": []},
        [
            {"type": "response.output_item.added", **at, "item": _message(said, "in_progress", [])},
            {"type": "response.content_part.added", **inner, "part": _part("")},
        ],
        [
            {"type": "response.output_text.done", **inner, "text": text, "logprobs": []},
            {"type": "response.content_part.done", **inner, "part": _part(text)},
            {"type": "response.output_item.done", **at, "item": _message(said, "completed", [_part(text)])},
        ],
    )


def _call_block(said: Wording, call: Call, number: int, place: int) -> Block:
    at = {"output_index": place}
    inner = {"item_id": f"fc_{call.identity}", **at}
    whole, kind = _arguments(said, call, number), "response.function_call_arguments"
    return Block(
        call.fragments,
        lambda piece, _: {"type": f"{kind}.delta", **inner, "delta": piece},
        [{"type": "response.output_item.added", **at, "item": _function(call, "in_progress", "")}],
        [
            {"type": f"{kind}.done", **inner, "arguments": whole, "name": call.name},
            {"type": "response.output_item.done", **at, "item": _function(call, "completed", whole)},
        ],
    )
