"""Timeouts, retries, waits and turns of an Inferneo client, in virtual time."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from inferneo_server import CHAT, COMPLETION, KEY, PROMPT

from engine import Call, HookRegistry, OutcomeUnknown, gather
from engine.clients.inferneo import (
    AsyncInferneoClient,
    InferneoAPIError,
    InferneoError,
    InferneoTimeoutError,
)
from engine.testing import (
    ProviderReply,
    ScriptedProvider,
    error_reply,
    fault,
    in_virtual_time,
    scripted_engine,
)

BODY = json.dumps(COMPLETION).encode()
GOOD = ProviderReply(body=BODY)


def client_of(**arguments: Any) -> AsyncInferneoClient:
    return AsyncInferneoClient(**{"base_url": "http://inferneo.example", "api_key": KEY, **arguments})


# --- timeouts ---


@in_virtual_time
async def test_a_request_that_is_not_answered_in_time_is_a_timeout() -> None:
    """Lines 70 and 72. It is not asked again: it may have been served."""
    provider = ScriptedProvider(ProviderReply(body=BODY, delay_s=31))
    async with scripted_engine(provider):
        begun = trio.current_time()
        with pytest.raises(InferneoTimeoutError, match=r"longer than its timeout\b(?!_s)") as caught:
            await client_of().completions.create(**PROMPT)
        assert trio.current_time() - begun == pytest.approx(30, abs=0.1)
        assert isinstance(caught.value.__cause__, OutcomeUnknown)
    assert len(provider.requests) == 1


@in_virtual_time
async def test_the_timeout_is_the_clients_or_the_calls() -> None:
    provider = ScriptedProvider(fault("stall"))
    async with scripted_engine(provider):
        for ask, seconds in (
            (lambda: client_of(timeout=5).completions.create(**PROMPT), 5),
            (lambda: client_of().chat.completions.create(**CHAT, timeout_s=7), 7),
            (lambda: client_of().models.list(), 30),
        ):
            begun = trio.current_time()
            with pytest.raises(InferneoTimeoutError):
                await ask()
            assert trio.current_time() - begun == pytest.approx(seconds, abs=0.1)


@in_virtual_time
async def test_waiting_in_our_queue_is_not_counted() -> None:
    """Line 72: it ends when the limit lets it, long after its timeout."""
    provider = ScriptedProvider(GOOD)
    async with scripted_engine(provider):
        client = client_of(timeout=2, limit_requests=1, interval=60)
        await gather(*[client.completions.create(**PROMPT) for _ in range(3)])
    assert provider.times == [pytest.approx(at, abs=1) for at in (0, 60, 120)]


@in_virtual_time
async def test_a_deadline_bounds_the_waiting_too() -> None:
    provider = ScriptedProvider(GOOD)
    async with scripted_engine(provider):
        client = client_of(limit_requests=1, interval=60)
        await client.completions.create(**PROMPT)
        begun = trio.current_time()
        with pytest.raises(InferneoTimeoutError):
            await client.completions.create(**PROMPT, deadline_s=5)
        assert trio.current_time() - begun <= 5.1
    assert len(provider.requests) == 1


@in_virtual_time
async def test_a_retry_has_the_whole_timeout_again() -> None:
    replies = [ProviderReply(status=503, delay_s=20), ProviderReply(body=BODY, delay_s=20)]
    provider = ScriptedProvider(replies)
    async with scripted_engine(provider):
        assert (await client_of(timeout=25).completions.create(**PROMPT)).id
    assert len(provider.requests) == 2


# --- retries ---


@pytest.mark.parametrize("max_retries", [0, 1, 3, 5])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_so_many_retries_and_no_more(status: int, max_retries: int) -> None:
    """Line 73: three retries are four requests."""

    @in_virtual_time
    async def run() -> None:
        provider = ScriptedProvider(error_reply(status, "no"))
        async with scripted_engine(provider):
            with pytest.raises(InferneoAPIError) as caught:
                await client_of(max_retries=max_retries).completions.create(**PROMPT)
        assert caught.value.status_code == status
        assert len(provider.requests) == max_retries + 1

    run()


@pytest.mark.parametrize("status", [400, 401, 404, 405, 422, 501])
def test_what_would_be_refused_again_is_asked_once(status: int) -> None:
    """Line 73."""

    @in_virtual_time
    async def run() -> None:
        provider = ScriptedProvider(error_reply(status, "no"))
        async with scripted_engine(provider):
            with pytest.raises(InferneoAPIError):
                await client_of().chat.completions.create(**CHAT)
        assert len(provider.requests) == 1

    run()


@in_virtual_time
async def test_connection_errors_are_retried() -> None:
    """The account opens connections by itself as well, so that attempts are counted on the calls."""
    ended: list[Call] = []

    async def note(call: Call, **_: object) -> None:
        ended.append(call)

    hooks = HookRegistry({"post_invocation": note})
    provider = ScriptedProvider(GOOD, connect_failures=1)
    async with scripted_engine(provider):
        assert (await client_of(max_retries=1, hook_registry=hooks).completions.create(**PROMPT)).id
    assert (provider.connects, len(provider.requests)) == (2, 1)
    for max_retries in (0, 1, 3, 5):
        provider = ScriptedProvider(GOOD, connect_failures=1_000)
        async with scripted_engine(provider):
            with pytest.raises(InferneoError) as caught:
                await client_of(max_retries=max_retries, hook_registry=hooks).completions.create(**PROMPT)
        assert type(caught.value) is InferneoError
        assert provider.requests == []
    assert [call.attempts for call in ended] == [2, 1, 2, 4, 6]


@in_virtual_time
async def test_all_calls_of_a_client_have_one_budget_of_retries() -> None:
    """10, and one more for five that succeed, over all endpoints; waits after 429 are not of it."""
    answers = [error_reply(503)] * 12 + [GOOD] * 5 + [error_reply(503)] * 3
    provider = ScriptedProvider([*answers, *[error_reply(429)] * 3, GOOD])
    async with scripted_engine(provider):
        client = client_of(max_retries=20)
        with pytest.raises(InferneoAPIError):
            await client.completions.create(**PROMPT)
        assert len(provider.requests) == 11
        with pytest.raises(InferneoAPIError):
            await client.models.list()
        assert len(provider.requests) == 12
        for _ in range(5):
            await client.completions.create(**PROMPT)
        with pytest.raises(InferneoAPIError):
            await client.completions.create(**PROMPT)
        assert len(provider.requests) == 19
        with pytest.raises(InferneoAPIError):
            await client.completions.create(**PROMPT)
        await client.completions.create(**PROMPT)
        assert len(provider.requests) == 24


@in_virtual_time
async def test_a_wait_the_server_asks_for_is_kept() -> None:
    """Line 73: Retry-After."""
    provider = ScriptedProvider([error_reply(429, retry_after_s=17), error_reply(503, retry_after_s=9), GOOD])
    async with scripted_engine(provider):
        await client_of().completions.create(**PROMPT)
    first, second, third = provider.times
    assert second - first >= 17
    assert third - second >= 9


@in_virtual_time
async def test_each_retry_goes_through_the_limits() -> None:
    """Line 73: an attempt is a request, and two a minute are two a minute."""
    provider = ScriptedProvider([error_reply(503), error_reply(503), error_reply(503), GOOD])
    async with scripted_engine(provider):
        await client_of(limit_requests=2, interval=60).completions.create(**PROMPT)
    assert len(provider.requests) == 4
    assert provider.fullest(60) == 2


# --- turns, limits, cancellation ---


@in_virtual_time
async def test_the_larger_priority_is_served_first_here_as_there() -> None:
    """Line 62: it is in the body, and it orders our own queue."""
    provider = ScriptedProvider(GOOD)
    async with scripted_engine(provider):
        client = client_of(concurrency_limit=1)
        given = [None, 0, -1, 5, 2]
        await gather(*[client.completions.create(model="m", prompt=str(one), priority=one) for one in given])
    sent = [request.body.get("priority") for request in provider.requests]
    assert sent[1:] == sorted(sent[1:], key=lambda one: -(one or 0))
    assert sorted(map(str, sent)) == sorted(map(str, given))


@in_virtual_time
async def test_both_endpoints_share_one_limit() -> None:
    provider = ScriptedProvider(lambda asked: GOOD if "prompt" in asked.body else "hi")
    async with scripted_engine(provider):
        client = client_of(limit_requests=4, interval=10)
        asked = [client.completions.create(**PROMPT) for _ in range(6)]
        await gather(*asked, *[client.chat.completions.create(**CHAT) for _ in range(6)])
    assert provider.fullest(10) == 4
    assert len(provider.requests) == 12


@in_virtual_time
async def test_cancelling_drops_what_is_in_flight_and_what_waits() -> None:
    provider = ScriptedProvider(fault("stall"))
    async with scripted_engine(provider) as engine:
        client = client_of(concurrency_limit=1)
        with trio.move_on_after(5) as scope:
            await gather(*[client.completions.create(**PROMPT) for _ in range(3)])
        assert scope.cancelled_caught
        await engine.wait_quiet()
    assert len(provider.requests) == 1
