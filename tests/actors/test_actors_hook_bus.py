"""The hook bus: observers are told and never waited for; what runs after a call may fail, the call is delivered.

In virtual time. A call's handlers are an async function of the test's; what a caller gets is read from his reply slot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import Context, ContextVar, copy_context

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import messages as ms
from actors.hook_bus import RESTING, HookBusActor, Job
from actors.slots import ReplySlot, ReplySlots

MAIL = (b"ended", b"reply")
AfterCall = Callable[[int, ms.Mail], Awaitable[ms.Mail]]
TENANT: ContextVar[str] = ContextVar("tenant", default="")


class TestHandlers:
    """The engine's side: one function for every job, and a context for each."""

    __test__ = False

    def __init__(self, run: AfterCall) -> None:
        self._run = run
        self.contexts: dict[int, Context] = {}

    def context(self, call_id: int) -> Context:
        return self.contexts.get(call_id, Context())

    async def run(self, job: Job) -> ms.Mail:
        return await self._run(job.call_id, job.mail)


class Caller(ReplySlot):
    """A slot that counts how often it is told its end."""

    def __init__(self) -> None:
        super().__init__()
        self.told = 0

    def put(self, mail: ms.Mail) -> None:
        self.told += 1
        super().put(mail)


class Rig:
    """A hook bus, its address book, and `callers` by number."""

    def __init__(self, run: AfterCall | None) -> None:
        self.slots = ReplySlots()
        self.handlers = TestHandlers(run) if run is not None else None
        self.bus = HookBusActor(self.slots, self.handlers)
        self.callers: dict[int, Caller] = {}

    def end_call(self, call_id: int) -> None:
        """What the scheduler does when a call with handlers has ended."""
        slot = self.callers[call_id] = Caller()
        self.slots.add(call_id, slot)
        self.bus.mailbox.post(ms.encode(ms.HookCall(call_id, MAIL[0])), MAIL[1])

    def ask(self, call_id: int) -> Caller:
        """What the intake does when a call has handlers before it."""
        slot = self.callers[call_id] = Caller()
        self.slots.add(call_id, slot)
        self.bus.mailbox.post(ms.encode(ms.HookCall(call_id)))
        return slot

    def event(self, call_id: int) -> None:
        self.bus.mailbox.post(ms.encode(ms.HookEvent("sent", 0, call_id, 1, 1, 1)))

    def stop(self) -> None:
        self.bus.mailbox.post(ms.encode(ms.Stop()))


@asynccontextmanager
async def running(run: AfterCall | None = None) -> AsyncIterator[Rig]:
    rig = Rig(run)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.bus.run)
        yield rig
        nursery.cancel_scope.cancel()


# --- observers ---


async def test_observers_are_told_every_event_in_order(autojump_clock: MockClock) -> None:
    async with running() as rig:
        observers = [rig.bus.observe(10), rig.bus.observe(10)]
        for call_id in range(5):
            rig.event(call_id)
        await wait_all_tasks_blocked()
        for observer in observers:
            assert [(await anext(observer)).call_id for _ in range(5)] == [0, 1, 2, 3, 4]
            assert (observer.statistics().told, observer.statistics().dropped) == (5, 0)


async def test_an_observer_that_does_not_read_misses_events_and_delays_nobody(autojump_clock: MockClock) -> None:
    async with running() as rig:
        lazy, eager = rig.bus.observe(3), rig.bus.observe(2000)
        for call_id in range(1000):
            rig.event(call_id)
        rig.end_call(1)
        await wait_all_tasks_blocked()
        assert rig.callers[1].mail == MAIL
        statistics = lazy.statistics()
        assert (statistics.told, statistics.dropped, statistics.buffered) == (3, 998, 3), (
            "the call that ended is one more event: its handlers begin"
        )
        assert eager.statistics().told == 1001
        assert [(await anext(lazy)).call_id for _ in range(3)] == [0, 1, 2], "what it has is the oldest, unbroken"
        assert trio.current_time() == 0


async def test_a_subscription_ends_with_its_block_and_what_is_buffered_can_still_be_read(
    autojump_clock: MockClock,
) -> None:
    async with running() as rig:
        async with rig.bus.observe(10) as observer:
            rig.event(1)
            await wait_all_tasks_blocked()
            assert rig.bus.observed
        rig.event(2)
        await wait_all_tasks_blocked()
        assert not rig.bus.observed
        assert [event.call_id async for event in observer] == [1]
        observer.close()


async def test_observers_end_when_the_bus_stops(autojump_clock: MockClock) -> None:
    read: list[int] = []
    async with running() as rig:
        observer = rig.bus.observe(10)

        async def watch() -> None:
            read.extend([event.call_id async for event in observer])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            rig.event(7)
            rig.stop()
    assert read == [7]
    assert rig.bus.statistics().observers == ()


async def test_observing_a_bus_that_has_stopped_ends_at_once(autojump_clock: MockClock) -> None:
    async with running() as rig:
        rig.stop()
        await wait_all_tasks_blocked()
        with trio.fail_after(1):
            assert [event async for event in rig.bus.observe(10)] == []


# --- what comes after a call ---


async def raises(call_id: int, mail: ms.Mail) -> ms.Mail:
    await trio.sleep(1)
    raise ValueError("a handler's bug")


async def raises_at_once(call_id: int, mail: ms.Mail) -> ms.Mail:
    raise ValueError("a handler's bug")


async def hangs(call_id: int, mail: ms.Mail) -> ms.Mail:
    await trio.sleep_forever()
    return mail


async def replaces(call_id: int, mail: ms.Mail) -> ms.Mail:
    await trio.sleep(1)
    return b"other", b"answer"


async def raises_several(call_id: int, mail: ms.Mail) -> ms.Mail:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raises, call_id, mail)
        nursery.start_soon(raises, call_id, mail)
    return mail


async def cleans_up_badly(call_id: int, mail: ms.Mail) -> ms.Mail:
    """Hangs; told to stop, one of its tasks fails on the way out while another is just cancelled."""

    async def fails_on_the_way_out() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("a handler's bug")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails_on_the_way_out)
        nursery.start_soon(trio.sleep_forever)
    return mail


WAYS = {
    "none": (None, MAIL, 0.0),
    "raises": (raises, MAIL, 1.0),
    "raises at once": (raises_at_once, MAIL, 0.0),
    "raises several": (raises_several, MAIL, 1.0),
    "replaces": (replaces, (b"other", b"answer"), 1.0),
}


async def clings(call_id: int, mail: ms.Mail) -> ms.Mail:
    """Told to stop, it takes half a second more."""
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.5)
    return mail


UNENDING = {"hangs": hangs, "cleans up badly": cleans_up_badly, "clings": clings}


@pytest.mark.parametrize("way", WAYS)
async def test_whatever_its_handlers_do_a_call_is_delivered_once(way: str, autojump_clock: MockClock) -> None:
    after_call, mail, seconds = WAYS[way]
    async with running(after_call) as rig:
        rig.end_call(1)
        await rig.callers[1].wait_ended()
        assert trio.current_time() == seconds
        assert (rig.callers[1].mail, rig.callers[1].told) == (mail, 1)
        await wait_all_tasks_blocked()
        assert rig.bus.statistics().in_handlers == 0
        rig.end_call(2)
        await rig.callers[2].wait_ended()
        assert rig.callers[2].mail == mail, "the bus goes on"


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
@pytest.mark.parametrize("way", [*WAYS, *UNENDING])
async def test_a_bus_that_ends_meanwhile_delivers_every_call_once(
    way: str, how: str, autojump_clock: MockClock
) -> None:
    """Two calls are with their handlers, one has just come, one comes when the bus has gone."""
    rig = Rig(UNENDING[way] if way in UNENDING else WAYS[way][0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.bus.run)
        rig.end_call(1)
        rig.end_call(2)
        await wait_all_tasks_blocked()
        if how == "stopped":
            rig.end_call(3)
            rig.stop()
        else:
            nursery.cancel_scope.cancel()
            rig.end_call(3)
    rig.end_call(4)
    assert {call_id: (caller.told, caller.mail) for call_id, caller in rig.callers.items()} == dict.fromkeys(
        (1, 2, 3, 4), (1, MAIL)
    )
    assert rig.bus.statistics().in_handlers == 0


async def test_a_slow_handler_holds_up_no_other_call(autojump_clock: MockClock) -> None:
    started: list[int] = []

    async def slow_for_one(call_id: int, mail: ms.Mail) -> ms.Mail:
        started.append(call_id)
        await trio.sleep(20 if call_id == 1 else 0)
        return mail

    async with running(slow_for_one) as rig:
        rig.end_call(1)
        rig.end_call(2)
        await rig.callers[2].wait_ended()
        assert trio.current_time() == 0
        assert sorted(started) == [1, 2]
        assert rig.bus.statistics().in_handlers == 1
        await rig.callers[1].wait_ended()
        assert trio.current_time() == 20


async def test_many_events_leave_other_tasks_their_turn(autojump_clock: MockClock) -> None:
    """A thousand pieces of mail are not handled in one go."""
    async with running() as rig:
        observer = rig.bus.observe(10_000)
        await wait_all_tasks_blocked()
        for call_id in range(5000):
            rig.event(call_id)
        seen: list[int] = []
        while observer.statistics().told < 5000:
            await trio.lowlevel.checkpoint()
            seen.append(observer.statistics().told)
        assert len([told for told in seen if told < 5000]) >= 5


# --- what comes before a call ---


def answer_of(slot: Caller) -> ms.Ended | None:
    """How the handlers ended the call; None if it may go."""
    assert slot.mail is not None
    answer = ms.decode_hook_answer.decode(slot.mail[0])
    assert isinstance(answer, ms.HookAnswer)
    return ms.decode_ended.decode(answer.ended) if answer.ended else None


async def lets_go(call_id: int, mail: ms.Mail) -> ms.Mail:
    await trio.sleep(1)
    return ms.encode(ms.HookAnswer(call_id)), b""


async def test_what_comes_before_a_call_answers_into_its_slot(autojump_clock: MockClock) -> None:
    async with running(lets_go) as rig:
        slot = rig.ask(1)
        await slot.wait_ended()
        assert answer_of(slot) is None
        assert (trio.current_time(), slot.told) == (1.0, 1)


@pytest.mark.parametrize("way", UNENDING)
async def test_cancelling_ends_the_handlers_before_a_call_at_once(way: str, autojump_clock: MockClock) -> None:
    """The same number can be asked about again, and the first one's handlers do not answer for the second."""
    behaviour = [UNENDING[way], lets_go]

    async def first_one_then_the_other(call_id: int, mail: ms.Mail) -> ms.Mail:
        return await behaviour.pop(0)(call_id, mail)

    async with running(first_one_then_the_other) as rig:
        first = rig.ask(1)
        await wait_all_tasks_blocked()
        rig.bus.mailbox.post(ms.encode(ms.Cancel(1)))
        await first.wait_ended()
        ended = answer_of(first)
        assert ended is not None
        assert (ended.status, trio.current_time()) == ("cancelled", 0.0)
        second = rig.ask(1)
        await second.wait_ended()
        assert answer_of(second) is None
        assert (first.told, second.told, rig.bus.statistics().in_handlers) == (1, 1, 0)


async def test_a_drain_delivers_every_call_as_it_stands(autojump_clock: MockClock) -> None:
    async with running(hangs) as rig:
        slot = rig.ask(1)
        rig.end_call(2)
        await wait_all_tasks_blocked()
        assert not rig.bus.quiet
        rig.bus.mailbox.post(ms.encode(ms.Drain("stop")))
        await rig.bus.wait_quiet()
        ended = answer_of(slot)
        assert ended is not None
        assert ended.fault is not None
        assert (ended.status, ended.fault.kind) == ("aborted", "ShuttingDown")
        assert rig.callers[2].mail == MAIL


async def test_handlers_see_the_context_of_their_own_call(autojump_clock: MockClock) -> None:
    seen: dict[int, str] = {}

    async def look(call_id: int, mail: ms.Mail) -> ms.Mail:
        seen[call_id] = TENANT.get()
        TENANT.set("changed")
        return mail

    async with running(look) as rig:
        assert rig.handlers is not None
        for call_id in (1, 2, 3, 4):
            token = TENANT.set(f"tenant-{call_id}")
            rig.handlers.contexts[call_id] = copy_context()
            TENANT.reset(token)
            rig.end_call(call_id)
            if call_id > 2:  # the tasks of the first two are used again
                await rig.bus.wait_quiet()
    assert seen == {call_id: f"tenant-{call_id}" for call_id in (1, 2, 3, 4)}


async def test_more_handlers_at_once_than_tasks_are_kept_for(autojump_clock: MockClock) -> None:
    async with running(replaces) as rig:
        for call_ids in (range(2 * RESTING + 50), range(1000, 1050)):
            for call_id in call_ids:
                rig.end_call(call_id)
            await rig.bus.wait_quiet()
    assert {(caller.told, caller.mail) for caller in rig.callers.values()} == {(1, (b"other", b"answer"))}


async def test_observers_are_told_when_handlers_begin_and_of_a_call_they_ended(autojump_clock: MockClock) -> None:
    async with running(hangs) as rig:
        observer = rig.bus.observe(10)
        rig.ask(1)
        rig.bus.mailbox.post(ms.encode(ms.Cancel(1)))
        await rig.bus.wait_quiet()
        assert [(event.name, event.detail) for event in (await anext(observer), await anext(observer))] == [
            ("handling", "before"),
            ("ended", "cancelled"),
        ]
