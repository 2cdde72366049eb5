"""An executor's life: start and stop, graceful and hard, left by an exception or by cancellation; and its misuse."""

from __future__ import annotations

import contextvars

import pytest
import trio
import trio.lowlevel
import trio.testing
from lion_server import CONFIG, scripted

from engine import EngineNotRunning, InternalError, OutcomeUnknown, UsageError, open_engine
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


# --- in any task, and in any scope ---


@in_virtual_time
async def test_another_task_may_start_it_and_stop_it() -> None:
    executor = scripted(ScriptedProvider(delay_s=20))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.start)
    event = await iModel(executor, CONFIG).acompletion("hello")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.stop)
        nursery.start_soon(executor.stop)
    assert (event.status, executor.is_running, trio.current_time()) == ("COMPLETED", False, 20)


@pytest.mark.parametrize("graceful", [True, False])
async def test_a_stop_in_a_scope_within_the_block(graceful: bool) -> None:
    async with Executor() as executor:
        with trio.move_on_after(5) as scope:
            await executor.stop(graceful)
        assert not executor.is_running
    assert not scope.cancelled_caught


async def test_a_start_and_a_stop_in_scopes_of_their_own() -> None:
    executor = Executor()
    with trio.fail_after(5):
        await executor.start()
    async with trio.open_nursery():
        with trio.fail_after(5):
            await executor.stop()
    async with trio.open_nursery():
        await executor.start()
    with trio.CancelScope():
        await executor.stop()
    assert not executor.is_running


def test_an_exception_between_start_and_the_end_of_trio_leaves_as_it_is() -> None:
    events: list[NetworkRequestEvent] = []

    async def main() -> None:
        executor = scripted(ScriptedProvider(delay_s=200), concurrency_limit=1)
        await executor.start()
        events.extend([await iModel(executor, CONFIG).acompletion("hello") for _ in range(2)])
        await trio.testing.wait_all_tasks_blocked()
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"):
        trio.run(main)
    assert statuses(events) == ["CANCELLED"] * 2


def test_whoever_never_stops_it_has_calls_that_are_cancelled() -> None:
    events: list[NetworkRequestEvent] = []
    executor = scripted(ScriptedProvider(delay_s=200))

    async def main() -> None:
        await executor.start()
        events.append(await iModel(executor, CONFIG).acompletion("hello"))

    for _ in range(2):
        trio.run(main)
        assert not executor.is_running
    assert statuses(events) == ["CANCELLED"] * 2


@pytest.mark.parametrize("seed", range(8))
def test_cancelled_at_any_checkpoint_it_has_started_or_it_has_not(seed: int) -> None:
    """Whatever the start was cancelled in, nothing of it is left, and it can be used again."""

    async def cancel(scope: trio.CancelScope, steps: int) -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    @in_virtual_time(seed=seed)
    async def run() -> None:
        executor = scripted(ScriptedProvider(delay_s=1))
        model = iModel(executor, CONFIG)
        for steps in range(12):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel, scope, steps)
                    async with executor:
                        await model.acompletion("hello")
                        await trio.sleep(5)
            assert (executor.is_running, executor._run, executor._blocks) == (False, None, {})
        async with executor:
            assert (await (await model.acompletion("hello")).wait()).status is RequestStatus.COMPLETED

    run()


async def test_cancelled_before_it_starts_it_does_not() -> None:
    executor = Executor()
    entered = False
    with trio.CancelScope() as scope:
        scope.cancel()
        async with executor:
            entered = True
    assert scope.cancelled_caught
    assert not entered
    assert not executor.is_running


@in_virtual_time
async def test_a_start_waits_for_the_stop_before_it() -> None:
    executor = scripted(ScriptedProvider(delay_s=20))
    await executor.start()
    event = await iModel(executor, CONFIG).acompletion("hello")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.stop)
        await trio.sleep(1)
        with trio.move_on_after(1) as scope:
            await executor.start()
        assert scope.cancelled_caught
        await executor.start()
        assert (event.over, executor.is_running, trio.current_time()) == (True, True, 20)
    await executor.stop()


@in_virtual_time
async def test_a_hard_stop_overtakes_a_graceful_one() -> None:
    executor = scripted(ScriptedProvider(delay_s=200), concurrency_limit=1)
    await executor.start()
    events = [await iModel(executor, CONFIG).acompletion("hello") for _ in range(3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.stop)
        await trio.sleep(1)
        await executor.stop(graceful=False)
    assert trio.current_time() == 1
    assert statuses(events) == ["CANCELLED"] * 3


@in_virtual_time
async def test_blocks_within_each_other_and_beside_each_other() -> None:
    executor = scripted(ScriptedProvider(delay_s=1))
    async with trio.open_nursery() as nursery, executor:

        @nursery.start_soon
        async def beside() -> None:
            async with executor:
                await trio.sleep(1)

        async with executor:
            with trio.move_on_after(1):
                async with executor:
                    await trio.sleep_forever()
        assert not executor.is_running
    assert executor._blocks == {}


def broken(*_: object) -> None:
    raise ZeroDivisionError


async def break_engine(executor: Executor) -> NetworkRequestEvent:
    """Have the executor's engine fail; the event of the call that it fails of."""
    executor.engine._scheduler._schedule.submit = broken  # type: ignore[method-assign,assignment]  # a bug in it
    return await iModel(executor, CONFIG).acompletion("hello")


@in_virtual_time
async def test_an_engine_that_fails_ends_the_block_and_says_so() -> None:
    """Nobody waits in a block for calls that will never come."""
    executor = scripted(ScriptedProvider(delay_s=10))
    events: list[NetworkRequestEvent] = []

    async def use() -> None:
        async with executor:
            events.append(await iModel(executor, CONFIG).acompletion("hello"))
            events.append(await break_engine(executor))
            await trio.sleep_forever()

    with pytest.raises(InternalError):
        await use()
    assert (trio.current_time(), statuses(events), executor.is_running) == (0, ["FAILED"] * 2, False)


@in_virtual_time
async def test_an_engine_that_fails_says_so_though_the_block_is_cancelled() -> None:
    executor = scripted(ScriptedProvider(delay_s=10))

    async def use() -> None:
        with trio.CancelScope() as scope:
            async with executor:
                await (await break_engine(executor)).wait()
                scope.cancel()
                await trio.lowlevel.checkpoint()

    with pytest.raises(InternalError):
        await use()


@in_virtual_time
async def test_an_engine_that_fails_without_a_block_is_told_of_by_its_calls_and_by_stop() -> None:
    executor = scripted(ScriptedProvider(delay_s=10))
    await executor.start()
    await break_engine(executor)
    event = await (await iModel(executor, CONFIG).acompletion("hello")).wait()
    assert (event.status, event.error_type) == (RequestStatus.FAILED, "InternalError")
    with pytest.raises(InternalError):
        await executor.stop()
    async with executor:
        assert (await (await iModel(executor, CONFIG).acompletion("hello")).wait()).status is RequestStatus.COMPLETED


@pytest.mark.parametrize("graceful", [True, False])
def test_what_ends_a_program_is_raised_by_stop(graceful: bool) -> None:
    async def leave() -> None:
        await trio.lowlevel.checkpoint()
        raise SystemExit(3)

    @in_virtual_time
    async def run() -> None:
        executor = scripted(ScriptedProvider())
        await executor.start()
        await (await executor.submit_task(leave)).wait()
        await trio.sleep(1)
        with pytest.raises(EngineNotRunning):
            await iModel(executor, CONFIG).acompletion("hello")
        with pytest.raises(SystemExit):
            await executor.stop(graceful)
        assert not executor.is_running

    run()


@in_virtual_time
async def test_its_engine_is_not_the_open_one_of_the_code_around_it() -> None:
    async with scripted(ScriptedProvider()):
        assert not is_engine_open()


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
    shown = repr(Executor(api_tokens_rate=1000, api_tokens_bucket_capacity=300))
    assert shown == (
        "<Executor stopped: queue_capacity=1000, concurrency_limit=10, 10 requests in 1 s from a bucket of 10, "
        "1000 API tokens in 60 s from a bucket of 300>"
    )
    assert repr(Executor(requests_rate=None)) == "<Executor stopped: queue_capacity=1000, concurrency_limit=10>"


async def test_under_asyncio_it_says_so() -> None:
    import asyncio

    with pytest.raises(UsageError, match="trio"):
        await trio.to_thread.run_sync(asyncio.run, Executor().start())


@pytest.mark.parametrize("status", [10**400, -5, 0, 2**40, True, False])
async def test_a_coroutine_whose_status_is_none_harms_nobody(status: int) -> None:
    """What is no status of HTTP's is part of the body."""

    async def odd() -> tuple[int, dict[str, str], str]:
        await trio.lowlevel.checkpoint()
        return status, {}, "x"

    async def steady() -> str:
        await trio.sleep(0.01)
        return "paid"

    async with Executor() as executor:
        events = [await executor.submit_task(odd), await executor.submit_task(steady)]
        for event in events:
            await event.wait()
    assert [(event.status, event.response_status_code) for event in events] == [(RequestStatus.COMPLETED, 200)] * 2
    assert events[0].response_body == (status, {}, "x")
    assert repr(events[0])
    assert events[0].logs


async def test_an_exception_without_a_text_is_told_by_its_name() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        raise Odd

    async with Executor() as executor:
        event = await (await executor.submit_task(fails)).wait()
        wrong = await executor.submit_task(fails, headers="x", metadata=5)  # type: ignore[arg-type]  # which is the point
        await wrong.wait()
    assert event.error_message is not None
    assert event.error_message.startswith("Odd")
    assert event.error_details
    assert event.logs
    assert (wrong.status, wrong.error_type) == (RequestStatus.FAILED, "InvalidCall")


async def test_a_cancellation_that_a_coroutine_kept_ends_it_alone() -> None:
    kept: list[BaseException] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            kept.append(cancelled)
            raise

    async def leaks() -> None:
        await trio.lowlevel.checkpoint()
        raise kept[0]

    async def steady() -> str:
        await trio.lowlevel.checkpoint()
        return "paid"

    async with Executor() as executor:
        leaked = await (await executor.submit_task(leaks)).wait()
        after = await (await executor.submit_task(steady)).wait()
    assert (leaked.status, leaked.error_type) == (RequestStatus.FAILED, "Cancelled")
    assert (after.status, after.response_body) == (RequestStatus.COMPLETED, "paid")


async def test_a_coroutine_runs_in_the_context_it_was_submitted_in() -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")

    async def who() -> tuple[str, str]:
        before = tenant.get()
        await trio.lowlevel.checkpoint()
        return before, tenant.get()

    async with Executor() as executor:
        for name in ("a", "b", "c", "a"):
            tenant.set(name)
            event = await (await executor.submit_task(who)).wait()
            assert event.response_body == (name, name)
