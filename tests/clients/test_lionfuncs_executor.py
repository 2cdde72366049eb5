"""An executor's life: start and stop, graceful and hard, left by an exception or by cancellation; and its misuse."""

from __future__ import annotations

import pytest
import trio
from lion_server import CONFIG, scripted

from engine import EngineNotRunning, OutcomeUnknown, UsageError, open_engine
from engine.clients.lionfuncs import Executor, NetworkRequestEvent, RequestStatus, iModel
from engine.opening import is_engine_open
from engine.testing import ScriptedProvider, assert_quiet, error_reply, in_virtual_time

LIMITS = {"concurrency_limit": 2, "queue_capacity": 3}
"""Of seven calls two are in flight, three are queued, and two wait in line."""


async def fill(model: iModel, nursery: trio.Nursery) -> list[NetworkRequestEvent]:
    """Submit seven calls; the events of those that have come out so far."""
    events: list[NetworkRequestEvent] = []

    async def one(number: int) -> None:
        events.append(await model.acompletion(f"{number}"))

    for number in range(7):
        nursery.start_soon(one, number)
    await trio.sleep(1)
    assert sorted(event.status for event in events) == ["CALLING"] * 2 + ["QUEUED"] * 3
    return events


def statuses(events: list[NetworkRequestEvent]) -> list[str]:
    return sorted(event.status for event in events)


# --- start and stop ---


@in_virtual_time
async def test_start_and_stop_twice_are_harmless() -> None:
    provider = ScriptedProvider()
    executor = scripted(provider)
    assert not executor.is_running
    await executor.stop()
    await executor.start()
    engine = executor.engine
    await executor.start()
    assert executor.engine is engine
    event = await iModel(executor, CONFIG).acompletion("hello")
    await executor.stop()
    await executor.stop(graceful=False)
    assert event.status is RequestStatus.COMPLETED
    assert (executor.is_running, provider.open_now) == (False, 0)
    assert not is_engine_open()


@in_virtual_time
async def test_it_can_be_started_again() -> None:
    provider = ScriptedProvider(delay_s=0.001)
    executor = scripted(provider, requests_rate=2.0)
    model = iModel(executor, CONFIG)
    for _ in range(2):
        async with executor:
            event = await (await model.acompletion("hello")).wait()
        assert event.status is RequestStatus.COMPLETED
    assert len(provider.accounts) == 2


@in_virtual_time
async def test_within_the_block_it_may_be_stopped_already() -> None:
    async with scripted(ScriptedProvider()) as executor:
        await executor.stop()
        assert not executor.is_running


@pytest.mark.parametrize("state", ["never", "stopped"])
async def test_an_executor_that_does_not_run_takes_no_calls(state: str) -> None:
    executor = Executor()
    if state == "stopped":
        async with executor:
            pass
    model = iModel(executor, CONFIG)
    with pytest.raises(RuntimeError, match=r"^Executor is not running\. Call start\(\) first") as caught:
        await model.acompletion("hello")
    assert isinstance(caught.value, EngineNotRunning)
    with pytest.raises(RuntimeError, match="not running"):
        await executor.submit_task(trio.lowlevel.checkpoint)


async def test_an_engine_around_it_is_none_of_its_own() -> None:
    async with open_engine():
        with pytest.raises(RuntimeError, match="Executor is not running"):
            await iModel(Executor(), CONFIG).acompletion("hello")


async def test_another_task_may_not_stop_it(nursery: trio.Nursery) -> None:
    async with Executor() as executor:
        async with trio.open_nursery() as inner:

            @inner.start_soon
            async def stop() -> None:
                with pytest.raises(UsageError, match="started by another task"):
                    await executor.stop()

        assert executor.is_running


# --- graceful ---


@in_virtual_time
async def test_graceful_stop_drains_however_long_it_takes() -> None:
    """lionfuncs ends its workers after what they have in hand, and leaves the rest QUEUED. (L4)"""
    provider = ScriptedProvider(delay_s=200)
    async with trio.open_nursery() as nursery, scripted(provider, **LIMITS) as executor:
        events = await fill(iModel(executor, CONFIG), nursery)
        await executor.stop()
        assert trio.current_time() == 600
    assert statuses(events) == ["CANCELLED"] * 2 + ["COMPLETED"] * 5
    lost = [event for event in events if event.status is RequestStatus.CANCELLED]
    assert {event.error_type for event in lost} == {"ShuttingDown"}
    assert len(provider.requests) == 5


@in_virtual_time
async def test_leaving_the_block_is_graceful() -> None:
    async with scripted(ScriptedProvider(delay_s=200), concurrency_limit=1) as executor:
        events = [await iModel(executor, CONFIG).acompletion("hello") for _ in range(3)]
    assert {event.status for event in events} == {RequestStatus.COMPLETED}
    assert trio.current_time() == 600


@in_virtual_time
async def test_a_graceful_stop_that_is_cancelled_is_a_hard_one() -> None:
    executor = scripted(ScriptedProvider(delay_s=200), **LIMITS)
    with trio.move_on_after(50) as scope:
        await executor.start()
        event = await iModel(executor, CONFIG).acompletion("hello")
        await executor.stop()
    assert scope.cancelled_caught
    assert event.status is RequestStatus.CANCELLED
    assert trio.current_time() == 50


# --- hard ---


@in_virtual_time
async def test_hard_stop_marks_what_has_not_ended_as_cancelled() -> None:
    """lionfuncs leaves it CALLING. (L5)"""
    provider = ScriptedProvider(delay_s=200)
    async with trio.open_nursery() as nursery, scripted(provider, **LIMITS) as executor:
        events = await fill(iModel(executor, CONFIG), nursery)
        engine = executor.engine
        await executor.stop(graceful=False)
        assert trio.current_time() == 1
        assert_quiet(engine)
    assert statuses(events) == ["CANCELLED"] * 7
    sent = [event for event in events if event.call_started_at is not None]
    assert len(sent) == len(provider.requests) == 2
    for event in sent:
        assert isinstance(event.call.error, OutcomeUnknown)
        assert "may have been billed" in (event.error_message or "")
    assert all(event.completed_at is not None for event in events)


@in_virtual_time
async def test_a_call_that_waits_to_be_tried_again_is_cancelled_too() -> None:
    async with scripted(ScriptedProvider([error_reply(429, retry_after_s=50)])) as executor:
        event = await iModel(executor, CONFIG).acompletion("hello")
        await trio.sleep(5)
        assert event.status is RequestStatus.QUEUED
        await executor.stop(graceful=False)
    assert (event.status, event.response_status_code) == (RequestStatus.CANCELLED, 429)


@in_virtual_time
async def test_an_exception_ends_it_at_once_and_leaves_as_it_is() -> None:
    events: list[NetworkRequestEvent] = []
    executor = scripted(ScriptedProvider(delay_s=200), concurrency_limit=1)

    async def failing() -> None:
        async with executor:
            events.extend([await iModel(executor, CONFIG).acompletion("hello") for _ in range(3)])
            await trio.sleep(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing()
    assert statuses(events) == ["CANCELLED"] * 3
    assert (trio.current_time(), executor.is_running) == (1, False)


@in_virtual_time
async def test_cancellation_ends_it_at_once() -> None:
    events: list[NetworkRequestEvent] = []
    with trio.move_on_after(5) as scope:
        async with scripted(ScriptedProvider(delay_s=200), concurrency_limit=1) as executor:
            events += [await iModel(executor, CONFIG).acompletion("hello") for _ in range(3)]
            await events[0].wait()
    assert scope.cancelled_caught
    assert statuses(events) == ["CANCELLED"] * 3


# --- cancelling one ---


@in_virtual_time
async def test_an_event_can_be_cancelled_wherever_it_is() -> None:
    provider = ScriptedProvider(delay_s=200)
    async with scripted(provider, concurrency_limit=1) as executor:
        model = iModel(executor, CONFIG)
        flying, queued, other = [await model.acompletion(name) for name in ("one", "two", "three")]
        await trio.sleep(1)
        for event in (flying, queued):
            event.cancel()
            await event.wait()
        assert trio.current_time() == 1
        assert (flying.error_type, queued.error_type) == ("CallCancelled", "CallCancelled")
        await other.wait()
        other.cancel()
    assert [event.status for event in (flying, queued, other)] == ["CANCELLED", "CANCELLED", "COMPLETED"]
    assert [request.body["prompt"] for request in provider.requests] == ["one", "three"]


@in_virtual_time
async def test_whoever_stops_waiting_does_not_cancel_the_request() -> None:
    async with scripted(ScriptedProvider(delay_s=10)) as executor:
        event = await iModel(executor, CONFIG).acompletion("hello")
        with trio.move_on_after(1):
            await event.wait()
        assert not event.over
    assert event.status is RequestStatus.COMPLETED


@in_virtual_time
async def test_cancelled_while_it_waits_for_a_place_it_sends_nothing() -> None:
    provider = ScriptedProvider(delay_s=10)
    async with scripted(provider, concurrency_limit=1, queue_capacity=1) as executor:
        model = iModel(executor, CONFIG)
        for _ in range(2):
            await model.acompletion("hello")
            await trio.sleep(1)
        with trio.move_on_after(1) as scope:
            await model.acompletion("late")
        assert scope.cancelled_caught
    assert len(provider.requests) == 2


def test_it_says_where_it_is() -> None:
    assert repr(Executor()) == "<Executor stopped>"


async def test_under_asyncio_it_says_so() -> None:
    import asyncio

    with pytest.raises(UsageError, match="trio"):
        await trio.to_thread.run_sync(asyncio.run, Executor().start())
