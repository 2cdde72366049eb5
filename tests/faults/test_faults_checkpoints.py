"""Ended at every checkpoint: the caller at each of his own, and everything else at each step the whole loop takes.

A scenario is run again and again, in virtual time, and at its n-th step something is ended: the caller's task, the
engine's block, an actor, every connection. The runs go on until a scenario is over before its n-th step. After each,
every call has one outcome that agrees with what the provider saw, nobody waits, and every live gauge is zero.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from engine_checks import assert_nothing_is_left, crash_endpoint, crash_hook_bus, crash_scheduler, run_virtually
from scripted_provider import ScriptedProvider, call_of, scripted_model
from trio.abc import Instrument

from engine import Call, CallCancelled, Engine, InternalError, NotAdmitted, OutcomeUnknown, PenstockError, open_engine

TERMINAL = ("completed", "failed", "cancelled", "aborted", "skipped")


class Countdown(Instrument):
    """Acts once, right after the n-th step of `task`, or of any task if none is named, since it was set."""

    def __init__(self, nth: int, act: Callable[[], None], task: trio.lowlevel.Task | None = None) -> None:
        self._left = nth
        self._act = act
        self._task = task

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._task is None or task is self._task:
            self._left -= 1
            if self._left == 0:
                self._act()

    @property
    def struck(self) -> bool:
        return self._left <= 0


def check(engine: Engine, provider: ScriptedProvider, calls: list[Call], *, bug: bool = False) -> None:
    """One outcome for each call, in agreement with what the provider saw of it."""
    for call in calls:
        begun = provider.begun[call.id]
        assert call.status in TERMINAL or (call.status == "pending" and not begun)
        if call.status == "completed":
            assert call.error is None
            continue
        error = call.error
        if isinstance(error, NotAdmitted):
            assert not begun
        elif isinstance(error, CallCancelled):
            assert error.sent is (begun > 0)
        elif isinstance(error, OutcomeUnknown):
            assert begun
            assert error.reason in ("shutdown", "crashed", "closed", "cancelled")
        if not isinstance(error, InternalError):
            assert begun <= call.attempts or error is None
    assert provider.open == 0
    assert_nothing_is_left(engine, after_a_bug_in_the_schedule=bug)


# --- the caller's task ---

Caller = Callable[[Engine, list[Call]], Awaitable[object]]


async def invokes(engine: Engine, calls: list[Call]) -> object:
    return await engine.invoke(calls[0])


async def submits_and_waits(engine: Engine, calls: list[Call]) -> object:
    await engine.submit(calls[0])
    try:
        return await calls[0].wait()
    finally:
        calls[0].cancel()


async def maps(engine: Engine, calls: list[Call]) -> object:
    async with engine.map(calls, buffer=2) as done:
        return [call.id async for call in done]


async def drains(engine: Engine, calls: list[Call]) -> object:
    engine.submit_nowait(calls[0])
    try:
        await engine.drain()
    finally:
        calls[0].cancel()
    return None


class Scenario:
    """What the caller does, with which calls, in which kind of lane."""

    def __init__(self, caller: Caller, wishes: tuple[str, ...] = ("answer",), **lane: object) -> None:
        self.caller = caller
        self.wishes = wishes
        self.deadline_s = lane.pop("deadline_s", None)
        self.lane = lane


SCENARIOS = {
    "invoke": Scenario(invokes),
    "invoke with a deadline": Scenario(invokes, deadline_s=100.0),
    "invoke with a retry": Scenario(invokes, ("retry",)),
    "invoke after waiting for a place": Scenario(invokes, queue_capacity=1, concurrency_limit=1),
    "invoke with a deadline after waiting for a place": Scenario(
        invokes, queue_capacity=1, concurrency_limit=1, deadline_s=100.0
    ),
    "submit and wait": Scenario(submits_and_waits),
    "map": Scenario(maps, ("answer", "retry", "answer", "answer")),
    "map that waits for places": Scenario(maps, ("answer", "answer", "answer"), queue_capacity=1, concurrency_limit=1),
    "drain": Scenario(drains),
}


def run_and_cancel(scenario: Scenario, nth: int) -> bool:
    """Run it and cancel the caller at his n-th checkpoint; whether he got that far."""
    provider = ScriptedProvider()
    model = scripted_model(**scenario.lane)
    options = {"deadline_s": scenario.deadline_s} if scenario.deadline_s else {}
    calls = [call_of(model, wish, **options) for wish in scenario.wishes]
    struck = False

    async def main() -> None:
        nonlocal struck
        with trio.fail_after(5000):
            async with open_engine(transport=lambda account, on_usage: provider) as engine:
                if "queue_capacity" in scenario.lane:
                    engine.submit_nowait(call_of(model))
                    await trio.sleep(1)
                    engine.submit_nowait(call_of(model))
                scope = trio.CancelScope()
                countdown = Countdown(nth, scope.cancel, trio.lowlevel.current_task())
                trio.lowlevel.add_instrument(countdown)
                with scope:
                    await scenario.caller(engine, calls)
                trio.lowlevel.remove_instrument(countdown)
                struck = countdown.struck
                await engine.wait_quiet()
                assert engine.statistics().live == dict.fromkeys(engine.statistics().live, 0)
        check(engine, provider, calls)

    run_virtually(main)
    if not struck:
        assert all(call.status == "completed" for call in calls)
    return struck


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_caller_cancelled_at_any_of_his_checkpoints_leaves_nothing(name: str) -> None:
    nth = next(nth for nth in range(1, 1000) if not run_and_cancel(SCENARIOS[name], nth))
    assert nth > 2, "he never came to a checkpoint"


# --- everything else, at every step of the loop ---

End = Callable[[Engine, ScriptedProvider, trio.CancelScope], None]
ENDS: dict[str, End] = {
    "the endpoint actor": lambda engine, provider, block: crash_endpoint(engine),
    "the endpoint actor for good": lambda engine, provider, block: crash_endpoint(engine, times=4),
    "the scheduler": lambda engine, provider, block: crash_scheduler(engine),
    "the hook bus": lambda engine, provider, block: crash_hook_bus(engine),
    "every connection": lambda engine, provider, block: provider.make_trouble("cut"),
    "a worker by a bug": lambda engine, provider, block: provider.make_trouble("bug"),
    "the engine's block": lambda engine, provider, block: block.cancel(),
}


def run_and_end(end: End, nth: int) -> bool:
    """Three callers outside the engine's block invoke; at the n-th step of any task something is ended."""
    provider = ScriptedProvider()
    model = scripted_model(concurrency_limit=2, queue_capacity=1)
    calls = [call_of(model, wish) for wish in ("answer", "retry", "answer", "answer")]
    told = 0
    block = trio.CancelScope()
    countdown = Countdown(nth, lambda: None)

    async def invoke(engine: Engine, call: Call) -> None:
        nonlocal told
        try:
            assert await engine.invoke(call) is call
            assert call.ended is not None
        except PenstockError:
            assert call.status in ("pending", "skipped")
        told += 1

    async def main() -> None:
        with trio.fail_after(5000):
            async with trio.open_nursery() as callers:
                try:
                    with block:
                        async with open_engine(transport=lambda account, on_usage: provider) as engine:
                            countdown._act = lambda: end(engine, provider, block)
                            trio.lowlevel.add_instrument(countdown)
                            for call in calls:
                                callers.start_soon(invoke, engine, call)
                            while told < len(calls):  # noqa: ASYNC110  # the callers end in many ways
                                await trio.sleep(0.5)
                except InternalError:
                    assert end in (ENDS["the scheduler"], ENDS["the hook bus"])
        assert told == len(calls), "a caller waits"
        check(engine, provider, calls, bug=end is ENDS["the scheduler"])

    run_virtually(main)
    if not countdown.struck:
        assert [call.status for call in calls] == ["completed"] * len(calls)
    return countdown.struck


@pytest.mark.parametrize("name", ENDS)
def test_what_ends_at_any_step_of_the_loop_leaves_no_caller_waiting(name: str) -> None:
    nth = next(nth for nth in range(1, 5000) if not run_and_end(ENDS[name], nth))
    assert nth > 50, "the scenario has become too short to say anything"
