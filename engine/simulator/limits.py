"""How the provider enforces its limits, in exact integers.

Three meters (fixed window, sliding window, token bucket) and the set of them that stands over every request: a
request is charged to all or to none. This is a judge of the engine's own limits and therefore shares no line with
them: it must not import `actors.limits`. Times are integer microseconds and never run backwards.

Pure: no trio, no I/O, the time is passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from engine.simulator.config import Dimension, ProviderLimit


class Cost(NamedTuple):
    """What a request may cost: its input and the cap of its output, in tokens."""

    input_tokens: int
    output_tokens: int

    def amount(self, dimension: Dimension) -> int:
        """The part of it a limit of this dimension counts."""
        if dimension == "requests":
            return 1
        if dimension == "input_tokens":
            return self.input_tokens
        if dimension == "output_tokens":
            return self.output_tokens
        return self.input_tokens + self.output_tokens


class Hold:
    """An amount charged to a meter, so that a part of it can be given back. `stamp` is the meter's own."""

    __slots__ = ("amount", "stamp")

    def __init__(self, stamp: int, amount: int) -> None:
        self.stamp = stamp
        self.amount = amount


class Meter(Protocol):
    """What each kind of limit can be asked. The wait and the reset are microseconds from `at_us`."""

    def wait_us(self, at_us: int, amount: int) -> int | None:
        """How long until `amount` fits, if nothing else is charged; 0: it fits now; None: it never will."""

    def take(self, at_us: int, amount: int) -> Hold:
        """Charge `amount`, which fits."""

    def settle(self, at_us: int, hold: Hold, used: int) -> None:
        """Lower a charge to what was used; without effect once the charge is past."""

    def remaining(self, at_us: int) -> int:
        """How much still fits."""

    def reset_us(self, at_us: int) -> int:
        """How long until nothing is charged any more, if nothing else comes."""


class FixedWindow:
    """Windows of one period laid end to end from `origin_us`; each starts empty."""

    def __init__(self, limit: int, period_us: int, origin_us: int) -> None:
        self._limit = limit
        self._period_us = period_us
        self._origin_us = origin_us
        self._window = 0
        self._used = 0

    def _turn(self, at_us: int) -> int:
        window = (at_us - self._origin_us) // self._period_us
        if window != self._window:
            self._window, self._used = window, 0
        return self._origin_us + (window + 1) * self._period_us - at_us

    def wait_us(self, at_us: int, amount: int) -> int | None:
        left_us = self._turn(at_us)
        if amount > self._limit:
            return None
        return 0 if self._used + amount <= self._limit else left_us

    def take(self, at_us: int, amount: int) -> Hold:
        self._turn(at_us)
        self._used += amount
        return Hold(self._window, amount)

    def settle(self, at_us: int, hold: Hold, used: int) -> None:
        self._turn(at_us)
        if hold.stamp == self._window:
            self._used -= hold.amount - used
            hold.amount = used

    def remaining(self, at_us: int) -> int:
        self._turn(at_us)
        return self._limit - self._used

    def reset_us(self, at_us: int) -> int:
        left_us = self._turn(at_us)
        return left_us if self._used else 0


class SlidingWindow:
    """A charge made at t counts until, and no longer at, t + period."""

    def __init__(self, limit: int, period_us: int) -> None:
        self._limit = limit
        self._period_us = period_us
        self._holds: deque[Hold] = deque()
        self._used = 0

    def _expire(self, at_us: int) -> None:
        gone_us = at_us - self._period_us
        while self._holds and self._holds[0].stamp <= gone_us:
            hold = self._holds.popleft()
            self._used -= hold.amount
            hold.amount = 0

    def wait_us(self, at_us: int, amount: int) -> int | None:
        self._expire(at_us)
        if amount > self._limit:
            return None
        excess = self._used + amount - self._limit
        if excess <= 0:
            return 0
        for hold in self._holds:
            excess -= hold.amount
            if excess <= 0:
                return hold.stamp + self._period_us - at_us
        raise AssertionError("the charges in the window add up to less than their sum")

    def take(self, at_us: int, amount: int) -> Hold:
        self._expire(at_us)
        hold = Hold(at_us, amount)
        self._holds.append(hold)
        self._used += amount
        return hold

    def settle(self, at_us: int, hold: Hold, used: int) -> None:
        self._expire(at_us)
        if hold.amount > used:
            self._used -= hold.amount - used
            hold.amount = used

    def remaining(self, at_us: int) -> int:
        self._expire(at_us)
        return self._limit - self._used

    def reset_us(self, at_us: int) -> int:
        self._expire(at_us)
        return self._holds[-1].stamp + self._period_us - at_us if self._holds else 0


class TokenBucket:
    """Starts full at `burst` and gains `limit` every period, continuously.

    The level is kept in units of 1/period_us, in which one microsecond gains exactly `limit`: nothing is rounded.
    """

    def __init__(self, limit: int, period_us: int, burst: int, origin_us: int) -> None:
        self._gain = limit
        self._period_us = period_us
        self._burst = burst
        self._full = burst * period_us
        self._level = self._full
        self._at_us = origin_us

    def _refill(self, at_us: int) -> None:
        if at_us > self._at_us:
            self._level = min(self._full, self._level + (at_us - self._at_us) * self._gain)
            self._at_us = at_us

    def wait_us(self, at_us: int, amount: int) -> int | None:
        self._refill(at_us)
        if amount > self._burst:
            return None
        return -min(0, (self._level - amount * self._period_us) // self._gain)

    def take(self, at_us: int, amount: int) -> Hold:
        self._refill(at_us)
        self._level -= amount * self._period_us
        return Hold(at_us, amount)

    def settle(self, at_us: int, hold: Hold, used: int) -> None:
        self._refill(at_us)
        self._level = min(self._full, self._level + (hold.amount - used) * self._period_us)
        hold.amount = used

    def remaining(self, at_us: int) -> int:
        self._refill(at_us)
        return self._level // self._period_us

    def reset_us(self, at_us: int) -> int:
        self._refill(at_us)
        return -((self._level - self._full) // self._gain)


def meter_for(rule: ProviderLimit, origin_us: int) -> Meter:
    """The meter that enforces a limit from `origin_us` on."""
    if rule.kind == "fixed_window":
        return FixedWindow(rule.limit, rule.period_us, origin_us)
    if rule.kind == "sliding_window":
        return SlidingWindow(rule.limit, rule.period_us)
    return TokenBucket(rule.limit, rule.period_us, rule.burst or rule.limit, origin_us)


class Refusal(NamedTuple):
    """Why a request was not admitted: the limit, what the request asked of it, and the wait (None: it never fits)."""

    rule: ProviderLimit
    asked: int
    remaining: int
    wait_us: int | None


class Standing(NamedTuple):
    """Where a limit stands, as its headers say it."""

    limit: int
    remaining: int
    reset_us: int


class LimitSet:
    """All limits of a provider together: a request is charged to every one of them or to none."""

    def __init__(self, rules: Sequence[ProviderLimit], origin_us: int) -> None:
        self._meters = [(rule, meter_for(rule, origin_us)) for rule in rules]
        self._requests = [pair for pair in self._meters if pair[0].dimension == "requests"]
        self._tokens = [pair for pair in self._meters if pair[0].dimension != "requests"]
        self.settles = any(rule.charge == "usage" for rule, _ in self._tokens)
        """Whether `settle` can change anything."""

    def admit(self, at_us: int, cost: Cost) -> list[Hold] | Refusal:
        """Charge `cost` to every limit, or name the one that makes it wait longest and charge nothing."""
        worst: Refusal | None = None
        for rule, meter in self._meters:
            amount = cost.amount(rule.dimension)
            wait_us = meter.wait_us(at_us, amount)
            if wait_us == 0:
                continue
            if worst is None or wait_us is None or (worst.wait_us is not None and wait_us > worst.wait_us):
                worst = Refusal(rule, amount, meter.remaining(at_us), wait_us)
            if wait_us is None:
                break
        if worst is not None:
            return worst
        return [meter.take(at_us, cost.amount(rule.dimension)) for rule, meter in self._meters]

    def settle(self, at_us: int, holds: Sequence[Hold], used: Cost) -> None:
        """Lower the charges of an answered request to its usage, in the limits that charge by usage."""
        for (rule, meter), hold in zip(self._meters, holds, strict=True):
            if rule.charge == "usage":
                meter.settle(at_us, hold, used.amount(rule.dimension))

    def where(self, at_us: int, told: Callable[[ProviderLimit], bool]) -> Standing | None:
        """The limit with the least room left of those that are `told`, or None if there is none."""
        standings = [
            Standing(rule.limit, meter.remaining(at_us), meter.reset_us(at_us))
            for rule, meter in self._meters
            if told(rule)
        ]
        return min(standings, key=lambda standing: standing.remaining, default=None)

    def standing(self, at_us: int, family: str) -> Standing | None:
        """The limit of a family (``"requests"`` or ``"tokens"``) with the least room left, or None if it has none."""
        tightest: Standing | None = None
        for rule, meter in self._requests if family == "requests" else self._tokens:
            remaining = meter.remaining(at_us)
            if tightest is None or remaining < tightest.remaining:
                tightest = Standing(rule.limit, remaining, meter.reset_us(at_us))
        return tightest
