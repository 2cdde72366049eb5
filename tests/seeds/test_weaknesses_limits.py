"""What lionagi's limits are weak at, and that ours are not: waiting, order, bursts, streams, sharing, attempts.

Each docstring says what lionagi 0.36 does (0.23.1 where it says so) and what is promised here; the table is
docs/weaknesses.md. In virtual time, but for what is about the wire, which a simulated provider on loopback judges.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
import trio
from weak_spots import Crowd, a_model, an_engine, ask, echo, in_virtual_time

from engine import CapacityExceeded, Quota, iModel, open_engine
from engine.config import parse_config
from engine.simulator import FaultRates, ProviderLimit, SimulatorConfig, simulated_provider
from engine.testing import ProviderReply, Request, ScriptedProvider, chat_reply, error_reply

WINDOW_S = 60.05
"""A minute and its guard."""


# --- calls that wait come back finished ---


@in_virtual_time
async def test_w01_a_call_that_waits_for_its_limit_comes_back_finished() -> None:
    """lionagi: `invoke` returns after 10 s with a call that is pending, and sends it later with nobody to read the
    answer. Ours: `invoke` returns when the call has ended, and a call nobody waits for any more is never sent."""
    provider = ScriptedProvider(echo)
    async with an_engine(provider) as engine:
        model = a_model(limit_requests=1)
        crowd = await Crowd.of(model, ["a", "b", "c"])
        assert crowd.statuses == {"completed"}
        assert sorted(str(call.text) for call in crowd.calls) == ["a", "b", "c"]
        assert crowd.ends == [0.1, 0.1 + WINDOW_S, pytest.approx(0.1 + 2 * WINDOW_S)]
        with trio.move_on_after(10):
            await model.invoke(messages=ask("left"))
        await engine.wait_quiet()
        await trio.sleep(3 * WINDOW_S)
        assert [request.prompt for request in provider.requests if request.prompt == "left"] == []


@pytest.mark.parametrize("concurrency", [None, 2])
@in_virtual_time
async def test_w02_more_calls_than_the_queue_holds_are_all_driven(concurrency: int | None) -> None:
    """lionagi: with queue_capacity=4, three of seven one-second calls come back pending after 10 s, never sent. Ours:
    who finds the queue full waits for a place, and a place is free the moment a call is granted."""
    provider = ScriptedProvider(echo, delay_s=1.0)
    async with an_engine(provider):
        crowd = await Crowd.of(a_model(queue_capacity=4, concurrency_limit=concurrency), [f"{n}" for n in range(7)])
        assert crowd.statuses == {"completed"}
        assert crowd.ends == ([1.0] * 7 if concurrency is None else [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0])
        assert len(provider.requests) == 7


@in_virtual_time
async def test_w03_a_call_larger_than_its_limit_is_refused_at_once() -> None:
    """lionagi: it is deferred for ever and stays in the queue. Ours: `CapacityExceeded` before it is queued, which says
    how much was asked and how much there is; the lane goes on as if it had never been."""
    provider = ScriptedProvider(echo)
    async with an_engine(provider) as engine:
        model = a_model(limit_tokens=1000)
        before = trio.current_time()
        with pytest.raises(CapacityExceeded) as caught:
            await model.invoke(messages=ask("x" * 40_000), max_tokens=10)
        assert trio.current_time() == before
        assert caught.value.capacity == 1000 < caught.value.requested
        assert not any(engine.statistics().live.values())
        assert (await model.invoke(messages=ask("small"), max_tokens=10)).text == "small"
        assert [request.prompt for request in provider.requests] == ["small"]


# --- streams ---


@pytest.mark.parametrize("limits", [{"limit_requests": 1}, {"limit_tokens": 60}], ids=["requests", "tokens"])
@in_virtual_time
async def test_w04_limits_hold_for_streams(limits: dict[str, Any]) -> None:
    """lionagi: `stream` never asks for permission; three streams under limit_requests=1 are sent at once. Ours: a
    stream is a call, under the same limits as any other."""
    provider = ScriptedProvider(chat_reply("yes", input_tokens=None))
    async with an_engine(provider):
        model = a_model(**limits)

        async def read() -> None:
            async with model.stream(messages=ask("hello"), max_tokens=30) as chunks:
                assert "".join([str(chunk) async for chunk in chunks]) == "yes"

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(read)
        assert provider.times == [1.0, 1.0 + WINDOW_S, pytest.approx(1.0 + 2 * WINDOW_S)]


async def test_w04_the_limits_of_streams_hold_on_the_wire() -> None:
    """lionagi: as above. Ours: a provider that enforces the same limit over real sockets refuses none of them."""
    limit = ProviderLimit("requests", 3, 0.3)
    async with simulated_provider(SimulatorConfig(limits=(limit,), limit_headers=False)) as provider:
        model = iModel(
            model="simulated-1",
            base_url=provider.base_url,
            provider="simulated",
            api_key="any",
            quotas=[Quota("requests", 3, 0.3, guard_s=0.05)],
        )

        async def read() -> None:
            async with model.stream(messages=ask("hello"), max_tokens=8) as chunks:
                assert "".join([str(chunk) async for chunk in chunks])

        async with open_engine(), trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(read)
        log = await provider.log()
        assert [arrival.refused_by for arrival in log] == [""] * 9


# --- windows and order ---


@in_virtual_time
async def test_w05_no_window_holds_more_than_the_limit() -> None:
    """lionagi: counters are reset every interval, so twice the limit is sent around a reset (hits at 0, 0, 3.01, 3.01
    for 2 in 3 s, and a burst late in a window next to the next one's). Ours: the limit holds in every window, wherever
    it begins, as it does for the providers that count so."""
    chance = random.Random(5)
    for _ in range(20):
        provider = ScriptedProvider(echo, delay_s=0.01)
        async with an_engine(provider):
            model = a_model(limit_requests=2, interval=3)
            async with trio.open_nursery() as nursery:
                for _ in range(12):
                    nursery.start_soon(partial(model.invoke, messages=ask("x")))
                    await trio.sleep(chance.choice([0.0, 0.0, 2.9, 0.1, 1.5]))
        assert len(provider.requests) == 12
        assert provider.fullest(3.0) == 2


@in_virtual_time
async def test_w06_the_calls_of_a_lane_go_in_the_order_they_came() -> None:
    """lionagi: a deferred call goes to the tail; of five, the second was served last but one. Ours: first come, first
    served, also where a call has to be tried again: it comes back to its old place."""

    def script(request: Request) -> ProviderReply | str:
        once_more = request.prompt == "1" and request.attempt == 1
        return error_reply(503, retry_after_s=0.1) if once_more else request.prompt

    provider = ScriptedProvider(script)
    async with an_engine(provider) as engine:
        model = a_model(limit_requests=1, interval=3)
        for number in range(8):
            await engine.submit(model.create_api_calling(messages=ask(str(number))))
        await engine.wait_quiet()
    assert [request.prompt for request in provider.requests] == ["0", "1", "1", "2", "3", "4", "5", "6", "7"]


@in_virtual_time
async def test_w07_a_closed_model_can_be_used_again_and_is_still_limited() -> None:
    """lionagi: after `close` the limits are never refilled, and the second call comes back pending. Ours: closing a
    model gives nothing back that has to be made again; its windows go on as if it had not been closed."""
    provider = ScriptedProvider(echo)
    async with an_engine(provider):
        model = a_model(limit_requests=1, interval=1)
        for number in range(4):
            assert (await model.invoke(messages=ask(f"{number}"))).text == f"{number}"
            await model.close()
        async with model:
            assert (await model.invoke(messages=ask("4"))).text == "4"
        assert (await model.invoke(messages=ask("5"))).text == "5"
    assert provider.times == [pytest.approx(1.0 + 1.01 * number) for number in range(6)]


@in_virtual_time
async def test_w08_a_caller_waits_for_its_own_call_alone() -> None:
    """lionagi: a caller that drives the queue picks up other callers' deferred calls, and returns when all of them have
    ended. Ours: callers drive nothing; each is woken by the end of its own call."""
    provider = ScriptedProvider(lambda request: chat_reply(request.prompt, delay_s=float(request.prompt)))
    async with an_engine(provider):
        model = a_model(limit_requests=2, interval=10)
        calls = [model.create_api_calling(messages=ask(prompt)) for prompt in ("100", "1", "200", "2")]
        for call in calls:
            await model.engine.submit(call)
        crowd = Crowd(calls)
        begun = trio.current_time()

        async def wait(index: int) -> None:
            await calls[index].wait()
            crowd.back_s[index] = round(trio.current_time() - begun, 3)

        async with trio.open_nursery() as nursery:
            for index in range(4):
                nursery.start_soon(wait, index)
        assert crowd.back_s == {0: 100.0, 1: 1.0, 2: 210.05, 3: 12.05}


# --- whose limits ---


@in_virtual_time
async def test_w14_models_share_a_lane_and_lanes_share_a_quota() -> None:
    """lionagi: limits belong to one iModel; two with the same key spend them twice. Ours: models of one `lane` share
    its limits, and a quota of the configuration stands over several lanes."""
    provider = ScriptedProvider(echo)
    async with an_engine(provider):
        large, small = (a_model(name, lane="account", limit_requests=3, interval=10) for name in ("gpt-4o", "m"))
        async with trio.open_nursery() as nursery:
            for model in (large, small) * 6:
                nursery.start_soon(partial(model.invoke, messages=ask("x")))
    assert (len(provider.requests), provider.fullest(10.0)) == (12, 3)
    text = """
        [lanes.a]
        [lanes.b]
        [[quotas]]
        name = "organisation"
        lanes = ["a", "b"]
        dimension = "requests"
        limit = 3
        period_s = 10
    """
    provider = ScriptedProvider(echo)
    async with an_engine(provider, parse_config(text, "penstock.toml")), trio.open_nursery() as nursery:
        for model in (a_model(lane="a"), a_model(lane="b")) * 6:
            nursery.start_soon(partial(model.invoke, messages=ask("x")))
    assert (len(provider.requests), provider.fullest(10.0)) == (12, 3)


@in_virtual_time
async def test_w15_every_attempt_is_charged() -> None:
    """lionagi: `limit_requests` counts calls, not HTTP requests; three retries of each are free. Ours: each attempt is
    a reservation of its own, and the provider never sees more than the limit."""
    provider = ScriptedProvider(lambda request: error_reply(503) if request.attempt < 3 else "at last")
    async with an_engine(provider):
        crowd = await Crowd.of(a_model(limit_requests=2, interval=10), ["x"] * 4)
        assert crowd.statuses == {"completed"}
        assert {call.attempts for call in crowd.calls} == {3}
    assert (len(provider.requests), provider.fullest(10.0)) == (12, 2)


async def test_w15_a_provider_that_fails_sees_no_more_than_the_limit_on_the_wire() -> None:
    """lionagi: as above. Ours: of calls whose first attempts all fail with 500, over real sockets, a provider with the
    same limit refuses none."""
    config = SimulatorConfig(
        limits=(ProviderLimit("requests", 4, 0.3),),
        limit_headers=False,
        faults=FaultRates(server_error=1.0, only_first_attempts=1),
    )
    async with simulated_provider(config) as provider:
        model = iModel(
            model="simulated-1",
            base_url=provider.base_url,
            provider="simulated",
            api_key="any",
            quotas=[Quota("requests", 4, 0.3, guard_s=0.05)],
        )
        async with open_engine():
            crowd = await Crowd.of(model, ["x"] * 6, max_tokens=8)
        assert crowd.statuses == {"completed"}
        log = await provider.log()
        assert [arrival.refused_by for arrival in log] == [""] * 12


# --- what 0.23.1, the seed's version, does ---


@in_virtual_time
async def test_w16_every_deferred_call_is_sent_as_soon_as_its_window_has_room() -> None:
    """lionagi 0.23.1: a denied call sleeps 60 s, or is lost from the queue: of four under 2 in 1 s, two were never
    sent. Ours: all go, each at the instant the window has room."""
    provider = ScriptedProvider(echo)
    async with an_engine(provider):
        crowd = await Crowd.of(a_model(limit_requests=2, interval=1), ["a", "b", "c", "d", "e"])
        assert crowd.statuses == {"completed"}
        assert crowd.ends == [0.1, 0.1, 1.11, 1.11, 2.12]
        assert sorted(request.prompt for request in provider.requests) == ["a", "b", "c", "d", "e"]


@in_virtual_time
async def test_w16_a_large_call_at_the_head_blocks_nobody_and_is_not_starved() -> None:
    """lionagi 0.23.1: the head of the queue is tried again and again while everything behind it waits. Ours: who fits
    goes past a head that must wait, as far as that does not delay it, and the head goes the moment its room is
    there."""
    provider = ScriptedProvider(lambda request: chat_reply(request.prompt, input_tokens=None))
    async with an_engine(provider) as engine:
        model = a_model(quotas=[Quota("output_tokens", 100, 60.0)])
        await engine.invoke(model.create_api_calling(messages=ask("first"), max_tokens=50))
        begun = trio.current_time()
        await engine.submit(model.create_api_calling(messages=ask("large"), max_tokens=70))
        for _ in range(8):
            await engine.submit(model.create_api_calling(messages=ask("small"), max_tokens=10))
        await engine.wait_quiet()
    went = [(request.prompt, round(request.at_s - begun, 3)) for request in provider.requests[1:]]
    assert went[:3] == [("small", 0.0)] * 3, "the room that the head does not need"
    assert went[3] == ("large", round(WINDOW_S - 0.1, 3)), "the moment the first has left the window"
    assert [prompt for prompt, _ in went[4:]] == ["small"] * 5


@in_virtual_time
async def test_w16_without_limits_a_crowd_larger_than_the_queue_is_let_through() -> None:
    """lionagi 0.23.1: without limits, permission is denied while as many wait as the queue has capacity for. Ours: no
    limit, no waiting but for a connection."""
    provider = ScriptedProvider(echo, delay_s=1.0)
    async with an_engine(provider):
        crowd = await Crowd.of(a_model(queue_capacity=5, max_connections=500), [f"{n}" for n in range(400)])
        assert crowd.statuses == {"completed"}
        assert crowd.ends == [1.0] * 400
        assert sorted(int(str(call.text)) for call in crowd.calls) == list(range(400))
