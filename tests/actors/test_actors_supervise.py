"""Supervision: an actor that fails is started anew, three times a minute and no more; cancellation is not a failure.

The clock is virtual, so the window of failures is tested to the microsecond.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from actors.actor import supervise


class Crew:
    """Makes actors of which the nth works for `works[n]` seconds and fails; after the last they return."""

    def __init__(self, works: list[float]) -> None:
        self._works: Iterator[float] = iter(works)
        self.started: list[float] = []
        self.failures: list[tuple[str, bool, float]] = []

    def start(self) -> Crew:
        return self

    async def run(self) -> None:
        self.started.append(trio.current_time())
        work = next(self._works, None)
        if work is None:
            return
        await trio.sleep(work)
        raise ValueError(f"bug {len(self.started)}")

    def failed(self, error: Exception, for_good: bool) -> None:
        self.failures.append((str(error), for_good, trio.current_time()))


@pytest.mark.parametrize(
    ("works", "starts", "for_good"),
    [
        ([], 1, False),
        ([1], 2, False),
        ([1, 1, 1], 4, False),
        ([1, 1, 1, 1], 4, True),
        ([1, 1, 1, 1, 1, 1], 4, True),
        # The first three failures at 1, 2 and 3 s. The fourth at 60.9 s is one too many, at 61 s it is not.
        ([1, 1, 1, 57.9], 4, True),
        ([1, 1, 1, 58], 5, False),
        ([1, 1, 1, 58, 0.5], 5, True),
        ([1, 1, 1, 58, 1], 6, False),
        ([30] * 10, 11, False),
    ],
)
async def test_three_restarts_in_any_minute(
    works: list[float], starts: int, for_good: bool, autojump_clock: MockClock
) -> None:
    crew = Crew(works)
    await supervise(crew.start, failed=crew.failed, restarts=3, within_us=60_000_000)
    assert len(crew.started) == starts
    assert [last for _, last, _ in crew.failures] == [False] * (len(crew.failures) - for_good) + [True] * for_good
    assert len(crew.failures) == starts - (not for_good)
    assert all(told == f"bug {place + 1}" for place, (told, _, _) in enumerate(crew.failures))


async def test_without_restarts_the_first_failure_is_for_good(autojump_clock: MockClock) -> None:
    crew = Crew([5])
    await supervise(crew.start, failed=crew.failed)
    assert crew.failures == [("bug 1", True, 5.0)]


async def test_cancellation_passes_through_and_is_no_failure(autojump_clock: MockClock) -> None:
    crew = Crew([100])
    with trio.move_on_after(1) as scope:
        await supervise(crew.start, failed=crew.failed, restarts=3)
    assert scope.cancelled_caught
    assert (len(crew.started), crew.failures) == (1, [])


async def test_what_is_not_an_exception_passes_through(autojump_clock: MockClock) -> None:
    """Control-C in an actor's task is the user's, not a bug of the actor's."""

    class Interrupted:
        async def run(self) -> None:
            await trio.lowlevel.checkpoint()
            raise KeyboardInterrupt

    crew = Crew([])
    with pytest.raises(KeyboardInterrupt):
        await supervise(Interrupted, failed=crew.failed, restarts=3)
    assert crew.failures == []
