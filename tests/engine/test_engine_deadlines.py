"""What can be known before a call is sent: a deadline that cannot be met, a size that no limit admits.

And the deadline's timer, wherever the call is when it runs out. Over a provider in virtual time.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing
from virtual_provider import MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import (
    CapacityExceeded,
    DeadlineExceeded,
    OutcomeUnknown,
)
from engine.testing import ScriptedProvider, error_reply, fault

# --- deadlines ---


@in_virtual_time
async def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        model = a_model(limit_requests=1, interval=60)
        await model.invoke(messages=MESSAGES)
        for send in (engine.submit, engine.invoke):
            call = model.create_api_calling(messages=MESSAGES, deadline_s=30)
            at = trio.current_time()
            with pytest.raises(DeadlineExceeded) as caught:
                await send(call)
            assert trio.current_time() == at
            assert (caught.value.call, call.status) == (call, "skipped")
        assert (await model.invoke(messages=MESSAGES, deadline_s=61)).status == "completed"
    assert len(provider.requests) == 2


@in_virtual_time
async def test_a_deadline_ends_a_waiting_call_by_timer_and_it_is_never_sent() -> None:
    provider = ScriptedProvider(fault("stall"))
    async with virtual_engine(provider) as engine:
        model = a_model(concurrency_limit=1)
        first = await engine.submit(model.create_api_calling(messages=MESSAGES, timeout_s=1000))
        await trio.sleep(1)
        at = trio.current_time()
        call = await model.invoke(messages=MESSAGES, deadline_s=12.5)
        assert trio.current_time() - at == pytest.approx(12.5, abs=1e-5)
        assert (call.status, call.attempts) == ("failed", 0)
        assert isinstance(call.error, DeadlineExceeded)
        first.cancel()
    assert len(provider.requests) == 1


@in_virtual_time
async def test_a_deadline_drops_what_is_in_flight() -> None:
    provider = ScriptedProvider(fault("stall"))
    async with virtual_engine(provider):
        at = trio.current_time()
        call = await a_model().invoke(messages=MESSAGES, deadline_s=3)
        assert trio.current_time() - at == pytest.approx(3, abs=1e-5)
        await trio.testing.wait_all_tasks_blocked()
        assert provider.in_flight == 0
        assert isinstance(call.error, OutcomeUnknown)
        assert (call.status, call.error.reason, call.error.gave_up) == ("failed", "timeout", "deadline")


@in_virtual_time
async def test_a_deadline_bounds_the_backoff_too() -> None:
    async with virtual_engine(ScriptedProvider(error_reply(429, retry_after_s=100))):
        at = trio.current_time()
        call = await a_model().invoke(messages=MESSAGES, deadline_s=50)
        assert trio.current_time() - at <= 50.001
        assert call.error is not None
        assert (call.status, call.error.gave_up, call.attempts) == ("failed", "deadline", 1)


@in_virtual_time
async def test_the_wait_for_a_place_counts_towards_the_deadline() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        model = a_model(limit_requests=1, interval=60, queue_capacity=1)
        await model.invoke(messages=MESSAGES)
        await engine.submit(model.create_api_calling(messages=MESSAGES))
        call = model.create_api_calling(messages=MESSAGES, deadline_s=100)
        at = trio.current_time()
        await engine.invoke(call)  # a place is free after 60 s, its turn would come after 120
        assert isinstance(call.error, DeadlineExceeded)
        assert trio.current_time() - at <= 100.001
        await engine.drain(queue="discard")


# --- larger than the limit ---


@in_virtual_time
async def test_a_call_larger_than_its_limit_is_refused_at_once() -> None:
    provider = ScriptedProvider()
    async with virtual_engine(provider) as engine:
        model = a_model(limit_tokens=100)
        call = model.create_api_calling(messages=MESSAGES, max_tokens=200)
        with pytest.raises(CapacityExceeded, match="total_tokens") as caught:
            await engine.submit(call)
        error = caught.value
        assert (error.dimension, error.capacity, error.call_id) == ("total_tokens", 100, call.id)
        assert error.requested == 200 + call.request.input_tokens
        assert call.status == "pending"
    assert (provider.requests, provider.connects) == ([], 0)


@in_virtual_time
async def test_a_missing_cap_never_makes_a_call_too_large() -> None:
    async with virtual_engine(ScriptedProvider()):
        model = a_model(limit_tokens=100)
        for _ in range(3):
            assert (await model.invoke(messages=MESSAGES)).status == "completed"


@in_virtual_time
async def test_the_input_alone_can_be_too_large() -> None:
    async with virtual_engine(ScriptedProvider()):
        with pytest.raises(CapacityExceeded):
            await a_model(limit_tokens=100).invoke(messages=[{"role": "user", "content": "word " * 500}])
