"""Handlers and the engine as a whole: threads, drains, queues, statistics, and what is run where there are none."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any

import pytest
import trio
from hooked import MESSAGES, a_model, hooked_engine, in_virtual_time

from engine import Call, HookEventTypes, HookRegistry, InvalidCall, OutcomeUnknown, Overloaded, ShuttingDown, UsageError
from engine.testing import ScriptedProvider

PRE_CREATE, PRE, POST = HookEventTypes
TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


# --- threads: in real time, because a thread does not hold a virtual clock ---


async def test_a_function_runs_in_a_thread_with_the_submitters_context() -> None:
    seen: list[tuple[bool, str, str]] = []

    def look(event: Call, **kw: Any) -> None:
        seen.append((threading.current_thread() is threading.main_thread(), TENANT.get(), event.status))

    TENANT.set("tenant-7")
    async with hooked_engine(ScriptedProvider("yes", delay_s=0.0)):
        call = await a_model(dict.fromkeys(HookEventTypes, look)).invoke(messages=MESSAGES)
    assert call.status == "completed"
    assert seen == [(False, "tenant-7", "pending"), (False, "tenant-7", "pending"), (False, "tenant-7", "completed")]


async def test_functions_that_hang_are_abandoned_and_hold_up_nobody() -> None:
    """More of them than a thread limiter would allow; the calls beside them do not wait."""
    release = threading.Event()

    def hangs(event: Call, **kw: Any) -> None:
        release.wait()

    stuck, free = a_model({PRE: hangs}), a_model({PRE: lambda event, **kw: None})
    try:
        async with hooked_engine(ScriptedProvider("yes", delay_s=0.0)) as engine:
            options = {PRE: {"timeout_s": 0.2}}
            calls = [
                engine.submit_nowait(stuck.create_api_calling(messages=MESSAGES, hook_options=options))
                for _ in range(100)
            ]
            async with engine.map(free.create_api_calling(messages=MESSAGES) for _ in range(20)) as done:
                assert [call.status async for call in done] == ["completed"] * 20
            for call in calls:
                await call.wait()
            assert {call.status for call in calls} == {"aborted"}
    finally:
        release.set()


async def test_a_function_that_returns_an_awaitable_is_awaited() -> None:
    async def answer() -> None:
        raise ValueError("boom")

    async with hooked_engine(ScriptedProvider("yes", delay_s=0.0)):
        assert (await a_model({PRE: lambda event, **kw: answer()}).invoke(messages=MESSAGES)).status == "aborted"


async def test_an_object_that_can_be_called_is_a_handler() -> None:
    class Counts:
        seen = 0

        async def __call__(self, event: Call, **kw: Any) -> None:
            self.seen += 1

        async def method(self, event: Call, **kw: Any) -> None:
            self.seen += 1

    counts = Counts()
    async with hooked_engine(ScriptedProvider("yes", delay_s=0.0)):
        await a_model({PRE: [counts, counts.method]}).invoke(messages=MESSAGES)
    assert counts.seen == 2


# --- queues and drains ---


@in_virtual_time
async def test_a_call_in_its_handlers_holds_no_place() -> None:
    async def slow(event: Call, **kw: Any) -> None:
        await trio.sleep(10)

    lane = {"lane": "one", "queue_capacity": 1, "limit_requests": 1}
    slow_model, model = a_model({PRE: slow}, **lane), a_model(**lane)
    async with hooked_engine(ScriptedProvider("yes", delay_s=0.0)) as engine:
        started = trio.current_time()
        first = engine.submit_nowait(slow_model.create_api_calling(messages=MESSAGES))
        with pytest.raises(Overloaded):
            engine.submit_nowait(slow_model.create_api_calling(messages=MESSAGES))
        await model.invoke(messages=MESSAGES)
        assert trio.current_time() == started
        await first.wait()
        assert first.status == "completed"


@pytest.mark.parametrize("way", ["submit", "submit_nowait"])
@in_virtual_time
async def test_leaving_lets_the_handlers_of_accepted_calls_finish(way: str) -> None:
    async def slow(event: Call, **kw: Any) -> None:
        await trio.sleep(10)

    provider = ScriptedProvider("yes", delay_s=1.0)
    async with hooked_engine(provider) as engine:
        call = a_model({PRE: slow, POST: slow}).create_api_calling(messages=MESSAGES)
        started = trio.current_time()
        if way == "submit":
            await engine.submit(call)
        else:
            engine.submit_nowait(call)
    assert (call.status, call.text, trio.current_time() - started) == ("completed", "yes", pytest.approx(21))


@pytest.mark.parametrize("queue", ["finish", "discard"])
@pytest.mark.parametrize("phase", [PRE, POST])
@in_virtual_time
async def test_a_drain_bounds_the_handlers_as_what_is_in_flight(queue: Any, phase: HookEventTypes) -> None:
    async def hangs(event: Call, **kw: Any) -> None:
        await trio.sleep(29)

    provider = ScriptedProvider("yes", delay_s=0.0)
    async with hooked_engine(provider) as engine:
        call = engine.submit_nowait(a_model({phase: hangs}).create_api_calling(messages=MESSAGES))
        await trio.sleep(1)
        started = trio.current_time()
        await engine.drain(queue=queue, deadline_s=5)
        assert trio.current_time() - started == pytest.approx(5)
        if phase is POST:
            assert (call.status, call.text) == ("completed", "yes")
        else:
            assert type(call.error) is ShuttingDown
            assert not provider.requests


@in_virtual_time
async def test_a_drain_that_discards_lets_no_call_out_of_its_handlers() -> None:
    async def slow(event: Call, **kw: Any) -> None:
        await trio.sleep(3)

    provider = ScriptedProvider("yes", delay_s=0.0)
    async with hooked_engine(provider) as engine:
        call = engine.submit_nowait(a_model({PRE: slow}).create_api_calling(messages=MESSAGES))
        await trio.sleep(1)
        await engine.drain(queue="discard", deadline_s=30)
        assert type(call.error) is ShuttingDown
    assert not provider.requests


@pytest.mark.parametrize("phase", HookEventTypes)
@in_virtual_time
async def test_an_engine_that_is_left_by_an_exception_leaves_no_call_open(phase: HookEventTypes) -> None:
    async def hangs(event: Call, **kw: Any) -> None:
        await trio.sleep_forever()

    with pytest.raises(KeyError):  # noqa: PT012  # the block is what is left
        async with hooked_engine(ScriptedProvider("yes", delay_s=0.0)) as engine:
            call = engine.submit_nowait(a_model({phase: hangs}).create_api_calling(messages=MESSAGES))
            await trio.sleep(1)
            raise KeyError
    assert call.over
    assert call.status == ("completed" if phase is POST else "aborted")


@in_virtual_time
async def test_what_is_wrong_is_said_before_a_handler_runs() -> None:
    ran: list[str] = []

    async def look(event: Call, **kw: Any) -> None:
        ran.append(event.status)

    model = a_model({PRE: look}, limit_tokens=5)
    async with hooked_engine(ScriptedProvider("yes")) as engine:
        with pytest.raises(UsageError):
            await model.invoke(messages=MESSAGES, max_tokens=100)
        with pytest.raises(InvalidCall):
            await model.invoke(messages="no list")
        async with engine.map([model.create_api_calling(messages=MESSAGES, max_tokens=100)]) as done:
            assert [call.status async for call in done] == ["skipped"]
    assert not ran


@in_virtual_time
async def test_a_call_cannot_be_submitted_twice_while_its_handlers_run() -> None:
    async def slow(event: Call, **kw: Any) -> None:
        await trio.sleep(1)

    async with hooked_engine(ScriptedProvider("yes")) as engine:
        call = engine.submit_nowait(a_model({PRE: slow}).create_api_calling(messages=MESSAGES))
        with pytest.raises(InvalidCall):
            await engine.submit(call)
        assert (await call.wait()).status == "completed"


@in_virtual_time
async def test_a_call_that_is_cut_in_flight_is_still_handled() -> None:
    seen: list[str] = []

    async def look(event: Call, **kw: Any) -> None:
        seen.append(type(event.error).__name__)

    async with hooked_engine(ScriptedProvider("yes", delay_s=100.0)) as engine:
        call = engine.submit_nowait(a_model({POST: look}).create_api_calling(messages=MESSAGES))
        await trio.sleep(1)
        await engine.drain(deadline_s=1)
        assert type(call.error) is OutcomeUnknown
    assert seen == ["OutcomeUnknown"]


@in_virtual_time
async def test_handlers_that_begin_at_the_drains_deadline_hold_nothing_up() -> None:
    async def hangs(event: Call, **kw: Any) -> None:
        await trio.sleep_forever()

    async with hooked_engine(ScriptedProvider("yes", delay_s=100.0)) as engine:
        call = engine.submit_nowait(a_model({POST: hangs}).create_api_calling(messages=MESSAGES))
        await trio.sleep(1)
        started = trio.current_time()
        await engine.drain(deadline_s=1)
        assert (type(call.error), trio.current_time() - started) == (OutcomeUnknown, pytest.approx(1))


# --- what is there to see ---


class Counter:
    """An extension that counts the calls it sees."""

    def __init__(self) -> None:
        self.seen = 0

    def handlers(self) -> Mapping[HookEventTypes, Any]:
        return {PRE: self._count}

    async def _count(self, event: Call, **kw: Any) -> None:
        self.seen += 1

    def statistics(self) -> int:
        return self.seen


@in_virtual_time
async def test_statistics_show_what_extensions_count() -> None:
    of_engine, of_model = Counter(), Counter()
    model = a_model(HookRegistry().use(of_model))
    async with hooked_engine(ScriptedProvider("yes"), HookRegistry().use(of_engine)) as engine:
        assert engine.statistics().extensions == (0,)
        await model.invoke(messages=MESSAGES)
        await model.invoke(messages=MESSAGES)
        await a_model().invoke(messages=MESSAGES)
        assert engine.statistics().extensions == (3, 2)


@in_virtual_time
async def test_observers_see_the_handlers_and_what_they_ended() -> None:
    async def refuses(event: Call, **kw: Any) -> None:
        raise ValueError

    async def passes(event: Call, **kw: Any) -> None: ...

    async with hooked_engine(ScriptedProvider("yes")) as engine:
        async with engine.observe() as observer:
            await a_model({PRE: refuses}).invoke(messages=MESSAGES)
            await a_model({POST: passes}).invoke(messages=MESSAGES)
        told = [(event.name, event.detail) async for event in observer]
    assert told == [
        ("handling", "before"),
        ("ended", "aborted"),
        ("queued", ""),
        ("granted", ""),
        ("sent", ""),
        ("ended", "completed"),
        ("handling", "after"),
    ]


ROOMS = ("engine/handling.py", "engine/hooks.py", "actors/hook_bus.py")


@contextmanager
def counted_hook_code() -> Iterator[list[str]]:
    """The functions of the rooms of handlers that are called within the block."""
    called: list[str] = []

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.endswith(
            ("engine/handling.py", "engine/hooks.py", "hook_bus.py")
        ):
            called.append(frame.f_code.co_qualname)

    sys.setprofile(profile)
    try:
        yield called
    finally:
        sys.setprofile(None)


@in_virtual_time
async def test_with_none_registered_no_code_of_handlers_runs() -> None:
    model = a_model()
    handled = a_model({PRE: lambda event, **kw: None})
    async with hooked_engine(ScriptedProvider("yes", delay_s=0.0)) as engine:
        await model.invoke(messages=MESSAGES)
        with counted_hook_code() as called:
            await model.invoke(messages=MESSAGES)
            engine.submit_nowait(model.create_api_calling(messages=MESSAGES))
            async with engine.map(model.create_api_calling(messages=MESSAGES) for _ in range(10)) as done:
                assert [call.status async for call in done] == ["completed"] * 10
        assert called == []
        with counted_hook_code() as called:
            engine.submit_nowait(handled.create_api_calling(messages=MESSAGES)).cancel()
        assert called, "the count counts"


# --- the registry ---


def test_a_registry_is_made_in_several_ways() -> None:
    async def handler(event: Call, **kw: Any) -> None: ...

    decorated = HookRegistry()
    decorated.pre_event_create_hook(handler)
    decorated.pre_invoke(handler)
    decorated.post_invoke(handler)
    for hooks in (
        dict.fromkeys(HookEventTypes, handler),
        {"pre_event_create": handler, "pre_invocation": [handler], "post_invocation": (handler,)},
        {"hooks": {"pre_event_create_hook": handler, "pre_invoke": handler, "post_invoke": handler}},
        HookRegistry(dict.fromkeys(HookEventTypes, handler)),
        decorated,
    ):
        registry = a_model(hooks).hook_registry
        assert [registry.handlers(phase) for phase in HookEventTypes] == [(handler,)] * 3
    assert a_model().hook_registry.handlers(PRE) == ()


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        ({"before": print}, "there is no phase 'before'"),
        ({PRE: 5}, "a handler is a function"),
        ({"hooks": 5}, "hooks must be a dict"),
        ({"stream_handlers": {5: print}}, "a stream handler stands under"),
        ([print], "a HookRegistry or a dict"),
    ],
)
def test_a_registry_that_makes_no_sense_is_refused(hooks: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        a_model(hooks)


@pytest.mark.parametrize(
    "options",
    [5, {"before": {}}, {PRE: {"timeout": 5}}, {PRE: {"timeout_s": 0}}, {PRE: {"exit": "yes"}}, {PRE: {"params": 5}}],
)
@in_virtual_time
async def test_options_that_make_no_sense_are_refused(options: Any) -> None:
    async with hooked_engine(ScriptedProvider("yes")):
        with pytest.raises(InvalidCall):
            await a_model().invoke(messages=MESSAGES, hook_options=options)
