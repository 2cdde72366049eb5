"""Every way in which a script can let a request go wrong: what becomes of the call, what it costs, who has seen it.

One row is one way. `scripted_engine` checks in each that no gauge and no connection is left.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import trio
from scripted_calls import a_model, ask

from engine import (
    Call,
    ConnectFailed,
    MalformedReply,
    OutcomeUnknown,
    PenstockError,
    ProviderUnavailable,
    Quota,
    RateLimited,
    Rejected,
)
from engine.testing import (
    FAULTS,
    FaultName,
    ProviderReply,
    ScriptedProvider,
    chat_reply,
    error_reply,
    fault,
    in_virtual_time,
    scripted_engine,
)

ENCODED = a_model().format.encode({"model": "m-1", "messages": ask("?"), "max_tokens": 1})
HELD = ENCODED.input_tokens + (ENCODED.output_cap or 0)
"""The tokens an attempt reserves, and keeps where the provider does not say what it used."""

USED = 15
"""The tokens a chat reply says it used."""


class Row(NamedTuple):
    """A provider, and what must come of one call over it.

    `error` None: it completes. `seen`: the statuses of the requests that arrived whole. `requests` and `tokens`: what
    the call's own limits hold in the end. `took_s` None: the call backed off, for a while that chance decides.
    """

    provider: dict[str, Any]
    error: type[PenstockError] | None
    attempts: int
    seen: list[int]
    requests: int
    tokens: int
    took_s: float | None = None


OUT = math.inf

TABLE = {
    "nothing": Row({}, None, 1, [200], 1, USED, 0.1),
    "refused": Row({"script": error_reply(400, delay_s=3)}, Rejected, 1, [400], 1, 0, 3),
    "429": Row({"script": [error_reply(429, retry_after_s=2), "hi"]}, None, 2, [429, 200], 2, USED, 0.1 + 2 + 0.1),
    "429, at once": Row({"script": [error_reply(429, retry_after_s=0), "hi"]}, None, 2, [429, 200], 2, USED),
    "429, no hint": Row({"script": [error_reply(429), "hi"]}, None, 2, [429, 200], 2, USED, 0.1 + 1 + 0.1),
    "429, too long": Row({"script": error_reply(429, retry_after_s=500)}, RateLimited, 1, [429], 1, 0, 0.1),
    "500": Row({"script": [error_reply(500), "hi"]}, None, 2, [500, 200], 2, HELD + USED),
    "503 for ever": Row({"script": error_reply(503)}, ProviderUnavailable, 4, [503] * 4, 4, 4 * HELD),
    "503, then asked to wait": Row(
        {"script": [error_reply(503, retry_after_s=4.5), "hi"]}, None, 2, [503, 200], 2, HELD + USED, 0.1 + 4.5 + 0.1
    ),
    "no answer in it": Row({"script": b"<html>"}, MalformedReply, 1, [200], 1, HELD, 0.1),
    "no usage": Row({"script": chat_reply(input_tokens=None)}, None, 1, [200], 1, HELD, 0.1),
    "closed": Row({"script": [fault("closed"), "hi"]}, None, 2, [200], 1, USED),
    "cut_writing": Row({"script": fault("cut_writing", write_s=2)}, OutcomeUnknown, 1, [], 1, HELD, 2),
    "cut": Row({"script": fault("cut", delay_s=7)}, OutcomeUnknown, 1, [0], 1, HELD, 7),
    "cut_reading": Row({"script": fault("cut_reading", delay_s=7)}, OutcomeUnknown, 1, [200], 1, HELD, 7),
    "cut_reading a 503": Row({"script": [fault("cut_reading", status=503), "hi"]}, None, 2, [503, 200], 2, HELD + USED),
    "cut_reading a 400": Row({"script": fault("cut_reading", status=400)}, Rejected, 1, [400], 1, 0, 0.1),
    "stall": Row({"script": fault("stall", delay_s=1)}, OutcomeUnknown, 1, [0], 1, HELD, 60),
    "nobody there at first": Row({"connect_failures": 1}, None, 2, [200], 1, USED),
    "nobody there": Row({"connect_failures": OUT}, ConnectFailed, 4, [], 0, 0),
    "no connection in time": Row({"connect_s": OUT}, ConnectFailed, 4, [], 0, 0, 4 * 10),
    "a slow connection": Row({"connect_s": 2}, None, 1, [200], 1, USED, 2 + 0.1),
    "slow writing": Row({"script": chat_reply(write_s=3, delay_s=4)}, None, 1, [200], 1, USED, 3 + 4),
    "begun too late": Row({"script": [chat_reply(begin_s=6), "hi"]}, None, 1, [200], 1, USED, 6 + 0.1),
}


def test_the_table_has_every_fault() -> None:
    assert set(FAULTS) <= set(TABLE)


@pytest.mark.parametrize("name", TABLE)
@in_virtual_time
async def test_what_becomes_of_a_call(name: str) -> None:
    row = TABLE[name]
    provider = ScriptedProvider(**row.provider)
    async with scripted_engine(provider) as engine:
        call = await a_model(limit_requests=100, limit_tokens=1_000).invoke(
            messages=ask("?"), max_tokens=1, timeout_s=60
        )
        took_s = trio.current_time()
        requests, tokens = engine.statistics().scheduler.schedule.lanes[0].quotas
    assert type(call.error) is (row.error or type(None))
    assert (call.status, call.attempts) == ("failed" if row.error else "completed", row.attempts)
    assert [request.status for request in provider.requests] == row.seen
    assert (requests.occupied, tokens.occupied) == (row.requests, row.tokens)
    if row.took_s is not None:
        assert took_s == pytest.approx(row.took_s, abs=1e-4)


@pytest.mark.parametrize("name", ["cut_writing", "cut", "cut_reading", "stall"])
@in_virtual_time
async def test_what_was_never_answered_is_tried_again_if_the_caller_says_so(name: FaultName) -> None:
    """Over another connection: the one that broke is of no use."""
    provider = ScriptedProvider([fault(name), "hi"])
    async with scripted_engine(provider):
        call = await a_model().invoke(messages=ask("?"), timeout_s=5, on_unknown="retry")
    assert (call.text, call.attempts) == ("hi", 2)
    assert (provider.requests[-1].connection, provider.requests[-1].attempt) == (2, 2)


@in_virtual_time
async def test_a_refusal_leaves_the_connection_good() -> None:
    provider = ScriptedProvider([error_reply(400), error_reply(503), "hi"])
    async with scripted_engine(provider):
        model = a_model()
        assert [(await model.invoke(messages=ask("?"))).status for _ in range(2)] == ["failed", "completed"]
    assert (provider.opened, [request.connection for request in provider.requests]) == (1, [1, 1, 1])


@pytest.mark.parametrize("reply", [fault("cut_reading", status=400), fault("cut"), fault("cut_reading")])
@in_virtual_time
async def test_a_connection_that_broke_is_not_used_again(reply: ProviderReply) -> None:
    provider = ScriptedProvider([reply, "hi"])
    async with scripted_engine(provider):
        model = a_model()
        assert [(await model.invoke(messages=ask("?"))).status for _ in range(2)] == ["failed", "completed"]
    assert [request.connection for request in provider.requests] == [1, 2]


@in_virtual_time
async def test_of_an_answer_that_is_cut_only_the_status_comes() -> None:
    reply = error_reply(400, "too warm")
    cut = ProviderReply(status=400, body=reply.body, fault="cut_reading")
    async with scripted_engine(ScriptedProvider([reply, cut])):
        model = a_model()
        whole, half = [str((await model.invoke(messages=ask("?"))).error) for _ in range(2)]
    assert "400" in whole
    assert "400" in half
    assert ("too warm" in whole, "too warm" in half) == (True, False)


@in_virtual_time
async def test_a_request_counts_from_when_it_had_left() -> None:
    """For the engine's limits, as for the provider."""
    provider = ScriptedProvider([chat_reply(begin_s=1, write_s=3), "hi"])
    async with scripted_engine(provider):
        model = a_model(quotas=[Quota("requests", 1, 10.0, guard_s=0)])
        first, second = [await model.invoke(messages=ask("?")) for _ in range(2)]
    assert provider.times == [4.0, 14.0]
    assert second.status == "completed"
    assert first.timings is not None
    assert first.timings.sending_s == pytest.approx(4, abs=1e-4)
    assert first.timings.answering_s == pytest.approx(0.1, abs=1e-4)


@in_virtual_time
async def test_a_connection_may_be_closed_twice() -> None:
    provider = ScriptedProvider()
    transport = provider(a_model().account(), lambda calling, usage: None)
    first, second = [await transport.connect() for _ in range(2)]
    assert (first.usable(), provider.open_now) == (True, 2)
    await first.aclose()
    await first.aclose()
    assert (first.usable(), second.usable(), provider.open_now) == (False, True, 1)


@pytest.mark.parametrize("at_s", [0.5, 1.5, 2.5, 3.5], ids=["connecting", "before writing", "writing", "waiting"])
@in_virtual_time
async def test_a_call_can_be_cancelled_in_every_phase(at_s: float) -> None:
    """And nothing of it is left at the provider. What it had seen of the request, it remembers."""
    provider = ScriptedProvider(chat_reply(begin_s=1, write_s=1, delay_s=1), connect_s=1)
    calls: list[Call] = []
    async with scripted_engine(provider) as engine, trio.open_nursery() as nursery:
        calls.append(a_model().create_api_calling(messages=ask("?")))
        nursery.start_soon(engine.invoke, calls[0])
        await trio.sleep(at_s)
        assert provider.in_flight == (at_s > 3)
        calls[0].cancel()
        await engine.wait_quiet()
        assert trio.current_time() == at_s
        assert provider.in_flight == 0
    assert calls[0].status == "cancelled"
    assert len(provider.requests) == (at_s > 3)


@in_virtual_time
async def test_a_provider_can_go_away_and_come_back() -> None:
    provider = ScriptedProvider([fault("cut"), "hi"])
    async with scripted_engine(provider):
        model = a_model()
        assert isinstance((await model.invoke(messages=ask("?"))).error, OutcomeUnknown)
        provider.connect_failures = OUT
        # The next connection may have been opened before; what comes after it is not.
        provider.follow(fault("cut"))
        await model.invoke(messages=ask("?"))
        assert isinstance((await model.invoke(messages=ask("?"))).error, ConnectFailed)
        provider.connect_failures = 0
        provider.follow("again")
        assert (await model.invoke(messages=ask("?"))).text == "again"
