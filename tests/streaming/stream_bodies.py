"""What the tests of streams have in common: events of the chat format, recorded streams, a reader, and what is left.

`Read` is what a reader got of one stream, in a form that can be compared; `at_rest` says that an engine has let go.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from engine import Call, Engine, PenstockError, iModel
from engine.providers.wire import StreamChunk
from engine.streaming import ReplyStream

FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures"
KEY = "sk-sentinel-0123456789abcdef"
ASK = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 10}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def sse(*events: object) -> bytes:
    """Events as they stand in a body; a text stands there as it is."""
    return b"".join(b"data: %b\n\n" % (one if isinstance(one, bytes) else json.dumps(one).encode()) for one in events)


def delta(index: int = 0, finish: str | None = None, **fields: object) -> dict[str, Any]:
    """An event with something of one choice in it."""
    choice = {"index": index, "delta": fields, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def text(content: str) -> bytes:
    return sse(delta(content=content))


def error_event(message: str = "overloaded", code: str = "server_error") -> bytes:
    return sse({"error": {"message": message, "type": code, "code": code}})


FINISH = sse(delta(finish="stop"))
USED = sse({"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [], "usage": USAGE})
DONE = sse(b"[DONE]")
END = FINISH + USED + DONE
COMMENT = b": keep-alive\n\n"


def answer(content: str | None = "whole", **message: object) -> bytes:
    """An answer in one piece."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": "stop"}
    body = {"id": "c1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": USAGE}
    return json.dumps(body).encode()


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def a_model(**arguments: object) -> iModel:
    """A model with a key of its own, of a provider that ends each stream with ``[DONE]``."""
    return iModel(**{"model": "openai/gpt-4o", "api_key": KEY, **arguments})


class Read(NamedTuple):
    """What came of a stream: each chunk's kind and content, how it ended, and what the call then says."""

    chunks: list[tuple[object, ...]]
    error: str
    status: str
    text: str | None
    tools: tuple[object, ...]
    usage: object
    response: object


def shown(chunk: StreamChunk) -> tuple[object, ...]:
    said = chunk.content if chunk.tool_input is None else chunk.tool_input
    return (chunk.type, said, chunk.is_delta, chunk.tool_name, chunk.tool_id, chunk.is_error, dict(chunk.metadata))


async def read(stream: ReplyStream) -> Read:
    """All of a stream."""
    chunks, error = [], ""
    async with stream:
        try:
            async for chunk in stream:
                chunks.append(shown(chunk))  # noqa: PERF401  # what came before an error counts
        except PenstockError as failure:
            error = type(failure).__name__
            if failure is not stream.call.error:
                raise
    call = stream.call
    return Read(chunks, error, call.status, call.text, call.view.tool_calls, call.usage, call.response)


async def texts(stream: ReplyStream) -> list[str]:
    """The texts of a stream, one for each chunk that has one."""
    return [str(chunk) async for chunk in stream if str(chunk)]


def at_rest(engine: Engine) -> None:
    """Every live gauge is zero, the books balance, and no stream is in the engine's table."""
    statistics = engine.statistics()
    live = {name: value for name, value in statistics.live.items() if value}
    assert not live
    schedule = statistics.scheduler.schedule
    assert schedule.reservations_made == schedule.reservations_settled + schedule.reservations_given_back
    assert sum(schedule.ended.values()) == schedule.submitted
    assert not engine._streams


def error_of(call: Call) -> str:
    """The name of a call's error, or ``""``."""
    return type(call.error).__name__ if call.error is not None else ""
