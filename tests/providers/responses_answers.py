"""Shared by the tests of the Responses format: the recorded bodies, items and events written in a line, a stream read.

The bodies are in `fixtures/openai_responses/`: shapes from OpenAI's SDK (2026-11-20).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.providers.openai_responses import OpenAIResponses
from engine.providers.wire import Reading, StreamChunk
from engine.sse import Event, EventReader, Named

FIXTURES = Path(__file__).parent / "fixtures" / "openai_responses"
BODIES = ("response", "response_failed_http200", "response_function_call", "response_incomplete")
STREAMS = ("stream", "stream_error_event", "stream_failed")
NOW_S = 1_790_000_000.0
WIRE = OpenAIResponses()
USAGE = {
    "input_tokens": 36,
    "input_tokens_details": {"cached_tokens": 30},
    "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 64},
    "total_tokens": 123,
}


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def read(body: bytes | object, status: int = 200, headers: dict[str, str] | None = None) -> Reading:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return WIRE.read(status, headers or {}, raw, now_s=NOW_S)


def response(*output: object, status: str = "completed", **fields: object) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": status, "model": "m", "output": [*output], **fields}


def message(*parts: object, **fields: object) -> dict[str, object]:
    return {"type": "message", "role": "assistant", "content": [*parts], **fields}


def says(text: str, **fields: object) -> dict[str, object]:
    return {"type": "output_text", "text": text, **fields}


def event(kind: str, **fields: object) -> Named:
    name = f"response.{kind}" if kind != "error" else kind
    return Named(name.encode(), json.dumps({"type": name, **fields}).encode())


def delta(kind: str, text: str, at: int = 0, part: int = 0, **fields: object) -> Named:
    place = "summary_index" if kind.startswith("reasoning_summary") else "content_index"
    return event(f"{kind}.delta", item_id=f"item_{at}", output_index=at, delta=text, **{place: part}, **fields)


def unnamed(events: list[Event]) -> list[Event]:
    return [one.data if isinstance(one, Named) else one for one in events]


def events_of(body: bytes) -> list[Event]:
    reader = EventReader(cap_bytes=1 << 20)
    return reader.feed(body) + reader.end()


def assembled(events: list[Event]) -> tuple[list[StreamChunk], dict[str, Any]]:
    """All chunks of a stream, and its answer."""
    assembler = WIRE.assembler()
    chunks = [chunk for one in events for chunk in assembler.feed(one)] + assembler.end()
    return chunks, assembler.response()


def judged(events: list[Event], status: int = 200) -> Reading:
    monitor = WIRE.monitor()
    monitor.heard(events)
    return monitor.reading(status, {}, now_s=NOW_S)
