"""A stream whose handler puts another provider's call in its place is read as that provider's streams are."""

from __future__ import annotations

import json
from typing import Any

from virtual_streams import StreamProvider, in_virtual_time, streaming_engine

from engine import Call, HookEventTypes, iModel

MESSAGES = [{"role": "user", "content": "hello"}]
EVENTS = (
    {"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 0}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
)


@in_virtual_time
async def test_the_chunks_are_those_of_the_provider_that_answers() -> None:
    claude = iModel(provider="anthropic", model="claude-x", api_key="none")

    async def instead(event: Call, **kw: Any) -> Call:
        return claude.create_api_calling(messages=MESSAGES, stream=True)

    script = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in EVENTS]
    async with streaming_engine(StreamProvider(script)):
        model = iModel(model="gpt-4o", api_key="none", hook_registry={HookEventTypes.PreInvocation: instead})
        async with model.stream(messages=MESSAGES) as chunks:
            assert "".join([str(chunk) async for chunk in chunks]) == "hello"
        assert (chunks.call.text, chunks.call.status) == ("hello", "completed")
