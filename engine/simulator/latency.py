"""How long the provider takes to answer: four distributions, each a function from a drawn fraction to microseconds.

The fraction comes from outside (`faults.draw`), so a latency is as repeatable as its draw. No answer takes longer than
`LONGEST_US`, whatever the distribution's tail.

Pure: no trio, no I/O, no random.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final, TypeAlias

import msgspec

from actors.errors import UsageError

LONGEST_US: Final = 600_000_000
_NORMAL: Final = NormalDist()


def _check(**values: object) -> None:
    for name, value in values.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:  # type: ignore[operator]  # a number, by the test before
            raise UsageError(f"simulator: latency.{name} is {value!r}; it must be a finite number, 0 or more")


def _microseconds(seconds: float) -> int:
    return round(min(seconds * 1_000_000, LONGEST_US))


class ConstantLatency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="constant"):
    """Every answer takes `value_s` seconds."""

    value_s: float

    def __post_init__(self) -> None:
        _check(value_s=self.value_s)

    def draw_us(self, fraction: float) -> int:
        """Microseconds for a fraction from 0 up to 1; here the fraction does not matter."""
        return _microseconds(self.value_s)


class UniformLatency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="uniform"):
    """Anything from `low_s` to `high_s` seconds, all alike."""

    low_s: float
    high_s: float

    def __post_init__(self) -> None:
        _check(low_s=self.low_s, high_s=self.high_s)
        if self.high_s < self.low_s:
            raise UsageError(f"simulator: latency.high_s is {self.high_s!r}, below low_s ({self.low_s!r})")

    def draw_us(self, fraction: float) -> int:
        """Microseconds for a fraction from 0 up to 1."""
        return _microseconds(self.low_s + (self.high_s - self.low_s) * fraction)


class LognormalLatency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="lognormal"):
    """Half of the answers take less than `median_s`; `sigma` is the standard deviation of the logarithm."""

    median_s: float
    sigma: float = 0.5

    def __post_init__(self) -> None:
        _check(median_s=self.median_s, sigma=self.sigma)

    def draw_us(self, fraction: float) -> int:
        """Microseconds for a fraction from 0 up to 1."""
        # The normal's inverse has no value at 0, and a fraction is a multiple of 2**-53: half a step away is safe.
        exponent = self.sigma * _NORMAL.inv_cdf(min(fraction + 2**-54, 1 - 2**-53))
        return _microseconds(self.median_s * math.exp(min(exponent, 700.0)))


class ExponentialLatency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="exponential"):
    """Mostly short, sometimes long, `mean_s` seconds on average."""

    mean_s: float

    def __post_init__(self) -> None:
        _check(mean_s=self.mean_s)

    def draw_us(self, fraction: float) -> int:
        """Microseconds for a fraction from 0 up to 1."""
        return _microseconds(-self.mean_s * math.log1p(-fraction))


Latency: TypeAlias = ConstantLatency | UniformLatency | LognormalLatency | ExponentialLatency
