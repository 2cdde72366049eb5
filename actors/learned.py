"""The meter of a limit that is learned, the meter for each kind of quota, and who learns what from an attempt's end.

A learned window is a sliding window whose limit is what its `Learner` knows, until a provider names the limit. A call
larger than what is known so far is not refused: it goes when nothing else is in the window.

Pure: no trio, no clock, no I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from actors.buckets import TokenBucket
from actors.learning import Learner
from actors.limits import UNBOUNDED
from actors.messages import Observed, Outcome, QuotaSpec
from actors.meters import Claim, Meter, SlidingWindow


class LearnedWindow(SlidingWindow):
    """A sliding window without a limit of its own."""

    def __init__(self, spec: QuotaSpec) -> None:
        super().__init__(spec)
        self.learner = Learner(spec.limit, self.window_us)
        self.limit = self.learner.limit
        self._daring: set[Claim] = set()
        self._refused: deque[tuple[int, int]] = deque()  # until when they stand in the levels, and how much

    def room(self, now_us: int) -> int:
        return self._or_all(super().room(now_us))

    def earliest(self, amount: int, now_us: int) -> int | None:
        return super().earliest(self._at_most_all(amount), now_us)

    def instant(self, amount: int, now_us: int) -> int:
        return super().instant(self._at_most_all(amount), now_us)

    def at_best(self, amount: int, now_us: int) -> int:
        return super().at_best(self._at_most_all(amount), now_us)

    def spare(self, at_us: int, now_us: int) -> int:
        return self._or_all(super().spare(at_us, now_us))

    def slack(self, at_us: int, amount: int, now_us: int) -> int:
        return super().slack(at_us, self._at_most_all(amount), now_us)

    def claim(self, amount: int, now_us: int) -> Claim:
        claim = super().claim(amount, now_us)
        if self.learned:
            if self.learner.admitted(amount, self.occupied(now_us)):
                self._daring.add(claim)
            self.not_before_us = now_us + self.learner.pause_us
            self.limit = self.learner.limit
        return claim

    def give_back(self, claim: Claim) -> None:
        self.land(claim)
        super().give_back(claim)

    def tell(self, said: Observed, level: int, sent_us: int, now_us: int) -> bool:
        was_learned = self.learned
        changed = super().tell(said, level, sent_us, now_us)
        if was_learned and not self.learned:
            self.not_before_us = now_us
            return True
        return changed

    def forget(self, now_us: int) -> bool:
        """Learn on, if nobody has said for two windows what the limit is. Whether somebody had."""
        if self.learned or now_us - self.told_us <= 2 * self.window_us:
            return False
        self.learned = True
        self.limit = self.learner.limit
        return True

    def accept(self, claim: Claim, sent_us: int, now_us: int) -> None:
        """An attempt was served. What was refused stood in its level, and its provider had not counted it."""
        while self._refused and self._refused[0][0] <= sent_us:
            self._refused.popleft()
        level = max(claim.amount, claim.level - sum([amount for _, amount in self._refused]))
        self.learner.accepted(level, claim.amount, sent_us, now_us)
        self.limit = self.learner.limit
        if not self.learner.pause_us:
            self.not_before_us = now_us

    def refuse(self, claim: Claim, sent_us: int, now_us: int) -> None:
        """An attempt was refused for what this quota counts. Others may have overtaken it on the way."""
        level = max(claim.level, self.occupied(now_us) - self.open_amount)
        self._refused.append((sent_us + self.window_us if self.dimension == "requests" else now_us, claim.amount))
        self.learner.refused(level, claim.amount, sent_us, now_us)
        self.limit = self.learner.limit

    def _no_longer_live(self, claim: Claim) -> None:
        self.land(claim)
        super()._no_longer_live(claim)

    def land(self, claim: Claim) -> None:
        """An attempt has been judged, though what it cost may be for a later answer to say."""
        if claim in self._daring:
            self._daring.remove(claim)
            self.learner.landed(claim.amount)
            if self.learned:
                self.limit = self.learner.limit

    def _at_most_all(self, amount: int) -> int:
        return min(amount, self.limit) if self.learned else amount

    def _or_all(self, room: int) -> int:
        """What is larger than the whole window fits into an empty one."""
        return UNBOUNDED if self.learned and room >= self.limit else room


def meter_of(spec: QuotaSpec) -> Meter:
    """The meter that keeps a quota of this kind, empty."""
    if spec.learned:
        return LearnedWindow(spec)
    return TokenBucket(spec) if spec.burst else SlidingWindow(spec)


def learn(claims: Iterable[Claim], outcome: Outcome, sent_us: int, now_us: int) -> bool:
    """What an attempt that has ended says of the limits that are being learned. Whether any of them is.

    A provider that does not say what there was too much of can only mean what has not been proven; if all has been,
    then any limit may have been lowered.
    """
    found = [(claim, claim.meter) for claim in claims if claim.meter.learned]
    learned = [(claim, meter) for claim, meter in found if isinstance(meter, LearnedWindow)]
    if not learned:
        return False
    meant = [pair for pair in learned if not outcome.refused or (outcome.refused == "requests") == (pair[1].index == 0)]
    if outcome.barrier and not outcome.refused:
        meant = [(claim, meter) for claim, meter in meant if meter.learner.is_suspect(claim.level)] or meant
    accepted = outcome.verdict in ("done", "later")
    for claim, meter in learned if accepted else meant if outcome.barrier else ():
        if accepted:
            meter.accept(claim, sent_us, now_us)
            if outcome.verdict == "later":
                meter.land(claim)
        else:
            meter.refuse(claim, sent_us, now_us)
    return True
