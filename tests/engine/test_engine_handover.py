"""What happens in between: while a call waits for a place, is handed one, or is stopped before anybody looks at it.

Over a provider in virtual time. Each was once an engine that failed, a call that was lost, or a loop without end.
"""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel
from mapped_calls import Pulled
from virtual_provider import MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import CallCancelled, InvalidCall, open_engine
from engine.config import EngineConfig, EngineSection
from engine.testing import ScriptedProvider, chat_reply


@in_virtual_time
async def test_a_call_cancelled_as_its_place_is_handed_over_is_not_sent() -> None:
    """The place and the cancellation come in the same turn of the loop."""
    provider = ScriptedProvider(chat_reply(delay_s=1))
    async with open_engine(EngineConfig(engine=EngineSection(max_queued=1)), transport=provider) as engine:
        first, second, waiting = (a_model(concurrency_limit=1) for _ in range(3))
        await engine.submit(first.create_api_calling(messages=MESSAGES))
        for _ in range(5):
            call = waiting.create_api_calling(messages=MESSAGES)
            blocker = second.create_api_calling(messages=MESSAGES)
            with trio.move_on_after(0.5):
                await engine.submit(blocker)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(engine.submit, call)
                await trio.lowlevel.checkpoint()
                blocker.cancel()
                call.cancel()
            await engine.wait_quiet()
            assert call.status == "cancelled"
        assert engine.statistics().live["places_taken"] == 0


@in_virtual_time
async def test_a_call_that_is_being_submitted_is_refused_to_a_second_submitter() -> None:
    async with virtual_engine(ScriptedProvider(chat_reply(delay_s=1))) as engine:
        model = a_model(concurrency_limit=1, queue_capacity=1)
        for _ in range(2):
            await engine.submit(model.create_api_calling(messages=MESSAGES))
            await trio.sleep(0.1)
        call = model.create_api_calling(messages=MESSAGES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.submit, call)
            await trio.sleep(0.1)
            assert call.status == "pending"
            with pytest.raises(InvalidCall, match="by another task"):
                await engine.submit(call)
            nursery.start_soon(call.wait)
        assert call.status == "completed"


@in_virtual_time
async def test_a_drain_loses_no_call_that_map_had_pulled() -> None:
    async with virtual_engine(ScriptedProvider(chat_reply(delay_s=10))) as engine:
        pulled = Pulled(a_model(concurrency_limit=1, queue_capacity=1), 100)
        seen = []
        async with trio.open_nursery() as nursery, engine.map(pulled, buffer=20) as stream:
            await trio.sleep(1)
            nursery.start_soon(engine.drain)
            seen.extend([call async for call in stream])
        assert set(seen) == set(pulled.calls[: pulled.taken])
        assert {call.status for call in seen} == {"completed", "skipped"}


@in_virtual_time
async def test_a_drain_that_discards_is_not_softened_by_leaving_the_engine() -> None:
    async with virtual_engine(ScriptedProvider(chat_reply(delay_s=10))) as engine:
        model = a_model(concurrency_limit=1)
        calls = [await engine.submit(model.create_api_calling(messages=MESSAGES)) for _ in range(3)]
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: engine.drain(queue="discard"))
            await trio.sleep(1)
            nursery.start_soon(engine.drain)
    assert [call.status for call in calls] == ["completed", "aborted", "aborted"]


@in_virtual_time
async def test_what_was_never_sent_is_not_said_to_be_billed() -> None:
    """A failed connection is an attempt, but no byte has left."""
    provider = ScriptedProvider(connect_failures=1_000)
    async with virtual_engine(provider) as engine:
        call = await engine.submit(a_model().create_api_calling(messages=MESSAGES))
        await trio.testing.wait_all_tasks_blocked()
        assert engine.statistics().scheduler.schedule.backing_off == 1
        call.cancel()
        await call.wait()
    assert isinstance(call.error, CallCancelled)
    assert not call.error.sent


@in_virtual_time
async def test_a_deadline_that_calls_in_flight_may_leave_room_for_is_not_refused() -> None:
    async with virtual_engine(ScriptedProvider(chat_reply(delay_s=1))):
        model = a_model(limit_tokens=1_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: model.invoke(messages=MESSAGES, max_tokens=900))
            await trio.sleep(0.5)
            call = await model.invoke(messages=MESSAGES, max_tokens=900, deadline_s=30)
        assert call.status == "completed"


@in_virtual_time
async def test_a_cancellation_is_not_read_ahead_of_a_new_models_lane() -> None:
    """Cancelling reads the calls that lie in the mailbox, and what opens the lane of one of them may lie behind it."""
    provider = ScriptedProvider("yes")
    async with virtual_engine(provider) as engine:
        first = engine.submit_nowait(a_model().create_api_calling(messages=MESSAGES))
        await trio.sleep(0.01)
        first.cancel()
        second = engine.submit_nowait(a_model().create_api_calling(messages=MESSAGES))
        other = a_model(base_url="http://127.0.0.1:1/v1").create_api_calling(messages=MESSAGES)
        engine.submit_nowait(other)
        assert (await second.wait()).status == "completed"
        assert (await other.wait()).status == "completed"
