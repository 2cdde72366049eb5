"""What can be seen of an engine while it works: its statistics, and the events observers are told.

Over a provider in virtual time. The order of a call's events is a property, over scripts of replies and refusals.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import trio
import trio.testing
from event_order import FOLLOWS, check_lawful
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_provider import MESSAGES, a_model, in_virtual_time, virtual_engine

from actors.messages import EventName
from engine import Call, Engine, HookEvent, HookRegistry, NotAdmitted, Observer, UsageError
from engine.testing import ProviderReply, Script, ScriptedProvider, chat_reply, error_reply, fault

# --- statistics ---


@in_virtual_time
async def test_statistics_are_a_frozen_copy() -> None:
    async with virtual_engine(ScriptedProvider(chat_reply(delay_s=5))) as engine:
        model = a_model(limit_requests=2, lane="work")
        for _ in range(3):
            await engine.submit(model.create_api_calling(messages=MESSAGES))
        await trio.sleep(1)
        before = engine.statistics()
        assert before.live["queued"] == 1
        assert before.live["in_flight"] == before.live["permits_held"] == before.live["busy_connections"] == 2
        assert before.live["live_reservations"] == 2
        with pytest.raises(AttributeError):
            before.live_calls = 3  # type: ignore[attr-defined]  # that is what is tested
        with pytest.raises(AttributeError):
            before.scheduler.schedule.queued = 3  # type: ignore[misc]  # that is what is tested
        lane = before.scheduler.schedule.lanes[0]
        assert (lane.name, lane.queued, lane.quotas[0].occupied) == ("work", 1, 2)
        await engine.wait_quiet()
        assert before.live["queued"] == 1
        after = engine.statistics().scheduler.schedule
        assert after.ended == {"completed": 3, "failed": 0, "cancelled": 0, "skipped": 0, "aborted": 0}
        assert after.reservations_made == after.reservations_settled == 3
        msgspec.json.encode(engine.statistics())


# --- what is told ---


async def _told(engine: Engine, observer: Observer) -> list[HookEvent]:
    """Everything the observer was told until the engine was quiet. Ends the subscription."""
    await engine.wait_quiet()
    await trio.testing.wait_all_tasks_blocked()
    observer.close()
    return [event async for event in observer]


async def _events(script: Script, *, connect_failures: int = 0, **arguments: Any) -> list[HookEvent]:
    """The events of one call."""
    async with virtual_engine(ScriptedProvider(script, connect_failures=connect_failures)) as engine:
        observer = engine.observe()
        await a_model(**arguments).invoke(messages=MESSAGES)
        return await _told(engine, observer)


@in_virtual_time
async def test_an_observer_sees_the_events_of_a_call_in_order() -> None:
    events = await _events([error_reply(429, retry_after_s=2), "hi"])
    assert [(event.name, event.attempt, event.detail) for event in events] == [
        ("queued", 0, ""),
        ("granted", 1, ""),
        ("sent", 1, ""),
        ("barrier", 0, ""),
        ("retrying", 1, "RateLimited"),
        ("queued", 1, ""),
        ("granted", 2, ""),
        ("sent", 2, ""),
        ("ended", 2, "completed"),
    ]
    assert len({event.call_id for event in events if event.name != "barrier"}) == 1
    assert [round(event.at_us / 1e6, 3) for event in events] == [1.0] * 3 + [1.1] * 2 + [3.1] * 3 + [3.2]


@pytest.mark.parametrize(
    ("script", "arguments", "names"),
    [
        ("hi", {}, "queued granted sent ended:completed"),
        (error_reply(400), {}, "queued granted sent ended:failed"),
        (
            [error_reply(503), "hi"],
            {},
            "queued granted sent retrying:ProviderUnavailable queued granted sent ended:completed",
        ),
        (fault("cut_writing"), {}, "queued granted ended:failed"),
        (fault("cut"), {}, "queued granted sent ended:failed"),
        (
            [fault("cut"), "hi"],
            {"on_unknown": "retry"},
            "queued granted sent retrying:OutcomeUnknown queued granted sent ended:completed",
        ),
        (
            "hi",
            {"connect_failures": 1},
            "queued retrying:ConnectFailed queued granted sent ended:completed",
        ),
        (
            [chat_reply(begin_s=6), "hi"],
            {},
            "queued granted unsent queued granted sent ended:completed",
        ),
        (
            [fault("closed"), "hi"],
            {},
            "queued granted unsent queued retrying:ConnectFailed queued granted sent ended:completed",
        ),
    ],
)  # fmt: skip
@in_virtual_time
async def test_what_becomes_of_an_attempt_is_told(script: Script, arguments: dict[str, Any], names: str) -> None:
    events = await _events(script, **arguments)
    assert " ".join(f"{event.name}:{event.detail}".rstrip(":") for event in events) == names
    check_lawful(events)
    assert {(event.lane, event.endpoint) for event in events} == {(1, 1)}


@in_virtual_time
async def test_every_kind_of_event_is_told() -> None:
    """One engine whose provider refuses, is late, breaks and answers; with handlers before and after."""
    replies = [error_reply(429, retry_after_s=1), chat_reply(begin_s=6), fault("cut"), chat_reply()]
    provider = ScriptedProvider(replies, connect_failures=1)

    async def passes(event: Call, **kw: object) -> None: ...

    hooks = HookRegistry({"pre_invoke": passes, "post_invoke": passes})
    async with virtual_engine(provider) as engine:
        observer = engine.observe()
        await a_model(hook_registry=hooks, on_unknown="retry").invoke(messages=MESSAGES)
        events = await _told(engine, observer)
    names = {name for name in FOLLOWS if name not in ("", "after")} | {"barrier"}
    assert {event.name for event in events} == names
    assert [event.detail for event in events if event.name == "handling"] == ["before", "after"]
    check_lawful(events)


@in_virtual_time
async def test_numbers_have_their_names_in_the_statistics() -> None:
    """A live view shows lanes and providers by name; the events it is told carry numbers."""
    async with virtual_engine(ScriptedProvider(error_reply(429, retry_after_s=1))) as engine:
        observer = engine.observe()
        models = [a_model(lane="one"), a_model("groq/llama-3.3-70b-versatile", lane="two"), a_model("m", lane="two")]
        calls = [model.create_api_calling(messages=MESSAGES) for model in models]
        for call in calls:
            await engine.invoke(call)
        events = await _told(engine, observer)
        schedule = engine.statistics().scheduler.schedule
        lanes = {lane.number: lane.name for lane in schedule.lanes}
        endpoints = {endpoint.number: endpoint.name for endpoint in schedule.endpoints}
    for call in calls:
        of_it = [event for event in events if event.call_id == call.id]
        assert {lanes[event.lane] for event in of_it} == {call.owner.lane_name}
        assert {endpoints[event.endpoint] for event in of_it} == {call.owner.endpoint_name}
    assert {lanes[event.lane] for event in events if event.name == "barrier"} == {"one", "two"}
    assert 0 not in lanes
    assert 0 not in endpoints


WATCHING = (
    (Path(__file__).parents[2] / "docs" / "usage.md")
    .read_text(encoding="utf-8")
    .partition("## Watching")[2]
    .partition("\n## ")[0]
)


@in_virtual_time
async def test_what_the_page_shows_runs_and_its_table_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    page: dict[str, Any] = {}
    exec(WATCHING.partition("```python\n")[2].partition("```")[0], page)  # noqa: S102  # the page's own example
    async with trio.open_nursery() as nursery, virtual_engine(ScriptedProvider()) as engine:
        nursery.start_soon(page["watch"], engine)
        await trio.testing.wait_all_tasks_blocked()
        call = await a_model(lane="work").invoke(messages=MESSAGES)
    told = [f"1.000 work {call.id} {name} " for name in ("queued", "granted", "sent")]
    assert capsys.readouterr().out.splitlines() == [*told, f"1.100 work {call.id} ended completed"]
    assert set(re.findall(r"^\| `(\w+)` \|", WATCHING, re.MULTILINE)) == set(get_args(EventName))


# --- observers ---


@in_virtual_time
async def test_what_an_observer_misses_is_counted() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        async with engine.observe(buffer=2) as slow, engine.observe() as quick:
            await a_model().invoke(messages=MESSAGES)
            await trio.testing.wait_all_tasks_blocked()
            assert slow.statistics().told == 2
            assert slow.statistics().dropped == quick.statistics().told - 2 > 0
            assert (await anext(slow)).name == "queued"
        assert engine.statistics().hook_bus.observers == ()
        await a_model().invoke(messages=MESSAGES)
        assert slow.statistics().told == 2


@in_virtual_time
async def test_a_slow_observer_misses_events_and_holds_up_neither_calls_nor_other_observers() -> None:
    """It is told of 1000 calls of a tenth of a second, 10 at a time, and takes a second over each event."""
    read: list[HookEvent] = []
    async with virtual_engine(ScriptedProvider(delay_s=0.1)) as engine:
        slow, quick = engine.observe(buffer=5), engine.observe(buffer=10_000)

        async def look() -> None:
            async for event in slow:
                read.append(event)
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            model = a_model(concurrency_limit=10)
            async with engine.map(model.create_api_calling(messages=MESSAGES) for _ in range(1000)) as calls:
                assert [call.status async for call in calls] == ["completed"] * 1000
            assert trio.current_time() == pytest.approx(1.0 + 10.0)
            events = await _told(engine, quick)
            counts = slow.statistics()
            slow.close()
        assert len(check_lawful(events)) == 1000
        assert Counter(event.name for event in events) == dict.fromkeys(("queued", "granted", "sent", "ended"), 1000)
        assert (counts.told + counts.dropped, quick.dropped) == (4000, 0)
        assert len(read) == counts.told < 30
        assert read == [event for event in events if event in read], "what it was told is in order"


@in_virtual_time
async def test_observers_come_and_go_and_each_is_told_what_happens_while_it_is_there() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        model = a_model()
        first = engine.observe()
        one = await model.invoke(messages=MESSAGES)
        await trio.testing.wait_all_tasks_blocked()  # its end may be told a moment after its caller is
        async with engine.observe() as second:
            two = await model.invoke(messages=MESSAGES)
            await trio.testing.wait_all_tasks_blocked()
        three = await model.invoke(messages=MESSAGES)
        events = await _told(engine, first)
        assert check_lawful(events).keys() == {one.id, two.id, three.id}
        assert [event async for event in second] == [event for event in events if event.call_id == two.id]
        second.close()
        assert engine.statistics().hook_bus.observers == ()
        again = engine.observe()
        four = await model.invoke(messages=MESSAGES)
        assert check_lawful(await _told(engine, again)).keys() == {four.id}


class Boom(Exception):
    pass


@pytest.mark.parametrize("how", ["raises", "is cancelled", "is dropped"])
@in_virtual_time
async def test_an_observer_that_fails_costs_no_call_and_no_other_observer_an_event(how: str) -> None:
    async with virtual_engine(ScriptedProvider(delay_s=5)) as engine:
        other = engine.observe()
        model = a_model(limit_requests=1, interval=10)
        calls = [await engine.submit(model.create_api_calling(messages=MESSAGES)) for _ in range(3)]

        async def look() -> None:
            async with engine.observe() as observer:
                async for _ in observer:
                    if how == "raises":
                        raise Boom

        if how == "raises":
            with pytest.raises(Boom):
                await look()
        elif how == "is cancelled":
            with trio.move_on_after(1):
                await look()
        else:
            engine.observe(buffer=3)
        for call in calls:
            assert (await call.wait()).status == "completed"
        assert len(engine.statistics().hook_bus.observers) == (2 if how == "is dropped" else 1)
        events = await _told(engine, other)
        assert check_lawful(events).keys() == {call.id for call in calls}


@in_virtual_time
async def test_nothing_is_written_for_nobody() -> None:
    """Without observers no event is made, let alone sent: not before the first one, and not after the last has left."""
    async with virtual_engine(ScriptedProvider([error_reply(429, retry_after_s=1), "hi"])) as engine:

        def written() -> int:
            return engine.statistics().hook_bus.mailbox.delivered

        await a_model().invoke(messages=MESSAGES)
        assert written() == 0
        async with engine.observe() as observer:
            await a_model().invoke(messages=MESSAGES)
            await trio.testing.wait_all_tasks_blocked()
            assert written() == observer.told == 4
        await a_model().invoke(messages=MESSAGES)
        assert written() == 4


@in_virtual_time
async def test_an_observer_that_nobody_reads_holds_nobody_up_and_ends_with_the_engine() -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        observer = engine.observe(buffer=0)
        assert (await a_model().invoke(messages=MESSAGES)).status == "completed"
    assert [event async for event in observer] == []


@in_virtual_time
async def test_an_observer_reads_on_until_the_engine_has_ended() -> None:
    events: list[HookEvent] = []

    async def look(observer: Observer) -> None:
        events.extend([event async for event in observer])

    async with trio.open_nursery() as nursery, virtual_engine(ScriptedProvider(delay_s=5)) as engine:
        nursery.start_soon(look, engine.observe())
        for _ in range(5):
            await engine.submit(a_model().create_api_calling(messages=MESSAGES))
    assert [end.detail for end in check_lawful(events).values()] == ["completed"] * 5


@pytest.mark.parametrize("buffer", [-1, "5", 1.5, None, True])
@in_virtual_time
async def test_a_buffer_for_events_that_makes_no_sense_is_refused(buffer: object) -> None:
    async with virtual_engine(ScriptedProvider()) as engine:
        with pytest.raises(UsageError, match="buffer"):
            engine.observe(buffer=buffer)  # type: ignore[arg-type]  # that is what is tested


# --- any order of replies ---

DELAYS = st.sampled_from([0.0, 0.1, 3.0])
REPLIES: st.SearchStrategy[ProviderReply] = st.one_of(
    st.builds(
        chat_reply, delay_s=DELAYS, begin_s=st.sampled_from([0.0, 0.0, 6.0]), write_s=st.sampled_from([0.0, 2.0])
    ),
    st.builds(
        error_reply, st.sampled_from([400, 429, 429, 500, 503, 529]), retry_after_s=st.sampled_from([None, 0.0, 2.0])
    ),
    st.builds(fault, st.sampled_from(["closed", "cut_writing", "cut", "cut_reading", "stall"]), delay_s=DELAYS),
)
OPTIONS: Mapping[str, st.SearchStrategy[Any]] = {
    "on_unknown": st.sampled_from(["fail", "retry"]),
    "timeout_s": st.sampled_from([1.0, 20.0]),
    "deadline_s": st.sampled_from([None, None, 4.0]),
}


async def handled(event: Call, **kw: object) -> None:
    await trio.sleep(0.5)


@settings(deadline=None, max_examples=100)
@given(
    replies=st.lists(REPLIES, min_size=1, max_size=8),
    calls=st.lists(st.fixed_dictionaries(dict(OPTIONS)), min_size=1, max_size=5),
    cancelled_s=st.dictionaries(st.integers(0, 4), st.sampled_from([0.0, 0.1, 1.0, 5.0, 6.0]), max_size=3),
    connect_failures=st.integers(0, 5),
    limit=st.sampled_from([None, 1, 2]),
    hooked=st.booleans(),
)
@in_virtual_time
async def test_the_events_of_every_call_are_in_a_lawful_order(
    replies: list[ProviderReply],
    calls: list[dict[str, Any]],
    cancelled_s: dict[int, float],
    connect_failures: int,
    limit: int | None,
    hooked: bool,
) -> None:
    provider = ScriptedProvider([*replies, "hi"], connect_failures=connect_failures)
    hooks = HookRegistry({"pre_invoke": handled, "post_invoke": handled} if hooked else {})
    made: list[Call] = []
    async with virtual_engine(provider) as engine:
        observer = engine.observe(buffer=100_000)
        model = a_model(limit_requests=limit, interval=10, hook_registry=hooks)

        async def run(index: int, call: Call) -> None:
            with trio.move_on_after(cancelled_s.get(index, math.inf)), contextlib.suppress(NotAdmitted):
                await engine.invoke(call)

        async with trio.open_nursery() as nursery:
            for index, options in enumerate(calls):
                call = model.create_api_calling(messages=MESSAGES, **options)
                made.append(call)
                nursery.start_soon(run, index, call)
        events = await _told(engine, observer)
    ended = check_lawful(events)
    assert ended.keys() <= {call.id for call in made}
    for call in made:
        if call.id in ended:
            # Cancelled during the handlers before it, a call is free to be submitted again.
            assert ended[call.id].detail == (call.status if call.over else "cancelled")
        granted = sum(event.name == "granted" for event in events if event.call_id == call.id)
        assert granted >= sum(event.name == "sent" for event in events if event.call_id == call.id)
