"""Shared by the tests of the Messages format: the recorded answers and streams, and short ways to have one read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.providers.anthropic_messages import AnthropicMessages
from engine.providers.wire import Reading, StreamChunk, StreamMonitor
from engine.sse import Event, EventReader, Named

FOLDER = Path(__file__).parent / "fixtures" / "anthropic_messages"
OLD = AnthropicMessages()
NEW = AnthropicMessages("2026-10-21")
NOW_S = 1_790_000_000.0
STREAMS = ("stream.sse", "stream_tool_thinking.sse", "stream_overloaded.sse")


def fixture(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def loaded(name: str) -> Any:
    return json.loads(fixture(name))


def read(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Reading:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return OLD.read(status, headers or {}, raw, now_s=NOW_S)


def message(*blocks: object, **fields: object) -> dict[str, object]:
    return {"type": "message", "role": "assistant", "content": list(blocks), "stop_reason": "end_turn", **fields}


def events_of(body: bytes) -> list[Event]:
    reader = EventReader(cap_bytes=1 << 20)
    return reader.feed(body) + reader.end()


def event(kind: str, **fields: object) -> Named:
    return Named(kind.encode(), json.dumps({"type": kind, **fields}).encode())


def begin(index: int = 0, **block: object) -> Named:
    return event("content_block_start", index=index, content_block=block)


def delta(kind: str, index: int = 0, **fields: object) -> Named:
    return event("content_block_delta", index=index, delta={"type": kind, **fields})


def text(piece: str, index: int = 0) -> Named:
    return delta("text_delta", index, text=piece)


def stop(index: int = 0) -> Named:
    return event("content_block_stop", index=index)


START = event("message_start", message={"id": "msg_1", "model": "m", "content": [], "usage": {"input_tokens": 5}})
END = event("message_stop")


def ending(reason: str = "end_turn", **usage: object) -> Named:
    return event("message_delta", delta={"stop_reason": reason}, usage=usage)


def assembled(events: list[Event]) -> tuple[list[StreamChunk], dict[str, object]]:
    """All chunks of a stream, and its answer."""
    assembler = OLD.assembler()
    chunks = [chunk for one in events for chunk in assembler.feed(one)] + assembler.end()
    return chunks, assembler.response()


def heard(events: list[Event], block: int = 1_000) -> StreamMonitor:
    monitor = OLD.monitor()
    for at in range(0, len(events), block):
        monitor.heard(events[at : at + block])
    return monitor


def verdict(events: list[Event], headers: dict[str, str] | None = None) -> Reading:
    return heard(events).reading(200, headers or {}, now_s=NOW_S)
