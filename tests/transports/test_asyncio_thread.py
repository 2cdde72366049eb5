"""Asyncio code in a worker thread, read from trio: items, back-pressure, errors, cancellation, and no thread left."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import trio

from engine.transports.asyncio_thread import CancelledByItself, Outlet, Stopped, run_in_thread

NAME = "bridge under test"


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Whatever a test does, it leaves no thread."""
    yield
    assert threads() == []


async def ignore(item: object) -> None:
    await trio.lowlevel.checkpoint()


async def test_items_come_in_order_and_then_the_value() -> None:
    """What is said is taken one by one, in the order in which it was said, and before the value is returned."""
    taken: list[int] = []

    async def main(outlet: Outlet[int]) -> str:
        for number in range(200):
            await outlet.put(number, 1)
            if number % 50 == 0:
                await asyncio.sleep(0)
        return "done"

    async def take(number: int) -> None:
        await trio.lowlevel.checkpoint()
        taken.append(number)

    assert await run_in_thread(main, take, name=NAME) == "done"
    assert taken == list(range(200))


async def test_a_run_that_says_nothing() -> None:
    """A value alone, in a loop of its own in another thread, and in a copy of the caller's context."""
    mark = contextvars.ContextVar[str]("mark")
    mark.set("the caller's")

    async def main(outlet: Outlet[int]) -> tuple[str, int]:
        seen = mark.get()
        mark.set("the run's")
        return seen, threading.get_ident()

    seen, ident = await run_in_thread(main, ignore, name=NAME)
    assert seen == "the caller's" == mark.get()
    assert ident != threading.get_ident()


@pytest.mark.parametrize("way", ["put", "say"])
async def test_a_slow_reader_holds_the_run_up(way: str) -> None:
    """Never more than the budget waits to be taken, whether a coroutine says it or a thread of its executor."""
    said = 0
    taken = 0
    most = 0

    async def main(outlet: Outlet[bytes]) -> None:
        def in_a_thread() -> None:
            nonlocal said
            for _ in range(50):
                outlet.say(b"x" * 100, 100)
                said += 1

        nonlocal said
        if way == "say":
            await asyncio.get_running_loop().run_in_executor(None, in_a_thread)
            return
        for _ in range(50):
            await outlet.put(b"x" * 100, 100)
            said += 1

    async def take(item: bytes) -> None:
        nonlocal taken, most
        if taken < 3:
            await trio.sleep(0.05)  # long enough for all fifty, were nothing in their way
        taken += 1
        most = max(most, said - taken)

    await run_in_thread(main, take, name=NAME, budget_bytes=300)
    assert taken == 50
    assert 1 <= most <= 3


async def test_one_item_larger_than_the_budget_passes() -> None:
    """It goes alone, and does not wait for room that there will never be."""
    taken: list[int] = []

    async def main(outlet: Outlet[int]) -> None:
        await outlet.put(1, 10)
        await outlet.put(2, 10_000)
        outlet.say(3, 10_000)

    async def take(item: int) -> None:
        taken.append(item)

    await run_in_thread(main, take, name=NAME, budget_bytes=100)
    assert taken == [1, 2, 3]


async def test_tasks_that_wait_for_room_keep_their_order() -> None:
    """Whoever waits is not overtaken by whoever says something later."""
    taken: list[int] = []

    async def main(outlet: Outlet[int]) -> None:
        async def one(number: int) -> None:
            await outlet.put(number, 60)

        tasks = []
        for number in range(40):
            tasks.append(asyncio.ensure_future(one(number)))
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)

    async def take(item: int) -> None:
        await trio.sleep(0.002)
        taken.append(item)

    await run_in_thread(main, take, name=NAME, budget_bytes=100)
    assert taken == list(range(40))


async def test_an_exception_comes_after_all_that_was_said() -> None:
    """It is the very exception of the run."""
    taken: list[int] = []
    raised = LookupError("in the thread")

    async def main(outlet: Outlet[int]) -> None:
        await outlet.put(1, 1)
        raise raised

    async def take(item: int) -> None:
        taken.append(item)

    with pytest.raises(LookupError) as caught:
        await run_in_thread(main, take, name=NAME)
    assert caught.value is raised
    assert taken == [1]


async def test_a_run_that_cancels_itself_is_an_error_and_no_cancellation() -> None:
    """`asyncio.CancelledError` means nothing to trio, so it does not get there."""

    async def main(outlet: Outlet[int]) -> None:
        raise asyncio.CancelledError

    with pytest.raises(CancelledByItself):
        await run_in_thread(main, ignore, name=NAME)


async def test_cancelling_ends_a_run_that_waits() -> None:
    """Its task is cancelled where it waits and cleans up, then other tasks of its loop are ended, and it is over."""
    ends: list[str] = []
    begun = trio.Event()

    async def main(outlet: Outlet[int]) -> None:
        async def beside() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ends.append("beside")

        task = asyncio.ensure_future(beside())
        await asyncio.sleep(0)
        await outlet.put(1, 1)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)  # cleaning up takes its time, and gets it
            ends.append(f"main {task.done()}")

    async def take(item: int) -> None:
        begun.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: run_in_thread(main, take, name=NAME))
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert ends == ["main False", "beside"]


@pytest.mark.parametrize("way", ["put", "say", "say in the loop"])
async def test_cancelling_ends_a_run_that_waits_for_room(way: str) -> None:
    """Its reader is gone, so there will be none: what waits is told so, in whatever thread it waits."""
    told: list[str] = []
    taking = trio.Event()

    async def main(outlet: Outlet[int]) -> None:
        def endless() -> None:
            try:
                while True:
                    outlet.say(1, 60)
            except Stopped:
                told.append("say")
                raise

        if way == "say":
            await asyncio.get_running_loop().run_in_executor(None, endless)
        elif way == "say in the loop":
            endless()
        try:
            while True:
                await outlet.put(1, 60)
        except (Stopped, asyncio.CancelledError):
            told.append("put")
            raise

    async def take(item: int) -> None:
        taking.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: run_in_thread(main, take, name=NAME, budget_bytes=100))
        await taking.wait()
        await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert told == [way.split()[0]]


async def test_cancelled_before_it_began() -> None:
    """Nothing is started in a scope that is cancelled already."""
    started = False

    async def main(outlet: Outlet[int]) -> None:
        nonlocal started
        started = True

    with trio.CancelScope() as scope:
        scope.cancel()
        await run_in_thread(main, ignore, name=NAME)
    assert scope.cancelled_caught
    assert not started


async def test_cancelled_at_any_moment_it_ends() -> None:
    """Also while the thread is starting its loop, and while it is ending it."""

    async def main(outlet: Outlet[int]) -> None:
        for number in range(20):
            await outlet.put(number, 50)
            await asyncio.sleep(0)

    for step in range(60):
        with trio.move_on_after(step * 0.0001):
            await run_in_thread(main, ignore, name=NAME, budget_bytes=100)
        assert threads() == []


async def test_an_exception_of_the_reader_ends_the_run() -> None:
    """As a cancellation would, and it is the exception that comes out."""
    ended = False

    async def main(outlet: Outlet[int]) -> None:
        nonlocal ended
        try:
            while True:
                await outlet.put(1, 1)
        finally:
            ended = True

    async def take(item: int) -> None:
        raise LookupError("of the reader")

    with pytest.raises(LookupError, match="of the reader"):
        await run_in_thread(main, take, name=NAME)
    assert ended


async def test_a_task_that_will_not_end_is_abandoned(caplog: pytest.LogCaptureFixture) -> None:
    """One that swallows its cancellation is left after the grace, with a warning; what it says later goes nowhere."""
    let_go = threading.Event()
    late: list[str] = []

    async def main(outlet: Outlet[int]) -> None:
        await outlet.put(1, 1)
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.005)
        try:
            await outlet.put(2, 1)
        except Stopped:
            late.append("stopped")

    await _abandon(main, caplog)
    let_go.set()
    await _ended()
    assert late == ["stopped"]


async def test_code_that_blocks_the_loop_is_abandoned(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing can be told to a loop that does not turn; it ends when the code does."""
    let_go = threading.Event()

    async def main(outlet: Outlet[int]) -> None:
        await outlet.put(1, 1)
        let_go.wait()  # the bad manners are what is tested

    await _abandon(main, caplog)
    let_go.set()
    await _ended()


async def _abandon(main: Callable[[Outlet[int]], Coroutine[Any, Any, None]], caplog: pytest.LogCaptureFixture) -> None:
    begun = trio.Event()

    async def take(item: int) -> None:
        begun.set()

    with caplog.at_level(logging.WARNING, "penstock"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: run_in_thread(main, take, name=NAME, grace_s=0.1))
            await begun.wait()
            nursery.cancel_scope.cancel()
    assert "abandoned" in caplog.text
    assert NAME in caplog.text
    assert len(threads()) == 1


async def _ended() -> None:
    for thread in threads():
        await trio.to_thread.run_sync(thread.join)


def test_an_abandoned_thread_outlasts_trio_in_peace() -> None:
    """It finds nobody at its end, and that is all."""
    let_go = threading.Event()

    async def main(outlet: Outlet[int]) -> None:
        await asyncio.to_thread(let_go.wait)

    async def abandoning() -> None:
        with trio.move_on_after(0.05):
            await run_in_thread(main, ignore, name=NAME, grace_s=0.05)

    trio.run(abandoning)
    assert len(threads()) == 1
    let_go.set()
    threads()[0].join(10)


async def test_one_that_swallows_a_cancellation_is_cancelled_again() -> None:
    begun = trio.Event()
    token = trio.lowlevel.current_trio_token()

    async def main(outlet: Outlet[str]) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            token.run_sync_soon(begun.set)
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: run_in_thread(main, ignore, name=NAME, grace_s=30.0))
            await begun.wait()
            nursery.cancel_scope.cancel()
    assert not [thread for thread in threading.enumerate() if thread.name == NAME]
