"""How a `map` ends: by its iterable, by its reader, by its engine, or by being dropped. Nobody hangs, nothing is left.

Over a provider in virtual time. A hang shows as a `TooSlowError`, because every engine here is given a time.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import trio
import trio.testing
from mapped_calls import Pulled, say
from virtual_provider import a_model, in_virtual_time, virtual_engine

from engine import (
    Call,
    ShuttingDown,
    open_engine,
)
from engine.testing import ScriptedProvider, assert_quiet, chat_reply, fault

# --- how it ends ---


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("source", [iter, Pulled.later], ids=["sync", "async"])
@in_virtual_time
async def test_the_iterables_own_exception_is_raised_after_the_calls_that_were_pulled(
    source: Callable[[Pulled], object], ordered: bool
) -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        broken = KeyError("line 4")
        pulled = Pulled(a_model(), 3, fails=broken)
        seen = []
        stream = engine.map(source(pulled), ordered=ordered)  # type: ignore[arg-type]  # one of the two kinds
        with pytest.raises(KeyError) as caught:  # noqa: PT012  # what counts is how the whole block is left
            async for call in stream:
                seen.append(call.status)  # noqa: PERF401  # what came out before the exception counts
        assert caught.value is broken
        assert seen == ["completed"] * 3
        assert [call async for call in stream] == []


@in_virtual_time
async def test_shutting_down_ends_the_pulling() -> None:
    provider = ScriptedProvider(chat_reply(delay_s=5))
    async with virtual_engine(provider) as engine:
        pulled = Pulled(a_model(), 1000)
        statuses = []
        async with trio.open_nursery() as nursery, engine.map(pulled, buffer=10) as stream:
            await trio.sleep(1)
            nursery.start_soon(engine.drain)
            async for call in stream:
                statuses.append(call.status)
                if call.status == "skipped":
                    assert isinstance(call.error, ShuttingDown)
        assert statuses.count("completed") == 10
        assert statuses.count("skipped") <= 1
        assert pulled.taken <= 11


@in_virtual_time
async def test_leaving_the_block_cancels_what_is_under_way() -> None:
    provider = ScriptedProvider(["hi", fault("stall")])
    async with virtual_engine(provider) as engine:
        pulled = Pulled(a_model(concurrency_limit=5), 1000)
        async with engine.map(pulled, buffer=20) as stream:
            first = await anext(stream)
            assert first.status == "completed"
        assert_quiet(engine)
        taken = pulled.taken
        assert 20 <= taken <= 21
        statuses = [call.status for call in pulled.calls]
        assert statuses.count("completed") == 1
        assert statuses.count("pending") <= 1  # pulled, and not submitted any more
        assert statuses.count("cancelled") >= taken - 2
        await trio.sleep(100)
        assert pulled.taken == taken
        assert [call async for call in stream] == []


@in_virtual_time
async def test_the_blocks_own_exception_leaves_it_unchanged() -> None:
    async with virtual_engine(ScriptedProvider(fault("stall"))) as engine:
        mine = ValueError("mine")
        with pytest.raises(ValueError, match="mine") as caught:  # noqa: PT012  # what counts is how the whole block is left
            async with engine.map(Pulled(a_model(), 10)):
                await trio.sleep(1)
                raise mine
        assert caught.value is mine
        assert_quiet(engine)


@in_virtual_time
async def test_aclose_twice_and_in_a_cancelled_scope() -> None:
    async with virtual_engine(ScriptedProvider(fault("stall"))) as engine:
        stream = engine.map(Pulled(a_model(), 10))
        await trio.sleep(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.aclose()
        await engine.wait_quiet()
        assert engine.statistics().scheduler.schedule.ended["cancelled"] == 10
        await stream.aclose()
        await stream.aclose()


@in_virtual_time
async def test_a_reader_is_let_go_when_another_task_closes_the_stream() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        model = a_model(limit_requests=1, queue_capacity=1)
        stream = engine.map(Pulled(model, 50), buffer=20)
        seen: list[str] = []

        async def read() -> None:
            seen.extend([call.status async for call in stream])
            seen.append("let go")

        with trio.fail_after(1000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await trio.sleep(5)
                await stream.aclose()
        assert seen[0] == "completed"
        assert seen[-1] == "let go"


@in_virtual_time
async def test_a_reader_outside_is_let_go_when_the_engine_stops() -> None:
    seen: list[str] = []
    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            with pytest.raises(KeyError):  # noqa: PT012  # what counts is how the whole block is left
                async with virtual_engine(ScriptedProvider()) as engine:
                    model = a_model(limit_requests=1, queue_capacity=1)
                    stream = engine.map(Pulled(model, 50), buffer=20)

                    async def read() -> None:
                        seen.extend([call.status async for call in stream])
                        seen.append("let go")

                    nursery.start_soon(read)
                    await trio.sleep(5)
                    raise KeyError
    assert seen[-1] == "let go"
    assert set(seen[:-1]) <= {"completed", "aborted", "cancelled", "skipped"}


@in_virtual_time
async def test_an_engine_can_be_left_while_a_stream_is_not_read_to_its_end() -> None:
    """The stream is kept, so its finaliser does not help; the puller waits for room that nobody will make."""
    async with virtual_engine(ScriptedProvider()) as engine:
        stream = engine.map(Pulled(a_model(), 50), buffer=5)
        await anext(stream)
        await trio.sleep(5)
    await stream.aclose()


@in_virtual_time
async def test_an_engine_can_be_left_while_a_source_is_silent() -> None:
    """The drain finishes what was accepted; what a source might still say was not."""
    send, receive = trio.open_memory_channel[Call](0)
    async with virtual_engine(ScriptedProvider()) as engine:
        stream = engine.map(receive)
        await send.send(say(a_model(), 1))
        assert (await anext(stream)).status == "completed"
    await stream.aclose()
    send.close()


@in_virtual_time
async def test_an_async_generator_is_closed_when_the_stream_is() -> None:
    """Otherwise the garbage collector has to, with a warning of trio's."""
    closed = []

    async def endless() -> AsyncIterator[Call]:
        model = a_model()
        try:
            while True:
                yield say(model, 1)
        finally:
            closed.append(True)

    async with virtual_engine(ScriptedProvider()) as engine:
        async with engine.map(endless(), buffer=3) as stream:
            await anext(stream)
        assert closed == [True]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@in_virtual_time
async def test_an_interrupt_in_the_iterable_leaves_as_itself(kind: type[BaseException]) -> None:
    def interrupted() -> Iterator[Call]:
        yield say(a_model(), 1)
        raise kind

    with pytest.raises(kind):  # noqa: PT012  # what counts is how the whole block is left
        async with virtual_engine(ScriptedProvider()) as engine, engine.map(interrupted()) as stream:
            async for _ in stream:
                pass


@in_virtual_time
async def test_a_dropped_stream_warns_and_its_calls_are_cancelled() -> None:
    provider = ScriptedProvider(["hi", fault("stall")])
    async with virtual_engine(provider) as engine:
        stream = engine.map(Pulled(a_model(), 10))
        await anext(stream)
        with pytest.warns(ResourceWarning, match="dropped before its end"):  # noqa: PT031  # dropping takes two steps
            del stream
            gc.collect()
        await engine.wait_quiet()
        assert engine.statistics().scheduler.schedule.ended["cancelled"] == 9


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@in_virtual_time
async def test_a_dropped_stream_is_cancelled_even_where_warnings_are_errors() -> None:
    async with virtual_engine(ScriptedProvider(fault("stall"))) as engine:
        stream = engine.map(Pulled(a_model(), 10))
        await trio.sleep(1)
        del stream
        gc.collect()
        with trio.fail_after(10):
            await engine.wait_quiet()
        assert engine.statistics().scheduler.schedule.ended["cancelled"] == 10


@in_virtual_time
async def test_a_stream_dropped_after_its_engine_closed_is_harmless() -> None:
    async with open_engine(transport=ScriptedProvider()) as engine:
        stream = engine.map(Pulled(a_model(), 2))
        await trio.sleep(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del stream  # all that was pulled has ended: there is nothing to cancel, and nothing to warn of
        gc.collect()


@pytest.mark.parametrize("source", ["sync", "async"])
@in_virtual_time
async def test_a_map_that_is_left_before_its_puller_had_a_turn_sends_nothing(source: str) -> None:
    """Its source lets nobody else have a turn, so that the puller would not notice by itself."""

    class Eager:
        def __init__(self, calls: list[Call]) -> None:
            self.calls = iter(calls)

        def __aiter__(self) -> Eager:
            return self

        async def __anext__(self) -> Call:
            try:
                return next(self.calls)
            except StopIteration:
                raise StopAsyncIteration from None

    provider = ScriptedProvider(fault("stall"))
    async with virtual_engine(provider) as engine:
        calls = [say(a_model(), "hello") for _ in range(4)]
        stream = engine.map(calls if source == "sync" else Eager(calls))
        with trio.fail_after(10):
            await stream.aclose()
        await engine.wait_quiet()
        assert not provider.requests
        assert {call.status for call in calls} <= {"pending", "cancelled"}
