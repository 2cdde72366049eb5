"""How a limit that nobody states is found from what a provider accepts and refuses, in whole numbers.

Every attempt has a *level*: what its quota held, itself included, when it left. One that was accepted proves that the
limit is no less; one that was refused says that it is. Rules: go a step above what is proven, and never have more than
that step on its way above it, so that a climb is as fast as answers come and costs no more refusals than one step.
A refusal of what was proven before is chance, or the limit was lowered: give up a little, twice as much each time in a
window, and send one at a time until one is accepted. Where the limit has settled, one call in many goes above it, to
see whether it was raised.

Pure: no trio, no clock, no I/O.
"""

from __future__ import annotations

from math import isqrt

from actors.limits import UNBOUNDED

PROBE_EVERY = 150
"""Admissions between two looks above a limit that has settled: what they cost stays below one refusal in a hundred."""

_TEST = 16
"""One call is sent in this part of a window until one is accepted again."""
_CHANCE, _LOWERED = 64, 4
"""What is given up of a proven limit, at first and at most: windows are guarded by a hundredth."""
_BEGIN = 8
"""Before anything was ever refused, a step is this part of what is proven; then its square root, counted in calls."""
_FINE = 24
"""A limit is found when what is between accepted and refused is this part of it, or one call."""


class Learner:
    """What is known of one limit.

    `base` is how far admissions are safe, or were last thought to be; `extra` is how far above it they may go, and how
    much may be on its way there: the `daring`. `low` is the highest level accepted since the limit was last found
    lowered, `high` the lowest refused.
    """

    __slots__ = (
        "_base",
        "_climbing",
        "_daring",
        "_doubt_us",
        "_extra",
        "_gone",
        "_grain",
        "_high",
        "_high_us",
        "_low",
        "_part",
        "_probed_us",
        "_settled_us",
        "_since",
        "_testing",
        "_window_us",
    )

    def __init__(self, first: int, window_us: int) -> None:
        self._base = first or UNBOUNDED
        self._window_us = window_us
        self._low = 0
        self._high = UNBOUNDED
        self._climbing = True
        self._testing = False
        self._extra = self._gone = 0  # `gone`: how far it rose since it was last refused or looked above
        self._daring = 0
        self._grain = 1  # about the largest call there is
        self._since = 0
        self._part = _CHANCE
        self._high_us = self._probed_us = self._settled_us = self._doubt_us = -1

    @property
    def limit(self) -> int:
        """How much may be held at once."""
        return self._base + self._extra if self._daring + self._grain <= self._extra else self._base

    @property
    def pause_us(self) -> int:
        """How long nothing may follow an admission: only while one call at a time is sent, until one is accepted."""
        return self._window_us // _TEST if self._testing else 0

    def admitted(self, amount: int, held: int) -> bool:
        """`amount` was admitted, which makes `held`. Whether it dares, and is to be told of when `landed`."""
        self._since += 1
        dares = held > self._base
        if dares:
            self._daring += amount
        return dares

    def landed(self, amount: int) -> None:
        """A call that dared is on its way no longer."""
        self._daring -= amount

    def accepted(self, level: int, amount: int, sent_us: int, now_us: int) -> None:
        """An attempt that left at this level was served."""
        if sent_us <= self._doubt_us:
            return
        self._grain = max(amount, self._grain * 15 // 16)
        if self._testing:
            self._testing = False
            self._base = max(level, min(self._base, self._low))  # what is proven, and on from there
        if level >= self._high:
            if sent_us > self._high_us:
                self._high = UNBOUNDED
            else:
                level = self._high - amount  # since then that much has been refused
        self._low = max(self._low, level)
        if level > self._base:
            self._gone += level - self._base
            self._base = level
            self._climbing = self._climbing or sent_us > self._settled_us
        if self._climbing:
            if sent_us > self._high_us:
                self._climb(now_us)
        elif level + self._grain > self._base and self._is_time_to_look(now_us):
            self._extra, self._high, self._gone = self._grain, UNBOUNDED, 0
            self._probed_us, self._since = now_us, 0

    def refused(self, level: int, amount: int, sent_us: int, now_us: int) -> None:
        """An attempt was refused for what this limit counts. `level` is no less than what its provider had counted."""
        if level > self._base:
            # What was accepted below is still to be heard of, and may raise the base to the limit.
            self._refuse(min(self._high, level), now_us)
        elif sent_us > self._doubt_us:
            self._doubt(level, amount, now_us)

    def is_suspect(self, level: int) -> bool:
        """Whether a refusal at this level could be news of this limit, and not of another."""
        return level > self._low

    def _doubt(self, level: int, amount: int, now_us: int) -> None:
        """What was thought safe is not. Once may be chance: an answer that was late, a call of somebody else's."""
        if level > self._low or self._testing:
            self._part = _LOWERED
        elif self._doubt_us >= 0 and now_us - self._doubt_us <= self._window_us:
            self._part = max(_LOWERED, self._part // 2)
        else:
            self._part = _CHANCE
        self._refuse(level, now_us)
        kept = max(1, level - max(amount, self._grain, level // self._part))
        if self._part > _LOWERED:
            self._base = self._low = kept
            self._settle(now_us)
        else:
            self._low = 0 if level <= self._low else self._low
            self._base = max(kept, self._low)
            self._climbing = True
        self._doubt_us = now_us
        self._testing = True

    def _refuse(self, level: int, now_us: int) -> None:
        self._high = level
        self._high_us = now_us
        self._extra = self._gone = 0

    def _climb(self, now_us: int) -> None:
        gap = self._high - self._base
        if gap <= max(self._grain, self._base // _FINE):
            self._settle(now_us)
        elif self._low:
            step = isqrt(self._base * self._grain)
            if self._high_us < 0:
                step = max(step, self._base // _BEGIN)
            self._extra = max(self._grain, min(step, self._gone, gap // 2))

    def _settle(self, now_us: int) -> None:
        self._climbing = False
        self._extra = 0
        self._settled_us = self._probed_us = now_us
        self._since = 0

    def _is_time_to_look(self, now_us: int) -> bool:
        return not self._extra and self._since >= PROBE_EVERY and now_us - self._probed_us >= self._window_us
