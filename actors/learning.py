"""How a limit that nobody states is found from what a provider accepts and refuses, in whole numbers.

Every attempt has a *level*: what its quota held, itself included, when it left. One that was accepted proves that the
limit is no less; one that was refused says that it is. Rules: climb to half above what is proven, but space out what
goes above the `base`, so that the first refusal comes in time to stop the rest; a refusal of what was proven before
means that the limit was lowered: give up a quarter, and send one at a time until one is accepted. Where the limit has
settled, one call in many goes above it, to see whether the limit was raised.

Pure: no trio, no clock, no I/O.
"""

from __future__ import annotations

from actors.limits import UNBOUNDED

PROBE_EVERY = 150
"""Admissions between two looks above a limit that has settled: what they cost stays below one refusal in a hundred."""

_CLIMB = 8
"""A step of a climb is spread over this part of a window."""
_TEST = 16
"""One call is sent in this part of a window until one is accepted again."""
_LOOK = 64
"""One call is sent above a limit that has settled in this part of a window, until it is known what becomes of it."""
_CHANCE = 64
"""What was accepted by chance is no more than this part of a limit: windows are guarded by a hundredth."""
_FINE = 24
"""A limit is found when what is between accepted and refused is this part of it, or one call."""


class Learner:
    """What is known of one limit.

    `base` is how far admissions are safe, or were last thought to be; `limit` is how far they may go now. `low` is the
    highest level accepted since the limit was last found lowered, `high` the lowest refused.
    """

    __slots__ = (
        "_base",
        "_climbing",
        "_extra",
        "_grain",
        "_high",
        "_high_us",
        "_low",
        "_lowered_us",
        "_nudged_us",
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
        self._extra = 0
        self._grain = 1  # about the largest call there is
        self._since = 0
        self._high_us = self._probed_us = self._settled_us = self._lowered_us = self._nudged_us = -1

    @property
    def limit(self) -> int:
        """How much may be held at once."""
        return self._base + self._extra

    @property
    def testing(self) -> bool:
        """Whether one call at a time is sent, until one is accepted."""
        return self._testing

    def admitted(self, amount: int, held: int) -> int:
        """`amount` was admitted, which makes `held`. How long nothing else may be, in microseconds."""
        self._since += 1
        if self._testing:
            return self._window_us // _TEST
        if held <= self._base or not self._extra:
            return 0
        if not self._climbing:
            return self._window_us // _LOOK
        return self._window_us // _CLIMB * min(amount, self._extra) // self._extra

    def accepted(self, level: int, amount: int, sent_us: int, now_us: int) -> None:
        """An attempt that left at this level was served."""
        if sent_us <= self._lowered_us:
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
            self._base = level
            self._climbing = self._climbing or sent_us > self._settled_us
        if self._climbing:
            if sent_us > self._high_us:
                self._climb(now_us)
        elif level + self._grain > self._base and self._is_time_to_look(now_us):
            self._extra = self._grain
            self._probed_us, self._since = now_us, 0

    def refused(self, level: int, amount: int, sent_us: int, now_us: int) -> None:
        """An attempt was refused for what this limit counts. `level` is no less than what its provider had counted."""
        if level > self._base:
            # What was accepted below is still to be heard of, and may raise the base to the limit.
            self._refuse(min(self._high, level), now_us)
        elif sent_us <= max(self._lowered_us, self._nudged_us):
            return
        elif level <= self._low and (self._nudged_us < 0 or 2 * (now_us - self._nudged_us) > self._window_us):
            # Once may be chance: an answer that was on its way for long, a call of somebody else's.
            self._base = self._low = max(1, level - max(amount, level // _CHANCE))
            self._refuse(level, now_us)
            self._nudged_us = now_us
            self._settle(now_us)
            self._testing = True
        else:
            if level <= self._low:
                self._low = 0
            self._refuse(level, now_us)
            self._base = max(1, self._low, level * 3 // 4)
            self._lowered_us = now_us
            self._climbing = self._testing = True

    def is_suspect(self, level: int) -> bool:
        """Whether a refusal at this level could be news of this limit, and not of another."""
        return level > self._low

    def _refuse(self, level: int, now_us: int) -> None:
        self._high = level
        self._high_us = now_us
        self._extra = 0

    def _climb(self, now_us: int) -> None:
        gap = self._high - self._base
        if gap <= max(self._grain, self._base // _FINE):
            self._settle(now_us)
        elif self._low:
            self._extra = max(self._grain, min(self._low + self._low // 2, self._high) - self._base)

    def _settle(self, now_us: int) -> None:
        self._climbing = False
        self._extra = 0
        self._settled_us = self._probed_us = now_us
        self._since = 0

    def _is_time_to_look(self, now_us: int) -> bool:
        return not self._extra and self._since >= PROBE_EVERY and now_us - self._probed_us >= self._window_us
