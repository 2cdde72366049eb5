"""Start-time fair queueing: whose turn it is among competitors, be they flows of a lane or lanes that share a quota.

Each competitor has a tag, the virtual time at which its next call starts. The smallest is next, and a granted call
moves the tag on by its service. The clock is the tag of whoever was served last in turn; who joins starts there, so
nobody earns anything by being away. What slips in out of turn is paid for as well, and does not move the clock.
Goyal, Vin and Cheng, "Start-time Fair Queuing", 1996.

Pure: no trio, no clock, no I/O. Service is an integer: parts in 2**32 of what a quota admits in a period.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
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
    """The tags of some competitors, and their clock.

    A *stay* is the time from one lift of a competitor's tag to the clock to the next: what it paid before was waived by
    the lift, and is not given back.
    """

    __slots__ = ("_clock", "_stay", "_stays", "_tags")

    def __init__(self) -> None:
        self._clock = 0
        self._tags: dict[K, int] = {}
        self._stays: dict[K, int] = {}
        self._stay = 0

    def __len__(self) -> int:
        return len(self._tags)

    def tag(self, who: K) -> int:
        """When the next call of a competitor that has joined starts."""
        return self._tags[who]

    def lead(self, who: K) -> int:
        """How far it is ahead of the clock; below zero it has fallen behind."""
        return self._tags[who] - self._clock

    def join(self, who: K) -> None:
        """Begin to compete, or come back."""
        if self._tags.get(who, -1) < self._clock:
            self._tags[who] = self._clock
            self._stay += 1
            self._stays[who] = self._stay

    def pay(self, who: K, service: int, *, in_turn: bool) -> Fare[K]:
        """One of its calls was granted."""
        tag = self._tags[who]
        if in_turn and tag > self._clock:
            self._clock = tag
        self._tags[who] = tag + service
        return Fare(self, who, service, self._stays[who])

    def refund(self, fare: Fare[K]) -> None:
        """That call was not sent after all."""
        if self._stays.get(fare.who) == fare.stay:
            self._tags[fare.who] -= fare.paid

    def forget(self, competing: Container[K], *, debts: bool) -> None:
        """Drop whoever is away and owes nothing, for it would start at the clock as well; with `debts`, all away."""
        away = [who for who, tag in self._tags.items() if who not in competing and (debts or tag < self._clock)]
        for who in away:
            del self._tags[who], self._stays[who]


class Fare(NamedTuple, Generic[K]):
    """What was paid for one call: to whom, by whom, how much, and in which of the payer's stays."""

    turns: Turns[K]
    who: K
    paid: int
    stay: int
