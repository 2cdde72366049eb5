"""How a limit that nobody states is found from what a provider accepts and refuses, in whole numbers.

Every attempt has a *level*: what its quota held, itself included, when it left. One that was accepted proves that the
limit is no less; one that was refused says that it is. Rules: climb in steps, each begun when what the last one asked
is mostly answered, so that a step costs no more refusals than it is large; stop below what was refused; a refusal of
what was proven before means that the limit was lowered: give up a quarter, once for all that were on their way, and
climb again. Where it has settled, one call in many goes one step above, to see whether the limit was raised.

Pure: no trio, no clock, no I/O.
"""

from __future__ import annotations

from actors.limits import UNBOUNDED

FIRST_LIMIT = 16
"""Requests that are admitted before anything is known."""

PROBE_EVERY = 150
"""Admissions between two looks above a limit that has settled: what they cost stays below one refusal in a hundred."""

_FIRST_STEP = 8
_STEP = 16
_NARROW = 8


class Learner:
    """What is known of one limit. `limit` is how far admissions may go now: `base`, and above it what is being asked.

    `coarse`: amounts differ, so a quota may be full although a sixteenth of it is not.
    """

    __slots__ = (
        "_ahead",
        "_base",
        "_climbing",
        "_coarse",
        "_extra",
        "_high",
        "_low",
        "_lowered_us",
        "_probed_us",
        "_settled_us",
        "_since",
        "_step",
        "_unanswered",
        "_window_us",
    )

    def __init__(self, first: int, window_us: int, *, coarse: bool) -> None:
        self._base = first or UNBOUNDED
        self._window_us = window_us
        self._coarse = coarse
        self._low = 0  # what was accepted since the limit was last lowered
        self._high = UNBOUNDED  # what was refused
        self._climbing = True
        self._extra = self._ahead = self._step = self._unanswered = 0
        self._since = 0
        self._probed_us = self._settled_us = self._lowered_us = -1

    @property
    def limit(self) -> int:
        """How much may be held at once."""
        return self._base + self._extra

    def admitted(self, amount: int, held: int) -> bool:
        """`amount` was admitted, and makes `held`. Whether that asks for more than is known to be accepted."""
        self._since += 1
        if held <= self._base or not self._extra:
            return False
        self._ahead += amount
        self._unanswered += amount
        if self._ahead >= self._extra:
            self._extra = 0
        return True

    def answered(self, amount: int) -> None:
        """One that asked for more has ended, in whatever way."""
        self._unanswered -= amount

    def accepted(self, level: int, amount: int, sent_us: int, now_us: int) -> None:
        """An attempt that left at this level was served."""
        if sent_us <= self._lowered_us:
            return
        self._low = max(self._low, level)
        if level > self._base:
            self._base = level
            if sent_us > self._settled_us:
                self._climbing = True
        if level >= self._high:
            self._high = UNBOUNDED
        grain = max(amount, self._base // _STEP) if self._coarse else amount
        if level + grain > self._base and not self._extra and 2 * self._unanswered <= self._step:
            self._ask(amount, now_us)

    def refused(self, level: int, amount: int, sent_us: int, now_us: int) -> None:
        """An attempt that left at this level was refused for what this limit counts."""
        if sent_us <= self._lowered_us:
            return
        self._extra = 0
        self._high = min(self._high, level)
        if self._low < level <= self._low + max(amount, level // _NARROW):
            self._base = max(self._low, min(self._base, level - amount))
            self._settle(now_us)
            return
        if level <= self._low:
            self._low, self._high = 0, level
        self._base = max(1, self._low, min(self._base, level) * 3 // 4)
        self._lowered_us = now_us
        self._climbing = True

    def is_suspect(self, level: int) -> bool:
        """Whether a refusal at this level could be news of this limit, and not of another."""
        return level > self._low

    def _ask(self, amount: int, now_us: int) -> None:
        """The limit was reached and is proven: look above it, if it is time to."""
        if self._climbing:
            known = self._high < UNBOUNDED
            if known and self._high - self._base <= amount:
                self._settle(now_us)
                return
            step = max(amount, self._base // (_STEP if self._lowered_us >= 0 or self._settled_us >= 0 else _FIRST_STEP))
            if known:
                step = min(step, max(amount, (self._high - self._base) // 2))
        elif now_us - self._probed_us >= self._window_us and self._since >= PROBE_EVERY:
            step = amount
            self._high = UNBOUNDED
            self._probed_us, self._since = now_us, 0
        else:
            return
        self._step = self._extra = step
        self._ahead = 0

    def _settle(self, now_us: int) -> None:
        self._climbing = False
        self._settled_us = self._probed_us = now_us
        self._since = 0
