"""The token bucket: the meter of a quota that holds a `burst` and refills continuously.

Rules: those of `actors.meters`, which holds the sliding window and what all meters share.

Pure: no trio, no clock, no I/O.
"""

from __future__ import annotations

from actors.limits import NOT_AFTER_US, UNBOUNDED
from actors.messages import QuotaSpec
from actors.meters import Claim, Entry, Meter


class TokenBucket(Meter):
    """A bucket of `burst`, full at first, refilled with `limit` per `window_us`.

    The level is kept in units of one amount times one microsecond of the window, so it is exact. An open claim is held
    out of the level and leaves it when the report of its sending is handled: no earlier than the provider can have
    charged it.
    """

    def __init__(self, spec: QuotaSpec) -> None:
        super().__init__(spec)
        self._full = spec.burst * self.window_us
        self._level = self._full
        self._at_us = 0

    def room(self, now_us: int) -> int:
        if now_us < self.not_before_us:
            return -1
        return self._available(now_us)

    def earliest(self, amount: int, now_us: int) -> int | None:
        self._refill(now_us)
        wanted = (self.open_amount + amount) * self.window_us
        if wanted <= self._level:
            return self._paced(now_us)
        if wanted > self._full:
            return None
        return self._paced(now_us - (self._level - wanted) // self.limit)

    def instant(self, amount: int, now_us: int) -> int:
        self._refill(now_us)
        at_us, level, held = now_us, self._level, self.open_amount
        for stamp_us, open_amount in [*self._assumed(now_us), (UNBOUNDED, 0)]:
            wanted = (held + amount) * self.window_us
            if wanted <= self._full:
                ripe_us = at_us + max(0, -((level - wanted) // self.limit))
                if ripe_us <= stamp_us:
                    return self._paced(ripe_us)
            level = min(self._full, level + (stamp_us - at_us) * self.limit) - open_amount * self.window_us
            held -= open_amount
            at_us = stamp_us
        raise AssertionError("an admissible amount always fits in the end")

    def at_best(self, amount: int, now_us: int) -> int:
        self._refill(now_us)
        level = min(self._full, self._level + self.live_amount * self.window_us)
        return self._paced(now_us + max(0, -((level - amount * self.window_us) // self.limit)))

    def spare(self, at_us: int, now_us: int) -> int:
        if at_us < self.not_before_us:
            return -1
        level, held = self._level_at(at_us, now_us)
        return level // self.window_us - held

    def slack(self, at_us: int, amount: int, now_us: int) -> int:
        ceiling = self._pace_ceiling(at_us, now_us)
        # Until its assumed stamp, what is admitted now weighs on the room in full; from then on the bucket refills
        # behind it, and only what it would have lost to the brim comes back.
        brim_us = min(at_us, now_us + NOT_AFTER_US)
        level, held = self._level_at(brim_us, now_us)
        level += (at_us - brim_us) * self.limit
        return min(ceiling, level // self.window_us - held - amount)

    def set_limit(self, limit: int, now_us: int) -> None:
        self._refill(now_us)
        super().set_limit(limit, now_us)

    def _level_at(self, at_us: int, now_us: int) -> tuple[int, int]:
        """The level at `at_us` and what is still held open then."""
        self._refill(now_us)
        level, held, reached_us = self._level, self.open_amount, now_us
        for stamp_us, open_amount in self._assumed(now_us):
            if stamp_us > at_us:
                break
            level = min(self._full, level + (stamp_us - reached_us) * self.limit) - open_amount * self.window_us
            held -= open_amount
            reached_us = stamp_us
        return min(self._full, level + (at_us - reached_us) * self.limit), held

    def _refill(self, now_us: int) -> None:
        if now_us > self._at_us:
            self._level = min(self._full, self._level + (now_us - self._at_us) * self.limit)
            self._at_us = now_us

    def _available(self, now_us: int) -> int:
        self._refill(now_us)
        return self._level // self.window_us - self.open_amount

    def _enter(self, amount: int, stamp_us: int, now_us: int) -> Entry:
        self._refill(now_us)
        self._level -= amount * self.window_us
        return Entry(stamp_us, amount)

    def _shrink(self, claim: Claim, by: int, now_us: int) -> None:
        self._refill(now_us)
        self._level = min(self._full, self._level + by * self.window_us)
