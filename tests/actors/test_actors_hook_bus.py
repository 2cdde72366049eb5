"""The hook bus: observers are told and never waited for; what runs after a call may fail, the call is delivered.

In virtual time. A call's handlers are an async function of the test's; what a caller gets is read from his reply slot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import messages as ms
from actors.hook_bus import AfterCall, HookBusActor
from actors.slots import ReplySlot, ReplySlots

MAIL = (b"ended", b"reply")


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

    def __init__(self, after_call: AfterCall | None, after_call_s: float = 30.0) -> None:
        self.slots = ReplySlots()
        self.bus = HookBusActor(self.slots, after_call=after_call, after_call_s=after_call_s)
        self.callers: dict[int, Caller] = {}

    def end_call(self, call_id: int) -> None:
        """What the scheduler does when a call with handlers has ended."""
        slot = self.callers[call_id] = Caller()
        self.slots.add(call_id, slot)
        self.bus.mailbox.post(ms.encode(ms.HookCall(call_id, MAIL[0])), MAIL[1])

    def event(self, call_id: int) -> None:
        self.bus.mailbox.post(ms.encode(ms.HookEvent("sent", 0, call_id, 1, 1, 1)))

    def stop(self) -> None:
        self.bus.mailbox.post(ms.encode(ms.Stop()))


@asynccontextmanager
async def running(after_call: AfterCall | None = None, after_call_s: float = 30.0) -> AsyncIterator[Rig]:
    rig = Rig(after_call, after_call_s)
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
        assert (statistics.told, statistics.dropped, statistics.buffered) == (3, 997, 3)
        assert eager.statistics().told == 1000
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
    "hangs": (hangs, MAIL, 30.0),
    "replaces": (replaces, (b"other", b"answer"), 1.0),
    "cleans up badly": (cleans_up_badly, MAIL, 30.0),
}


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
@pytest.mark.parametrize("way", WAYS)
async def test_a_bus_that_ends_meanwhile_delivers_every_call_once(
    way: str, how: str, autojump_clock: MockClock
) -> None:
    """Two calls are with their handlers, one has just come, one comes when the bus has gone."""
    after_call, _, _ = WAYS[way]
    rig = Rig(after_call)
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
