"""`Engine.map`: what comes out of its stream, in which order, and how far ahead is pulled. How it ends is next door.

Over a provider in virtual time. A hang shows as a `TooSlowError`, because every engine here is given a time.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
import trio
import trio.testing
from mapped_calls import Pulled, later_is_quicker, say
from virtual_provider import MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import (
    Call,
    CallStream,
    CapacityExceeded,
    InvalidCall,
    UsageError,
)
from engine.testing import ScriptedProvider, error_reply

# --- what comes out ---


@pytest.mark.parametrize("source", [iter, Pulled.later], ids=["sync", "async"])
@pytest.mark.parametrize("ordered", [False, True])
@in_virtual_time
async def test_all_calls_come_out_as_they_end_or_in_order(ordered: bool, source: Callable[[Pulled], object]) -> None:
    async with virtual_engine(ScriptedProvider(later_is_quicker)) as engine:
        pulled = Pulled(a_model(), 6)
        calls = source(pulled)
        async with engine.map(calls, ordered=ordered) as stream:  # type: ignore[arg-type]  # one of the two kinds
            texts = [call.text async for call in stream]
        assert texts == [str(number) for number in (range(6) if ordered else range(5, -1, -1))]


@in_virtual_time
async def test_an_empty_iterable_gives_an_empty_stream() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        assert [call async for call in engine.map([])] == []


@in_virtual_time
async def test_a_stream_that_is_read_to_its_end_stays_ended() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        stream = engine.map(Pulled(a_model(), 2))
        assert len([call async for call in stream]) == 2
        assert [call async for call in stream] == []
        await stream.aclose()
        del stream
        gc.collect()  # would warn, and warnings are errors here


@in_virtual_time
async def test_awaiting_a_stream_gives_itself() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        stream = engine.map(Pulled(a_model(), 2))
        assert await stream is stream
        assert isinstance(stream, CallStream)
        assert aiter(stream) is stream
        assert len([call async for call in await stream]) == 2


@in_virtual_time
async def test_failed_calls_come_out_like_others() -> None:
    async with virtual_engine(ScriptedProvider([error_reply(400), "hi"])) as engine:
        statuses = [call.status async for call in engine.map(Pulled(a_model(), 2))]
        assert sorted(statuses) == ["completed", "failed"]


@in_virtual_time
async def test_what_cannot_be_queued_comes_out_skipped_with_what_submit_would_raise() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        model = a_model(limit_tokens=100)
        large = model.create_api_calling(messages=MESSAGES, max_tokens=1000)
        wrong = model.create_api_calling(messages=[])
        fine = model.create_api_calling(messages=MESSAGES, max_tokens=10)
        out = [call async for call in engine.map([large, wrong, fine], ordered=True)]
        assert out == [large, wrong, fine]
        assert [call.status for call in out] == ["skipped", "skipped", "completed"]
        assert isinstance(large.error, CapacityExceeded)
        assert (large.error.dimension, large.error.capacity, large.error.call_id) == ("total_tokens", 100, large.id)
        assert isinstance(wrong.error, InvalidCall)
        assert wrong.error.argument == "messages"
        with pytest.raises(CapacityExceeded):
            large.raise_for_status()
    assert len(provider.requests) == 1


@in_virtual_time
async def test_a_call_whose_deadline_is_impossible_comes_out_skipped() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        model = a_model(limit_requests=1)
        await model.invoke(messages=MESSAGES)
        calls = [model.create_api_calling(messages=MESSAGES, deadline_s=5)]
        assert [call.status async for call in engine.map(calls)] == ["skipped"]


@in_virtual_time
async def test_a_call_that_has_ended_already_comes_out_as_it_is() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        call = await a_model().invoke(messages=MESSAGES)
        assert [call async for call in engine.map([call])] == [call]
        assert call.status == "completed"
    assert len(provider.requests) == 1


@pytest.mark.parametrize("thing", [None, "call", 7])
@in_virtual_time
async def test_what_is_no_call_ends_the_stream_after_the_calls_before_it(thing: object) -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        seen = []
        with pytest.raises(InvalidCall, match="create_api_calling"):  # noqa: PT012  # what counts is how the whole block is left
            async for call in engine.map([say(a_model(), 1), thing]):  # type: ignore[list-item]  # that is tested
                seen.append(call.status)  # noqa: PERF401  # what came out before the exception counts
        assert seen == ["completed"]


@in_virtual_time
async def test_one_call_twice_is_a_mistake_and_is_sent_once() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        call = say(a_model(), 1)
        seen = []
        with pytest.raises(InvalidCall, match="each call once"):  # noqa: PT012  # what counts is how the whole block is left
            async for ended in engine.map([call, call]):
                seen.append(ended)  # noqa: PERF401  # what came out before the exception counts
        assert seen == [call]
    assert len(provider.requests) == 1


@pytest.mark.parametrize("buffer", [0, -1, True, "5", 1.5, None])
@in_virtual_time
async def test_a_buffer_that_makes_no_sense_is_refused(buffer: object) -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        with pytest.raises(UsageError, match="buffer"):
            engine.map([], buffer=buffer)  # type: ignore[arg-type]  # that is what is tested


# --- how far ahead ---


@pytest.mark.parametrize("ordered", [False, True])
@in_virtual_time
async def test_never_more_than_the_buffer_is_pulled_ahead(ordered: bool) -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        pulled = Pulled(a_model(), 60)
        read = 0
        async with engine.map(pulled, ordered=ordered, buffer=7) as stream:
            await trio.sleep(10)
            assert pulled.taken == 7
            async for _ in stream:
                read += 1
                assert pulled.taken - read <= 7
                await trio.sleep(1)
                assert pulled.taken == min(60, read + 7)
        assert read == 60
        assert provider.most_in_flight <= 7


@in_virtual_time
async def test_the_buffer_counts_what_was_skipped_too() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        taken = 0

        def wrong_ones() -> Iterator[Call]:
            nonlocal taken
            model = a_model()
            for _ in range(500):
                taken += 1
                yield model.create_api_calling(messages=[])

        read = 0
        async with engine.map(wrong_ones(), buffer=5) as stream:
            await trio.sleep(1)
            assert taken <= 5
            async for call in stream:
                read += 1
                assert call.status == "skipped"
                assert taken - read <= 5
        assert read == 500


@in_virtual_time
async def test_pulling_lets_other_tasks_run() -> None:
    """A long source whose calls are all wrong must not hold up the loop."""
    async with virtual_engine(ScriptedProvider()) as engine:
        model = a_model()
        wrong = [model.create_api_calling(messages=[]) for _ in range(2000)]
        async with engine.map(wrong, buffer=5000):
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            assert wrong[-1].status == "pending"
