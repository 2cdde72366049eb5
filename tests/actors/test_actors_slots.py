"""Reply slots: one value, whenever it comes, for whoever waits, as often as he asks.

Everything is run in virtual time; the value may come before the wait, during it, or with the waiter already cancelled.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.slots import Progress, ReplySlot, ReplySlots

MAIL = (b"ended", b"reply")


async def test_a_value_that_came_first_is_found(autojump_clock: MockClock) -> None:
    slot = ReplySlot()
    slot.put(MAIL)
    assert slot.progress is Progress.ENDED
    with trio.testing.assert_checkpoints():
        assert await slot.wait_ended() == MAIL
    with trio.fail_after(1):
        assert await slot.wait_ended() == MAIL, "and found again"


async def test_everybody_who_waits_is_woken_once_with_the_value(autojump_clock: MockClock) -> None:
    slot = ReplySlot()
    got: list[object] = []

    async def wait() -> None:
        got.append(await slot.wait_ended())

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 60
        for _ in range(3):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert slot.waiters == 3
        slot.put(MAIL)
        assert slot.waiters == 0
    assert got == [MAIL] * 3


async def test_a_cancelled_wait_ends_only_itself(autojump_clock: MockClock) -> None:
    slot = ReplySlot()
    got: list[object] = []

    async def wait() -> None:
        got.append(await slot.wait_ended())

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 60
        nursery.start_soon(wait)
        with trio.move_on_after(1) as scope:
            await slot.wait_ended()
        assert scope.cancelled_caught
        assert slot.waiters == 1
        assert slot.mail is None
        slot.put(MAIL)
    assert got == [MAIL]


async def test_a_waiter_for_the_end_sleeps_on_when_the_call_only_moves(autojump_clock: MockClock) -> None:
    slot = ReplySlot()
    moved: list[Progress] = []

    async def watch() -> None:
        await slot.wait_moved()
        moved.append(slot.progress)

    ended: list[object] = []

    async def wait() -> None:
        ended.append(await slot.wait_ended())

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 60
        nursery.start_soon(watch)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        slot.progress = Progress.GRANTED
        slot.wake()
        await wait_all_tasks_blocked()
        assert (moved, ended) == ([Progress.GRANTED], [])
        assert slot.waiters == 1
        slot.put(MAIL)
    assert ended == [MAIL]


@pytest.mark.parametrize("registered", ["before", "after"])
def test_on_end_is_called_once(registered: str) -> None:
    slot = ReplySlot()
    seen: list[object] = []
    if registered == "before":
        slot.call_at_end(lambda ended: seen.append(ended.mail))
        assert seen == []
        slot.put(MAIL)
    else:
        slot.put(MAIL)
        slot.call_at_end(lambda ended: seen.append(ended.mail))
    assert seen == [MAIL]


def test_a_call_cannot_end_twice() -> None:
    slot = ReplySlot()
    slot.put(MAIL)
    with pytest.raises(AssertionError):
        slot.put((b"other", b""))
    assert slot.mail == MAIL


def test_mail_reaches_the_slot_of_its_call_and_the_slot_then_leaves() -> None:
    slots = ReplySlots()
    one, two = ReplySlot(), ReplySlot()
    slots.add(1, one)
    slots.add(2, two)
    assert (one.progress, list(slots)) == (Progress.SUBMITTED, [1, 2])
    slots.advance(1, Progress.SENT)
    slots.deliver(1, MAIL)
    assert (one.mail, two.mail, list(slots)) == (MAIL, None, [2])
    assert slots.get(1) is None
    slots.deliver(1, (b"late", b""))
    slots.advance(1, Progress.QUEUED)
    assert (one.mail, one.progress) == (MAIL, Progress.ENDED), "what comes late changes nothing"


async def test_waiters_are_counted_over_all_slots_and_gone_with_the_calls(autojump_clock: MockClock) -> None:
    slots = ReplySlots()
    one, two = ReplySlot(), ReplySlot()
    slots.add(1, one)
    slots.add(2, two)
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 60
        for slot in (one, two, two):
            nursery.start_soon(slot.wait_ended)
        await wait_all_tasks_blocked()
        assert slots.waiters == 3
        slots.deliver(2, MAIL)
        assert slots.waiters == 1
        slots.forget(1)
        assert (slots.waiters, len(slots)) == (0, 0)
        nursery.cancel_scope.cancel()
