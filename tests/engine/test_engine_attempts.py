"""What becomes of an attempt: tried again or not, after which wait, and that no nonsense costs a paid-for answer.

The provider here stands in virtual time behind the real OpenAI chat format and the real reading of answers. How each
status is judged is the business of `test_retry`; here it is what the engine makes of it.
"""

from __future__ import annotations

import json

import pytest
import trio
from virtual_provider import MESSAGES, a_model, in_virtual_time, virtual_engine

from engine import (
    ConnectFailed,
    InternalError,
    MalformedReply,
    OutcomeUnknown,
    PenstockError,
    ProviderError,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    Rejected,
    gather,
)
from engine.testing import ProviderReply, Request, Says, ScriptedProvider, chat_reply, error_reply, fault


@in_virtual_time
async def test_a_hint_is_a_barrier_for_the_lane_and_for_no_other() -> None:
    def says(request: Request) -> Says:
        return error_reply(429, retry_after_s=7) if request.call_id == first.id and request.at_s < 2 else "hi"

    provider = ScriptedProvider(says)
    async with virtual_engine(provider) as engine:
        model, other = a_model(), a_model()
        first = model.create_api_calling(messages=MESSAGES)
        await engine.submit(first)
        await trio.sleep(1)
        second = await model.invoke(messages=MESSAGES)
        third = await other.invoke(messages=MESSAGES)
        await first.wait()
    assert [call.status for call in (first, second, third)] == ["completed"] * 3
    assert (first.attempts, second.attempts) == (2, 1)
    # Refused at 1.1, so nothing of that lane before 8.1; the refused call goes ahead of the later one.
    in_lane = [request for request in provider.requests if request.call_id != third.id]
    assert [round(request.at_s, 3) for request in in_lane] == [1, 8.1, 8.1]
    assert [request.call_id for request in in_lane] == [first.id, first.id, second.id]


@in_virtual_time
async def test_another_lane_is_not_held_up_by_a_barrier() -> None:
    provider = ScriptedProvider([error_reply(429, retry_after_s=50), "hi"])
    async with virtual_engine(provider) as engine:
        refused = await engine.submit(a_model().create_api_calling(messages=MESSAGES))
        await trio.sleep(1)
        assert (await a_model().invoke(messages=MESSAGES)).status == "completed"
        assert trio.current_time() < 3
        assert (await refused.wait()).status == "completed"


@pytest.mark.parametrize("status", [500, 502, 503, 529, 408, 409])
@in_virtual_time
async def test_a_failing_provider_is_tried_again_after_a_backoff(status: int) -> None:
    provider = ScriptedProvider([error_reply(status), error_reply(status), "hi"])
    async with virtual_engine(provider):
        call = await a_model().invoke(messages=MESSAGES)
    assert (call.status, call.attempts) == ("completed", 3)
    waits = [later - before - 0.1 for before, later in zip(provider.times, provider.times[1:], strict=False)]
    assert -0.001 <= waits[0] <= 0.501
    assert -0.001 <= waits[1] <= 1.001


@in_virtual_time
async def test_a_retry_is_a_new_reservation() -> None:
    provider = ScriptedProvider([error_reply(503), "hi"])
    async with virtual_engine(provider) as engine:
        call = await a_model(limit_requests=1, interval=10).invoke(messages=MESSAGES)
        assert (call.status, call.attempts) == ("completed", 2)
        assert engine.statistics().scheduler.schedule.reservations_made == 2
    assert provider.times == [1, 11.05]


@in_virtual_time
async def test_there_are_four_attempts() -> None:
    provider = ScriptedProvider(error_reply(503, "out of order"))
    async with virtual_engine(provider):
        call = await a_model().invoke(messages=MESSAGES)
    assert (call.status, call.attempts, len(provider.requests)) == ("failed", 4, 4)
    assert isinstance(call.error, ProviderUnavailable)
    assert (call.error.gave_up, call.error.status) == ("attempts", 503)
    assert "out of order" in call.error.message


@in_virtual_time
async def test_a_lane_has_ten_retries_and_a_fifth_more_for_each_success() -> None:
    provider = ScriptedProvider(["hi"] * 10 + [error_reply(500)])
    async with virtual_engine(provider) as engine:
        model = a_model()
        for _ in range(10):
            await model.invoke(messages=MESSAGES)
        assert engine.statistics().scheduler.schedule.lanes[0].retry_budget == 12
        calls = await gather(*(model.invoke(messages=MESSAGES) for _ in range(20)))
    assert len(provider.requests) == 10 + 20 + 12
    assert {call.error.gave_up for call in calls if call.error} <= {"budget", "attempts"}
    assert "budget" in {call.error.gave_up for call in calls if call.error}


@in_virtual_time
async def test_too_many_requests_cost_no_retry_of_the_budget() -> None:
    provider = ScriptedProvider([error_reply(429, retry_after_s=1)] * 3 + ["hi"])
    async with virtual_engine(provider) as engine:
        call = await a_model().invoke(messages=MESSAGES)
        assert (call.status, call.attempts) == ("completed", 4)
        assert engine.statistics().scheduler.schedule.lanes[0].retry_budget == 10.2


@pytest.mark.parametrize(
    ("said", "kind", "gave_up"),
    [
        (error_reply(400), Rejected, ""),
        (error_reply(401), Rejected, ""),
        (error_reply(404), Rejected, ""),
        (error_reply(429, "pay", code="insufficient_quota"), QuotaExhausted, ""),
        (error_reply(402), QuotaExhausted, ""),
        (error_reply(429, retry_after_s=121), RateLimited, "hint"),
        (fault("cut"), OutcomeUnknown, ""),
    ],
    ids=["400", "401", "404", "quota used up", "402", "a hint too long", "lost"],
)
@in_virtual_time
async def test_what_is_not_tried_again(said: Says, kind: type[PenstockError], gave_up: str) -> None:
    provider = ScriptedProvider(said)
    async with virtual_engine(provider):
        call = await a_model().invoke(messages=MESSAGES)
    assert (call.status, call.attempts, len(provider.requests)) == ("failed", 1, 1)
    assert isinstance(call.error, kind)
    assert call.error.gave_up == gave_up


@in_virtual_time
async def test_a_lost_answer_is_tried_again_only_if_the_caller_says_so() -> None:
    provider = ScriptedProvider([fault("cut"), "hi"])
    async with virtual_engine(provider):
        call = await a_model().invoke(messages=MESSAGES, on_unknown="retry")
    assert (call.status, call.attempts) == ("completed", 2)


@in_virtual_time
async def test_a_timeout_bounds_each_attempt_from_its_grant() -> None:
    provider = ScriptedProvider(fault("stall"))
    async with virtual_engine(provider):
        model = a_model(limit_requests=1, interval=10)
        await model.invoke(messages=MESSAGES, timeout_s=2)
        at = trio.current_time()
        call = await model.invoke(messages=MESSAGES, timeout_s=2)
        assert trio.current_time() - at == pytest.approx(8.05 + 2, abs=1e-3)
    assert isinstance(call.error, OutcomeUnknown)
    assert (call.status, call.error.reason, call.attempts) == ("failed", "timeout", 1)


@in_virtual_time
async def test_a_timeout_is_tried_again_if_the_caller_says_so() -> None:
    provider = ScriptedProvider([fault("stall"), "hi"])
    async with virtual_engine(provider):
        call = await a_model().invoke(messages=MESSAGES, timeout_s=2, on_unknown="retry")
    assert (call.status, call.attempts) == ("completed", 2)


@in_virtual_time
async def test_the_usual_timeout_is_ten_minutes() -> None:
    async with virtual_engine(ScriptedProvider(fault("stall"))):
        call = await a_model().invoke(messages=MESSAGES)
    assert call.timings is not None
    assert call.timings.total_s == pytest.approx(600, abs=1e-3)


@in_virtual_time
async def test_a_provider_nobody_reaches_costs_attempts_and_nothing_else() -> None:
    provider = ScriptedProvider(connect_failures=float("inf"))
    async with virtual_engine(provider) as engine:
        call = await a_model(limit_requests=5).invoke(messages=MESSAGES)
        assert (call.status, call.attempts) == ("failed", 4)
        assert isinstance(call.error, ConnectFailed)
        assert call.error.gave_up == "attempts"
        schedule = engine.statistics().scheduler.schedule
        assert (schedule.reservations_made, schedule.lanes[0].quotas[0].occupied) == (0, 0)


@in_virtual_time
async def test_a_provider_that_comes_back_is_used() -> None:
    async with virtual_engine(ScriptedProvider(connect_failures=2)):
        call = await a_model().invoke(messages=MESSAGES)
    assert call.status == "completed"
    assert call.attempts in (2, 3)  # a connection that fails while nobody waits for it costs no attempt


# --- nonsense ---

NONSENSE = {
    "nothing": b"",
    "a page": b"<html><body>502 Bad Gateway</body></html>",
    "null": b"null",
    "a list": b"[]",
    "a number": b"17",
    "a text": b'"sorry"',
    "an empty object": b"{}",
    "no choices": b'{"choices": null}',
    "choices of the wrong type": b'{"choices": "none", "usage": {"prompt_tokens": 1}}',
    "a choice of the wrong type": b'{"choices": [17]}',
    "cut short": chat_reply().body[:40],
    "not UTF-8": b'{"choices": [{"message": {"content": "\xff\xfe"}}]}',
    "nested too deeply": b"[" * 100_000,
    "a bare error": b'{"error": "overloaded"}',
    "an error of the wrong type": b'{"error": [[]]}',
    "an error without words": b'{"error": {"message": null, "code": {}, "type": 3}}',
    "numbers beyond reason": b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 1e400}}',
}


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("name", NONSENSE)
@in_virtual_time
async def test_nonsense_ends_the_call_and_nothing_else(name: str, status: int) -> None:
    body = NONSENSE[name]

    def says(request: Request) -> Says:
        return ProviderReply(status=status, body=body) if request.body["model"] == "odd" else "hi"

    provider = ScriptedProvider(says)
    async with virtual_engine(provider) as engine:
        odd = await a_model("odd").invoke(messages=MESSAGES)
        assert odd.status in ("completed", "failed")
        if status != 200:
            assert odd.status == "failed"
        if odd.error is not None:
            assert isinstance(odd.error, ProviderError)
            assert not isinstance(odd.error, InternalError)
            assert "\n" not in odd.error.message
        assert bytes(odd.reply.body) == body
        for look in (odd.response, odd.text, odd.view, odd.usage, repr(odd), repr(odd.error)):
            assert look is None or look is not odd
        assert (await a_model("fine").invoke(messages=MESSAGES)).text == "hi"
        assert provider.opened <= 2
        assert not any(endpoint.down for endpoint in engine.statistics().scheduler.schedule.endpoints)


PAID_FOR = {
    "no usage": chat_reply("paid for", input_tokens=None).body,
    "null usage": chat_reply("paid for", usage=None).body,
    "usage of texts": chat_reply("paid for", usage={"prompt_tokens": "3", "completion_tokens": "4"}).body,
    "usage of the wrong type": chat_reply("paid for", usage=[1, 2]).body,
    "negative usage": chat_reply("paid for", usage={"prompt_tokens": -3, "completion_tokens": -4}).body,
    "usage that is not finite": chat_reply("paid for").body.replace(b'"prompt_tokens":10', b'"prompt_tokens":NaN'),
    "a byte-order mark": b"\xef\xbb\xbf" + chat_reply("paid for").body,
    "an empty error beside it": chat_reply("paid for", error=None).body,
    "fields of the wrong type": chat_reply("paid for", id=17, model=[], created="now", object=None).body,
    "half an emoji beside it": chat_reply("paid for", system_fingerprint="?").body.replace(b'"?"', b'"\\ud83d"'),
}


@pytest.mark.parametrize("name", PAID_FOR)
@in_virtual_time
async def test_a_paid_for_answer_is_never_lost(name: str) -> None:
    provider = ScriptedProvider(PAID_FOR[name])
    async with virtual_engine(provider) as engine:
        call = await a_model(limit_tokens=10_000).invoke(messages=MESSAGES)
        assert (call.status, call.text, len(provider.requests)) == ("completed", "paid for", 1)
        occupied = engine.statistics().scheduler.schedule.lanes[0].quotas[0].occupied
        assert occupied >= 7  # what was reserved, or what a readable usage says: never nothing
        assert json.dumps(call.response)


@in_virtual_time
async def test_a_success_that_cannot_be_read_keeps_its_bytes_and_is_not_tried_again() -> None:
    page = NONSENSE["a page"]
    provider = ScriptedProvider(page)
    async with virtual_engine(provider) as engine:
        call = await a_model(limit_requests=5, limit_tokens=1000).invoke(messages=MESSAGES, max_tokens=100)
        assert (call.status, call.attempts, call.response, call.text) == ("failed", 1, None, None)
        assert isinstance(call.error, MalformedReply)
        assert bytes(call.reply.body) == page
        requests, spent = engine.statistics().scheduler.schedule.lanes[0].quotas
        assert requests.occupied == 1
        assert spent.occupied > 100


@in_virtual_time
async def test_a_providers_failure_never_closes_the_door_for_later_calls() -> None:
    """Every status there is, one after another, and then a call that succeeds."""
    for status in (300, 302, 404, 418, 422, 451, 499, 501, 504, 520, 599):
        provider = ScriptedProvider([error_reply(status)] * 4 + ["hi"])
        async with virtual_engine(provider):
            model = a_model()
            failed = await model.invoke(messages=MESSAGES)
            assert isinstance(failed.error, ProviderError)
            assert failed.error.status == status
            while len(provider.requests) < 4:
                await model.invoke(messages=MESSAGES)
            assert (await model.invoke(messages=MESSAGES)).status == "completed"
