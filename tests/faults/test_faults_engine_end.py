"""The end of an engine, by whatever cause: what the block raises, and that nobody who still asks it something waits.

Tasks outside the engine's block hold on to it, its calls, streams and observers after it has ended. In virtual time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from engine_checks import assert_nothing_is_left, crash_hook_bus, crash_scheduler, in_virtual_time
from scripted_provider import ScriptedProvider, call_of, scripted_model
from trio.testing import wait_all_tasks_blocked

from actors.transport import Connection
from engine import Engine, InternalError, OutcomeUnknown, PenstockError, ShuttingDown, open_engine


class BlockError(Exception):
    """What the user's own code raises."""


async def leaves(engine: Engine) -> None:
    """The block is left normally."""


async def raises(engine: Engine) -> None:
    raise BlockError


async def scheduler_fails(engine: Engine) -> None:
    crash_scheduler(engine)
    await trio.sleep_forever()


async def hook_bus_fails(engine: Engine) -> None:
    crash_hook_bus(engine)
    await trio.sleep_forever()


How = Callable[[Engine], Awaitable[None]]
HOWS: tuple[How, ...] = (leaves, raises, scheduler_fails, hook_bus_fails)


async def ended_engine(how: How) -> Engine:
    """An engine that has ended so."""
    try:
        async with open_engine(transport=lambda account, on_usage: ScriptedProvider()) as engine:
            await how(engine)
    except (BlockError, InternalError):
        pass
    return engine


# --- asking an engine that has ended ---


async def wait_quiet(engine: Engine) -> None:
    await engine.wait_quiet()


async def drain(engine: Engine) -> None:
    await engine.drain()


async def invoke(engine: Engine) -> None:
    with pytest.raises((ShuttingDown, InternalError)):
        await engine.invoke(call_of(scripted_model()))


async def submit(engine: Engine) -> None:
    with pytest.raises((ShuttingDown, InternalError)):
        await engine.submit(call_of(scripted_model()))


async def read_a_map(engine: Engine) -> None:
    with pytest.raises((ShuttingDown, InternalError)):
        engine.map([call_of(scripted_model())])


async def observe(engine: Engine) -> None:
    try:
        observer = engine.observe()
    except PenstockError:
        return
    assert [event async for event in observer] == []


async def statistics(engine: Engine) -> None:
    await trio.lowlevel.checkpoint()
    assert engine.statistics().live["waiters"] == 0


ASK = (wait_quiet, drain, invoke, submit, read_a_map, observe, statistics)


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize("how", HOWS)
@in_virtual_time
async def test_an_engine_that_has_ended_keeps_nobody_waiting(
    how: How, ask: Callable[[Engine], Awaitable[None]]
) -> None:
    engine = await ended_engine(how)
    with trio.fail_after(100):
        try:
            await ask(engine)
        except PenstockError:
            assert how in (scheduler_fails, hook_bus_fails), "only an engine that failed may complain"


# --- those who wait while it ends ---


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("how", HOWS)
@in_virtual_time
async def test_the_reader_of_a_map_gets_every_call_it_pulled(how: How, ordered: bool) -> None:
    """The puller waits for a place when the engine ends; the reader is a task outside the engine's block."""
    provider = ScriptedProvider()
    model = scripted_model(queue_capacity=1, concurrency_limit=1)
    calls = [call_of(model) for _ in range(5)]
    read: list[str] = []

    async def reader(engine: Engine) -> None:
        async with engine.map(calls, ordered=ordered) as stream:
            started.set()
            with trio.fail_after(1000):
                try:
                    async for call in stream:
                        read.append(call.status)  # noqa: PERF401  # what was read before an error counts
                except InternalError:
                    assert how in (scheduler_fails, hook_bus_fails), "only an engine that failed may complain"

    started = trio.Event()
    async with trio.open_nursery() as nursery:
        try:
            async with open_engine(transport=lambda account, on_usage: provider) as engine:
                nursery.start_soon(reader, engine)
                await started.wait()
                await trio.sleep(2.2)
                await how(engine)
        except (BlockError, InternalError):
            pass
    assert len(read) >= 2, "one in flight and one in the queue were under way"
    assert set(read) <= {"completed", "failed", "aborted", "skipped", "cancelled"}
    assert_nothing_is_left(engine, after_a_bug_in_the_schedule=how is scheduler_fails)


@in_virtual_time
async def test_an_observer_sees_the_end() -> None:
    events: list[str] = []

    async def watch(engine: Engine) -> None:
        events.extend([event.name async for event in engine.observe()])

    async with (
        trio.open_nursery() as nursery,
        open_engine(transport=lambda account, on_usage: ScriptedProvider()) as engine,
    ):
        nursery.start_soon(watch, engine)
        await wait_all_tasks_blocked()
        await engine.invoke(call_of(scripted_model()))
    assert events == ["queued", "granted", "sent", "ended"]


@in_virtual_time
async def test_a_place_that_is_handed_over_as_the_engine_closes_is_given_back() -> None:
    """Many submitters wait in a line that moves while the engine is closed to them."""
    provider = ScriptedProvider()
    model = scripted_model(queue_capacity=1, concurrency_limit=1)
    outcomes: list[str] = []

    async def submit(engine: Engine) -> None:
        try:
            call = await engine.submit(call_of(model))
            await call.wait()
            outcomes.append(call.status)
        except ShuttingDown:
            outcomes.append("refused")

    async with trio.open_nursery() as nursery, open_engine(transport=lambda account, on_usage: provider) as engine:
        for _ in range(6):
            nursery.start_soon(submit, engine)
        await trio.sleep(5)
        await engine.drain(queue="discard")
    assert len(outcomes) == 6
    assert "refused" in outcomes
    assert_nothing_is_left(engine)


# --- what the block raises ---


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@in_virtual_time
async def test_control_c_in_a_task_of_the_engines_leaves_as_itself(error: type[BaseException]) -> None:
    class Interrupted(ScriptedProvider):
        async def connect(self) -> Connection:
            await trio.lowlevel.checkpoint()
            raise error

    with pytest.raises(error):
        async with open_engine(transport=lambda account, on_usage: Interrupted()) as engine:
            await engine.invoke(call_of(scripted_model()))


@pytest.mark.parametrize("crash", [crash_scheduler, crash_hook_bus])
@in_virtual_time
async def test_an_engine_that_fails_ends_its_block_with_one_internal_error(crash: Callable[[Engine], None]) -> None:
    """Also when the block waits in a nursery of its own, whose tasks are then cancelled."""
    calls = [call_of(scripted_model()) for _ in range(3)]

    async def block() -> None:
        async with (
            open_engine(transport=lambda account, on_usage: ScriptedProvider()) as engine,
            trio.open_nursery() as nursery,
        ):
            for call in calls:
                nursery.start_soon(engine.invoke, call)
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep(1)
            crash(engine)

    with pytest.raises(InternalError) as caught:
        await block()
    assert "the engine failed" in str(caught.value)
    assert [(call.status, type(call.error)) for call in calls] == [("failed", InternalError)] * 3


@in_virtual_time
async def test_the_blocks_own_exception_leaves_unchanged_with_calls_in_every_state() -> None:
    mine = BlockError("mine")
    model = scripted_model(concurrency_limit=2)
    calls = [call_of(model) for _ in range(4)]
    engine: Engine

    async def block() -> None:
        nonlocal engine
        async with open_engine(transport=lambda account, on_usage: ScriptedProvider()) as engine:
            for call in calls:
                await engine.submit(call)
            await trio.sleep(3)
            raise mine

    with pytest.raises(BlockError) as caught:
        await block()
    assert caught.value is mine
    assert [call.status for call in calls] == ["failed", "failed", "aborted", "aborted"]
    errors = [call.error for call in calls[:2]]
    assert all(isinstance(error, OutcomeUnknown) and error.reason == "shutdown" for error in errors)
    assert_nothing_is_left(engine)


# --- providers that take a connection and do nothing with it ---


@pytest.mark.parametrize("when", ["at once", "at the request"])
@in_virtual_time
async def test_a_provider_that_accepts_and_hangs_up_costs_four_attempts_and_then_the_call_fails(when: str) -> None:
    """Not one attempt after the other for ever: a connection that is lost before its first byte counts as one."""

    class HangsUp(ScriptedProvider):
        tries = 0

        async def connect(self) -> Connection:
            self.tries += 1
            if self.tries == 100:
                call.cancel()  # it is tried again and again, and nobody is told
            connection = await super().connect()
            if when == "at once":
                connection.standing = False
            return connection

        async def stay(self, seconds: float) -> str | None:
            await super().stay(seconds)
            return "cut" if seconds == 1.0 else None

    provider = HangsUp()
    call = call_of(scripted_model())
    async with open_engine(transport=lambda account, on_usage: provider) as engine:
        with trio.fail_after(1000):
            await engine.invoke(call)
    assert call.status == "failed"
    assert type(call.error).__name__ == "ConnectFailed"
    assert (call.attempts, provider.begun[call.id]) == (4, 0)
    assert_nothing_is_left(engine)


@pytest.mark.parametrize("number", [200, 1000])
@in_virtual_time
async def test_as_many_connections_are_opened_as_there_are_calls(number: int) -> None:
    provider = ScriptedProvider()
    model = scripted_model()
    async with open_engine(transport=lambda account, on_usage: provider) as engine:
        for _ in range(number):
            await engine.submit(call_of(model))
        await engine.wait_quiet()
        # 64 at a time take half a second, a call four; nobody waits for a connection that somebody else has given back.
        assert trio.current_time() <= 0.5 * (number / 64 + 1) + 4
    assert_nothing_is_left(engine)
