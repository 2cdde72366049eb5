"""A scripted provider: the ways to write a script, what the provider remembers, its limits, its chances."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_calls import a_model, ask, call_over, calls_over

from engine import Quota, Rejected, UsageError, open_engine
from engine.simulator import LognormalLatency, ProviderLimit
from engine.simulator.config import Dimension, LimitKind
from engine.testing import (
    ProviderReply,
    Request,
    Says,
    Script,
    ScriptedProvider,
    chat_reply,
    error_reply,
    fault,
    in_virtual_time,
    scripted_engine,
)


def texts(script: Script, count: int) -> list[str | None]:
    """What so many calls, one after the other, are answered."""
    said: list[str | None] = []
    provider = ScriptedProvider(script)

    async def main() -> None:
        async with scripted_engine(provider):
            model = a_model()
            said.extend([(await model.invoke(messages=ask(number))).text for number in range(count)])

    in_virtual_time(main)()
    return said


# --- scripts ---


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("yes", ["yes", "yes", "yes"]),
        (chat_reply("yes").body, ["yes", "yes", "yes"]),
        (chat_reply("yes"), ["yes", "yes", "yes"]),
        (["one", chat_reply("two").body, chat_reply("three")], ["one", "two", "three"]),
        (("one", "two"), ["one", "two", "two"]),
        (itertools.cycle(["one", "two"]), ["one", "two", "one"]),
        ((str(number) for number in itertools.count()), ["0", "1", "2"]),
        (lambda request: request.prompt * 2, ["00", "11", "22"]),
    ],
    ids=["text", "bytes", "reply", "list", "tuple", "endless", "generator", "function"],
)
def test_the_ways_to_write_a_script(script: Script, said: list[str]) -> None:
    assert texts(script, 3) == said


def test_without_a_script_it_says_hi() -> None:
    assert call_over(ScriptedProvider()).text == "hi"


def test_another_script_holds_from_the_next_request_on() -> None:
    provider = ScriptedProvider(["one", "two"])

    def switch(request: Request) -> Says:
        provider.follow(["four", "five"])
        return "three"

    async def main() -> None:
        async with scripted_engine(provider):
            model = a_model()
            said = [(await model.invoke(messages=ask(1))).text]
            provider.follow(switch)
            said += [(await model.invoke(messages=ask(number))).text for number in range(3)]
        assert said == ["one", "three", "four", "five"]

    in_virtual_time(main)()


class Mistaken(Exception):
    """A mistake in a test's own script."""


@pytest.mark.parametrize("delay_s", [-1, float("nan"), True, "1", None])
@pytest.mark.parametrize("name", ["connect_s", "delay_s"])
def test_a_delay_that_is_none_is_refused(name: str, delay_s: Any) -> None:
    """When the provider is made; `connect_s` also when it is set later, and then the one before it stays."""
    with pytest.raises(UsageError, match="connect_s" if name == "connect_s" else "latency"):
        ScriptedProvider(**{name: delay_s})
    provider = ScriptedProvider(connect_s=2)
    if name == "connect_s":
        with pytest.raises(UsageError, match="connect_s"):
            provider.connect_s = delay_s
    assert provider.connect_s == 2
    provider.connect_s = float("inf")
    assert provider.connect_s == float("inf")


def raises(request: Request) -> Says:
    raise Mistaken(request.prompt)


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        (raises, Mistaken, r"\?"),
        (lambda _: 17, UsageError, "not 17"),
        ([None], UsageError, "empty"),
        ([], UsageError, "empty"),
    ],
    ids=["raises", "no reply", "None", "empty"],
)
def test_a_mistake_in_the_script_is_the_tests_own_error(script: Any, kind: type[Exception], words: str) -> None:
    """Raised when the engine is left, whatever became of the calls and of the test meanwhile."""
    provider = ScriptedProvider(script)
    with pytest.raises(kind, match=words) as caught:
        call_over(provider)
    assert caught.value is provider.failure


def test_the_first_mistake_is_the_one_that_is_told_and_its_call_ends() -> None:
    async def main() -> None:
        async with scripted_engine(ScriptedProvider(raises)):
            model = a_model()
            for word in ("first", "second"):
                call = await model.invoke(messages=ask(word))
                assert (call.status, call.attempts) == ("failed", 1)
                assert f"Mistaken('{word}')" in str(call.error)
            raise AssertionError("what the test makes of it")

    with pytest.raises(Mistaken, match="first") as caught:
        in_virtual_time(main)()
    assert isinstance(caught.value.__context__, AssertionError)


# --- memory ---


@in_virtual_time
async def test_what_is_known_of_a_request() -> None:
    asked: list[Request] = []

    def script(request: Request) -> Says:
        asked.append(request)
        return error_reply(429, retry_after_s=5) if request.attempt == 1 else chat_reply(write_s=1, delay_s=2)

    provider = ScriptedProvider(script)
    async with scripted_engine(provider):
        call = await a_model().invoke(messages=ask("why?"), temperature=0.5, flow="a", priority=3)
    first, second = provider.requests
    assert (first.call_id, first.attempt, first.status, first.at_s) == (call.id, 1, 429, 0.0)
    assert (second.call_id, second.attempt, second.status) == (call.id, 2, 200)
    assert provider.times == [0.0, 6.1]
    assert second.body == {"model": "m-1", "messages": ask("why?"), "temperature": 0.5}
    assert (second.prompt, second.flow, second.priority, second.connection) == ("why?", "a", 3, 1)
    assert second.account.spec.provider == "openai"
    # A function is asked before the request is written, and told that instant.
    assert [round(request.at_s, 3) for request in asked] == [0.0, 5.1]
    assert [request.status for request in asked] == [0, 0]


@pytest.mark.parametrize(
    "messages", [[{"role": "user", "content": [{"type": "text", "text": "x"}]}], [{"role": "assistant"}]]
)
def test_a_prompt_that_is_not_one_text_is_empty(messages: list[dict[str, Any]]) -> None:
    provider = ScriptedProvider(lambda request: f"<{request.prompt}>")

    async def main() -> None:
        async with scripted_engine(provider):
            assert (await a_model().invoke(messages=messages)).text == "<>"

    in_virtual_time(main)()


@in_virtual_time
async def test_connections_and_what_is_in_flight_are_counted() -> None:
    provider = ScriptedProvider(chat_reply(delay_s=10), connect_s=1)
    async with scripted_engine(provider) as engine:
        model = a_model(concurrency_limit=3)
        for _ in range(7):
            await engine.submit(model.create_api_calling(messages=ask("?")))
        await trio.sleep(0.5)
        assert (provider.connects, provider.opened, provider.open_now) == (3, 0, 0)
        await trio.sleep(1)
        assert (provider.opened, provider.open_now, provider.in_flight) == (3, 3, 3)
        assert repr(provider) == "<ScriptedProvider: 3 requests, 3 in flight (most 3), 3 connections open>"
        await engine.wait_quiet()
        assert (provider.in_flight, provider.most_in_flight, provider.open_now) == (0, 3, 3)
    assert (provider.opened, provider.open_now) == (3, 0)


@in_virtual_time
async def test_each_account_has_its_transport_and_one_provider_behind_them() -> None:
    provider = ScriptedProvider(lambda request: request.account.spec.provider)
    async with scripted_engine(provider):
        models = [a_model(), a_model(model="groq/m-1"), a_model(model="openai/m-2")]
        assert [(await model.invoke(messages=ask("?"))).text for model in models] == ["openai", "groq", "openai"]
    assert [account.spec.provider for account in provider.accounts] == ["openai", "groq"]


@in_virtual_time
async def test_it_can_be_given_to_open_engine_itself() -> None:
    provider = ScriptedProvider("yes")
    async with open_engine(transport=provider):
        assert (await a_model().invoke(messages=ask("?"))).text == "yes"
    assert provider.open_now == 0


@in_virtual_time
async def test_it_serves_one_engine_after_another() -> None:
    provider = ScriptedProvider(["one", "two"])
    model = a_model()
    for said in ("one", "two"):
        async with scripted_engine(provider):
            assert (await model.invoke(messages=ask("?"))).text == said
    assert provider.opened == 2


@given(st.lists(st.integers(0, 4_000), max_size=30), st.integers(1, 2_000))
def test_the_fullest_window_is_counted_exactly(gaps_ms: list[int], period_ms: int) -> None:
    """Of any window of that length, closed at one end: as somebody would count who looks at each."""
    provider = ScriptedProvider()
    instants = list(itertools.accumulate(gaps_ms))
    one = Request(0, 1, 1, {}, None, 1, "", 0, 0.0)  # type: ignore[arg-type]
    provider.requests = [one._replace(at_s=ms / 1_000 + 1e-7) for ms in instants]
    most = max((sum(start <= ms < start + period_ms for ms in instants) for start in instants), default=0)
    assert provider.fullest(period_ms / 1_000) == most


# --- limits ---


def test_a_limit_refuses_what_is_over_it_and_says_how_long_to_wait() -> None:
    """The engine knows of no limit here, and finds its way by what it is told."""
    provider = ScriptedProvider("ok", limits=[ProviderLimit("requests", 3, 10.0)])
    calls = calls_over(provider, 8)
    assert {call.status for call in calls} == {"completed"}
    accepted = [request for request in provider.requests if request.status == 200]
    assert provider.refused == len(provider.requests) - len(accepted) > 0
    assert [round(request.at_s, 1) for request in accepted] == [0, 0, 0, 10.1, 10.1, 10.1, 20.2, 20.2]
    provider.requests = accepted
    assert provider.fullest(10.0) == 3


KINDS = st.sampled_from(["sliding_window", "fixed_window", "token_bucket"])


@settings(deadline=None, max_examples=30)
@given(KINDS, st.integers(1, 10), st.integers(1, 25))
def test_who_keeps_to_a_limit_is_never_refused(kind: LimitKind, limit: int, count: int) -> None:
    """The engine spends its own sliding window of the same numbers, to the microsecond, and without a guard."""
    provider = ScriptedProvider(limits=[ProviderLimit("requests", limit, 1.0, kind)], delay_s=LognormalLatency(0.3))
    calls = calls_over(provider, count, quotas=[Quota("requests", limit, 1.0, guard_s=0)])
    assert (len(calls), provider.refused) == (count, 0)
    assert provider.fullest(1.0) == min(limit, count)


@pytest.mark.parametrize(
    ("dimension", "limit", "admitted"),
    [("input_tokens", 30, 3), ("output_tokens", 30, 6), ("total_tokens", 30, 2), ("requests", 4, 4)],
)
def test_tokens_are_charged_as_the_reply_reports_them(dimension: Dimension, limit: int, admitted: int) -> None:
    reply = chat_reply(input_tokens=10, output_tokens=5)
    provider = ScriptedProvider(reply, limits=[ProviderLimit(dimension, limit, 3_600.0)])
    calls = calls_over(provider, 10)
    # An hour is longer than the engine will be told to wait: who is refused fails.
    assert [call.status for call in calls].count("completed") == admitted
    assert provider.refused == 10 - admitted


def test_what_the_script_refuses_itself_is_charged_nothing() -> None:
    def script(request: Request) -> Says:
        return error_reply(400) if int(request.prompt) % 2 else "ok"

    provider = ScriptedProvider(script, limits=[ProviderLimit("requests", 5, 3_600.0)])
    calls = calls_over(provider, 10)
    assert [call.status for call in calls].count("completed") == 5
    assert provider.refused == 0


@pytest.mark.parametrize("reply", [error_reply(500), fault("cut"), fault("cut_reading")])
def test_what_fails_after_it_has_arrived_is_charged(reply: ProviderReply) -> None:
    provider = ScriptedProvider([reply, "ok"], limits=[ProviderLimit("requests", 1, 3_600.0)])
    call = call_over(provider, on_unknown="retry")
    assert (call.status, call.attempts, provider.refused) == ("failed", 2, 1)
    assert provider.requests[-1].status == 429


@pytest.mark.parametrize("reply", [fault("closed"), fault("cut_writing")])
def test_what_has_not_arrived_is_not_charged(reply: ProviderReply) -> None:
    provider = ScriptedProvider([reply, "ok"], limits=[ProviderLimit("requests", 1, 3_600.0)])
    assert call_over(provider, on_unknown="retry").status == "completed"


def test_what_can_never_fit_is_refused_for_good_and_at_once() -> None:
    """However slow the answer would have been, and whatever would have broken."""
    provider = ScriptedProvider(chat_reply(input_tokens=50, delay_s=30), limits=[ProviderLimit("input_tokens", 40)])
    call = call_over(provider)
    assert isinstance(call.error, Rejected)
    assert "too large" in call.error.message
    assert call.attempts == 1
    assert call.timings is not None
    assert call.timings.total_s == pytest.approx(0.1, abs=1e-4)


# --- chance ---


def chances(seed: int, count: int = 40) -> list[tuple[str, int, float]]:
    """Prompt, attempt and chance of every request of a run in which a third of the attempts fail."""
    provider = ScriptedProvider(lambda request: error_reply(500) if request.chance < 1 / 3 else "ok", seed=seed)
    calls_over(provider, count)
    return [(request.prompt, request.attempt, request.chance) for request in provider.requests]


def test_the_same_seed_gives_the_same_chances_to_the_same_calls() -> None:
    assert chances(1) == chances(1)
    assert chances(1) != chances(2)


def test_chances_are_fractions_and_differ_between_calls_and_attempts() -> None:
    drawn = [chance for *_, chance in chances(3, 200)]
    assert len(drawn) > 220
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= chance < 1 for chance in drawn)
    assert 0.4 < sum(drawn) / len(drawn) < 0.6


def test_a_delay_is_drawn_from_its_distribution_unless_the_reply_names_one() -> None:
    def script(request: Request) -> Says:
        return chat_reply(delay_s=7) if request.prompt == "0" else "ok"

    def took(seed: int) -> list[float]:
        calls = calls_over(ScriptedProvider(script, delay_s=LognormalLatency(0.3), seed=seed), 50)
        return [call.timings.total_s for call in calls if call.timings is not None]

    first, *others = took(5)
    assert first == pytest.approx(7, abs=1e-3)
    assert len(set(others)) == 49
    assert 0.2 < sorted(others)[24] < 0.4
    assert took(5) == [first, *others]
    assert took(6) != [first, *others]


def test_a_delay_does_not_tell_of_the_chance() -> None:
    """Otherwise faults by chance would strike the quick answers, or the slow ones."""
    provider = ScriptedProvider("ok", delay_s=LognormalLatency(0.3))
    calls = calls_over(provider, 50)
    chance = {request.call_id: request.chance for request in provider.requests}
    took = {call.id: call.timings.total_s for call in calls if call.timings is not None}
    assert sorted(chance, key=chance.__getitem__) != sorted(took, key=took.__getitem__)
