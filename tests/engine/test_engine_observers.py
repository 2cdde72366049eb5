"""What can be seen of an engine while it works: its statistics, and the events an observer is told.

Over a provider in virtual time.
"""

from __future__ import annotations

import msgspec
import pytest
import trio
import trio.testing
from virtual_provider import MESSAGES, a_model, in_virtual_time, virtual_engine

from actors.messages import HookEvent
from engine import (
    UsageError,
)
from engine.testing import Script, ScriptedProvider, chat_reply, error_reply

# --- statistics and observers ---


@in_virtual_time
async def test_statistics_are_a_frozen_copy() -> None:
    async with virtual_engine(ScriptedProvider(chat_reply(delay_s=5))) as engine:
        model = a_model(limit_requests=2, lane="work")
        for _ in range(3):
            await engine.submit(model.create_api_calling(messages=MESSAGES))
        await trio.sleep(1)
        before = engine.statistics()
        assert before.live["queued"] == 1
        assert before.live["in_flight"] == before.live["permits_held"] == before.live["busy_connections"] == 2
        assert before.live["live_reservations"] == 2
        with pytest.raises(AttributeError):
            before.live_calls = 3  # type: ignore[attr-defined]  # that is what is tested
        with pytest.raises(AttributeError):
            before.scheduler.schedule.queued = 3  # type: ignore[misc]  # that is what is tested
        lane = before.scheduler.schedule.lanes[0]
        assert (lane.name, lane.queued, lane.quotas[0].occupied) == ("work", 1, 2)
        await engine.wait_quiet()
        assert before.live["queued"] == 1
        after = engine.statistics().scheduler.schedule
        assert after.ended == {"completed": 3, "failed": 0, "cancelled": 0, "skipped": 0, "aborted": 0}
        assert after.reservations_made == after.reservations_settled == 3
        msgspec.json.encode(engine.statistics())


async def _events(engine_calls: int, script: Script) -> list[HookEvent]:
    async with virtual_engine(ScriptedProvider(script)) as engine:
        observer = engine.observe()
        for _ in range(engine_calls):
            await a_model().invoke(messages=MESSAGES)
        await trio.testing.wait_all_tasks_blocked()
        observer.close()
        return [event async for event in observer]


@in_virtual_time
async def test_an_observer_sees_the_events_of_a_call_in_order() -> None:
    events = await _events(1, [error_reply(429, retry_after_s=2), "hi"])
    names = [event.name for event in events]
    assert [name for name in names if name != "barrier"] == [
        "queued",
        "granted",
        "sent",
        "retrying",
        "queued",
        "granted",
        "sent",
        "ended",
    ]
    assert names.count("barrier") == 1
    assert len({event.call_id for event in events if event.name != "barrier"}) == 1
    assert events[-1].detail == "completed"
    assert [event.at_us for event in events] == sorted(event.at_us for event in events)
    assert [event.attempt for event in events if event.name == "sent"] == [1, 2]


@in_virtual_time
async def test_what_an_observer_misses_is_counted() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        async with engine.observe(buffer=2) as slow, engine.observe() as quick:
            await a_model().invoke(messages=MESSAGES)
            await trio.testing.wait_all_tasks_blocked()
            assert slow.statistics().told == 2
            assert slow.statistics().dropped == quick.statistics().told - 2 > 0
            assert (await anext(slow)).name == "queued"
        assert engine.statistics().hook_bus.observers == ()
        await a_model().invoke(messages=MESSAGES)
        assert slow.statistics().told == 2


@in_virtual_time
async def test_an_observer_that_nobody_reads_holds_nobody_up_and_ends_with_the_engine() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        observer = engine.observe(buffer=0)
        assert (await a_model().invoke(messages=MESSAGES)).status == "completed"
    assert [event async for event in observer] == []


@pytest.mark.parametrize("buffer", [-1, "5", 1.5, None, True])
@in_virtual_time
async def test_a_buffer_for_events_that_makes_no_sense_is_refused(buffer: object) -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        with pytest.raises(UsageError, match="buffer"):
            engine.observe(buffer=buffer)  # type: ignore[arg-type]  # that is what is tested
