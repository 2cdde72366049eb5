"""The places of a queue: taken in the order of asking, handed over when freed, never lost and never sold twice.

A state machine compares them with a list; cancellation and closing are tried in virtual time at the instants at which
a place is on its way from one hand to another.
"""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.errors import ShuttingDown
from actors.mailbox import Places

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "nowait", "free", "exceed", "cancel", "free and cancel", "cancel and free"]),
        st.integers(0, 9),
    ),
    max_size=30,
)


class Line:
    """Submitters at the places of one queue, and a naive record of who should have a place."""

    def __init__(self, places: Places, nursery: trio.Nursery) -> None:
        self.places = places
        self.nursery = nursery
        self.scopes: dict[int, trio.CancelScope] = {}
        self.waiting: list[int] = []
        self.served: list[int] = []
        self.expected: list[int] = []
        self.taken = 0
        self.asked = 0

    def ask(self) -> None:
        me = self.asked
        self.asked += 1
        scope = self.scopes[me] = trio.CancelScope()

        async def wait() -> None:
            with scope:
                await self.places.take()
                self.served.append(me)

        self.nursery.start_soon(wait)
        if self.taken < self.places.capacity and not self.waiting:
            self.taken += 1
            self.expected.append(me)
        else:
            self.waiting.append(me)

    def free(self) -> None:
        if not self.taken:
            return
        self.places.free()
        self.taken -= 1
        while self.taken < self.places.capacity and self.waiting:
            self.expected.append(self.waiting.pop(0))
            self.taken += 1

    def cancel(self, which: int) -> None:
        if self.waiting:
            who = self.waiting.pop(which % len(self.waiting))
            self.scopes[who].cancel()

    def freed_then_cancelled(self) -> None:
        """A place is handed to the first in line, who is cancelled before he wakes: it is his, or it is free again."""
        if not self.waiting or self.taken != self.places.capacity:
            return
        first = self.waiting[0]
        self.free()
        self.scopes[first].cancel()


@settings(deadline=None, max_examples=150)
@given(capacity=st.integers(1, 3), steps=STEPS)
def test_places_go_to_whoever_asked_first_and_none_is_lost(capacity: int, steps: list[tuple[str, int]]) -> None:
    async def main() -> None:
        places = Places("queue", capacity)
        async with trio.open_nursery() as nursery:
            line = Line(places, nursery)
            for step, which in steps:
                await act(line, step, which)
                await wait_all_tasks_blocked()
                assert line.served == line.expected
                assert (places.taken, places.waiting) == (line.taken, len(line.waiting))
            nursery.cancel_scope.cancel()

    async def act(line: Line, step: str, which: int) -> None:
        if step == "take":
            line.ask()
        elif step == "nowait":
            granted = line.taken < capacity and not line.waiting
            assert line.places.take_nowait() is granted
            line.taken += granted
        elif step == "free":
            line.free()
        elif step == "exceed":
            line.places.exceed()
            line.taken += 1
        elif step == "cancel":
            line.cancel(which)
        elif step == "free and cancel":
            line.freed_then_cancelled()
        else:
            line.cancel(which)
            line.free()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_nobody_passes_those_who_wait() -> None:
    async def main() -> None:
        places = Places("queue", 1)
        assert places.take_nowait()
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + 60
            nursery.start_soon(places.take)
            await wait_all_tasks_blocked()
            places.free()
            # The place was handed to the waiter, who has not even woken yet.
            assert not places.take_nowait()
            assert places.taken == 1

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_calls_that_came_back_keep_new_ones_out_until_the_queue_is_below_its_capacity() -> None:
    async def main() -> None:
        places = Places("queue", 2)
        assert places.take_nowait()
        assert places.take_nowait()
        places.exceed()
        places.exceed()
        assert places.taken == 4
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + 60
            nursery.start_soon(places.take)
            for left in (3, 2):
                places.free()
                await wait_all_tasks_blocked()
                assert (places.taken, places.waiting) == (left, 1), "the queue is not below its capacity"
            places.free()
            await wait_all_tasks_blocked()
            assert (places.taken, places.waiting) == (2, 0)

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_closing_wakes_everybody_who_waits(autojump_clock: MockClock) -> None:
    places = Places("queue", 1)
    assert places.take_nowait()
    told: list[int] = []

    async def wait(me: int) -> None:
        with pytest.raises(ShuttingDown) as caught:
            await places.take()
        assert caught.value.lane == "queue"
        told.append(me)

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 60
        for me in range(3):
            nursery.start_soon(wait, me)
        await wait_all_tasks_blocked()
        places.close()
    assert sorted(told) == [0, 1, 2]
    assert places.taken == 1
    with pytest.raises(ShuttingDown):
        await places.take()


async def test_a_place_handed_over_right_before_the_queue_closes_is_not_lost(autojump_clock: MockClock) -> None:
    """Either the waiter has it, and says so by returning, or nobody has it."""
    places = Places("queue", 1)
    assert places.take_nowait()
    outcome: list[str] = []

    async def wait() -> None:
        try:
            await places.take()
        except ShuttingDown:
            outcome.append("refused")
        else:
            outcome.append("taken")

    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 60
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        places.free()
        places.close()
    assert (outcome, places.taken) in ((["refused"], 0), (["taken"], 1))


async def test_being_cancelled_in_take_never_takes_a_place(autojump_clock: MockClock) -> None:
    places = Places("queue", 1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await places.take()
    assert scope.cancelled_caught
    assert places.taken == 0
