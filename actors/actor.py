"""What all actors have in common: a mailbox, a loop that reads it, and somebody who notices when the loop fails.

`supervise` runs an actor and starts a new one in its place when it fails, a few times; it reports every failure and
swallows none of trio's cancellations.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from actors.clock import now_us

BATCH = 256
"""Pieces of mail an actor handles before it lets the other tasks run."""


class Actor(Protocol):
    """Something that runs until it is told to stop, is cancelled, or fails."""

    async def run(self) -> None:
        """Read mail and act on it. Returns when told to stop."""


async def supervise(
    start: Callable[[], Actor],
    *,
    failed: Callable[[Exception, bool], None],
    restarts: int = 0,
    within_us: int = 60_000_000,
) -> None:
    """Run the actor that `start` makes; on failure make another, at most `restarts` times in `within_us`.

    `failed(error, for_good)` is told of every failure, after the actor has cleaned up behind itself. An actor that
    fails for good is not raised further: its supervisor has told whom it concerns. Cancellation passes through.
    """
    failures: deque[int] = deque()
    while True:
        try:
            await start().run()
        except Exception as error:  # noqa: BLE001  # whatever it is, an actor's bug ends here and is reported
            at_us = now_us()
            while failures and failures[0] <= at_us - within_us:
                failures.popleft()
            for_good = len(failures) >= restarts
            failures.append(at_us)
            failed(error, for_good)
            if for_good:
                return
        else:
            return
