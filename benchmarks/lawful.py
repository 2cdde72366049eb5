"""What a limit allows: the fastest lawful schedule for given costs, and what stood in the window at each arrival.

Times are integer microseconds, in ascending order. A window of a period is half open: two arrivals exactly one period
apart are never in the same.

Pure: no clock, no I/O. It shares no line with the engine's own limits, which it judges.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


def least_requests_us(arrivals_us: Sequence[int], limit: int, period_us: int) -> int:
    """The least span of so many requests, each as early as a requests limit allows after the first ones as they came.

    The formula of `engine.simulator.spent_share`: the k-th of n, with k = (n-1) mod limit + 1, then whole periods.
    """
    if not arrivals_us:
        return 0
    rounds, place = divmod(len(arrivals_us) - 1, limit)
    return arrivals_us[place] - arrivals_us[0] + rounds * period_us


def least_fluid_us(total: int, limit: int, period_us: int) -> float:
    """The least span of an amount that may be divided at will: one limit at once, the rest at the limit's rate.

    Nothing that comes in whole calls can reach it: in a sliding window the last part of a period's worth has to wait
    for the period's end.
    """
    return max(0, total - limit) * period_us / limit


def least_windows_us(total: int, limit: int, period_us: int) -> int:
    """The least span of an amount in a sliding window: whole limits, one each period, and the rest in the last.

    For requests: the least span had the first of them come all at once. A client that starts slowly pays for it here.
    """
    return max(0, total - 1) // limit * period_us


def in_window(arrivals_us: Sequence[int], amounts: Sequence[int], period_us: int) -> list[int]:
    """What stood in the window that ended with each arrival, itself included."""
    inside: deque[tuple[int, int]] = deque()
    held = 0
    stood = []
    for at_us, amount in zip(arrivals_us, amounts, strict=True):
        while inside and inside[0][0] <= at_us - period_us:
            held -= inside.popleft()[1]
        inside.append((at_us, amount))
        held += amount
        stood.append(held)
    return stood
