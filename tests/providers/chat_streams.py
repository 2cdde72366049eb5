"""Shared by the tests of streams: the recorded streams, events written in a line, and a whole stream read at once."""

from __future__ import annotations

import json

from chat_answers import FORMATS, GENERIC, fixture

from engine.providers.openai_chat import OpenAIChat
from engine.providers.wire import StreamChunk
from engine.sse import Event, EventReader

STREAMS = (
    ("openai", "openai_chat/stream.sse"),
    ("openai", "openai_chat/stream_tool_calls.sse"),
    ("openai", "openai_chat/stream_error_in_200.sse"),
    ("gemini", "gemini_chat/stream.sse"),
    ("groq", "groq_chat/stream.sse"),
    ("groq", "groq_chat/stream_error.sse"),
    ("deepseek", "deepseek_chat/stream.sse"),
    ("perplexity", "perplexity_chat/stream.sse"),
    ("openrouter", "openrouter_chat/stream.sse"),
    ("openrouter", "openrouter_chat/stream_error_in_200.sse"),
)
OPENAI = FORMATS["openai"]
DONE = b"[DONE]"
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def events_of(body: bytes) -> list[Event]:
    reader = EventReader(cap_bytes=1 << 20)
    return reader.feed(body) + reader.end()


def recorded(name: str) -> list[Event]:
    return events_of(fixture(name))


def event(*choices: object, **fields: object) -> bytes:
    return json.dumps({"id": "c1", "model": "m", "choices": list(choices), **fields}).encode()


def delta(index: int | None = 0, finish: str | None = None, **fields: object) -> dict[str, object]:
    choice = {"delta": fields, "finish_reason": finish}
    return choice if index is None else {"index": index, **choice}


def text(content: str) -> bytes:
    return event(delta(content=content))


def assembled(events: list[Event], wire: OpenAIChat = GENERIC) -> tuple[list[StreamChunk], dict[str, object]]:
    """All chunks of a stream, and its answer."""
    assembler = wire.assembler()
    chunks = [chunk for one in events for chunk in assembler.feed(one)] + assembler.end()
    return chunks, assembler.response()
