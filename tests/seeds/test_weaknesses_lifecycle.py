"""What lionagi's calls and engine are weak at, and that ours are not: counting, errors, leaving, loops, long calls.

Each docstring says what lionagi 0.36 does and what is promised here; the table is docs/weaknesses.md. What must not
happen anywhere in a process, such as a name being looked up, is watched from within a process of its own.
"""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import trio
from weak_spots import Crowd, a_model, an_engine, ask, echo, in_virtual_time

from engine import Call, InvalidCall, MalformedReply, OutcomeUnknown, ShuttingDown, UsageError, iModel, open_engine
from engine.simulator import SimulatorConfig, simulated_provider
from engine.testing import ProviderReply, Request, ScriptedProvider, chat_reply

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "weaknesses.md").read_text(encoding="utf-8")


def test_the_page_names_every_test_of_a_weakness() -> None:
    """The table is in step with the tests: each is named in the row of its weakness."""
    rows = re.findall(r"^\| W(\d+) \|.*$", PAGE, re.MULTILINE)
    assert [int(number) for number in rows] == list(range(1, 18))
    for file in Path(__file__).parent.glob("test_weaknesses_*.py"):
        for number, name in re.findall(r"def test_w(\d\d)_(\w+)\(", file.read_text(encoding="utf-8")):
            (row,) = re.findall(rf"^\| W{int(number)} \|.*$", PAGE, re.MULTILINE)
            assert f"_{name}`" in row


# --- counting tokens ---

WITHOUT_A_NETWORK = """
import os, sys
touched = []
def watch(event, arguments):
    written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if written or event.startswith(("socket.connect", "socket.getaddrinfo", "socket.gethost", "urllib.")):
        touched.append((event, arguments))
        raise OSError("this process has no network and no disk")
sys.dont_write_bytecode = True
sys.addaudithook(watch)

from engine import iModel
from engine.testing import ScriptedProvider, run_virtual, scripted_engine

async def main():
    async with scripted_engine(ScriptedProvider("yes")):
        for name in ("openai/gpt-4o", "groq/llama-3.3-70b-versatile", "gemini/gemini-2.5-flash"):
            model = iModel(model=name, api_key="any", limit_tokens=1000)
            call = await model.invoke(messages=[{"role": "user", "content": "how many tokens?"}], max_tokens=5)
            print(call.status)

run_virtual(main)
print(touched, "tiktoken" in sys.modules)
"""


def in_a_process(program: str) -> list[str]:
    """The lines a program prints."""
    done = subprocess.run(  # noqa: S603  # a program of our own
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_w09_counting_needs_no_network_and_no_disk() -> None:
    """lionagi: tiktoken fetches its encoding when first used; without a network no chat call can be made at all, limits
    or not. Ours: the estimate is arithmetic; a process that may not look up a name, connect or write a file works."""
    assert in_a_process(WITHOUT_A_NETWORK) == ["completed"] * 3 + ["[] False"]


@in_virtual_time
async def test_w09_a_call_is_counted_once_however_long_it_waits() -> None:
    """lionagi: a waiting call is counted anew on every pass over the queue. Ours: once, when it is made."""
    counted: Counter[str] = Counter()

    def count(text: str) -> int:
        counted[text] += 1
        return len(text)

    async with an_engine(ScriptedProvider(echo)):
        model = a_model(limit_requests=1, limit_tokens=10_000, interval=10, count_tokens=count)
        crowd = await Crowd.of(model, [f"prompt {number}" for number in range(30)], max_tokens=5)
        assert crowd.statuses == {"completed"}
    assert counted == {f"prompt {number}": 1 for number in range(30)}


@in_virtual_time
async def test_w09_no_text_counts_as_nothing() -> None:
    """lionagi: a text the tokeniser objects to, such as <|endoftext|>, counts 0 and passes any limit. Ours: what a text
    says has no bearing on what it counts as."""
    async with an_engine(ScriptedProvider(chat_reply("yes", input_tokens=None))) as engine:
        model = a_model(limit_tokens=10_000)
        for text in ("<|endoftext|>" * 100, "x" * 1300):
            await engine.submit(model.create_api_calling(messages=ask(text), max_tokens=1))
        await engine.wait_quiet()
        plain, special = 1300 / 3.6, engine.statistics().scheduler.schedule.lanes[0].quotas[0].occupied
        assert special > 2 * plain


# --- one call's trouble is its own ---


@in_virtual_time
async def test_w10_what_is_wrong_with_one_call_ends_that_call_alone() -> None:
    """lionagi: an error while one call is looked at aborts the pass, and cancels every call the pass had started. Ours:
    arguments that cannot be written, a counter that raises and an answer that cannot be read end the one call."""

    def count(text: str) -> int:
        if text == "uncountable":
            raise RuntimeError("boom")
        return len(text)

    provider = ScriptedProvider(lambda request: b"<html>" if request.prompt == "garbage" else request.prompt, delay_s=5)
    async with an_engine(provider) as engine:
        model = a_model(count_tokens=count, limit_requests=1000)
        good = [await engine.submit(model.create_api_calling(messages=ask(f"{number}"))) for number in range(20)]
        with pytest.raises(InvalidCall, match="boom"):
            await model.invoke(messages=ask("uncountable"))
        with pytest.raises(InvalidCall):
            await model.invoke(messages=object())
        assert isinstance((await model.invoke(messages=ask("garbage"))).error, MalformedReply)
        assert [(await call.wait()).text for call in good] == [f"{number}" for number in range(20)]
        assert {call.timings.total_s for call in good if call.timings} == {5.0}


# --- leaving ---


@in_virtual_time
async def test_w11_nothing_is_kept_of_a_cancelled_call() -> None:
    """lionagi: the call of a cancelled caller stays in the executor's pile. Ours: it ends wherever it is, waiting or
    sent, with its place, its permit and its connection free; the engine holds no reference to it."""

    async def cancelled_calls(model: iModel) -> None:
        with trio.move_on_after(5):
            await Crowd.of(model, ["never"] * 200)

    provider = ScriptedProvider(echo, delay_s=50)
    async with an_engine(provider) as engine:
        model = a_model(concurrency_limit=10)
        await cancelled_calls(model)
        await engine.wait_quiet()
        assert not any(engine.statistics().live.values())
        assert provider.in_flight == 0
        assert len(provider.requests) == 10
        gc.collect()
        assert [one for one in gc.get_objects() if type(one) is Call and one.owner is model] == []


@pytest.mark.parametrize("left_by", ["the end", "an exception", "cancellation", "discarding"])
@in_virtual_time
async def test_w12_no_call_outlives_its_engine_without_an_end(left_by: str) -> None:
    """lionagi: `close` sets a flag; what is in flight is neither awaited nor cancelled, what is queued stays pending
    for ever. Ours: leaving the engine ends every call, and in which way stands on it."""
    provider = ScriptedProvider(echo, delay_s=5)
    calls: list[Call] = []
    with trio.CancelScope() as scope:
        try:
            async with an_engine(provider) as engine:
                model = a_model(limit_requests=2, interval=100)
                calls += [await engine.submit(model.create_api_calling(messages=ask("x"))) for _ in range(5)]
                await trio.sleep(1)
                if left_by == "an exception":
                    raise KeyError("the block's own")  # noqa: TRY301  # it has to leave the engine's block
                if left_by == "cancellation":
                    scope.cancel()
                if left_by == "discarding":
                    await engine.drain(queue="discard")
                    with pytest.raises(ShuttingDown):
                        await model.invoke(messages=ask("late"))
        except KeyError:
            assert left_by == "an exception"
    ended = {"the end": ["completed"] * 5, "discarding": ["completed"] * 2 + ["aborted"] * 3}
    assert [call.status for call in calls] == ended.get(left_by, ["failed"] * 2 + ["aborted"] * 3)
    if left_by in ("an exception", "cancellation"):
        assert all(isinstance(call.error, OutcomeUnknown) for call in calls[:2]), "it had been sent: it may be billed"
    assert (await calls[4].wait()) is calls[4], "whoever waits for one is let go"
    assert (provider.open_now, provider.in_flight) == (0, 0)


# --- loops ---


async def test_w13_it_runs_on_trio_and_cancels_as_trio_does() -> None:
    """lionagi: asyncio only, though it wraps anyio. Ours: on trio, over real sockets, in nurseries of the caller's own
    whose cancellation is trio's; asyncio programs go through a portal."""
    async with simulated_provider(SimulatorConfig()) as provider:
        model = iModel(model="simulated-1", base_url=provider.base_url, provider="simulated", api_key="any")
        async with open_engine() as engine:
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(lambda: model.invoke(messages=ask("hello"), max_tokens=8))
            with trio.CancelScope() as scope:
                scope.cancel()
                await model.invoke(messages=ask("hello"))
            assert scope.cancelled_caught
            assert engine.statistics().scheduler.schedule.ended["completed"] == 20


def test_w13_a_program_that_opens_an_engine_in_asyncio_is_told_what_to_do() -> None:
    """lionagi: as above, the other way round, with whatever error comes first. Ours: a `UsageError` that says so."""

    async def main() -> None:
        async with open_engine():
            pass

    with pytest.raises(UsageError, match="trio"):
        asyncio.run(main())


# --- long calls ---


def as_long_as_it_says(request: Request) -> ProviderReply:
    """Takes as many seconds as the prompt says."""
    return chat_reply(request.prompt, delay_s=float(request.prompt))


@in_virtual_time
async def test_w17_long_calls_and_long_waits_come_back_finished() -> None:
    """lionagi: a call of 12 s is finished if its own caller drives it, and comes back pending after 10 s if another
    does. Ours: a call takes as long as it takes, up to a `timeout_s` you set, and so does the wait before it."""
    async with an_engine(ScriptedProvider(as_long_as_it_says)):
        model = a_model(limit_requests=2, interval=100, timeout_s=20_000)
        crowd = await Crowd.of(model, ["12", "12", "12", "599", "10000"])
        assert crowd.statuses == {"completed"}
        for index, call in enumerate(crowd.calls):
            assert call.timings is not None
            assert call.timings.answering_s == float(call.text or 0), "the answer is the whole one"
            assert crowd.back_s[index] == pytest.approx(call.timings.total_s)
        assert max(crowd.ends) >= 10_000


@in_virtual_time
async def test_w17_a_call_that_is_too_long_is_ended_by_the_bound_you_set() -> None:
    """lionagi: as above. Ours: what ends it is yours to say, and the call says which bound it was."""
    async with an_engine(ScriptedProvider(as_long_as_it_says)):
        model = a_model()
        attempt = await model.invoke(messages=ask("100"), timeout_s=11)
        whole = await model.invoke(messages=ask("100"), deadline_s=13)
        assert [(call.status, type(call.error)) for call in (attempt, whole)] == [("failed", OutcomeUnknown)] * 2
        assert [call.timings.total_s for call in (attempt, whole) if call.timings] == [11.0, 13.0]
