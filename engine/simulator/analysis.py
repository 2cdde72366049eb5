"""What a log says about those who called: the fullest window, the refusals, the share of a limit that was spent.

Functions over arrivals in the order of the log, whose instants never fall. A window of a period is half open: two
arrivals exactly one period apart are never in the same.

Pure: no trio, no I/O.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple

from engine.simulator.config import ChargeKind, Dimension
from engine.simulator.records import Arrival, StreamEnd


class Worst(NamedTuple):
    """The fullest window: how much was in it, and the instant of the arrival that filled it."""

    amount: int
    at_us: int


class WindowWatch:
    """Follows the fullest sliding window of one length, one accepted arrival at a time, in constant time each."""

    def __init__(self, period_us: int) -> None:
        self._period_us = period_us
        self._inside: deque[tuple[int, int]] = deque()
        self._sum = 0
        self.worst = Worst(0, 0)

    def add(self, at_us: int, amount: int) -> None:
        """Count an amount charged at `at_us`, which is not before the last one."""
        gone_us = at_us - self._period_us
        while self._inside and self._inside[0][0] <= gone_us:
            self._sum -= self._inside.popleft()[1]
        self._inside.append((at_us, amount))
        self._sum += amount
        if self._sum > self.worst.amount:
            self.worst = Worst(self._sum, at_us)


def worst_window(
    arrivals: Iterable[Arrival], period_us: int, dimension: Dimension = "requests", charge: ChargeKind = "arrival"
) -> Worst:
    """The most that was accepted in any sliding window of `period_us`, exactly."""
    watch = WindowWatch(period_us)
    for arrival in arrivals:
        if arrival.accepted:
            watch.add(arrival.at_us, arrival.charged(dimension, charge))
    return watch.worst


class Tally(NamedTuple):
    """How many arrivals were accepted, and how many refused by what."""

    accepted: int
    refused: dict[str, int]


def tally(arrivals: Iterable[Arrival]) -> Tally:
    """Count the accepted and the refused."""
    kinds = Counter(arrival.refused_by for arrival in arrivals)
    accepted = kinds.pop("", 0)
    return Tally(accepted, dict(kinds))


class StreamTally(NamedTuple):
    """How many streams ended how, the events of all, and the streams that ended before their last event, in the order
    of their ends."""

    endings: dict[str, int]
    events: int
    short: list[StreamEnd]


def tally_streams(ends: Iterable[StreamEnd]) -> StreamTally:
    """Count streams by their ends, and pick those of which less was sent than was planned."""
    kept = list(ends)
    endings = Counter[str](end.ending for end in kept)
    short = [end for end in kept if end.events < end.planned]
    return StreamTally(dict(endings), sum(end.events for end in kept), short)


def spent_share(arrivals: Iterable[Arrival], limit: int, period_us: int) -> float:
    """The share of a requests limit that was spent: 1.0 if every request came as early as the limit allows.

    Over the accepted requests up to the first attempt of the call that came last (what follows are only retries), n of
    them arriving at a_1..a_n: the least time an exact client needs, over the time taken, which is
    ``(a_k + floor((n-1)/limit)*period - a_1) / (a_n - a_1)`` with ``k = (n-1) mod limit + 1``. Above 1.0 means over the
    limit; with nothing accepted it is 0.0, with one request 1.0.
    """
    accepted: list[int] = []
    counted = 0
    for arrival in arrivals:
        if arrival.accepted:
            accepted.append(arrival.at_us)
        if arrival.attempt == 1:
            counted = len(accepted)
    if not counted:
        return 0.0
    rounds, place = divmod(counted - 1, limit)
    first_us, last_us = accepted[0], accepted[counted - 1]
    least_us = accepted[place] + rounds * period_us - first_us
    if last_us == first_us:
        return 1.0 if not least_us else math.inf
    return least_us / (last_us - first_us)
