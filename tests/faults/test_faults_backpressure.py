"""Promise 10, over the whole engine: whoever submits waits for a place in line, or is told that there is none.

Calls that come back from backoff need no place; while they stand above the capacity nobody new is let in. In virtual
time, with a scripted provider.
"""

from __future__ import annotations

import pytest
import trio
from engine_checks import assert_nothing_is_left, in_virtual_time
from scripted_provider import BACKOFF_S, ScriptedProvider, call_of, scripted_model
from trio.testing import wait_all_tasks_blocked

from engine import Call, Engine, Overloaded, PenstockError, open_engine
from engine.config import EngineConfig, EngineSection


def queued(engine: Engine) -> int:
    return engine.statistics().live["queued"]


@pytest.mark.parametrize("bound", ["lane", "engine"])
@in_virtual_time
async def test_promise_10_backpressure_submit_waits_in_line_and_submit_nowait_is_overloaded(bound: str) -> None:
    """The lane's queue holds two, or all queues together do."""
    model = scripted_model(concurrency_limit=1, queue_capacity=2 if bound == "lane" else 1000)
    config = EngineConfig(engine=EngineSection(max_queued=1_000_000 if bound == "lane" else 2))
    calls = [call_of(model) for _ in range(7)]
    accepted: list[Call] = []

    async def submit(engine: Engine, call: Call) -> None:
        accepted.append(await engine.submit(call))

    async with open_engine(config, transport=lambda account, on_usage: ScriptedProvider()) as engine:
        engine.submit_nowait(calls[0])
        await trio.sleep(1)
        assert calls[0].status == "processing"
        async with trio.open_nursery() as nursery:
            for call in calls[1:]:
                nursery.start_soon(submit, engine, call)
                await wait_all_tasks_blocked()
            assert accepted == calls[1:3]
            assert [call.status for call in calls[1:]] == ["queued"] * 2 + ["pending"] * 4
            late = call_of(model)
            with pytest.raises(Overloaded) as caught:
                engine.submit_nowait(late)
            assert caught.value.call is late
            assert (caught.value.call_id, late.status) == (late.id, "pending")
            for place in range(3, 7):
                await calls[place - 2].wait()
                await wait_all_tasks_blocked()
                assert accepted == calls[1 : place + 1 + (place < 6)][: len(accepted)], "in the order of asking"
                assert queued(engine) <= 2
        assert accepted == calls[1:]
        await engine.wait_quiet()
        engine.submit_nowait(late)
        await late.wait()
        assert all(call.status == "completed" for call in [*calls, late])
    assert_nothing_is_left(engine)


@in_virtual_time
async def test_promise_10_backpressure_nobody_passes_those_who_wait() -> None:
    """A place that is free for an instant belongs to the first in line, not to whoever comes along."""
    model = scripted_model(concurrency_limit=1, queue_capacity=1)
    first, second, waits, late = [call_of(model) for _ in range(4)]
    async with open_engine(transport=lambda account, on_usage: ScriptedProvider()) as engine:
        engine.submit_nowait(first)
        await trio.sleep(1)
        engine.submit_nowait(second)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.submit, waits)
            await wait_all_tasks_blocked()
            second.cancel()
            while second.ended is None:
                with pytest.raises(Overloaded):
                    engine.submit_nowait(late)
                await trio.lowlevel.checkpoint()
            with pytest.raises(Overloaded):
                engine.submit_nowait(late)
        assert waits.status == "queued"
        await engine.wait_quiet()
    assert waits.status == "completed"


@in_virtual_time
async def test_promise_10_backpressure_calls_that_come_back_may_exceed_the_capacity_and_keep_new_ones_out() -> None:
    model = scripted_model(concurrency_limit=3, queue_capacity=2)
    back = [call_of(model, "retry") for _ in range(3)]
    async with open_engine(transport=lambda account, on_usage: ScriptedProvider()) as engine:
        for call in back:
            await engine.submit(call)
        while engine.statistics().live["backing_off"] < 3:  # noqa: ASYNC110  # a gauge sets no event
            await trio.sleep(0.1)
        # While the three back off, three others take the permits and two the places.
        await trio.sleep(BACKOFF_S - 1.5)
        others = [call_of(model) for _ in range(5)]
        for call in others:
            await engine.submit(call)
        await trio.sleep(2)
        assert queued(engine) == 5, "two in their places and three that came back"
        assert engine.statistics().live["places_taken"] == 5
        late = call_of(model)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.submit, late)
            while late.status == "pending":
                assert queued(engine) >= 2, "the queue was below its capacity and nobody was let in"
                with pytest.raises(Overloaded):
                    engine.submit_nowait(call_of(model))
                await trio.sleep(0.01)
        assert queued(engine) <= 2
        assert all(call.status != "queued" for call in back), "they were ahead of those who came later"
        await engine.wait_quiet()
        assert {call.status for call in [*back, *others, late]} == {"completed"}
    assert_nothing_is_left(engine)


@in_virtual_time
async def test_promise_10_backpressure_the_deadline_of_a_call_that_waits_for_a_place_ends_its_wait() -> None:
    """The deadline runs from submit and bounds the whole call, the wait for a place included."""
    model = scripted_model(concurrency_limit=1, queue_capacity=1)
    async with open_engine(transport=lambda account, on_usage: ScriptedProvider()) as engine:
        for _ in range(2):
            await engine.submit(call_of(model))
            await trio.sleep(1)
        late = call_of(model, deadline_s=2.0)
        started = trio.current_time()
        with trio.fail_after(100):
            try:
                error = (await engine.invoke(late)).error
            except PenstockError as raised:
                error = raised
        assert type(error).__name__ == "DeadlineExceeded"
        assert trio.current_time() == pytest.approx(started + 2.0)
    assert_nothing_is_left(engine)


@in_virtual_time
async def test_promise_10_backpressure_cancelling_a_call_that_waits_for_a_place_ends_its_wait() -> None:
    model = scripted_model(concurrency_limit=1, queue_capacity=1)
    async with open_engine(transport=lambda account, on_usage: ScriptedProvider()) as engine:
        for _ in range(2):
            await engine.submit(call_of(model))
            await trio.sleep(1)
        late = call_of(model)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.invoke, late)
            await wait_all_tasks_blocked()
            late.cancel()
        assert late.status == "cancelled"
        await engine.wait_quiet()
    assert_nothing_is_left(engine)


@in_virtual_time
async def test_promise_10_backpressure_a_submitter_who_gives_up_leaves_no_place_of_his_lane_taken() -> None:
    """He had a place in his lane and waited for one in the engine, whose queues were full together."""
    crowd = scripted_model(concurrency_limit=1)
    model = scripted_model(queue_capacity=1)
    config = EngineConfig(engine=EngineSection(max_queued=1))
    async with open_engine(config, transport=lambda account, on_usage: ScriptedProvider()) as engine:
        engine.submit_nowait(call_of(crowd))
        await trio.sleep(1)
        engine.submit_nowait(call_of(crowd))
        with trio.move_on_after(1) as scope:
            await engine.submit(call_of(model))
        assert scope.cancelled_caught
        await engine.wait_quiet()
        call = engine.submit_nowait(call_of(model))
        await call.wait()
        assert call.status == "completed"
    assert_nothing_is_left(engine)
