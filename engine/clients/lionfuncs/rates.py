"""A rate as lionfuncs states it, as a quota: a token bucket in whole numbers.

A rate is any positive number, and a quota's limit is a whole one, so the period is lengthened until the limit is whole:
3.5 in a second are 7 in two. What has no such form within a year is rounded against ourselves. What is wrong is refused
with a sentence that names the argument.

Must not import anything that waits, sends or knows a call.
"""

from __future__ import annotations

import math
from fractions import Fraction

from actors.limits import Quota, is_number
from actors.messages import Dimension
from engine.errors import UsageError, one_line

_YEAR_S = 366 * 86_400
_LARGEST = 1 << 53
_GUARD = Fraction(1, 100)
_GUARD_S = Fraction(1, 20)
_US = 1_000_000


def bucket(name: str, dimension: Dimension, rate: object, period_s: object, capacity: object) -> Quota | None:
    """The bucket for `rate` in `period_s` seconds that holds `capacity`, by default the rate. None: there is no rate.

    `name` is what the arguments are called: ``requests`` for `requests_rate`, `requests_period`,
    `requests_bucket_capacity`. A bucket holds whole numbers, and one at least.

    Raises:
      UsageError: an argument is out of range; the message names it.
    """
    period = _exact(f"{name}_period", period_s, "seconds between 1e-6 and a year")
    if not Fraction(1, _US) <= period <= _YEAR_S:
        raise _wrong(f"{name}_period", period_s, "seconds between 1e-6 and a year")
    if rate is None:
        return None
    amount = _exact(f"{name}_rate", rate, "a number above 0, or None for no limit")
    if capacity is None:
        held = max(1, math.floor(amount))
    else:
        held = math.floor(_exact(f"{name}_bucket_capacity", capacity, "a number of at least 1, or None for the rate"))
        if held < 1:
            raise _wrong(f"{name}_bucket_capacity", capacity, "a number of at least 1, or None for the rate")
    limit, whole_s = _whole(amount, period)
    if whole_s > _YEAR_S:
        raise _wrong(f"{name}_rate", rate, f"at least one a year: it is one in {float(period / amount):.3g} seconds")
    guard_s = min(_GUARD_S, period * _GUARD) * whole_s / period
    return Quota(dimension, limit, _up(whole_s), burst=held, guard_s=_up(guard_s))


class Refill:
    """When a bucket is full again, as much as is taken from it: `full_us`, of the clock that `take` is told."""

    __slots__ = ("_limit", "_window_us", "full_us", "quota")

    def __init__(self, quota: Quota) -> None:
        spec = quota.spec(0)
        self.quota = quota
        self.full_us = 0
        self._limit, self._window_us = spec.limit, spec.period_us + spec.guard_us

    def take(self, amount: int, at_us: int) -> None:
        """Count what was taken from it at this instant."""
        self.full_us = max(self.full_us, at_us) - (-amount * self._window_us // self._limit)


def _whole(amount: Fraction, period: Fraction) -> tuple[int, Fraction]:
    """A whole amount, and the seconds in which it stands for the same rate, or for a little less."""
    if amount.numerator <= _LARGEST and (whole_s := period * amount.denominator) <= _YEAR_S:
        return amount.numerator, whole_s
    limit = min(_LARGEST, max(1, math.floor(amount / period * 86_400)))  # what a day holds
    return limit, limit * period / amount


def _up(span_s: Fraction) -> float:
    """The seconds as whole microseconds, rounded up."""
    return math.ceil(span_s * _US) / _US


def _exact(name: str, value: object, wanted: str) -> Fraction:
    """A number as it was written: 0.1 is a tenth."""
    if not is_number(value) or not 0 < value <= _LARGEST:  # type: ignore[operator]  # a number
        raise _wrong(name, value, wanted)
    # A class derived from float, as numpy's, has a repr of its own.
    return Fraction(int(value)) if isinstance(value, int) else Fraction(float.__repr__(value))


def _wrong(name: str, value: object, wanted: str) -> UsageError:
    return UsageError(f"{name} must be {wanted}, not {one_line(ascii(value), 80)}")
