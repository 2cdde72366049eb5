"""A call from `create_api_calling` to its end: its statuses, what it tells, who may wait for it, how it is cancelled.

Over a provider in virtual time, so that every state a call passes through can be looked at while it lasts. Nothing here
is a mock of the engine: calls go through the scheduler, a worker and the real chat format.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing
from virtual_provider import MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import (
    APICalling,
    Call,
    CallCancelled,
    InvalidCall,
    OutcomeUnknown,
    PenstockError,
    ProviderUnavailable,
    Rejected,
    Timings,
    Usage,
)
from engine.testing import Says, ScriptedProvider, chat_reply, error_reply, fault


@in_virtual_time
async def test_a_call_passes_through_every_status_in_order() -> None:
    provider = ScriptedProvider(["hi", chat_reply(begin_s=2, write_s=1, delay_s=4)])
    async with virtual_engine(provider) as engine:
        model = a_model(limit_requests=1, interval=10)
        await model.invoke(messages=MESSAGES)
        call = model.create_api_calling(messages=MESSAGES)
        assert call.status == "pending"
        await engine.submit(call)
        seen = []
        while not seen or seen[-1] != "completed":
            seen.append(call.status)
            await trio.sleep(0.5)
        in_order = [status for at, status in enumerate(seen) if at == 0 or seen[at - 1] != status]
        assert in_order == ["queued", "processing", "calling", "completed"]
        assert seen.count("processing") == pytest.approx(6, abs=1)
        assert seen.count("calling") == pytest.approx(8, abs=1)


@in_virtual_time
async def test_a_call_that_backs_off_is_queued_until_it_is_sent_again() -> None:
    provider = ScriptedProvider([error_reply(429, retry_after_s=20), chat_reply(delay_s=5)])
    async with virtual_engine(provider) as engine:
        call = await engine.submit(a_model().create_api_calling(messages=MESSAGES))
        await trio.sleep(10)
        assert (call.status, engine.statistics().live["backing_off"]) == ("queued", 1)
        await trio.sleep(12)
        assert call.status == "calling"
        await call.wait()
    assert (call.status, call.attempts) == ("completed", 2)


@in_virtual_time
async def test_what_a_completed_call_tells() -> None:
    reply = chat_reply("Hello!", input_tokens=12, output_tokens=3, headers={"x-request-id": "req-7"})
    async with virtual_engine(ScriptedProvider(reply)):
        call = await a_model().invoke(messages=MESSAGES, temperature=0.5, metadata={"row": 7})
    assert call.raise_for_status() is call
    assert (call.status, call.text, call.error, call.attempts) == ("completed", "Hello!", None, 1)
    assert call.usage == Usage(12, 3, 15)
    assert call.response["choices"][0]["message"]["content"] == "Hello!"
    assert call.response is call.response
    assert call.payload == {"model": "gpt-4o", "messages": MESSAGES, "temperature": 0.5}
    assert call.metadata == {"row": 7}
    assert call.view.finish_reason == "stop"
    assert ("x-request-id", "req-7") in call.reply.headers


@in_virtual_time
async def test_the_timings_are_where_the_time_went() -> None:
    provider = ScriptedProvider([chat_reply(delay_s=0.5), chat_reply(begin_s=1, write_s=1, delay_s=3)])
    async with virtual_engine(provider):
        model = a_model(limit_requests=1, interval=10)
        await model.invoke(messages=MESSAGES)
        call = await model.invoke(messages=MESSAGES)
    assert call.timings is not None
    # The first request left half a second before its answer; its window is 10 s and 50 ms of guard.
    assert call.timings.waited_s == pytest.approx(9.55, abs=1e-3)
    assert call.timings.sending_s == pytest.approx(2, abs=1e-3)
    assert call.timings.answering_s == pytest.approx(3, abs=1e-3)
    assert call.timings.total_s == pytest.approx(14.55, abs=1e-3)


@in_virtual_time
async def test_timings_are_right_from_the_very_beginning_of_the_clock() -> None:
    """In virtual time a program starts at the instant 0, which is an instant like any other."""
    from engine import open_engine

    assert trio.current_time() == 0
    async with open_engine(transport=ScriptedProvider(chat_reply(delay_s=3))):
        call = await a_model().invoke(messages=MESSAGES)
    assert call.timings == Timings(waited_s=0.0, sending_s=0.0, answering_s=3.0, total_s=3.0)


@in_virtual_time
async def test_what_was_never_reached_is_none() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        model = a_model(limit_requests=1)
        await model.invoke(messages=MESSAGES)
        call = await engine.submit(model.create_api_calling(messages=MESSAGES))
        assert (call.timings, call.response, call.text, call.usage, call.error) == (None,) * 5
        await trio.sleep(2)
        call.cancel()
        await call.wait()
    assert call.timings is not None
    assert (call.timings.waited_s, call.timings.sending_s, call.timings.answering_s) == (None, None, None)
    assert call.timings.total_s == pytest.approx(2, abs=1e-3)


@in_virtual_time
async def test_a_refused_call_holds_its_error_and_raises_that_very_one() -> None:
    said = error_reply(400, "temperature is too warm", code="bad_argument", headers={"x-request-id": "req-9"})
    async with virtual_engine(ScriptedProvider(said)):
        model = a_model()
        call = await model.invoke(messages=MESSAGES)
    error = call.error
    assert isinstance(error, Rejected)
    assert (call.status, call.text, call.attempts) == ("failed", None, 1)
    assert (error.status, error.code, error.request_id) == (400, "bad_argument", "req-9")
    assert (error.call_id, error.lane, error.endpoint) == (call.id, model.lane_name, model.endpoint_name)
    assert "temperature is too warm" in error.message
    assert call.response["error"]["code"] == "bad_argument"
    for _ in range(2):
        with pytest.raises(Rejected) as caught:
            call.raise_for_status()
        assert caught.value is error


@in_virtual_time
async def test_raise_for_status_of_a_live_call_is_a_mistake() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        call = a_model().create_api_calling(messages=MESSAGES)
        with pytest.raises(InvalidCall, match="has not ended yet"):
            call.raise_for_status()
        await engine.invoke(call)
        assert call.raise_for_status() is call


@in_virtual_time
async def test_any_number_of_tasks_wait_and_may_again_later() -> None:
    async with virtual_engine(ScriptedProvider(chat_reply(delay_s=5))) as engine:
        call = await engine.submit(a_model().create_api_calling(messages=MESSAGES))
        ended = []

        async def wait() -> None:
            assert await call.wait() is call
            ended.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert engine.statistics().live["waiters"] == 10
        assert len(set(ended)) == 1
        await trio.sleep(100)
        assert await call.wait() is call


@in_virtual_time
async def test_being_cancelled_in_wait_ends_only_that_wait() -> None:
    async with virtual_engine(ScriptedProvider(chat_reply(delay_s=50))) as engine:
        call = await engine.submit(a_model().create_api_calling(messages=MESSAGES))
        with trio.move_on_after(5) as scope:
            await call.wait()
        assert scope.cancelled_caught
        assert call.status == "calling"
        assert (await call.wait()).status == "completed"


@in_virtual_time
async def test_waiting_for_what_was_never_submitted_is_refused() -> None:
    call = a_model().create_api_calling(messages=MESSAGES)
    with pytest.raises(InvalidCall, match="never submitted"):
        await call.wait()


@in_virtual_time
async def test_a_dropped_call_goes_on() -> None:
    provider = ScriptedProvider(chat_reply(delay_s=5))
    async with virtual_engine(provider) as engine:
        await engine.submit(a_model().create_api_calling(messages=MESSAGES))
        await engine.wait_quiet()
        assert engine.statistics().scheduler.schedule.ended["completed"] == 1


# --- cancelling ---


@in_virtual_time
async def test_cancel_before_submit() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        call = a_model().create_api_calling(messages=MESSAGES)
        call.cancel()
        assert call.status == "cancelled"
        assert isinstance(call.error, CallCancelled)
        assert not call.error.sent
        assert await engine.invoke(call) is call
    assert provider.requests == []


@pytest.mark.parametrize(
    ("after_s", "status", "sent"),
    [(1, "queued", False), (11, "processing", False), (14, "calling", True)],
)
@in_virtual_time
async def test_cancel_in_every_state(after_s: float, status: str, sent: bool) -> None:
    provider = ScriptedProvider(["hi", chat_reply(begin_s=1.5, write_s=0.5, delay_s=1000)])
    async with virtual_engine(provider) as engine:
        model = a_model(limit_requests=1, interval=10)
        await model.invoke(messages=MESSAGES)
        call = await engine.submit(model.create_api_calling(messages=MESSAGES))
        await trio.sleep(after_s)
        assert call.status == status
        at = trio.current_time()
        call.cancel()
        call.cancel()
        await call.wait()
        assert trio.current_time() == at
        assert call.status == "cancelled"
        assert isinstance(call.error, CallCancelled)
        assert call.error.sent is sent
        await engine.wait_quiet()
        assert engine.statistics().live["places_taken"] == 0
        quota = engine.statistics().scheduler.schedule.lanes[0].quotas[0]
        assert quota.occupied == (1 if sent else 0) + (1 if after_s < 10 else 0)


@in_virtual_time
async def test_cancel_while_backing_off_says_that_something_had_been_sent() -> None:
    async with virtual_engine(ScriptedProvider(error_reply(429, retry_after_s=60))) as engine:
        call = await engine.submit(a_model().create_api_calling(messages=MESSAGES))
        await trio.sleep(30)
        call.cancel()
        await call.wait()
        assert (call.status, call.attempts) == ("cancelled", 1)
        assert isinstance(call.error, CallCancelled)
        assert call.error.sent


@in_virtual_time
async def test_cancelling_what_has_ended_changes_nothing() -> None:
    async with virtual_engine(ScriptedProvider()):
        call = await a_model().invoke(messages=MESSAGES)
        call.cancel()
        assert (call.status, call.error) == ("completed", None)


@in_virtual_time
async def test_cancelling_the_invoker_cancels_the_call_wherever_it_is() -> None:
    provider = ScriptedProvider(fault("stall"))
    async with virtual_engine(provider) as engine:
        call = a_model().create_api_calling(messages=MESSAGES)
        with trio.move_on_after(5):
            await engine.invoke(call)
        await call.wait()
        assert call.status == "cancelled"
        assert provider.in_flight == 0


@in_virtual_time
async def test_cancelling_a_call_that_waits_for_a_place_ends_it_at_once() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        model = a_model(limit_requests=1, queue_capacity=1)
        await model.invoke(messages=MESSAGES)
        await engine.submit(model.create_api_calling(messages=MESSAGES))
        waiting = model.create_api_calling(messages=MESSAGES)
        returned: list[tuple[Call, float]] = []

        async def invoke() -> None:
            returned.append((await engine.invoke(waiting), trio.current_time()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(invoke)
            await trio.sleep(5)
            at = trio.current_time()
            waiting.cancel()
        assert returned == [(waiting, at)]
        assert waiting.status == "cancelled"
        await engine.drain(queue="discard")


# --- sent once ---


@in_virtual_time
async def test_a_live_call_cannot_be_sent_twice_and_goes_on() -> None:
    provider = ScriptedProvider(chat_reply(delay_s=5))
    async with virtual_engine(provider) as engine:
        model = a_model()
        call = await engine.submit(model.create_api_calling(messages=MESSAGES))
        for send in (engine.submit, engine.invoke, model.invoke):
            with pytest.raises(InvalidCall, match="under way"):
                await send(call)
        with pytest.raises(InvalidCall, match="under way"):
            engine.submit_nowait(call)
        assert (await call.wait()).status == "completed"
    assert len(provider.requests) == 1


@pytest.mark.parametrize("said", ["hi", error_reply(400)], ids=["completed", "failed"])
@in_virtual_time
async def test_a_call_that_has_ended_is_returned_as_it_is(said: Says) -> None:
    provider = ScriptedProvider(said)
    async with virtual_engine(provider) as engine:
        model = a_model()
        call = await model.invoke(messages=MESSAGES)
        status = call.status
        for send in (engine.invoke, model.invoke, engine.submit):
            assert await send(call) is call
        assert engine.submit_nowait(call) is call
        assert call.status == status
    assert len(provider.requests) == 1


@in_virtual_time
async def test_a_call_is_known_by_the_seeds_name_too() -> None:
    call = a_model().create_api_calling(messages=MESSAGES)
    assert APICalling is Call
    assert isinstance(call, APICalling)


@in_virtual_time
async def test_calls_are_told_apart_and_can_be_kept_in_a_set() -> None:
    model = a_model()
    calls = {model.create_api_calling(messages=MESSAGES) for _ in range(100)}
    assert len({call.id for call in calls}) == 100


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (error_reply(503, "busy"), ProviderUnavailable, "busy"),
        (fault("cut"), OutcomeUnknown, "may have been billed|had left"),
    ],
)
@in_virtual_time
async def test_errors_say_whose_fault_and_whether_anything_was_spent(
    said: Says, kind: type[PenstockError], words: str
) -> None:
    async with virtual_engine(ScriptedProvider(said)):
        call = await a_model().invoke(messages=MESSAGES)
    with pytest.raises(kind, match=words):
        call.raise_for_status()
    assert f"call_id={call.id}" in repr(call.error)
