"""Handlers of streams: what they see of each chunk, what they may put in its place, and what becomes of a failure.

In virtual time. The handlers before and after a call are run for streams as for any other call.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hooked import MESSAGES, a_model, hooked_engine, in_virtual_time

from engine import Call, HandlerFailed, HookEventTypes, HookRegistry, StreamChunk, Vetoed
from engine.testing import ScriptedProvider

PRE_CREATE, PRE, POST = HookEventTypes


async def text_of(stream: Any) -> str:
    async with stream as chunks:
        return "".join([str(chunk) async for chunk in chunks])


async def shouts(event: Call, chunk_type: object, chunk: StreamChunk, **kw: Any) -> StreamChunk | None:
    return StreamChunk("text", str(chunk).upper()) if chunk.type == "text" else None


@pytest.mark.parametrize("key", [StreamChunk, "StreamChunk", "text"], ids=str)
@in_virtual_time
async def test_a_handler_stands_under_a_class_its_name_or_the_chunks_type(key: type | str) -> None:
    seen: list[tuple[object, object, dict[str, Any]]] = []

    async def look(event: Call, chunk_type: object, chunk: StreamChunk, **kw: Any) -> StreamChunk | None:
        seen.append((event, chunk_type, kw))
        return await shouts(event, chunk_type, chunk)

    def unheard(chunk: StreamChunk) -> StreamChunk | None:
        assert chunk.type != "text", "its handlers come first"
        return None

    model = a_model(HookRegistry(stream_handlers={key: look}), streaming_process_func=unheard)
    async with hooked_engine(ScriptedProvider("hello there")):
        stream = model.stream(messages=MESSAGES)
        assert await text_of(stream) == "HELLO THERE"
    assert {(event, kind) for event, kind, _ in seen} == {(stream.call, key)}
    assert all(kw == {"exit": False} for _, _, kw in seen)
    assert stream.call.text == "hello there", "the answer itself stays as it came"


@in_virtual_time
async def test_several_handlers_see_what_the_one_before_made() -> None:
    async def doubles(event: Call, chunk_type: object, chunk: StreamChunk, **kw: Any) -> StreamChunk:
        return StreamChunk("text", str(chunk) * 2)

    outer = HookRegistry()
    outer.stream_handler("text")(shouts)
    async with hooked_engine(ScriptedProvider("a"), outer):
        assert (
            await text_of(a_model({"stream_handlers": {"text": [doubles, doubles]}}).stream(messages=MESSAGES))
            == "AAAA"
        )


@pytest.mark.parametrize("exit_policy", [False, True])
@in_virtual_time
async def test_a_handler_that_raises_costs_nothing_unless_its_exit_policy_says_so(exit_policy: bool) -> None:
    async def raises(event: Call, chunk_type: object, chunk: StreamChunk, **kw: Any) -> None:
        raise ValueError("boom")

    model = a_model({"stream_handlers": {"text": raises}}, exit_hook=exit_policy)
    async with hooked_engine(ScriptedProvider("hello")) as engine:
        if exit_policy:
            with pytest.raises(HandlerFailed, match="ValueError: boom") as caught:
                await text_of(model.stream(messages=MESSAGES))
            assert isinstance(caught.value.__cause__, ValueError)
        else:
            assert await text_of(model.stream(messages=MESSAGES)) == "hello"
        await engine.wait_quiet()


@in_virtual_time
async def test_a_handler_that_hangs_is_passed_over_in_time() -> None:
    async def hangs(event: Call, chunk_type: object, chunk: StreamChunk, **kw: Any) -> None:
        await trio.sleep_forever()

    async with hooked_engine(ScriptedProvider("hello", delay_s=0.0)):
        started = trio.current_time()
        assert await text_of(a_model({"stream_handlers": {"result": hangs}}).stream(messages=MESSAGES)) == "hello"
        assert trio.current_time() - started == pytest.approx(30)


@in_virtual_time
async def test_a_stream_is_vetoed_before_anything_is_sent() -> None:
    async def refuses(event: Call, **kw: Any) -> None:
        raise ValueError("no streams today")

    provider = ScriptedProvider("hello")
    async with hooked_engine(provider):
        with pytest.raises(Vetoed, match="no streams today"):
            await text_of(a_model({PRE: refuses}).stream(messages=MESSAGES))
    assert not provider.requests


@in_virtual_time
async def test_the_reader_is_done_when_what_comes_after_is() -> None:
    order: list[str] = []

    async def note(event: Call, **kw: Any) -> None:
        await trio.sleep(3)
        order.append(f"handler {event.status} {event.text}")

    async with hooked_engine(ScriptedProvider("hello")):
        stream = a_model({POST: note}).stream(messages=MESSAGES)
        await text_of(stream)
        order.append(f"reader {stream.call.status}")
    assert order == ["handler completed hello", "reader completed"]


@in_virtual_time
async def test_leaving_a_stream_early_runs_what_comes_after() -> None:
    seen: list[str] = []

    async def note(event: Call, **kw: Any) -> None:
        seen.append(event.status)

    async with hooked_engine(ScriptedProvider("hello", delay_s=100.0)) as engine:
        async with a_model({POST: note}).stream(messages=MESSAGES):
            await trio.sleep(1)
        await engine.wait_quiet()
    assert seen == ["cancelled"]
