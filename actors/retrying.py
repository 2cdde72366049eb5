"""After a failed attempt: may there be another, and when? Numbers only; the schedule acts on them.

Rules: randomness comes in with the message (`jitter`, a fraction of 2**32); the budget counts in fifths so that it is
exact; a provider's hint is a floor of the wait, never a ceiling.

Pure: no trio, no clock, no random.
"""

from __future__ import annotations

from actors.messages import GaveUp

BACKOFF_FIRST_US = 500_000
BACKOFF_MOST_US = 30_000_000
HINT_MOST_US = 120_000_000
BARRIER_FIRST_US = 1_000_000
BARRIER_MOST_US = 60_000_000
POLL_LEAST_US = 200_000
POLL_MOST_US = 60_000_000
POLL_ATTEMPTS = 6
POLL_WITHIN_US = 60_000_000
POLLED_FOR_US = 86_400_000_000
LAST_POLL_US = 1_000_000


def backoff_us(attempts: int, jitter: int, hint_us: int | None) -> int:
    """The wait after attempt number `attempts`: full jitter over a doubling range, but never less than the hint."""
    reach = min(BACKOFF_MOST_US, BACKOFF_FIRST_US << (attempts - 1))
    return max(hint_us or 0, jitter * reach >> 32)


def poll_at_us(now_us: int, wait_us: int, jitter: int, hint_us: int, deadline_us: int) -> int | None:
    """When to ask again after a wait of a fifth more or less, so that calls that came together do not ask together for
    ever: at once without a wait, and never before the provider's hint. None: not before the deadline.

    A wait that would end in the deadline's last second or after it is cut, for a last poll a second before it.
    """
    if wait_us:
        wait_us = wait_us * 4 // 5 + (jitter * (wait_us * 2 // 5) >> 32)
        wait_us = min(POLL_MOST_US, max(POLL_LEAST_US, wait_us))
    at_us = now_us + max(wait_us, hint_us)
    last_us = deadline_us - LAST_POLL_US
    if at_us > last_us and now_us + hint_us <= last_us and now_us < last_us:
        return last_us
    return at_us if at_us < deadline_us else None


def next_poll_wait_us(wait_us: int) -> int:
    """The wait that follows this one."""
    return min(POLL_MOST_US, wait_us + wait_us // 10)


class RetryBudget:
    """How many retries a lane may still make: 10 at first, 0.2 more for every success."""

    __slots__ = ("_fifths",)

    def __init__(self) -> None:
        self._fifths = 50

    @property
    def left(self) -> float:
        """Retries left, a fifth being a fifth of one."""
        return self._fifths / 5

    def deposit(self) -> None:
        """A call has completed, or was taken."""
        self._fifths += 1

    def withdraw(self) -> bool:
        """Take one retry, if there is one."""
        if self._fifths < 5:
            return False
        self._fifths -= 5
        return True


def refusal(attempts: int, most: int, hint_us: int | None, budget: RetryBudget, *, exempt: bool) -> GaveUp:
    """Why there is no further attempt, or "": then the budget has paid for it, unless it is exempt."""
    if attempts >= most:
        return "attempts"
    if hint_us is not None and hint_us > HINT_MOST_US:
        return "hint"
    if not exempt and not budget.withdraw():
        return "budget"
    return ""


class Barrier:
    """No admission in a lane before `until_us`, because its provider said "too many".

    Without a hint the wait doubles from 1 s to 60 s, but only for refusals that came after the last barrier had ended:
    a burst that was already on its way is refused once, not six times.
    """

    __slots__ = ("_strikes", "until_us")

    def __init__(self) -> None:
        self.until_us = 0
        self._strikes = 0

    def refused(self, sent_us: int, at_us: int, hint_us: int | None) -> None:
        """An attempt sent at `sent_us` was refused at `at_us`; the barrier rises or stays."""
        if self._strikes == 0 or sent_us >= self.until_us:
            self._strikes += 1
        wait_us = min(BARRIER_MOST_US, BARRIER_FIRST_US << min(self._strikes - 1, 6)) if hint_us is None else hint_us
        self.until_us = max(self.until_us, at_us + wait_us)

    def passed(self, sent_us: int) -> None:
        """An attempt sent at `sent_us` was accepted: if that was after the barrier, the doubling starts anew."""
        if sent_us >= self.until_us:
            self._strikes = 0
