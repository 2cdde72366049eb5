"""The response cache by itself, its handlers called as the hook bus would: what it keeps, and what it lets go of.

The bound on calls, the bound on bytes, the age and the order are held against a naive cache that does the same slowly.
"""

from __future__ import annotations

import gc
import math
import tracemalloc
from typing import Any, NamedTuple

import pytest
import trio
from cached_calls import KEY, a_model, in_virtual_time
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.messages import Ended, Fault, Reply, encode
from engine import Call, HookEventTypes, UsageError, iModel
from engine.ready.response_cache import ResponseCache
from engine.testing import run_virtual

MODEL = a_model()
KEY_BYTES = 32
"""What a call's identity adds to the bytes of its answer."""


def a_call(question: object = "hello", model: iModel = MODEL) -> Call:
    """A call as the handlers before it get it: under way, and not queued."""
    call = model.create_api_calling(messages=[{"role": "user", "content": str(question)}])
    call.in_handlers(lambda _: None)
    return call


def mail_of(text: str = "yes", status: Any = "completed", fault: Fault | None = None) -> tuple[bytes, bytes]:
    body = b'{"choices":[{"message":{"role":"assistant","content":"%b"}}]}' % text.encode()
    return encode(Ended(1, status, 1, 0, 0, 0, 0, fault=fault)), encode(Reply(200, body=memoryview(body)))


async def before(cache: ResponseCache, call: Call) -> Call | None:
    found: Call | None = await cache.handlers()[HookEventTypes.PreInvocation](call, exit=False)
    return found


async def after(cache: ResponseCache, call: Call, mail: tuple[bytes, bytes]) -> None:
    call.show(mail)
    assert await cache.handlers()[HookEventTypes.PostInvocation](call, exit=False) is None
    call.put(mail)


async def ask(cache: ResponseCache, question: object, text: str) -> str | None:
    """A call from its beginning to its end; the text that is kept for it, if any."""
    call = a_call(question)
    found = await before(cache, call)
    if found is not None:
        return found.text
    await after(cache, call, mail_of(text))
    return None


class Naive(NamedTuple):
    question: int
    text: str
    size: int
    expires: float


class NaiveCache:
    """A list, the one used last at its end."""

    def __init__(self, max_calls: int, max_bytes: int, ttl_s: float) -> None:
        self.max_calls, self.max_bytes, self.ttl_s = max_calls, max_bytes, ttl_s
        self.kept: list[Naive] = []

    def ask(self, question: int, text: str, now: float) -> str | None:
        self.kept = [one for one in self.kept if one.question != question or one.expires > now]
        for one in self.kept:
            if one.question == question:
                self.kept.remove(one)
                self.kept.append(one)
                return one.text
        size = KEY_BYTES + sum(map(len, mail_of(text)))
        if size <= self.max_bytes and self.max_calls:
            self.kept.append(Naive(question, text, size, now + self.ttl_s))
        while len(self.kept) > self.max_calls or self.bytes > self.max_bytes:
            self.kept.pop(0)
        return None

    @property
    def bytes(self) -> int:
        return sum(one.size for one in self.kept)


@settings(max_examples=200)
@given(
    max_calls=st.integers(0, 4),
    max_bytes=st.integers(0, 2000),
    ttl_s=st.sampled_from([2.0, 7.0, math.inf]),
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 800), st.sampled_from([0, 0, 1, 3])), max_size=40),
)
def test_it_keeps_what_a_naive_cache_keeps(
    max_calls: int, max_bytes: int, ttl_s: float, steps: list[tuple[int, int, int]]
) -> None:
    cache, naive = ResponseCache(max_calls, max_bytes, ttl_s), NaiveCache(max_calls, max_bytes, ttl_s)

    async def main() -> None:
        hits = 0
        for number, (question, length, pause_s) in enumerate(steps):
            await trio.sleep(pause_s)
            text = f"{number}" + "x" * length
            expected = naive.ask(question, text, trio.current_time())
            assert await ask(cache, question, text) == expected
            hits += expected is not None
            found = cache.statistics()
            assert (found.hits, found.misses) == (hits, number + 1 - hits)
            assert (found.calls, found.bytes) == (len(naive.kept), naive.bytes)
            assert found.calls <= max_calls
            assert found.bytes <= max_bytes

    run_virtual(main)


# --- what is never kept ---


@pytest.mark.parametrize("status", ["failed", "cancelled", "skipped", "aborted"])
@in_virtual_time
async def test_only_completed_calls_are_kept(status: str) -> None:
    cache, call = ResponseCache(), a_call()
    assert await before(cache, call) is None
    await after(cache, call, mail_of(status=status, fault=Fault("Rejected", "no")))
    assert await before(cache, a_call()) is None
    assert cache.statistics().calls == 0


@pytest.mark.parametrize("key", [None, "sk-another"])
@in_virtual_time
async def test_an_answer_stays_with_its_key(key: str | None) -> None:
    cache = ResponseCache()
    await ask(cache, "hello", "yes")
    found = await before(cache, a_call("hello", a_model(api_key=key or KEY)))
    assert (found is None) == (key is not None)


@in_virtual_time
async def test_a_call_whose_key_is_gone_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    cache, model = ResponseCache(), a_model(api_key=None)
    leader, follower = a_call(model=model), a_call(model=model)
    assert await before(cache, leader) is None
    stand_in = await before(cache, follower)
    monkeypatch.delenv("OPENAI_API_KEY")
    assert await before(cache, a_call(model=model)) is None
    await after(cache, leader, mail_of())
    assert stand_in is not None
    assert stand_in.text == "yes"
    assert await before(cache, a_call(model=model)) is None
    assert cache.statistics().misses == 1


# --- calls that lead and are not heard of again ---


@in_virtual_time
async def test_a_call_that_is_gone_leads_nobody_and_takes_no_memory() -> None:
    cache = ResponseCache()
    for number in range(100):
        assert await before(cache, a_call(number)) is None
    gc.collect()
    assert repr(cache) == "<ResponseCache: 0 answers, 0 bytes, 0 requests under way>"
    call = a_call(7)
    assert await before(cache, call) is None
    assert await before(cache, a_call(7)) is not None


@pytest.mark.parametrize("how", ["taken back", "cancelled", "skipped"])
@in_virtual_time
async def test_a_call_that_was_let_go_without_its_handlers_lets_its_followers_go(how: str) -> None:
    cache, leader = ResponseCache(), a_call()
    assert await before(cache, leader) is None
    followers = [a_call() for _ in range(3)]
    stand_ins = [await before(cache, follower) for follower in followers]
    assert {stand_in.status for stand_in in stand_ins if stand_in is not None} == {"pending"}
    if how == "taken back":
        leader.in_handlers(None)
    elif how == "cancelled":
        leader.put(mail_of(status="cancelled", fault=Fault("CallCancelled", "no")))
    else:
        leader.skip(UsageError("no"))
    for stand_in in stand_ins:
        assert stand_in is not None
        await stand_in.wait_ended()
        assert stand_in.status == "cancelled", "so the engine asks the handlers of the followers anew"
    assert await before(cache, followers[0]) is None
    again = await before(cache, followers[1])
    assert again is not None
    await after(cache, followers[0], mail_of("later"))
    assert again.text == "later"


@in_virtual_time
async def test_a_call_that_is_submitted_again_goes_on_leading() -> None:
    cache, leader, follower = ResponseCache(), a_call(), a_call()
    assert await before(cache, leader) is None
    stand_in = await before(cache, follower)
    assert await before(cache, leader) is None
    await after(cache, leader, mail_of("yes"))
    assert stand_in is not None
    assert stand_in.text == "yes"


@in_virtual_time
async def test_what_is_held_is_what_is_counted() -> None:
    """The bound is on memory: no call, no request, no decoded answer is held besides the bytes."""
    cache = ResponseCache(max_bytes=4_000_000)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(100):
            await ask(cache, f"{number}" + "q" * 20_000, "x" * 100_000)
            found = await before(cache, a_call(f"{number}" + "q" * 20_000))
            assert found is not None
            assert found.text
        del found
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    counted = cache.statistics()
    assert 3_800_000 < counted.bytes <= 4_000_000
    assert counted.evicted == 100 - counted.calls
    assert held < counted.bytes + 400_000


# --- arguments ---


@pytest.mark.parametrize(
    "arguments",
    [{"max_calls": value} for value in (-1, 1.5, True, "9")]
    + [{"max_bytes": value} for value in (-1, None)]
    + [{"ttl_s": value} for value in (0, -1, math.nan, "9", None)]
    + [{"only": "all"}],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(arguments))):
        ResponseCache(**arguments)
