"""Start-time fair queueing: whose turn it is among competitors, be they flows of a lane or lanes that share a quota.

Each competitor has a tag, the virtual time at which its next call starts. The smallest is next, and a granted call
moves the tag on by its service. The clock is the tag of whoever was served last in turn; who joins starts there, so
nobody earns anything by being away. What slips in out of turn is paid for as well, and does not move the clock.
Goyal, Vin and Cheng, "Start-time Fair Queuing", 1996.

Pure: no trio, no clock, no I/O. Service is an integer: parts in 2**32 of what a quota admits in a period.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from actors.limits import Cost

WHOLE = 1 << 32

K = TypeVar("K")


class Share(Protocol):
    """What `service_of` asks of a quota's meter."""

    index: int
    limit: int


def service_of(cost: Cost, meters: Sequence[Share]) -> int:
    """A call's service: the largest share of a limit that it takes. Where there is no limit all calls are alike."""
    if not meters:
        return WHOLE
    return max([-(-cost[meter.index] * WHOLE // meter.limit) for meter in meters]) or 1


class Turns(Generic[K]):
    """The tags of some competitors, and their clock."""

    __slots__ = ("_clock", "_tags")

    def __init__(self) -> None:
        self._clock = 0
        self._tags: dict[K, int] = {}

    def tag(self, who: K) -> int:
        """When the next call of a competitor that has joined starts."""
        return self._tags[who]

    def lead(self, who: K) -> int:
        """How far it is ahead of the clock; below zero it has fallen behind."""
        return self._tags[who] - self._clock

    def join(self, who: K) -> None:
        """Begin to compete, or come back."""
        self._tags[who] = max(self._tags.get(who, 0), self._clock)

    def pay(self, who: K, service: int, *, in_turn: bool) -> None:
        """One of its calls was granted."""
        tag = self._tags[who]
        if in_turn and tag > self._clock:
            self._clock = tag
        self._tags[who] = tag + service

    def refund(self, who: K, service: int) -> None:
        """That call was not sent after all."""
        if who in self._tags:
            self._tags[who] -= service

    def forget_but(self, competing: Iterable[K]) -> None:
        """Drop whoever is away and owes nothing: it would start at the clock as well."""
        stay = set(competing)
        self._tags = {who: tag for who, tag in self._tags.items() if who in stay or tag > self._clock}

    def enter(self, who: K) -> None:
        """Somebody who will compete some day: it starts at the clock then."""
        self._tags.setdefault(who, 0)

    def __iter__(self) -> Iterator[K]:
        return iter(self._tags)

    def __len__(self) -> int:
        return len(self._tags)


class Fare(NamedTuple):
    """What a flow paid for a call, and where."""

    turns: Turns[str]
    paid: int
