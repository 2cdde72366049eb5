"""Leaving a stream and dropping it, cancelling its call elsewhere, and an engine that ends with streams open.

Each leaves nothing behind at once, and the call says what became of it.
"""

from __future__ import annotations

import gc
import threading

import pytest
import trio
import trio.testing
from stream_bodies import ASK, END, a_model, at_rest, read, text
from virtual_streams import FOREVER, Step, StreamProvider, in_virtual_time, streaming_engine

from engine import open_engine
from engine.providers.wire import StreamChunk
from engine.streaming import ReplyStream

HELLO: list[Step] = [text("Hel"), 0.5, text("lo"), END]
CROWDED = {"queue_capacity": 1, "concurrency_limit": 1}
OPEN: list[Step] = [text("a"), text("b"), FOREVER]


@in_virtual_time
async def test_leaving_the_block_ends_the_call_at_once_and_keeps_what_was_read() -> None:
    provider = StreamProvider(OPEN)
    async with streaming_engine(provider) as engine:
        async with a_model().stream(**ASK) as stream:
            async for chunk in stream:
                assert str(chunk) == "a"
                break
        # Not only soon: the connection is closed and the permit free before the block is left.
        at_rest(engine)
        assert provider.busy == 0
        call = stream.call
        assert call.status == "cancelled"
        assert call.text is not None
        assert call.text.startswith("a")
        await stream.aclose()
        assert [chunk async for chunk in stream] == []


async def reads_and_raises(stream: ReplyStream) -> None:
    async with stream:
        await stream.__anext__()
        raise KeyError("mine")


@in_virtual_time
async def test_a_block_that_raises_ends_the_call_and_raises_what_it_raised() -> None:
    provider = StreamProvider(OPEN)
    async with streaming_engine(provider) as engine:
        stream = a_model().stream(**ASK)
        with pytest.raises(KeyError, match="mine"):
            await reads_and_raises(stream)
        at_rest(engine)
        assert stream.call.status == "cancelled"


@in_virtual_time
async def test_leaving_a_stream_that_has_come_whole_loses_nothing() -> None:
    """The whole answer has come, but only its first chunk was read: the call is completed, and its text whole."""
    async with streaming_engine(StreamProvider([text("Hel"), 0.1, text("lo"), END])) as engine:
        async with a_model().stream(**ASK) as stream:
            assert str(await stream.__anext__()) == "Hel"
            await engine.wait_quiet()
        assert (stream.call.status, stream.call.text) == ("completed", "Hello")


@in_virtual_time
async def test_a_dropped_stream_warns_and_ends_its_call() -> None:
    provider = StreamProvider(OPEN)
    async with streaming_engine(provider) as engine:
        stream = a_model().stream(**ASK)
        call = stream.call
        await stream.__anext__()
        with pytest.warns(ResourceWarning, match="dropped before its end; use it in an async with"):
            del stream
        await engine.wait_quiet()
        assert (call.status, provider.busy) == ("cancelled", 0)
        at_rest(engine)


def drop(held: list[ReplyStream]) -> None:
    """In another thread."""
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()


@in_virtual_time
async def test_a_stream_dropped_in_another_thread_is_ended_in_its_own() -> None:
    provider = StreamProvider(OPEN)
    async with streaming_engine(provider) as engine:
        held = [a_model().stream(**ASK)]
        call = held[0].call
        await held[0].__anext__()
        with pytest.warns(ResourceWarning):
            drop(held)
        await engine.wait_quiet()
        assert call.status == "cancelled"


@in_virtual_time
async def test_a_stream_dropped_when_its_call_has_ended_says_nothing() -> None:
    async with streaming_engine(StreamProvider(HELLO)) as engine:
        stream = a_model().stream(**ASK)
        await stream.__anext__()
        await engine.wait_quiet()
        del stream
        gc.collect()


@pytest.mark.parametrize("begun", [False, True])
@in_virtual_time
async def test_a_call_cancelled_elsewhere_ends_its_reader(begun: bool) -> None:
    provider = StreamProvider([text("a"), FOREVER] if begun else [FOREVER])
    async with streaming_engine(provider), trio.open_nursery() as nursery:
        stream = a_model().stream(**ASK)

        async def reads() -> None:
            got = await read(stream)
            assert (got.error, got.status, got.text) == ("CallCancelled", "cancelled", "a" if begun else None)

        nursery.start_soon(reads)
        await trio.testing.wait_all_tasks_blocked()
        stream.call.cancel()


@in_virtual_time
async def test_a_drain_waits_for_a_stream_that_is_read_and_drops_one_that_is_not() -> None:
    provider = StreamProvider([text("a"), 5.0, text("b"), END], OPEN)
    async with streaming_engine(provider) as engine, trio.open_nursery() as nursery:
        model = a_model()
        results = []

        async def reads() -> None:
            results.append(await read(model.stream(**ASK)))

        nursery.start_soon(reads)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(reads)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await engine.drain(deadline_s=20)
        assert trio.current_time() - began == pytest.approx(20)
        await trio.testing.wait_all_tasks_blocked()
        assert [(got.error, got.text) for got in results] == [("", "ab"), ("OutcomeUnknown", "ab")]


@in_virtual_time
async def test_an_engine_left_with_an_open_stream_ends_it() -> None:
    provider = StreamProvider(OPEN)
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012  # it is the engine's block that raises
        async with open_engine(transport=provider) as engine:
            stream = a_model().stream(**ASK)
            await stream.__anext__()
            raise KeyError("mine")
    at_rest(engine)
    assert (provider.busy, provider.open) == (0, 0)
    rest = await read(stream)
    assert rest.error in ("OutcomeUnknown", "ShuttingDown")
    assert rest.text == "ab"


@in_virtual_time
async def test_closing_a_stream_while_another_task_reads_it_ends_both() -> None:
    provider = StreamProvider([FOREVER])
    async with streaming_engine(provider) as engine, trio.open_nursery() as nursery:
        stream = a_model().stream(**ASK)
        got: list[list[StreamChunk]] = []

        async def reads() -> None:
            got.append([chunk async for chunk in stream])

        nursery.start_soon(reads)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()
        at_rest(engine)
        await trio.testing.wait_all_tasks_blocked()
        assert got == [[]]


@in_virtual_time
async def test_closing_a_stream_that_waits_for_a_place_takes_it_out_of_the_line() -> None:
    async with streaming_engine(StreamProvider([text("a"), 50.0, END])) as engine, trio.open_nursery() as nursery:
        model = a_model(**CROWDED)
        for _ in range(2):
            await engine.submit(model.create_api_calling(**ASK))
            await trio.testing.wait_all_tasks_blocked()
        stream = model.stream(**ASK)
        nursery.start_soon(read, stream)
        await trio.testing.wait_all_tasks_blocked()
        assert stream.call.status == "pending"
        began = trio.current_time()
        await stream.aclose()
        assert stream.call.status == "cancelled"
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks
        assert not engine._streams
        assert trio.current_time() == began
