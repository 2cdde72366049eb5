"""The engine as its user meets it: submitting, backpressure, draining, waiting for quiet.

Over a provider in virtual time. What a call tells is in `test_engine_call`, lanes in `test_engine_lanes`, what becomes
of an attempt in `test_engine_attempts`, deadlines and refusals in
`test_engine_deadlines`, opening and leaving in `test_opening`.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing
from virtual_provider import MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import (
    Call,
    OutcomeUnknown,
    Overloaded,
    ProviderUnavailable,
    ShuttingDown,
    UsageError,
)
from engine.config import EngineConfig, EngineSection
from engine.testing import ScriptedProvider, assert_quiet, chat_reply, error_reply, fault

# --- submit, submit_nowait, invoke ---


@in_virtual_time
async def test_submit_returns_the_call_while_it_goes_on_by_itself() -> None:
    async with virtual_engine(ScriptedProvider(chat_reply(delay_s=5))) as engine:
        call = a_model().create_api_calling(messages=MESSAGES)
        at = trio.current_time()
        assert await engine.submit(call) is call
        assert trio.current_time() == at
        assert call.status != "completed"
        await engine.wait_quiet()
        assert call.status == "completed"


@in_virtual_time
async def test_submit_nowait_returns_the_call_without_a_checkpoint() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        call = a_model().create_api_calling(messages=MESSAGES)
        with trio.testing.assert_no_checkpoints():
            assert engine.submit_nowait(call) is call
        assert (await call.wait()).status == "completed"


@in_virtual_time
async def test_submit_and_invoke_are_checkpoints() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        model = a_model()
        with trio.testing.assert_checkpoints():
            call = await engine.submit(model.create_api_calling(messages=MESSAGES))
        await call.wait()
        with trio.testing.assert_checkpoints():
            await engine.invoke(call)
        with trio.testing.assert_checkpoints():
            await call.wait()


@in_virtual_time
async def test_submit_waits_for_a_place_and_submit_nowait_is_refused() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        model = a_model(limit_requests=1, interval=10, queue_capacity=2)
        await model.invoke(messages=MESSAGES)
        for _ in range(2):
            engine.submit_nowait(model.create_api_calling(messages=MESSAGES))
        await trio.sleep(1)
        extra = model.create_api_calling(messages=MESSAGES)
        with pytest.raises(Overloaded, match="full") as caught:
            engine.submit_nowait(extra)
        assert caught.value.call is extra
        assert (caught.value.call_id, caught.value.lane) == (extra.id, model.lane_name)
        assert extra.status == "pending"
        await engine.submit(extra)  # the very call that was refused can be submitted again
        assert round(trio.current_time(), 2) == 11.05
        await engine.wait_quiet()
        assert extra.status == "completed"
    assert provider.times == [1, 11.05, 21.1, 31.15]


@in_virtual_time
async def test_those_who_wait_for_a_place_get_it_in_the_order_they_asked() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        model = a_model(limit_requests=1, interval=10, queue_capacity=1)
        order: list[int] = []

        async def invoke(number: int) -> None:
            await model.invoke(messages=MESSAGES)
            order.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(invoke, number)
                await trio.testing.wait_all_tasks_blocked()
        assert order == list(range(6))
        assert_quiet(engine)


@in_virtual_time
async def test_max_queued_bounds_all_lanes_together() -> None:
    config = EngineConfig(engine=EngineSection(max_queued=3))
    async with virtual_engine(ScriptedProvider(), config) as engine:
        models = [a_model(limit_requests=1, queue_capacity=2) for _ in range(2)]
        for model in models:
            await model.invoke(messages=MESSAGES)
        for model in (models[0], models[0], models[1]):
            engine.submit_nowait(model.create_api_calling(messages=MESSAGES))
        await trio.sleep(1)
        with pytest.raises(Overloaded):
            engine.submit_nowait(models[1].create_api_calling(messages=MESSAGES))
        assert engine.statistics().live["places_taken"] == 3
        await engine.submit(models[1].create_api_calling(messages=MESSAGES))
        await engine.wait_quiet()
        assert engine.statistics().scheduler.schedule.ended["completed"] == 6


@in_virtual_time
async def test_cancelling_a_submit_that_waits_for_a_place_leaves_the_call_pending() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        model = a_model(limit_requests=1, queue_capacity=1)
        await model.invoke(messages=MESSAGES)
        await engine.submit(model.create_api_calling(messages=MESSAGES))
        call = model.create_api_calling(messages=MESSAGES)
        with trio.move_on_after(5) as scope:
            await engine.submit(call)
        assert scope.cancelled_caught
        assert call.status == "pending"
        await engine.submit(call)
        await engine.wait_quiet()
        assert call.status == "completed"


@in_virtual_time
async def test_submit_in_a_cancelled_scope_submits_nothing() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        call = a_model().create_api_calling(messages=MESSAGES)
        with trio.CancelScope() as scope:
            scope.cancel()
            await engine.submit(call)
        assert scope.cancelled_caught
        assert call.status == "pending"
        await engine.wait_quiet()
    assert provider.requests == []


@in_virtual_time
async def test_two_tasks_that_submit_one_call_send_it_once() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        model = a_model(limit_requests=1, interval=10, queue_capacity=1)
        await model.invoke(messages=MESSAGES)
        await engine.submit(model.create_api_calling(messages=MESSAGES))
        call = model.create_api_calling(messages=MESSAGES)
        refused = []

        async def submit() -> None:
            try:
                await engine.submit(call)
            except UsageError as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit)
            nursery.start_soon(submit)
        await engine.wait_quiet()
        assert call.status == "completed"
        assert len(refused) == 1
    assert len(provider.requests) == 3


@in_virtual_time
async def test_a_hundred_thousand_can_queue_and_be_discarded() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        model = a_model(limit_requests=1, interval=3600, queue_capacity=100_000)
        first = model.create_api_calling(messages=MESSAGES)
        calls = [Call(model, first.model, first.request) for _ in range(100_000)]
        for call in calls:
            engine.submit_nowait(call)
        await trio.sleep(1)
        assert engine.statistics().live["queued"] == 99_999
        await engine.drain(queue="discard")
        assert {call.status for call in calls} == {"completed", "aborted"}


@in_virtual_time
async def test_two_thousand_callers_at_once() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        model = a_model(limit_requests=500, interval=10, concurrency_limit=100)
        done = []

        async def invoke() -> None:
            done.append((await model.invoke(messages=MESSAGES)).status)

        async with trio.open_nursery() as nursery:
            for _ in range(2000):
                nursery.start_soon(invoke)
        assert done == ["completed"] * 2000
        assert provider.fullest(10) == 500
        assert provider.most_in_flight == 100
        assert_quiet(engine)


# --- drain ---


@in_virtual_time
async def test_drain_finish_runs_what_is_queued_to_its_end_however_long_it_takes() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        model = a_model(limit_requests=1, interval=3600)
        calls = [await engine.submit(model.create_api_calling(messages=MESSAGES)) for _ in range(5)]
        await engine.drain(deadline_s=1)
        assert [call.status for call in calls] == ["completed"] * 5
        assert trio.current_time() > 4 * 3600


@in_virtual_time
async def test_drain_finish_lets_a_call_in_backoff_be_tried_again() -> None:
    async with virtual_engine(ScriptedProvider([error_reply(429, retry_after_s=100), "hi"])) as engine:
        call = await engine.submit(a_model().create_api_calling(messages=MESSAGES))
        await trio.sleep(10)
        await engine.drain(deadline_s=1)
        assert call.status == "completed"


@in_virtual_time
async def test_drain_drops_what_is_in_flight_at_the_deadline() -> None:
    async with virtual_engine(ScriptedProvider(fault("stall"))) as engine:
        call = await engine.submit(a_model().create_api_calling(messages=MESSAGES, timeout_s=10_000))
        await trio.sleep(1)
        at = trio.current_time()
        await engine.drain(deadline_s=7)
        assert trio.current_time() - at == pytest.approx(7)
        assert call.status == "failed"
        assert isinstance(call.error, OutcomeUnknown)
        assert call.error.reason == "shutdown"


@in_virtual_time
async def test_the_drains_deadline_is_thirty_seconds_unless_said_otherwise() -> None:
    for config, expected in ((None, 30), (EngineConfig(engine=EngineSection(drain_deadline_s=4)), 4)):
        async with virtual_engine(ScriptedProvider(fault("stall")), config) as engine:
            await engine.submit(a_model().create_api_calling(messages=MESSAGES, timeout_s=10_000))
            await trio.sleep(1)
            at = trio.current_time()
            await engine.drain()
            assert trio.current_time() - at == pytest.approx(expected)


@in_virtual_time
async def test_drain_discard_ends_what_waits_and_lets_finish_what_is_in_flight() -> None:
    provider = ScriptedProvider(lambda request: error_reply(503) if request.connection == 1 else chat_reply(delay_s=20))
    async with virtual_engine(provider) as engine:
        failed = a_model(base_url="http://10.0.0.1", limit_requests=1)
        retrying = await engine.submit(failed.create_api_calling(messages=MESSAGES))
        await trio.sleep(0.2)
        assert retrying.status == "queued"
        queued = await engine.submit(failed.create_api_calling(messages=MESSAGES))
        in_flight = await engine.submit(a_model().create_api_calling(messages=MESSAGES))
        await trio.testing.wait_all_tasks_blocked()
        await engine.drain(queue="discard", deadline_s=30)
        assert in_flight.status == "completed"
        assert queued.status == "aborted"
        assert isinstance(queued.error, ShuttingDown)
        assert queued.error.call is queued
        assert retrying.status == "failed"
        assert isinstance(retrying.error, ProviderUnavailable)
        assert retrying.error.gave_up == "shutdown"


@in_virtual_time
async def test_a_drained_engine_takes_no_more_calls() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        model = a_model()
        await model.invoke(messages=MESSAGES)
        await engine.drain()
        await engine.drain(queue="discard")  # again: nothing is left to do
        for send in (engine.submit, engine.invoke):
            call = model.create_api_calling(messages=MESSAGES)
            with pytest.raises(ShuttingDown, match="nothing was sent") as caught:
                await send(call)
            assert caught.value.call is call
            assert call.status == "pending"
        with pytest.raises(ShuttingDown):
            engine.submit_nowait(model.create_api_calling(messages=MESSAGES))
        with pytest.raises(ShuttingDown):
            engine.map([])
    assert len(provider.requests) == 1


@in_virtual_time
async def test_drain_refuses_those_who_wait_for_a_place() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        model = a_model(limit_requests=1, queue_capacity=1)
        await model.invoke(messages=MESSAGES)
        await engine.submit(model.create_api_calling(messages=MESSAGES))
        call = model.create_api_calling(messages=MESSAGES)
        async with trio.open_nursery() as nursery:

            async def submit() -> None:
                with pytest.raises(ShuttingDown):
                    await engine.submit(call)

            nursery.start_soon(submit)
            await trio.sleep(1)
            await engine.drain()
        assert call.status == "pending"


@in_virtual_time
async def test_a_cancelled_drain_leaves_the_live_calls_going_on() -> None:
    async with virtual_engine(ScriptedProvider(chat_reply(delay_s=20))) as engine:
        call = await engine.submit(a_model().create_api_calling(messages=MESSAGES))
        with trio.move_on_after(5):
            await engine.drain()
        assert call.status == "calling"
        with pytest.raises(ShuttingDown):
            await a_model().invoke(messages=MESSAGES)
        assert (await call.wait()).status == "completed"


@pytest.mark.parametrize(
    "arguments",
    [{"queue": "later"}, {"queue": None}, {"deadline_s": "5"}, {"deadline_s": -1}, {"deadline_s": float("nan")}],
)
@in_virtual_time
async def test_a_drain_that_makes_no_sense_is_refused_and_the_engine_stays_open(arguments: dict[str, object]) -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        with pytest.raises(UsageError, match=next(iter(arguments))):
            await engine.drain(**arguments)  # type: ignore[arg-type]  # that is what is tested
        assert (await a_model().invoke(messages=MESSAGES)).status == "completed"


@in_virtual_time
async def test_wait_quiet_waits_for_all_that_is_live() -> None:
    async with virtual_engine(ScriptedProvider(chat_reply(delay_s=5))) as engine:
        at = trio.current_time()
        await engine.wait_quiet()
        assert trio.current_time() == at
        model = a_model(limit_requests=1, interval=10)
        for _ in range(3):
            await engine.submit(model.create_api_calling(messages=MESSAGES))
        await engine.wait_quiet()
        assert round(trio.current_time() - at, 2) == 25.1
        with trio.move_on_after(1) as scope:
            await engine.submit(model.create_api_calling(messages=MESSAGES))
            await engine.wait_quiet()
        assert scope.cancelled_caught
        await engine.wait_quiet()


@pytest.mark.parametrize("thing", [None, "call", 7])
@in_virtual_time
async def test_what_is_no_call_is_refused(thing: object) -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        with pytest.raises(UsageError, match="create_api_calling"):
            await engine.submit(thing)  # type: ignore[arg-type]  # that is what is tested
        with pytest.raises(UsageError, match="create_api_calling"):
            await engine.invoke(thing)  # type: ignore[arg-type]  # that is what is tested
