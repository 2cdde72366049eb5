"""A quota as a history: the naive half of the schedule's model that counts amounts.

Nothing is ever forgotten, merged or kept up to date: every question is answered by walking over all amounts that were
ever admitted, and "earliest" by trying every instant at which something could change. Slow and obvious on purpose, and
written from the promises alone; it shares no idea with the code it judges.

Imports `actors.messages` for the shape of a quota, and nothing else of the project.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from actors.messages import QuotaSpec

ASSUMED_SEND_US = 5_000_000
NEVER = 10**30


@dataclass
class Amount:
    """What one attempt, or one debt, takes of one quota. `stamp_us` is None while it is open."""

    granted_us: int
    amount: int
    stamp_us: int | None = None
    given_back: bool = False

    def assumed_stamp(self, now_us: int) -> int:
        """The stamp; of an open amount, what is counted on instead: sent 5 s after its grant, but not in the past."""
        return max(self.granted_us + ASSUMED_SEND_US, now_us) if self.stamp_us is None else self.stamp_us


@dataclass
class QuotaHistory:
    """Everything that ever happened to one quota.

    `stamped` and `returned` are the bucket's movements, as (instant, order of arrival, amount); `starts` the admissions
    of a paced quota, as (instant, first instant allowed after it); `limits` each limit with the instant it began.
    """

    spec: QuotaSpec
    amounts: list[Amount] = field(default_factory=list)
    debts: list[Amount] = field(default_factory=list)
    movements: list[tuple[int, int, int]] = field(default_factory=list)
    starts: list[tuple[int, int]] = field(default_factory=list)
    limits: list[tuple[int, int]] = field(default_factory=list)
    told_us: int = -1

    @property
    def window_us(self) -> int:
        return self.spec.period_us + self.spec.guard_us

    @property
    def limit(self) -> int:
        return self.limits[-1][1] if self.limits else self.spec.limit

    @property
    def capacity(self) -> int:
        """The most that one call may cost."""
        return self.spec.burst or self.limit

    def cost(self, input_tokens: int, output_tokens: int) -> int:
        return {
            "requests": 1,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        }[self.spec.dimension]

    # --- what happens ---------------------------------------------------------------------------------------------

    def admit(self, amount: int, now_us: int) -> Amount:
        entry = Amount(now_us, amount)
        self.amounts.append(entry)
        if self.spec.pace:
            self.starts.append((now_us, now_us + self.pace_gap(amount)))
        return entry

    def stamp(self, entry: Amount, stamp_us: int, now_us: int) -> None:
        """A window counts from the stamp; a bucket's level gives the amount up now, when the stamp becomes known."""
        entry.stamp_us = stamp_us
        self.movements.append((now_us, len(self.movements), -entry.amount))

    def shrink(self, entry: Amount, to: int, now_us: int) -> None:
        if entry.stamp_us is not None and to < entry.amount:
            self.movements.append((now_us, len(self.movements), entry.amount - to))
        entry.amount = to

    def give_back(self, entry: Amount, now_us: int) -> None:
        self.shrink(entry, 0, now_us)
        entry.given_back = True

    def owe(self, excess: int, now_us: int) -> None:
        debt = Amount(now_us, excess)
        self.amounts.append(debt)
        self.debts.append(debt)
        self.stamp(debt, now_us, now_us)

    def set_limit(self, limit: int, now_us: int) -> None:
        self.limits.append((now_us, limit))

    # --- what is asked --------------------------------------------------------------------------------------------

    def pace_gap(self, amount: int) -> int:
        return -(-amount * self.window_us // self.limit)

    def paced_until(self) -> int:
        return max((until for _, until in self.starts), default=0)

    def open_amount(self) -> int:
        return sum(entry.amount for entry in self.amounts if entry.stamp_us is None and not entry.given_back)

    def occupied(self, at_us: int, now_us: int) -> int:
        """What stands in the window at `at_us`, if nothing happens after `now_us` but the assumed sends."""
        total = 0
        for entry in self.amounts:
            if not entry.given_back and at_us < entry.assumed_stamp(now_us) + self.window_us:
                total += entry.amount
        return total

    def refill(self, since_us: int, until_us: int) -> int:
        """How much the bucket gains from one instant to another, in units of 1/window_us, by the limits of the time."""
        total, at = 0, since_us
        changes = [*self.limits, (until_us, 0)]
        limit = self.spec.limit
        for change_us, next_limit in changes:
            if change_us > at:
                stop = min(change_us, until_us)
                total += (stop - at) * limit
                at = stop
            limit = next_limit
        return total

    def available(self, at_us: int, now_us: int) -> int:
        """The bucket's level less what is open, in units of 1/window_us: every movement is played again."""
        movements = [movement for movement in self.movements if movement[0] <= at_us]
        still_open = 0
        for entry in self.amounts:
            if entry.stamp_us is None and not entry.given_back:
                if entry.assumed_stamp(now_us) <= at_us:
                    movements.append((entry.assumed_stamp(now_us), len(self.movements), -entry.amount))
                else:
                    still_open += entry.amount
        full = self.spec.burst * self.window_us
        level, level_us = full, 0
        for moved_us, _, amount in sorted(movements):
            level = min(full, level + self.refill(level_us, moved_us))
            level = min(full, level + amount * self.window_us)
            level_us = moved_us
        return min(full, level + self.refill(level_us, at_us)) - still_open * self.window_us

    def has_room(self, cost: int, at_us: int, now_us: int) -> bool:
        """Whether `cost` is admissible at `at_us`, pace included, if only the assumed sends happen after now."""
        if self.spec.pace and at_us < self.paced_until():
            return False
        if self.spec.burst:
            return self.available(at_us, now_us) >= cost * self.window_us
        return self.occupied(at_us, now_us) + cost <= self.limit

    def instants(self, cost: int, now_us: int) -> Iterator[int]:
        """Every instant from now at which room for `cost` could begin; room that begins, begins at one of them."""
        yield now_us
        if self.spec.pace:
            yield self.paced_until()
        stamps = [entry.assumed_stamp(now_us) for entry in self.amounts if not entry.given_back]
        if not self.spec.burst:
            for stamp in stamps:
                yield stamp + self.window_us
            return
        for start in [now_us, *(stamp for stamp in stamps if stamp > now_us)]:
            missing = cost * self.window_us - self.available(start, now_us)
            yield start + max(0, -(-missing // self.limit))


def admissible(demand: Iterable[tuple[QuotaHistory, int]], at_us: int, now_us: int) -> bool:
    """Whether every quota of `demand` has room for its cost at `at_us`."""
    return all(quota.has_room(cost, at_us, now_us) for quota, cost in demand)


def earliest(demand: list[tuple[QuotaHistory, int]], now_us: int) -> int:
    """The first instant from now at which every quota has room for its cost; `NEVER` if there is none."""
    candidates = {now_us}
    for quota, cost in demand:
        candidates.update(quota.instants(cost, now_us))
    for instant in sorted(candidates):
        if instant >= now_us and admissible(demand, instant, now_us):
            return instant
    return NEVER
