"""`Engine.map` and its stream, and `gather`: what comes out, in which order, how far ahead is pulled, how it ends.

Over a provider in virtual time. A hang shows as a `TooSlowError`, because every engine here is given a time.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import trio
import trio.testing
from virtual_provider import (
    HANGS,
    MESSAGES,
    Arrival,
    Said,
    VirtualProvider,
    a_model,
    answer_body,
    assert_quiet,
    in_virtual_time,
    refusing,
    virtual_engine,
)

from engine import (
    Call,
    CallStream,
    CapacityExceeded,
    InvalidCall,
    ShuttingDown,
    UsageError,
    gather,
    iModel,
    open_engine,
)


def say(model: iModel, word: object) -> Call:
    """A call that can be recognised by its content."""
    return model.create_api_calling(messages=[{"role": "user", "content": str(word)}])


def word_of(call: Call) -> str:
    return str(call.payload["messages"][0]["content"])


def later_is_quicker(arrival: Arrival) -> Said:
    """The answer to "3" comes before that to "2"."""
    word = arrival.body["messages"][0]["content"]
    return Said(200, answer_body(word), after_s=10 - int(word))


class Pulled:
    """An iterable that counts what is taken from it."""

    def __init__(self, model: iModel, count: int, fails: Exception | None = None) -> None:
        self.model = model
        self.count = count
        self.fails = fails
        self.calls: list[Call] = []

    def __iter__(self) -> Iterator[Call]:
        for number in range(self.count):
            self.calls.append(say(self.model, number))
            yield self.calls[-1]
        if self.fails is not None:
            raise self.fails

    @property
    def taken(self) -> int:
        return len(self.calls)

    async def later(self) -> AsyncIterator[Call]:
        for call in self:
            await trio.sleep(0.01)
            yield call


# --- what comes out ---


@pytest.mark.parametrize("source", [iter, Pulled.later], ids=["sync", "async"])
@pytest.mark.parametrize("ordered", [False, True])
@in_virtual_time
async def test_all_calls_come_out_as_they_end_or_in_order(ordered: bool, source: Callable[[Pulled], object]) -> None:
    async with virtual_engine(VirtualProvider(later_is_quicker)) as engine:
        pulled = Pulled(a_model(), 6)
        calls = source(pulled)
        async with engine.map(calls, ordered=ordered) as stream:  # type: ignore[arg-type]  # one of the two kinds
            texts = [call.text async for call in stream]
        assert texts == [str(number) for number in (range(6) if ordered else range(5, -1, -1))]


@in_virtual_time
async def test_an_empty_iterable_gives_an_empty_stream() -> None:
    async with virtual_engine(VirtualProvider()) as engine:
        assert [call async for call in engine.map([])] == []


@in_virtual_time
async def test_a_stream_that_is_read_to_its_end_stays_ended() -> None:
    async with virtual_engine(VirtualProvider()) as engine:
        stream = engine.map(Pulled(a_model(), 2))
        assert len([call async for call in stream]) == 2
        assert [call async for call in stream] == []
        await stream.aclose()
        del stream
        gc.collect()  # would warn, and warnings are errors here


@in_virtual_time
async def test_awaiting_a_stream_gives_itself() -> None:
    async with virtual_engine(VirtualProvider()) as engine:
        stream = engine.map(Pulled(a_model(), 2))
        assert await stream is stream
        assert isinstance(stream, CallStream)
        assert aiter(stream) is stream
        assert len([call async for call in await stream]) == 2


@in_virtual_time
async def test_failed_calls_come_out_like_others() -> None:
    async with virtual_engine(VirtualProvider([refusing(400), Said()])) as engine:
        statuses = [call.status async for call in engine.map(Pulled(a_model(), 2))]
        assert sorted(statuses) == ["completed", "failed"]


@in_virtual_time
async def test_what_cannot_be_queued_comes_out_skipped_with_what_submit_would_raise() -> None:
    provider = VirtualProvider()
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
    assert len(provider.arrivals) == 1


@in_virtual_time
async def test_a_call_whose_deadline_is_impossible_comes_out_skipped() -> None:
    async with virtual_engine(VirtualProvider()) as engine:
        model = a_model(limit_requests=1)
        await model.invoke(messages=MESSAGES)
        calls = [model.create_api_calling(messages=MESSAGES, deadline_s=5)]
        assert [call.status async for call in engine.map(calls)] == ["skipped"]


@in_virtual_time
async def test_a_call_that_has_ended_already_comes_out_as_it_is() -> None:
    provider = VirtualProvider()
    async with virtual_engine(provider) as engine:
        call = await a_model().invoke(messages=MESSAGES)
        assert [call async for call in engine.map([call])] == [call]
        assert call.status == "completed"
    assert len(provider.arrivals) == 1


@pytest.mark.parametrize("thing", [None, "call", 7])
@in_virtual_time
async def test_what_is_no_call_ends_the_stream_after_the_calls_before_it(thing: object) -> None:
    async with virtual_engine(VirtualProvider()) as engine:
        seen = []
        with pytest.raises(InvalidCall, match="create_api_calling"):
            async for call in engine.map([say(a_model(), 1), thing]):  # type: ignore[list-item]  # that is tested
                seen.append(call.status)
        assert seen == ["completed"]


@in_virtual_time
async def test_one_call_twice_is_a_mistake_and_is_sent_once() -> None:
    provider = VirtualProvider()
    async with virtual_engine(provider) as engine:
        call = say(a_model(), 1)
        seen = []
        with pytest.raises(InvalidCall, match="each call once"):
            async for ended in engine.map([call, call]):
                seen.append(ended)
        assert seen == [call]
    assert len(provider.arrivals) == 1


@pytest.mark.parametrize("buffer", [0, -1, True, "5", 1.5, None])
@in_virtual_time
async def test_a_buffer_that_makes_no_sense_is_refused(buffer: object) -> None:
    async with virtual_engine(VirtualProvider()) as engine:
        with pytest.raises(UsageError, match="buffer"):
            engine.map([], buffer=buffer)  # type: ignore[arg-type]  # that is what is tested


# --- how far ahead ---


@pytest.mark.parametrize("ordered", [False, True])
@in_virtual_time
async def test_never_more_than_the_buffer_is_pulled_ahead(ordered: bool) -> None:
    provider = VirtualProvider()
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
    async with virtual_engine(VirtualProvider()) as engine:
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
    async with virtual_engine(VirtualProvider()) as engine:
        model = a_model()
        wrong = [model.create_api_calling(messages=[]) for _ in range(2000)]
        async with engine.map(wrong, buffer=5000):
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            assert wrong[-1].status == "pending"


# --- how it ends ---


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("source", [iter, Pulled.later], ids=["sync", "async"])
@in_virtual_time
async def test_the_iterables_own_exception_is_raised_after_the_calls_that_were_pulled(
    source: Callable[[Pulled], object], ordered: bool
) -> None:
    async with virtual_engine(VirtualProvider()) as engine:
        broken = KeyError("line 4")
        pulled = Pulled(a_model(), 3, fails=broken)
        seen = []
        stream = engine.map(source(pulled), ordered=ordered)  # type: ignore[arg-type]  # one of the two kinds
        with pytest.raises(KeyError) as caught:
            async for call in stream:
                seen.append(call.status)
        assert caught.value is broken
        assert seen == ["completed"] * 3
        assert [call async for call in stream] == []


@in_virtual_time
async def test_shutting_down_ends_the_pulling() -> None:
    provider = VirtualProvider([Said(after_s=5)])
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
    provider = VirtualProvider([Said(), HANGS])
    async with virtual_engine(provider) as engine:
        pulled = Pulled(a_model(concurrency_limit=5), 1000)
        async with engine.map(pulled, buffer=20) as stream:
            first = await anext(stream)
            assert first.status == "completed"
        assert_quiet(engine)
        taken = pulled.taken
        assert 20 <= taken <= 21
        assert sorted(call.status for call in pulled.calls) == ["cancelled"] * (taken - 1) + ["completed"]
        await trio.sleep(100)
        assert pulled.taken == taken
        assert [call async for call in stream] == []


@in_virtual_time
async def test_the_blocks_own_exception_leaves_it_unchanged() -> None:
    async with virtual_engine(VirtualProvider([HANGS])) as engine:
        mine = ValueError("mine")
        with pytest.raises(ValueError, match="mine") as caught:
            async with engine.map(Pulled(a_model(), 10)):
                await trio.sleep(1)
                raise mine
        assert caught.value is mine
        assert_quiet(engine)


@in_virtual_time
async def test_aclose_twice_and_in_a_cancelled_scope() -> None:
    async with virtual_engine(VirtualProvider([HANGS])) as engine:
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
    async with virtual_engine(VirtualProvider()) as engine:
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
            with pytest.raises(KeyError):
                async with virtual_engine(VirtualProvider()) as engine:
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
    async with virtual_engine(VirtualProvider()) as engine:
        stream = engine.map(Pulled(a_model(), 50), buffer=5)
        await anext(stream)
        await trio.sleep(5)
    await stream.aclose()


@in_virtual_time
async def test_an_engine_can_be_left_while_a_source_is_silent() -> None:
    """The drain finishes what was accepted; what a source might still say was not."""
    send, receive = trio.open_memory_channel[Call](0)
    async with virtual_engine(VirtualProvider()) as engine:
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

    async with virtual_engine(VirtualProvider()) as engine:
        async with engine.map(endless(), buffer=3) as stream:
            await anext(stream)
        assert closed == [True]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@in_virtual_time
async def test_an_interrupt_in_the_iterable_leaves_as_itself(kind: type[BaseException]) -> None:
    def interrupted() -> Iterator[Call]:
        yield say(a_model(), 1)
        raise kind

    with pytest.raises(kind):
        async with virtual_engine(VirtualProvider()) as engine, engine.map(interrupted()) as stream:
            async for _ in stream:
                pass


@in_virtual_time
async def test_a_dropped_stream_warns_and_its_calls_are_cancelled() -> None:
    provider = VirtualProvider([Said(), HANGS])
    async with virtual_engine(provider) as engine:
        stream = engine.map(Pulled(a_model(), 10))
        await anext(stream)
        with pytest.warns(ResourceWarning, match="dropped before its end"):
            del stream
            gc.collect()
        await engine.wait_quiet()
        assert engine.statistics().scheduler.schedule.ended["cancelled"] == 9


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@in_virtual_time
async def test_a_dropped_stream_is_cancelled_even_where_warnings_are_errors() -> None:
    async with virtual_engine(VirtualProvider([HANGS])) as engine:
        stream = engine.map(Pulled(a_model(), 10))
        await trio.sleep(1)
        del stream
        gc.collect()
        with trio.fail_after(10):
            await engine.wait_quiet()
        assert engine.statistics().scheduler.schedule.ended["cancelled"] == 10


@in_virtual_time
async def test_a_stream_dropped_after_its_engine_closed_is_harmless() -> None:
    async with open_engine(transport=VirtualProvider()) as engine:
        stream = engine.map(Pulled(a_model(), 2))
        await trio.sleep(5)
    with pytest.warns(ResourceWarning):
        del stream
        gc.collect()


# --- gather ---


@in_virtual_time
async def test_gather_returns_results_in_order() -> None:
    async with virtual_engine(VirtualProvider(later_is_quicker)):
        model = a_model()
        calls = await gather(*(model.invoke(say(model, word)) for word in range(5)))
        assert [call.text for call in calls] == list("01234")
        assert await gather() == []


@in_virtual_time
async def test_gather_takes_any_awaitable() -> None:
    class Plain:
        def __await__(self) -> Iterator[object]:
            yield from trio.sleep(3).__await__()
            return 7

    async with virtual_engine(VirtualProvider()) as engine:
        at = trio.current_time()
        stream = engine.map([])
        assert await gather(Plain(), Plain(), stream) == [7, 7, stream]  # type: ignore[arg-type]  # as the name says
        assert trio.current_time() - at == 3


@in_virtual_time
async def test_gathers_first_exception_cancels_the_others_and_is_raised_as_it_was() -> None:
    cause, ended = KeyError("why"), []
    mine = ValueError("mine")

    async def fails() -> None:
        await trio.sleep(1)
        raise mine from cause

    async def waits() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    with pytest.raises(ValueError, match="mine") as caught:
        await gather(waits(), fails(), waits())
    assert caught.value is mine
    assert caught.value.__cause__ is cause
    assert ended == [1, 1]


@in_virtual_time
async def test_gather_raises_several_exceptions_as_a_group() -> None:
    async def fails(error: Exception) -> None:
        raise error

    with pytest.raises(ExceptionGroup) as caught:
        await gather(fails(KeyError()), fails(ValueError()))
    assert {type(error) for error in caught.value.exceptions} == {KeyError, ValueError}


@in_virtual_time
async def test_cancelling_gather_cancels_its_calls() -> None:
    async with virtual_engine(VirtualProvider([HANGS])) as engine:
        model = a_model()
        with trio.move_on_after(5) as scope:
            await gather(*(model.invoke(messages=MESSAGES) for _ in range(3)))
        assert scope.cancelled_caught
        await engine.wait_quiet()
        assert engine.statistics().scheduler.schedule.ended["cancelled"] == 3
