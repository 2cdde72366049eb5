"""What a handler's result means, phase by phase: the table of what each does to its call, and what stays true of all.

In virtual time; handlers that are functions and not coroutines run in threads and have tests of their own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

import pytest
import trio
from hooked import MESSAGES, a_model, hooked_engine, in_virtual_time

from engine import (
    Call,
    CallCancelled,
    DeadlineExceeded,
    HandlerFailed,
    HookEventTypes,
    HookOptions,
    HookRegistry,
    InvalidCall,
    Rejected,
    Vetoed,
    iModel,
)
from engine.testing import ScriptedProvider, error_reply

Handler = Callable[..., Awaitable[Any]]
PRE_CREATE, PRE, POST = HookEventTypes
TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


async def raises(event: Call, **kw: Any) -> None:
    raise ValueError("boom")


async def raises_late(event: Call, **kw: Any) -> None:
    await trio.sleep(2)
    raise ValueError("boom")


async def raises_several(event: Call, **kw: Any) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raises, event)
        nursery.start_soon(raises, event)


class Odd(BaseException):
    """No `Exception`, as a foreign library's cancellation is none."""


async def raises_odd(event: Call, **kw: Any) -> None:
    raise Odd


async def hangs(event: Call, **kw: Any) -> None:
    await trio.sleep_forever()


async def passes(event: Call, **kw: Any) -> str:
    await trio.sleep(1)
    return "not a call"


async def cancels_itself(event: Call, **kw: Any) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await trio.sleep_forever()


class Row(NamedTuple):
    """A handler in a phase, with an exit policy: how the call ends, of what error, after how many seconds, and how many
    requests the provider saw."""

    phase: HookEventTypes
    handler: Handler
    exit: bool
    status: str
    error: type[Exception] | None
    seconds: float
    sent: int


FAILING = (raises, raises_several, raises_odd)
ROWS = [
    *(Row(PRE_CREATE, handler, False, "completed", None, 1.0, 1) for handler in FAILING),
    *(Row(PRE_CREATE, handler, True, "aborted", Vetoed, 0.0, 0) for handler in FAILING),
    *(Row(PRE, handler, policy, "aborted", Vetoed, 0.0, 0) for handler in FAILING for policy in (False, True)),
    *(Row(POST, handler, False, "completed", None, 1.0, 1) for handler in FAILING),
    *(Row(POST, handler, True, "failed", HandlerFailed, 1.0, 1) for handler in FAILING),
    Row(PRE_CREATE, raises_late, False, "completed", None, 3.0, 1),
    Row(PRE_CREATE, hangs, False, "completed", None, 11.0, 1),
    Row(PRE_CREATE, hangs, True, "aborted", Vetoed, 10.0, 0),
    Row(PRE, hangs, False, "aborted", Vetoed, 30.0, 0),
    Row(PRE, hangs, True, "aborted", Vetoed, 30.0, 0),
    Row(POST, hangs, False, "completed", None, 31.0, 1),
    Row(POST, hangs, True, "failed", HandlerFailed, 31.0, 1),
    *(
        Row(phase, handler, policy, "completed", None, 1.0 + seconds, 1)
        for phase in HookEventTypes
        for handler, seconds in ((passes, 1.0), (cancels_itself, 0.0))
        for policy in (False, True)
    ),
]


def _name(row: Row) -> str:
    return f"{row.phase.value}-{row.handler.__name__}{'-exit' if row.exit else ''}"


@pytest.mark.parametrize("row", ROWS, ids=_name)
@pytest.mark.parametrize("way", ["invoke", "submit", "submit_nowait", "map"])
@in_virtual_time
async def test_the_matrix_of_results(row: Row, way: str) -> None:
    """Each cell of the table, by each way a call can be given to an engine; the response is never lost."""
    provider = ScriptedProvider("yes", delay_s=1.0)
    model = a_model({row.phase: row.handler}, exit_hook=row.exit)
    async with hooked_engine(provider) as engine:
        call = model.create_api_calling(messages=MESSAGES)
        started = trio.current_time()
        if way == "invoke":
            assert await engine.invoke(call) is call
        elif way == "submit":
            await (await engine.submit(call)).wait()
        elif way == "submit_nowait":
            await engine.submit_nowait(call).wait()
        else:
            async with engine.map([call]) as done:
                assert [ended async for ended in done] == [call]
        assert (call.status, trio.current_time() - started) == (row.status, pytest.approx(row.seconds))
        assert type(call.error) is (row.error or type(None))
        if row.error is not None and row.handler in (raises, raises_late, raises_odd):
            assert type(call.error.__cause__ if call.error else None) in (ValueError, Odd)
        assert len(provider.requests) == row.sent
        assert call.attempts == row.sent
        if row.sent:
            assert (call.text, call.response["choices"][0]["message"]["content"]) == ("yes", "yes")
            assert call.usage is not None
        else:
            assert call.usage is None


@in_virtual_time
async def test_a_veto_spends_nothing_and_is_returned() -> None:
    provider = ScriptedProvider("yes")
    model = a_model({PRE: raises}, limit_requests=1)
    async with hooked_engine(provider) as engine:
        vetoed = await model.invoke(messages=MESSAGES)
        assert vetoed.status == "aborted"
        with pytest.raises(Vetoed, match=r"pre_invocation handler raises refused the call: ValueError: boom; nothing"):
            vetoed.raise_for_status()
        started = trio.current_time()
        free = a_model(limit_requests=1, lane=model.lane_name)
        assert (await free.invoke(messages=MESSAGES)).status == "completed"
        assert trio.current_time() - started < 1, "the limit of one request was all there"
        assert not any(engine.statistics().live.values())


@in_virtual_time
async def test_a_handler_can_veto_in_any_phase_before_the_call() -> None:
    async def refuse(event: Call, **kw: Any) -> None:
        raise Vetoed("not on a Friday")

    async with hooked_engine(ScriptedProvider("yes")):
        for phase in (PRE_CREATE, PRE):
            call = await a_model({phase: refuse}).invoke(messages=MESSAGES)
            assert (call.status, type(call.error)) == ("aborted", Vetoed)
            assert "not on a Friday" in str(call.error)


@in_virtual_time
async def test_several_handlers_run_in_order_the_engines_around_the_models() -> None:
    order: list[str] = []

    def noting(name: str) -> Handler:
        async def handler(event: Call, **kw: Any) -> None:
            order.append(f"{name} {event.status}")

        return handler

    own = HookRegistry(
        {phase: [noting(f"own {phase.value} 1"), noting(f"own {phase.value} 2")] for phase in HookEventTypes}
    )
    outer = {phase: noting(f"engine {phase.value}") for phase in HookEventTypes}
    async with hooked_engine(ScriptedProvider("yes"), outer):
        await a_model(own).invoke(messages=MESSAGES)
    assert order == [
        "engine pre_event_create pending",
        "own pre_event_create 1 pending",
        "own pre_event_create 2 pending",
        "engine pre_invocation pending",
        "own pre_invocation 1 pending",
        "own pre_invocation 2 pending",
        "own post_invocation 1 completed",
        "own post_invocation 2 completed",
        "engine post_invocation completed",
    ]


@in_virtual_time
async def test_handlers_run_once_for_a_call_not_for_each_attempt() -> None:
    counts = dict.fromkeys(HookEventTypes, 0)

    def counting(phase: HookEventTypes) -> Handler:
        async def handler(event: Call, **kw: Any) -> None:
            counts[phase] += 1

        return handler

    provider = ScriptedProvider([error_reply(503), error_reply(503), "yes"])
    async with hooked_engine(provider):
        call = await a_model({phase: counting(phase) for phase in HookEventTypes}).invoke(messages=MESSAGES)
    assert (call.status, call.attempts) == ("completed", 3)
    assert set(counts.values()) == {1}


@in_virtual_time
async def test_what_comes_after_sees_failure_as_it_sees_success() -> None:
    seen: list[tuple[str, str, int]] = []

    async def look(event: Call, **kw: Any) -> None:
        assert await event.wait() is event, "a handler of its own does not wait for itself"
        seen.append((event.status, type(event.error).__name__, event.attempts))

    async with hooked_engine(ScriptedProvider(error_reply(400))):
        call = await a_model({POST: look}, exit_hook=True).invoke(messages=MESSAGES)
    assert seen == [(call.status, "Rejected", 1)]
    assert call.status == "failed"


@in_virtual_time
async def test_a_handler_that_fails_leaves_the_error_of_a_call_that_had_failed() -> None:
    async with hooked_engine(ScriptedProvider(error_reply(400))):
        call = await a_model({POST: raises}, exit_hook=True).invoke(messages=MESSAGES)
    assert (call.status, type(call.error)) == ("failed", Rejected)


@in_virtual_time
async def test_nobody_is_answered_before_the_handlers_after_it() -> None:
    order: list[str] = []

    async def slow(event: Call, **kw: Any) -> None:
        await trio.sleep(5)
        order.append("handler")

    async with hooked_engine(ScriptedProvider("yes", delay_s=1.0)) as engine, trio.open_nursery() as nursery:
        call = a_model({POST: slow}).create_api_calling(messages=MESSAGES)

        async def waits(name: str, since_s: float) -> None:
            await trio.sleep(since_s)
            await call.wait()
            order.append(name)

        await engine.submit(call)
        nursery.start_soon(waits, "early", 0)
        nursery.start_soon(waits, "late", 3)
        await trio.sleep(2)
        assert engine.statistics().live["in_handlers"] == 1
        assert engine.statistics().live["permits_held"] == 0
    assert order[0] == "handler"
    assert sorted(order[1:]) == ["early", "late"]


# --- replacing ---


@in_virtual_time
async def test_returning_another_call_replaces_what_is_sent() -> None:
    """The caller's call goes on under its own number, with the request and the model of the other."""
    other = a_model(model="gpt-4o-mini", temperature=0.5)

    async def instead(event: Call, **kw: Any) -> Call:
        return other.create_api_calling(messages=[{"role": "user", "content": "something else"}])

    provider = ScriptedProvider("yes")
    for phase in (PRE_CREATE, PRE):
        async with hooked_engine(provider):
            call = a_model({phase: instead}).create_api_calling(messages=MESSAGES, flow="mine", metadata={"a": 1})
            number = call.id
            await call.owner.invoke(call)  # type: ignore[attr-defined]  # its owner is the model
        sent = provider.requests[-1].body
        assert (sent["model"], sent["temperature"]) == ("gpt-4o-mini", 0.5)
        assert sent["messages"][0]["content"] == "something else"
        assert (call.id, call.status, call.model, call.options.flow) == (number, "completed", "gpt-4o-mini", "mine")
        assert call.metadata == {"a": 1}


@in_virtual_time
async def test_a_call_replaced_while_nobody_waits_goes_where_the_other_would() -> None:
    """Its lane, its limits and its size are the other's."""
    other = a_model(model="gpt-4o-mini", limit_requests=1, interval=60)

    async def instead(event: Call, **kw: Any) -> Call:
        return other.create_api_calling(messages=MESSAGES)

    async with hooked_engine(ScriptedProvider("yes", delay_s=0.0)) as engine:
        model, started = a_model({PRE: instead}), trio.current_time()
        calls = [engine.submit_nowait(model.create_api_calling(messages=MESSAGES)) for _ in range(2)]
        for call in calls:
            assert (await call.wait()).status == "completed"
        assert trio.current_time() - started >= 60


@in_virtual_time
async def test_an_ended_call_answers_in_place_of_the_provider() -> None:
    provider = ScriptedProvider(["first", "second"])
    after: list[str | None] = []

    async def note(event: Call, **kw: Any) -> None:
        after.append(event.text)

    async with hooked_engine(provider):
        held = await a_model().invoke(messages=MESSAGES)

        async def cached(event: Call, **kw: Any) -> Call:
            return held

        model = a_model({PRE: cached, POST: note})
        call = await model.invoke(messages=MESSAGES)
        assert (call.status, call.text, call.attempts) == ("completed", "first", 0)
        assert call is not held
        async with model.stream(messages=MESSAGES) as chunks:
            assert "".join([str(chunk) async for chunk in chunks]) == "first"
    assert len(provider.requests) == 1
    assert after == ["first", "first"]


@in_virtual_time
async def test_a_call_that_is_under_way_is_followed_and_cancelling_it_begins_anew() -> None:
    provider = ScriptedProvider(["first", "second"], delay_s=5.0)
    leaders: list[Call] = []

    async def follow(event: Call, **kw: Any) -> Call | None:
        return leaders[-1] if leaders and not leaders[-1].over else None

    async with hooked_engine(provider) as engine:
        for cancels in (False, True):
            leaders.append(await engine.submit(a_model().create_api_calling(messages=MESSAGES)))
            follower = engine.submit_nowait(a_model({PRE: follow}).create_api_calling(messages=MESSAGES))
            await trio.sleep(1)
            assert follower.status == "pending"
            if cancels:
                leaders[-1].cancel()
            await follower.wait()
            assert follower.status == "completed"
            assert follower.attempts == (1 if cancels else 0)


@in_virtual_time
async def test_returning_another_call_afterwards_replaces_the_outcome() -> None:
    """A fallback: the other is sent if it has not been, and nobody sees the failure."""
    spare = a_model(model="gpt-4o-mini")

    async def fall_back(event: Call, **kw: Any) -> Call | None:
        return spare.create_api_calling(messages=MESSAGES) if event.error is not None else None

    async with hooked_engine(ScriptedProvider([error_reply(400), "spare"])):
        call = await a_model({POST: fall_back}).invoke(messages=MESSAGES)
    assert (call.status, call.text, call.error, call.model) == ("completed", "spare", None, "gpt-4o-mini")


@in_virtual_time
async def test_a_replacement_that_cannot_be_sent_is_the_handlers_failure() -> None:
    async def wrong(event: Call, **kw: Any) -> Call:
        return a_model().create_api_calling(messages="no list")

    async with hooked_engine(ScriptedProvider("yes")):
        call = await a_model({PRE: wrong}).invoke(messages=MESSAGES)
        assert (call.status, type(call.error)) == ("aborted", Vetoed)
        assert (await a_model({PRE_CREATE: wrong}).invoke(messages=MESSAGES)).status == "completed"


# --- parameters, context, cancellation, deadlines ---


@in_virtual_time
async def test_options_of_a_call_reach_its_handlers() -> None:
    seen: list[dict[str, Any]] = []

    async def look(event: Call, **kw: Any) -> None:
        seen.append(kw)

    model = a_model(dict.fromkeys(HookEventTypes, look), exit_hook=True)
    async with hooked_engine(ScriptedProvider("yes")):
        options = {PRE: HookOptions(exit=False, params={"tenant": "a"}), "post_invoke": {"params": {"exit": "ours"}}}
        call = await model.invoke(messages=MESSAGES, hook_options=options)
    assert call.status == "completed"
    assert seen == [{"exit": True}, {"exit": False, "tenant": "a"}, {"exit": True}]


@pytest.mark.parametrize(("phase", "status"), [(PRE_CREATE, "completed"), (PRE, "aborted"), (POST, "completed")])
@in_virtual_time
async def test_a_calls_own_timeout_bounds_its_handlers(phase: HookEventTypes, status: str) -> None:
    async with hooked_engine(ScriptedProvider("yes", delay_s=0.0)):
        started = trio.current_time()
        call = await a_model({phase: hangs}).invoke(messages=MESSAGES, hook_options={phase: {"timeout_s": 0.25}})
        assert (call.status, trio.current_time() - started) == (status, pytest.approx(0.25))


@in_virtual_time
async def test_the_submitters_context_is_carried_along() -> None:
    seen: list[str] = []

    async def look(event: Call, **kw: Any) -> None:
        seen.append(TENANT.get())
        TENANT.set("changed")

    model = a_model(dict.fromkeys(HookEventTypes, look))
    async with hooked_engine(ScriptedProvider("yes")) as engine:
        TENANT.set("tenant-7")
        await model.invoke(messages=MESSAGES)
        call = engine.submit_nowait(model.create_api_calling(messages=MESSAGES))
        TENANT.set("nobody again")
        await call.wait()
        assert TENANT.get() == "nobody again"
    assert seen == ["tenant-7", "changed", "tenant-7"] * 2


@pytest.mark.parametrize("phase", HookEventTypes)
@pytest.mark.parametrize("how", ["task", "call"])
@in_virtual_time
async def test_cancelling_while_a_handler_runs(phase: HookEventTypes, how: str) -> None:
    """Before the call: it is cancelled, or stays pending where only the task was. After it: it is as it had ended."""
    provider = ScriptedProvider("yes", delay_s=0.0)
    stopped: list[bool] = []

    async def hang(event: Call, **kw: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            stopped.append(True)

    async with hooked_engine(provider) as engine:
        call = a_model({phase: hang}).create_api_calling(messages=MESSAGES)
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.invoke, call)
            await trio.sleep(1)
            if how == "call":
                call.cancel()
            else:
                nursery.cancel_scope.cancel()
        await engine.wait_quiet()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() - started == pytest.approx(1)
        assert stopped == [True]
        if phase is POST:
            assert (call.status, call.text) == ("completed", "yes")
        elif how == "call":
            assert (call.status, type(call.error)) == ("cancelled", CallCancelled)
        else:
            assert call.status == "pending"
            assert (await a_model().invoke(messages=MESSAGES)).status == "completed"
        assert len(provider.requests) == (1 if phase is POST else 0 if how == "call" else 1)


@in_virtual_time
async def test_a_call_whose_task_was_cancelled_can_be_sent_at_once() -> None:
    """What was asked of its handlers the first time does not answer for the second."""
    first = [True]

    async def hangs_once(event: Call, **kw: Any) -> None:
        if first:
            first.clear()
            await trio.sleep_forever()
        await trio.sleep(1)

    async with hooked_engine(ScriptedProvider("yes")) as engine:
        call = a_model({PRE: hangs_once}).create_api_calling(messages=MESSAGES)
        with trio.move_on_after(1):
            await engine.submit(call)
        assert engine.submit_nowait(call).status == "pending"
        assert (await call.wait()).status == "completed"


@pytest.mark.parametrize("turns", range(8))
@in_virtual_time
async def test_a_task_can_be_cancelled_at_every_turn_of_its_calls_handlers(turns: int) -> None:
    async def passes_at_once(event: Call, **kw: Any) -> None: ...

    async with hooked_engine(ScriptedProvider("yes", delay_s=5.0)) as engine:
        call = a_model(dict.fromkeys(HookEventTypes, passes_at_once)).create_api_calling(messages=MESSAGES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.invoke, call)
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await engine.wait_quiet()
        assert call.status in ("pending", "cancelled")
        assert (await a_model().invoke(messages=MESSAGES)).status == "completed"


@pytest.mark.parametrize("way", ["submit", "submit_nowait"])
@pytest.mark.parametrize("turns", range(8))
@in_virtual_time
async def test_a_call_can_be_cancelled_at_every_turn_of_its_handlers(turns: int, way: str) -> None:
    """Also between its handlers' answer and its place in the queue."""

    async def passes_at_once(event: Call, **kw: Any) -> None: ...

    provider = ScriptedProvider("yes", delay_s=5.0)
    async with hooked_engine(provider) as engine, trio.open_nursery() as nursery:
        call = a_model(dict.fromkeys(HookEventTypes, passes_at_once)).create_api_calling(messages=MESSAGES)
        if way == "submit":
            nursery.start_soon(engine.invoke, call)
        else:
            engine.submit_nowait(call)
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        call.cancel()
        await call.wait_ended()
        assert call.status == "cancelled"


@in_virtual_time
async def test_the_deadline_counts_from_submit_and_handlers_are_part_of_it() -> None:
    provider = ScriptedProvider("yes", delay_s=1.0)
    async with hooked_engine(provider) as engine:
        started = trio.current_time()
        for phase in (PRE_CREATE, PRE):
            call = await a_model({phase: hangs}).invoke(messages=MESSAGES, deadline_s=2)
            assert (call.status, type(call.error)) == ("failed", DeadlineExceeded)
        assert trio.current_time() - started == pytest.approx(4)
        assert not provider.requests

        kept = await a_model({POST: hangs}, exit_hook=True).invoke(messages=MESSAGES, deadline_s=3)
        assert (kept.status, kept.text) == ("completed", "yes"), "its handlers are cancelled, and it stays as it was"
        assert trio.current_time() - started == pytest.approx(7)

        slow = a_model({PRE: passes}).create_api_calling(messages=MESSAGES, deadline_s=1.5)
        await engine.invoke(slow)
        assert slow.status == "failed", "a second of it was the handler's"


@in_virtual_time
async def test_waiting_for_the_call_in_a_handler_before_it_is_refused() -> None:
    async def waits(event: Call, **kw: Any) -> None:
        with pytest.raises(InvalidCall, match="waits for the handler"):
            await event.wait()

    async with hooked_engine(ScriptedProvider("yes")):
        assert (await a_model({PRE: waits}).invoke(messages=MESSAGES)).status == "completed"


@in_virtual_time
async def test_a_handler_may_use_the_engine_and_is_not_run_for_its_own_calls() -> None:
    runs: list[int] = []
    model = a_model()

    async def asks(event: Call, **kw: Any) -> None:
        runs.append(event.id)
        answer = await model.invoke(messages=MESSAGES)
        assert answer.status == "completed"

    model.hook_registry.pre_invoke(asks)
    model.hook_registry.post_invoke(asks)
    provider = ScriptedProvider("yes", delay_s=0.0)
    async with hooked_engine(provider):
        call = await model.invoke(messages=MESSAGES)
    assert call.status == "completed"
    assert len(provider.requests) == 3
    assert runs == [call.id, call.id]


@in_virtual_time
async def test_the_other_handlers_do_run_for_a_handlers_calls() -> None:
    runs: list[str] = []
    model = a_model()

    async def counts(event: Call, **kw: Any) -> None:
        runs.append("counts")

    async def asks(event: Call, **kw: Any) -> None:
        runs.append("asks")
        await model.invoke(messages=MESSAGES)

    model.hook_registry.pre_invoke(counts)
    model.hook_registry.pre_invoke(asks)
    async with hooked_engine(ScriptedProvider("yes")):
        await model.invoke(messages=MESSAGES)
    assert runs == ["counts", "asks", "counts"]


# --- what a handler may do late, or twice ---


@in_virtual_time
async def test_a_handler_that_does_not_stop_holds_its_call_up_for_a_second_at_most() -> None:
    """It shields itself from being told to. What it does after its call has ended changes nothing."""

    async def clings(event: Call, **kw: Any) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1000)

    async def raises_after(event: Call, **kw: Any) -> None:
        raise AssertionError("the call has ended")

    provider = ScriptedProvider("yes", delay_s=0.0)
    async with hooked_engine(provider) as engine:
        started = trio.current_time()
        kept = await a_model({POST: [clings, raises_after]}, exit_hook=True).invoke(messages=MESSAGES, deadline_s=10)
        assert (kept.status, kept.text, trio.current_time() - started) == ("completed", "yes", pytest.approx(11))
        vetoed = await a_model({PRE: clings}).invoke(messages=MESSAGES, hook_options={PRE: {"timeout_s": 2}})
        assert (type(vetoed.error), trio.current_time() - started) == (Vetoed, pytest.approx(14))
        assert len(provider.requests) == 1
        assert engine.statistics().live["in_handlers"] == 0
        await trio.sleep(1000)
        assert kept.status == "completed"


@in_virtual_time
async def test_a_call_that_was_taken_back_is_not_changed_by_its_first_handlers() -> None:
    other = a_model(model="gpt-4o-mini")

    async def late(event: Call, **kw: Any) -> Call:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        return other.create_api_calling(messages=MESSAGES)

    async with hooked_engine(ScriptedProvider("yes")) as engine:
        model = a_model({PRE: late})
        call = model.create_api_calling(messages=MESSAGES)
        with trio.move_on_after(1):
            await engine.submit(call)
        await trio.sleep(10)
        assert (call.status, call.owner, call.model) == ("pending", model, "gpt-4o")


@in_virtual_time
async def test_a_call_that_is_taken_back_while_it_shows_an_outcome_is_pending_again() -> None:
    provider = ScriptedProvider(["first", "second"])
    async with hooked_engine(provider) as engine:
        held = await a_model(model="gpt-4o-mini").invoke(messages=MESSAGES)
        seen: list[str] = []

        async def cached_once(event: Call, **kw: Any) -> Call | None:
            return held if not seen else None

        async def slow_once(event: Call, **kw: Any) -> None:
            seen.append(event.status)
            await trio.sleep(5 if len(seen) == 1 else 0)

        call = a_model({PRE: cached_once, POST: slow_once}).create_api_calling(messages=MESSAGES)
        with trio.move_on_after(1):
            await engine.submit(call)
        assert (call.status, call.text, call.model) == ("pending", None, "gpt-4o")
        await engine.invoke(call)
        assert (call.status, call.text, seen) == ("completed", "second", ["completed", "completed"])


@pytest.mark.parametrize("looked", [False, True])
@in_virtual_time
async def test_cancelling_keeps_an_outcome_that_is_there(looked: bool) -> None:
    async with hooked_engine(ScriptedProvider("yes")) as engine:
        held = await a_model().invoke(messages=MESSAGES)

        async def cached(event: Call, **kw: Any) -> Call:
            return held

        call = engine.submit_nowait(a_model({PRE: cached, POST: hangs}).create_api_calling(messages=MESSAGES))
        await trio.sleep(1)
        assert not looked or call.status == "completed"
        call.cancel()
        await call.wait_ended()
        assert (call.status, call.text) == ("completed", "yes")


@in_virtual_time
async def test_a_follower_is_asked_again_when_its_leader_is_taken_back() -> None:
    leaders: list[Call] = []
    asked: list[str] = []

    async def slow(event: Call, **kw: Any) -> None:
        await trio.sleep(5)

    async def notes(event: Call, **kw: Any) -> None:
        asked.append("create")

    async def follows(event: Call, **kw: Any) -> Call | None:
        asked.append("invoke")
        return leaders.pop() if leaders else None

    async with hooked_engine(ScriptedProvider("yes")) as engine, trio.open_nursery() as nursery:
        leader = a_model({PRE: slow}).create_api_calling(messages=MESSAGES)
        leaders.append(leader)
        scope = trio.CancelScope()

        async def lead() -> None:
            with scope:
                await engine.invoke(leader)

        nursery.start_soon(lead)
        await trio.sleep(1)
        follower = engine.submit_nowait(
            a_model({PRE_CREATE: notes, PRE: follows}).create_api_calling(messages=MESSAGES)
        )
        await trio.sleep(1)
        scope.cancel()
        assert (await follower.wait()).status == "completed"
    assert asked == ["create", "invoke", "invoke"], "those before it are not run again"


@in_virtual_time
async def test_what_a_handler_raises_need_not_be_able_to_say_what_it_is() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    async def mute(event: Call, **kw: Any) -> None:
        raise Mute

    async with hooked_engine(ScriptedProvider("yes")):
        assert type((await a_model({PRE: mute}).invoke(messages=MESSAGES)).error) is Vetoed
        assert (await a_model({PRE_CREATE: mute}).invoke(messages=MESSAGES)).status == "completed"


@in_virtual_time
async def test_a_handler_may_invoke_its_own_call_afterwards() -> None:
    async def again(event: Call, **kw: Any) -> None:
        model = event.owner
        assert isinstance(model, iModel)
        assert await model.invoke(event) is event

    async with hooked_engine(ScriptedProvider("yes", delay_s=0.0)):
        started = trio.current_time()
        assert (await a_model({POST: again}).invoke(messages=MESSAGES)).status == "completed"
        assert trio.current_time() == started


@in_virtual_time
async def test_an_outcome_that_is_a_cancellation_is_taken_over_like_any_other() -> None:
    runs: list[int] = []

    async with hooked_engine(ScriptedProvider("yes")) as engine:
        held = a_model().create_api_calling(messages=MESSAGES)
        held.cancel()

        async def answers(event: Call, **kw: Any) -> Call:
            runs.append(event.id)
            return held

        call = engine.submit_nowait(a_model({PRE: answers}).create_api_calling(messages=MESSAGES))
        await call.wait()
        assert (call.status, len(runs)) == ("cancelled", 1)


@in_virtual_time
async def test_two_calls_do_not_wait_for_each_other() -> None:
    calls: list[Call] = []

    async def the_other(event: Call, **kw: Any) -> Call:
        await trio.sleep(1)
        return calls[1 - calls.index(event)]

    async with hooked_engine(ScriptedProvider("yes")) as engine:
        model = a_model({PRE: the_other})
        calls += [model.create_api_calling(messages=MESSAGES) for _ in range(2)]
        for call in calls:
            engine.submit_nowait(call)
        for call in calls:
            await call.wait()
        assert {call.status for call in calls} == {"aborted"}
        assert any("would wait for each other" in str(call.error) for call in calls)


@in_virtual_time
async def test_a_cancellation_kept_from_elsewhere_is_a_failure_like_any_other() -> None:
    kept: list[BaseException] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            kept.append(error)
            raise

    async def raises_it(event: Call, **kw: Any) -> None:
        raise kept[0]

    async with hooked_engine(ScriptedProvider("yes")):
        for _ in range(2):
            assert (await a_model({PRE: raises_it}).invoke(messages=MESSAGES)).status == "aborted"
            assert (await a_model({POST: raises_it}).invoke(messages=MESSAGES)).status == "completed"


@in_virtual_time
async def test_one_call_of_two_tasks_keeps_its_handlers() -> None:
    seen: list[int] = []
    refused: list[int] = []

    async def notes(event: Call, **kw: Any) -> None:
        seen.append(event.id)

    async with hooked_engine(ScriptedProvider("yes")) as engine, trio.open_nursery() as nursery:
        call = a_model({POST: notes}).create_api_calling(messages=MESSAGES)

        async def submit() -> None:
            try:
                await engine.submit(call)
            except InvalidCall:
                refused.append(call.id)

        nursery.start_soon(submit)
        nursery.start_soon(submit)
        await trio.sleep(5)
        assert (call.status, seen, refused) == ("completed", [call.id], [call.id])
