"""Streams under the limits: what they reserve and settle, the permit they hold to their end, calls beside them."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from stream_bodies import ASK, DONE, END, FINISH, USAGE, USED, a_model, delta, read, sse, text, texts
from virtual_streams import BREAK, FOREVER, Step, StreamProvider, in_virtual_time, streaming_engine

from engine import CapacityExceeded, Overloaded

BIG = {**ASK, "max_tokens": 80}
"""Reserves more than half of 120 tokens, and costs 7 where the usage is told."""

TOLD: dict[str, list[Step]] = {
    "an event of its own": [text("a"), FINISH, USED, DONE],
    "the finish": [text("a"), sse({**delta(finish="stop"), "usage": USAGE}), DONE],
    "every event": [sse({**delta(content="a"), "usage": USAGE}), sse({**delta(finish="stop"), "usage": USAGE}), DONE],
    "groq's own field": [text("a"), sse({**delta(finish="stop"), "x_groq": {"usage": USAGE}}), DONE],
    "an event cut in two": [text("a"), FINISH, USED[:50], USED[50:] + DONE],
}
UNTOLD: dict[str, list[Step]] = {
    "no usage": [text("a"), FINISH, DONE],
    "cut": [text("a"), BREAK],
    "ended": [text("a")],
    "cut after a first usage": [sse({**delta(content="a"), "usage": USAGE}), BREAK],
    "stalled": [text("a"), FOREVER],
}


async def starts_of_two(script: list[Step], **options: object) -> float:
    """How long after a first stream began a second one does, where the limit has room for one reservation."""
    provider = StreamProvider(script, [text("b"), END])
    async with streaming_engine(provider):
        model = a_model(limit_tokens=120, interval=60)
        await read(model.stream(**BIG, **options))
        await read(model.stream(**BIG))
        first, second = provider.attempts
        return second - first


@pytest.mark.parametrize("name", TOLD)
@in_virtual_time
async def test_a_usage_gives_back_what_was_not_used_wherever_it_stands(name: str) -> None:
    assert await starts_of_two(TOLD[name]) < 1


@pytest.mark.parametrize("name", UNTOLD)
@in_virtual_time
async def test_a_stream_whose_cost_is_not_known_keeps_its_reservation(name: str) -> None:
    assert await starts_of_two(UNTOLD[name], timeout_s=5) > 59


@in_virtual_time
async def test_a_stream_that_is_left_keeps_its_reservation() -> None:
    provider = StreamProvider([text("a"), FOREVER], [text("b"), END])
    async with streaming_engine(provider):
        model = a_model(limit_tokens=120, interval=60)
        async with model.stream(**BIG) as stream:
            assert str(await stream.__anext__()) == "a"
        await read(model.stream(**BIG))
        assert provider.attempts[1] - provider.attempts[0] > 59


@in_virtual_time
async def test_a_stream_cancelled_before_it_was_sent_costs_nothing() -> None:
    provider = StreamProvider([text("a"), 5.0, END])
    async with streaming_engine(provider) as engine, trio.open_nursery() as nursery:
        model = a_model(limit_requests=2, interval=60, concurrency_limit=1)
        nursery.start_soon(texts, model.stream(**ASK))
        await trio.testing.wait_all_tasks_blocked()
        waiting = model.stream(**ASK)
        with trio.move_on_after(1) as scope:
            await texts(waiting)
        assert scope.cancelled_caught
        await trio.testing.wait_all_tasks_blocked()
        assert waiting.call.status == "cancelled"
        await read(model.stream(**ASK))
        assert [at - provider.attempts[0] for at in provider.attempts] == [0, pytest.approx(5, abs=0.01)]
        assert engine.statistics().scheduler.schedule.submitted == 3


@in_virtual_time
async def test_a_permit_is_held_to_the_end_of_the_stream() -> None:
    provider = StreamProvider([text("a"), 7.0, text("b"), 3.0, END])
    async with streaming_engine(provider) as engine, trio.open_nursery() as nursery:
        model = a_model(concurrency_limit=1)
        for _ in range(3):
            nursery.start_soon(texts, model.stream(**ASK))
        await trio.sleep(5)
        assert engine.statistics().live["permits_held"] == 1
        assert engine.statistics().live["busy_connections"] == 1
        await engine.wait_quiet()
        assert [at - provider.attempts[0] for at in provider.attempts] == pytest.approx([0, 10, 20], abs=0.01)


@in_virtual_time
async def test_streams_and_calls_share_one_limit() -> None:
    provider = StreamProvider([text("a"), END])
    async with streaming_engine(provider), trio.open_nursery() as nursery:
        model = a_model(limit_requests=4, interval=10)
        for number in range(12):
            if number % 2:
                nursery.start_soon(texts, model.stream(**ASK))
            else:
                nursery.start_soon(lambda: model.invoke(**ASK, stream=True))
    begun = [round(at - provider.attempts[0]) for at in provider.attempts]
    assert begun == [0] * 4 + [10] * 4 + [20] * 4


@in_virtual_time
async def test_a_place_in_the_queue_is_waited_for_and_counted() -> None:
    provider = StreamProvider([text("a"), 5.0, END])
    async with streaming_engine(provider) as engine, trio.open_nursery() as nursery:
        model = a_model(queue_capacity=1, concurrency_limit=1)
        done: list[list[str]] = []

        async def reads() -> None:
            done.append(await texts(model.stream(**ASK)))

        for _ in range(4):
            nursery.start_soon(reads)
        await trio.sleep(1)
        assert engine.statistics().live["places_taken"] == 1
        with pytest.raises(Overloaded):
            engine.submit_nowait(model.create_api_calling(**ASK))
    assert done == [["a"]] * 4


@in_virtual_time
async def test_a_stream_that_could_never_fit_is_refused_at_once() -> None:
    provider = StreamProvider([text("a"), END])
    async with streaming_engine(provider):
        with pytest.raises(CapacityExceeded):
            a_model(limit_tokens=20).stream(**BIG)
        assert provider.attempts == []
