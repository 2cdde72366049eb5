"""Meters: the state of each quota, and the claims calls hold on it, in exact integers.

Rules: time is integer microseconds and is always passed in; amounts are integers; nothing here waits. A claim is *open*
from the grant until the request has left, *stamped* from then on; an open claim never expires. Every question about the
future is answered twice: as things stand (an open claim stays until somebody reports), which gives exact wake-ups, and
*assumed* (an open claim counts as sent `NOT_AFTER_US` after its grant), which gives a waiting call its instant.

Pure: no trio, no clock, no I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from actors.limits import DIMENSIONS, NOT_AFTER_US, UNBOUNDED, QuotaStatistics
from actors.messages import Dimension, Observed, QuotaSpec
from actors.turns import Turns

_MERGE_FROM_US = 3_600_000_000
_MERGE_FRACTION = 4096


class Entry:
    """One stamped amount in a window's log. An expired entry has the amount 0.

    `live` is the part of it whose calls are still in flight, and may come back.
    """

    __slots__ = ("amount", "first_us", "live", "stamp_us")

    def __init__(self, stamp_us: int, amount: int) -> None:
        self.stamp_us = stamp_us
        self.first_us = stamp_us
        self.amount = amount
        self.live = 0


class Claim:
    """One call's part of one quota: the amount it was admitted with, open until it has an entry.

    `level` is what the quota held, itself included, when it was stamped: about what its provider saw.
    """

    __slots__ = ("amount", "entry", "granted_us", "level", "meter")

    def __init__(self, meter: Meter, amount: int, granted_us: int) -> None:
        self.meter = meter
        self.amount = amount
        self.granted_us = granted_us
        self.entry: Entry | None = None
        self.level = -1


class Meter:
    """The state of one quota. `lanes` are those it stands over, and `turns` theirs; whoever opens them keeps both.

    `not_before_us` is the earliest start that pace allows. `room`, `earliest` and `spare` count what pace forbids as no
    room at all: -1, which not even a call that costs nothing fits into. `stated` is what the user allows at most;
    `learned`: nobody has said so far what the limit is. `told_us` is when the request left whose answer said last how
    the limit stands.
    """

    def __init__(self, spec: QuotaSpec) -> None:
        self.spec = spec
        self.dimension: Dimension = spec.dimension
        self.index = DIMENSIONS.index(spec.dimension)
        self.limit = spec.limit
        self.burst = spec.burst
        self.stated = UNBOUNDED if spec.learned else spec.limit
        self.learned = spec.learned
        self.told_us = -1
        self.window_us = spec.period_us + spec.guard_us
        self.open_amount = 0
        self.live_amount = 0
        self.lanes: list[int] = []
        self.turns: Turns[int] = Turns()
        self._open: dict[Claim, None] = {}
        self.not_before_us = 0

    # --- what every kind of meter answers ---

    def room(self, now_us: int) -> int:
        """The largest amount that could be admitted now; negative while over the limit."""
        raise NotImplementedError

    def earliest(self, amount: int, now_us: int) -> int | None:
        """The first instant at which `amount` fits as things stand; None if a report must come first."""
        raise NotImplementedError

    def instant(self, amount: int, now_us: int) -> int:
        """The first instant at which `amount` fits, open claims assumed sent in time. `amount` is admissible."""
        raise NotImplementedError

    def at_best(self, amount: int, now_us: int) -> int:
        """An instant before which `amount` does not fit, even if every call in flight gives all of its claim back."""
        raise NotImplementedError

    def spare(self, at_us: int, now_us: int) -> int:
        """The room there will be at `at_us`, open claims assumed sent in time and nothing else admitted."""
        raise NotImplementedError

    def slack(self, at_us: int, amount: int, now_us: int) -> int:
        """How much could be admitted now and still leave room for `amount` at `at_us`."""
        raise NotImplementedError

    def debt(self, now_us: int) -> int:
        """How far the quota stands above its limit."""
        return max(0, -self._available(now_us))

    def occupied(self, now_us: int) -> int:
        """What is taken of the capacity now, open claims included."""
        return (self.burst or self.limit) - self._available(now_us)

    def statistics(self, now_us: int) -> QuotaStatistics:
        """A frozen copy of what this quota holds."""
        return QuotaStatistics(
            name=self.spec.name,
            dimension=self.dimension,
            limit=self.limit if self.limit < UNBOUNDED else 0,
            period_us=self.spec.period_us,
            occupied=self.occupied(now_us),
            open=self.open_amount,
            debt=self.debt(now_us),
            learned=self.spec.learned,
        )

    def _available(self, now_us: int) -> int:
        raise NotImplementedError

    # --- the life of a claim ---

    def claim(self, amount: int, now_us: int) -> Claim:
        """Take `amount`, open, at the grant. The caller has seen that there is room."""
        claim = Claim(self, amount, now_us)
        self._open[claim] = None
        self.open_amount += amount
        if self.spec.pace:
            self.not_before_us = now_us + -(-amount * self.window_us // self.limit)
        return claim

    def stamp(self, claim: Claim, stamp_us: int, now_us: int) -> None:
        """The request has left at `stamp_us`: the claim is no longer open."""
        del self._open[claim]
        self.open_amount -= claim.amount
        claim.entry = self._enter(claim.amount, stamp_us, now_us)
        claim.entry.live += claim.amount
        self.live_amount += claim.amount
        claim.level = self.occupied(now_us) - self.open_amount

    def give_back(self, claim: Claim) -> None:
        """Undo an open claim: nothing was sent."""
        del self._open[claim]
        self.open_amount -= claim.amount
        claim.amount = 0

    def settle(self, claim: Claim, used: int, now_us: int) -> None:
        """Replace what a stamped claim reserved by what was used; what is above it becomes debt stamped now."""
        self._no_longer_live(claim)
        if used > claim.amount:
            self._enter(used - claim.amount, now_us, now_us)
        elif used < claim.amount and self.spec.settle == "usage":
            self._shrink(claim, claim.amount - used, now_us)

    def forgive(self, claim: Claim, now_us: int) -> None:
        """The provider did not charge a stamped claim at all."""
        self._no_longer_live(claim)
        self._shrink(claim, claim.amount, now_us)

    def keep(self, claim: Claim) -> None:
        """What a stamped claim reserved stays charged."""
        self._no_longer_live(claim)

    def set_limit(self, limit: int, now_us: int) -> None:
        """The limit is another from now on. What is already admitted stays."""
        self.limit = max(1, limit)

    def tell(self, said: Observed, level: int, sent_us: int, now_us: int) -> bool:
        """A provider says how the limit stands, to a request that left at `sent_us` when this quota held `level`.

        A limit lowers this one, or raises it again as far as the user allows. A remainder only ever lowers the room:
        what the provider has counted and we have not was used by others, and is entered as used now. Whether anything
        has changed; what is older than what was said before changes nothing.
        """
        if sent_us < self.told_us:
            return False
        self.told_us = sent_us
        before = self.limit
        if said.limit > 0:
            self.learned = False
            self.set_limit(min(said.limit, self.stated), now_us)
        if self.learned or said.remaining < 0:
            return self.limit != before
        held = max(level, self.occupied(now_us) - self.open_amount)
        by_others = (self.burst or self.limit) - said.remaining - held
        if by_others > 0:
            # No later than the provider says does it have all of its room again.
            gone_us = said.reset_us if 0 <= said.reset_us < self.window_us else self.window_us
            self._enter(by_others, now_us + gone_us - self.window_us, now_us)
        return by_others > 0 or self.limit != before

    def forget(self, now_us: int) -> bool:
        """Go back to the user's own limit, if a provider said a lower one and has not for two windows. Whether it was.

        Else one answer could refuse all later calls for good, and no other would ever come to say better.
        """
        if self.limit >= self.stated or now_us - self.told_us <= 2 * self.window_us:
            return False
        self.set_limit(self.stated, now_us)
        return True

    def _no_longer_live(self, claim: Claim) -> None:
        if claim.entry is not None:
            ended = min(claim.amount, claim.entry.live)
            claim.entry.live -= ended
            self.live_amount -= ended

    def _enter(self, amount: int, stamp_us: int, now_us: int) -> Entry:
        raise NotImplementedError

    def _shrink(self, claim: Claim, by: int, now_us: int) -> None:
        raise NotImplementedError

    # --- helpers ---

    def _paced(self, at_us: int) -> int:
        return max(at_us, self.not_before_us)

    def _pace_ceiling(self, at_us: int, now_us: int) -> int:
        """The largest amount whose admission now would let pace pass the next one at `at_us`."""
        if not self.spec.pace:
            return UNBOUNDED
        return (at_us - now_us) * self.limit // self.window_us

    def _assumed(self, now_us: int) -> Iterator[tuple[int, int]]:
        """(assumed stamp, amount) of every open claim, in the order of their grants."""
        for claim in self._open:
            yield max(claim.granted_us + NOT_AFTER_US, now_us), claim.amount


class SlidingWindow(Meter):
    """In no window of the length `window_us` is more than `limit` admitted.

    An entry counts while ``t < stamp + window``. The log is ordered by stamp; a stamp may arrive a little out of order.
    For periods of an hour and more, neighbours within period/4096 share one entry at the later stamp, which keeps the
    log short and can only delay, never overshoot.
    """

    def __init__(self, spec: QuotaSpec) -> None:
        super().__init__(spec)
        self._log: deque[Entry] = deque()
        self._stamped = 0
        self._grain_us = spec.period_us // _MERGE_FRACTION if spec.period_us >= _MERGE_FROM_US else 0

    def room(self, now_us: int) -> int:
        if now_us < self.not_before_us:
            return -1
        return self._available(now_us)

    def earliest(self, amount: int, now_us: int) -> int | None:
        over = amount - self._available(now_us)
        if over <= 0:
            return self._paced(now_us)
        for entry in self._log:
            over -= entry.amount
            if over <= 0:
                return self._paced(entry.stamp_us + self.window_us)
        return None

    def instant(self, amount: int, now_us: int) -> int:
        stands = self.earliest(amount, now_us)
        if stands is not None:
            return stands
        over = amount - self._available(now_us) - self._stamped
        stamp_us = now_us
        for stamp_us, held in self._assumed(now_us):  # noqa: B007  # the last one counts, also after the loop
            over -= held
            if over <= 0:
                break
        return self._paced(stamp_us + self.window_us)

    def at_best(self, amount: int, now_us: int) -> int:
        over = amount - self._available(now_us) - self.open_amount - self.live_amount
        at_us = now_us
        for entry in self._log:
            if over <= 0:
                break
            over -= entry.amount - entry.live
            at_us = entry.stamp_us + self.window_us
        return self._paced(at_us)

    def spare(self, at_us: int, now_us: int) -> int:
        return self._spare(at_us, now_us)

    def _spare(self, at_us: int, now_us: int) -> int:
        if at_us < self.not_before_us:
            return -1
        spare = self._available(now_us)
        for entry in self._log:
            if entry.stamp_us + self.window_us > at_us:
                break
            spare += entry.amount
        for stamp_us, held in self._assumed(now_us):
            if stamp_us + self.window_us > at_us:
                break
            spare += held
        return spare

    def slack(self, at_us: int, amount: int, now_us: int) -> int:
        ceiling = self._pace_ceiling(at_us, now_us)
        if at_us >= now_us + NOT_AFTER_US + self.window_us:
            return ceiling
        return min(ceiling, self._spare(at_us, now_us) - amount)

    def _available(self, now_us: int) -> int:
        log = self._log
        while log and log[0].stamp_us + self.window_us <= now_us:
            entry = log.popleft()
            self._stamped -= entry.amount
            self.live_amount -= entry.live
            entry.amount = entry.live = 0
        return self.limit - self._stamped - self.open_amount

    def _enter(self, amount: int, stamp_us: int, now_us: int) -> Entry:
        log = self._log
        self._stamped += amount
        later = []
        while log and log[-1].stamp_us > stamp_us:
            later.append(log.pop())
        if log and stamp_us - log[-1].first_us <= self._grain_us:
            entry = log[-1]
            entry.stamp_us = stamp_us
            entry.amount += amount
        else:
            entry = Entry(stamp_us, amount)
            log.append(entry)
        log.extend(reversed(later))
        return entry

    def _shrink(self, claim: Claim, by: int, now_us: int) -> None:
        entry = claim.entry
        assert entry is not None
        self._available(now_us)  # an entry that has left the window is 0 by now, and nothing comes back from it
        by = min(by, entry.amount)
        entry.amount -= by
        self._stamped -= by
