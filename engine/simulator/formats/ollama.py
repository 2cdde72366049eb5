"""Ollama's own chat: the manner of ``/api/chat``.

It streams unless it is told not to, a line of JSON an event; an error is a bare string, in a stream a line of its own.
It has no limit headers and asks for no key, but takes one. Arguments of calls are objects, and calls have no identity.
Shapes from docs.ollama.com and the SDK 0.6.3, as of 2026-11-20.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from datetime import UTC, datetime

from engine.simulator.chat import MAX_OUTPUT, ChatRequest, StreamRequest, follow, read_object, tool_of
from engine.simulator.chunks import Wording
from engine.simulator.events import Block, Event, Events, LineEvents, Script
from engine.simulator.failure import Failure, invalid
from engine.simulator.formats.manner import HeadersSeen, Manner, Moment
from engine.simulator.formats.words import body, calls, reasoning_pieces, spoiled, text_pieces
from engine.simulator.reply import encode

_CRASH = {"error": "an error was encountered while running the model"}


class Ollama(Manner):
    """``/api/chat``."""

    stream_type = b"application/x-ndjson"

    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        arguments = read_object(body)
        if isinstance(arguments, Failure):
            return arguments
        model, messages, stream = arguments.get("model"), arguments.get("messages"), arguments.get("stream")
        if not isinstance(model, str) or not model:
            return invalid("model is required")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            return invalid("messages must be a list of messages")
        if not isinstance(stream, (bool, type(None))):
            return invalid("stream must be a boolean")
        options = arguments.get("options")
        cap = options.get("num_predict") if isinstance(options, dict) else None
        if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap > MAX_OUTPUT):
            return invalid('option "num_predict" must be of type integer')
        tool = tool_of(arguments)
        wanted = StreamRequest(True, tool=tool) if stream is not False else None
        most = cap if cap is not None and cap > 0 else None
        return follow(body, ChatRequest(arguments, model, 1, most, wanted, tool), messages)

    def whole(self, said: Wording) -> bytes:
        message: dict[str, object] = {"role": "assistant", "content": said.done.text}
        if thought := reasoning_pieces(said):
            message["thinking"] = "".join(thought)
        if calls(said):
            message |= {"content": "", "tool_calls": _calls(said)}
        return body(said, _line(said, message) | _end(said))

    def events(self, said: Wording) -> Events:
        def frame(_: int, event: Event) -> bytes:
            return encode(spoiled(said, event)) + b"\n"

        return LineEvents(_script(said), frame, error=encode(_CRASH) + b"\n")

    def error(self, failure: Failure, now: Moment) -> object:
        return {"error": failure.message}

    def error_in_200(self, said: Wording, now: Moment) -> bytes:
        return encode(_CRASH)


def _line(said: Wording, message: dict[str, object]) -> dict[str, object]:
    created = datetime.fromtimestamp(said.done.created_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    return {"model": said.done.model, "created_at": created, "message": message, "done": False}


def _end(said: Wording) -> dict[str, object]:
    """What the last line has besides. Without a usage there are no counts, as when all of a prompt was cached."""
    times = {"total_duration": 20_000_000, "load_duration": 1_000_000}
    end: dict[str, object] = {"done": True, "done_reason": "stop", **times}
    if said.fault == "null_usage":
        return end
    cost = said.done.cost
    counts = {"prompt_eval_count": cost.input_tokens, "eval_count": cost.output_tokens}
    return end | counts | {"prompt_eval_duration": 4_000_000, "eval_duration": 15_000_000}


def _calls(said: Wording) -> list[dict[str, object]]:
    return [{"function": {"name": call.name, "arguments": call.arguments}} for call in calls(said)]


def _script(said: Wording) -> Script:
    def line(field: str, piece: str) -> dict[str, object]:
        return _line(said, {"role": "assistant", "content": "", field: piece})

    blocks = [Block(reasoning_pieces(said), lambda piece, _: line("thinking", piece))]
    made = _calls(said)
    if made:
        told = _line(said, {"role": "assistant", "content": "", "tool_calls": made})
        blocks.append(Block((), lambda piece, _: line("content", piece), [told]))
    else:
        blocks.append(Block(text_pieces(said), lambda piece, _: line("content", piece)))
    last: list[Event | bytes] = [line("content", "") | _end(said)]
    tail = [] if said.fault == "stream_no_done" else last
    usage_at = 0 if tail and said.fault != "null_usage" else None
    return Script([], blocks, tail, lambda piece: line("content", piece), usage_at)
