"""Crowds: thousands of callers at once, a hundred thousand calls in one queue; they all finish, or all end cleanly.

In virtual time with a scripted provider. The tests of a hundred thousand are the slow ones of this folder: each takes
about ten seconds of a core.
"""

from __future__ import annotations

import functools

import pytest
import trio
from engine_checks import assert_nothing_is_left, in_virtual_time
from scripted_provider import ScriptedConnection, ScriptedProvider, call_of, scripted_model

from actors.messages import APICalling, Reply
from actors.transport import Answer, Attempt, Connection
from engine import Engine, open_engine

CALLERS = 2_000
CALLS = 100_000


class QuickProvider(ScriptedProvider):
    """Answers every call half a second after it was sent, with as little work as possible."""

    async def connect(self) -> Connection:
        return QuickConnection(self)


class QuickConnection(ScriptedConnection):
    async def exchange(self, calling: APICalling, attempt: Attempt) -> Answer:
        attempt.begin()
        attempt.sent()
        await trio.sleep(0.5)
        return ANSWER


ANSWER = Answer("done", "usage", Reply(status=200), keep=True, input_tokens=1)


@functools.partial(in_virtual_time, steps=20_000_000)
async def test_two_thousand_callers_at_once_all_get_their_answers() -> None:
    model = scripted_model()
    calls = [call_of(model) for _ in range(CALLERS)]
    provider = ScriptedProvider()
    with trio.fail_after(10_000):
        async with open_engine(transport=lambda account, on_usage: provider) as engine:
            async with trio.open_nursery() as nursery:
                for call in calls:
                    nursery.start_soon(engine.invoke, call)
            assert engine.statistics().live["waiters"] == 0
    assert {call.status for call in calls} == {"completed"}
    assert set(provider.begun.values()) == {1}
    assert_nothing_is_left(engine)


@pytest.mark.parametrize("after_s", [0.0, 0.6, 3.0])
@functools.partial(in_virtual_time, steps=20_000_000)
async def test_two_thousand_callers_cancelled_at_once_end_cleanly(after_s: float) -> None:
    """Cancelled as they start, while connections are being opened, and with calls in every state."""
    model = scripted_model(concurrency_limit=300, queue_capacity=1000)
    calls = [call_of(model) for _ in range(CALLERS)]
    provider = ScriptedProvider()
    with trio.fail_after(10_000):
        async with open_engine(transport=lambda account, on_usage: provider) as engine:
            with trio.move_on_after(after_s):
                async with trio.open_nursery() as nursery:
                    for call in calls:
                        nursery.start_soon(engine.invoke, call)
            await engine.wait_quiet()
            assert engine.statistics().live == dict.fromkeys(engine.statistics().live, 0)
    assert {call.status for call in calls} <= {"cancelled", "pending"}
    assert all(provider.begun[call.id] == 0 for call in calls if call.status == "pending")
    assert_nothing_is_left(engine)


async def fill(engine: Engine) -> None:
    model = scripted_model(queue_capacity=CALLS)
    for _ in range(CALLS):
        await engine.submit(call_of(model))


@functools.partial(in_virtual_time, steps=20_000_000)
async def test_a_hundred_thousand_submitted_calls_finish() -> None:
    with trio.fail_after(100_000):
        async with open_engine(transport=lambda account, on_usage: QuickProvider()) as engine:
            await fill(engine)
            await engine.wait_quiet()
            schedule = engine.statistics().scheduler.schedule
            assert (schedule.submitted, schedule.ended["completed"]) == (CALLS, CALLS)
    assert_nothing_is_left(engine)


@functools.partial(in_virtual_time, steps=20_000_000)
async def test_a_hundred_thousand_submitted_calls_are_cancelled() -> None:
    model = scripted_model(queue_capacity=CALLS)
    calls = [call_of(model) for _ in range(CALLS)]
    async with open_engine(transport=lambda account, on_usage: ScriptedProvider()) as engine:
        for call in calls:
            await engine.submit(call)
        await trio.sleep(2)
        for call in calls:
            call.cancel()
        with trio.fail_after(100):
            await engine.wait_quiet()
        assert engine.statistics().scheduler.schedule.ended["cancelled"] == CALLS
    assert {call.status for call in calls} == {"cancelled"}
    assert_nothing_is_left(engine)
