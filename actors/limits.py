"""Limits as a user states them: quotas, what a call costs in each dimension, and what could never be admitted.

A quota is a rule without a state; `meters` keeps the state. Quantities are whole numbers and times are whole
microseconds once a quota has become a `QuotaSpec`; what has to be rounded is rounded against ourselves.

Pure: no trio, no clock, no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, Protocol, get_args

import msgspec

from actors.errors import UsageError
from actors.messages import Dimension, Fault, QuotaSpec

NOT_AFTER_US = 5_000_000
"""A grant that has not begun to be sent by then is void."""

Cost = tuple[int, int, int, int]
"""What a call takes of each dimension, in the order of `DIMENSIONS`."""

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
UNBOUNDED = 1 << 62
"""More than any amount and later than any time."""


class Quota(msgspec.Struct, frozen=True):
    """At most `limit` of `dimension` in any window of `period_s` seconds.

    `dimension` is ``"requests"``, ``"input_tokens"``, ``"output_tokens"`` or ``"total_tokens"`` (input plus output).

    `burst` makes it a token bucket of that capacity, refilled continuously with `limit` per period, instead of a
    sliding window. `pace` spreads the starts: an admission of ``a`` keeps the next waiting for ``a / limit`` of the
    period, for providers that enforce a minute in slices of a second. `guard_s` lengthens the period against jitter on
    the way, by default ``min(0.050, period_s / 100)``. ``settle="reserved"`` is for providers that charge the reserved
    amount of an answered call whatever it used: nothing of that comes back before it expires. `name` tells quotas of
    one dimension apart.

    Raises:
      UsageError: a number is out of range or not a number; the message names the field.
    """

    dimension: Dimension
    limit: int
    period_s: float = 60.0
    name: str = ""
    burst: int | None = None
    pace: bool = False
    guard_s: float | None = None
    settle: Literal["usage", "reserved"] = "usage"

    def __post_init__(self) -> None:
        if self.dimension not in DIMENSIONS:
            raise UsageError(f"a quota's dimension is one of {', '.join(DIMENSIONS)}, not {self.dimension!r}")
        _check_count(f"the limit of the {self.dimension} quota", self.limit)
        if self.burst is not None:
            _check_count(f"the burst of the {self.dimension} quota", self.burst)
        period = self.period_s
        if not is_number(period) or not 1e-6 <= period <= 366 * 86_400:
            raise UsageError(
                f"period_s of the {self.dimension} quota must be seconds between 1e-6 and a year: {period!r}"
            )
        if self.guard_s is not None and not (is_number(self.guard_s) and 0 <= self.guard_s <= self.period_s):
            raise UsageError(
                f"guard_s of the {self.dimension} quota must be seconds between 0 and its period: {self.guard_s!r}"
            )
        if not is_text(self.name):
            raise UsageError(f"the name of the {self.dimension} quota must be a text, not {self.name!a:.80}")
        if not _is_flag(self.pace):
            raise UsageError(f"pace of the {self.dimension} quota is True or False, not {self.pace!r}")
        if self.settle not in ("usage", "reserved"):
            raise UsageError(f'settle of the {self.dimension} quota is "usage" or "reserved", not {self.settle!r}')

    def spec(self, quota_id: int) -> QuotaSpec:
        """The quota as a message carries it; the guard is rounded up, against ourselves."""
        guard_s = min(0.050, self.period_s / 100) if self.guard_s is None else self.guard_s
        return QuotaSpec(
            quota_id=quota_id,
            name=self.name or self.dimension,
            dimension=self.dimension,
            limit=self.limit,
            period_us=math.ceil(self.period_s * 1_000_000),
            guard_us=math.ceil(guard_s * 1_000_000),
            burst=self.burst or 0,
            pace=self.pace,
            settle=self.settle,
        )


LEARNED: tuple[tuple[Dimension, int], ...] = (("requests", 16), ("total_tokens", 0))
"""The limits that are learned where a lane is to learn its own, and where each begins: of tokens without an end, for
what is admitted of requests bounds them until anything is known."""


def learned_spec(dimension: Dimension, first: int, period_s: float, quota_id: int) -> QuotaSpec:
    """A quota that nobody states, as a message carries it: `first` is where it begins (0: as if there were none)."""
    spec = Quota(dimension, 1, period_s, f"learned {dimension}").spec(quota_id)
    return msgspec.structs.replace(spec, limit=first, learned=True)


def is_number(value: object) -> bool:
    """Whether this is a finite number of a sensible size, and not True or False."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) < 1 << 62 if isinstance(value, int) else math.isfinite(value)


def is_text(value: object) -> bool:
    """Whether this is a text that can be written as UTF-8, so that it can travel in a message."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def is_count(value: object) -> bool:
    """Whether this is a whole number of at least 1, and not True."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1 << 53


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _check_count(what: str, value: object) -> None:
    if not is_count(value):
        raise UsageError(f"{what} must be a whole number of at least 1, not {value!r}")


class QuotaStatistics(msgspec.Struct, frozen=True):
    """One quota: `occupied` includes the `open` part and what stands above the limit, the `debt`. Of a `learned` one
    the `limit` is what was found so far, 0 while nothing was."""

    name: str
    dimension: Dimension
    limit: int
    period_us: int
    occupied: int
    open: int
    debt: int
    learned: bool = False


class Limit(Protocol):
    """What `admissible` asks of a quota: a `QuotaSpec`, or a meter whose limit may have changed since."""

    @property
    def dimension(self) -> Dimension: ...
    @property
    def limit(self) -> int: ...
    @property
    def burst(self) -> int: ...
    @property
    def learned(self) -> bool: ...


def capacity_of(quota: Limit) -> int:
    """The most that one call may take of a quota. While a limit is being learned that is not for it to say."""
    return UNBOUNDED if quota.learned else quota.burst or quota.limit


def cost_of(input_tokens: int, output_tokens: int) -> Cost:
    """One call's cost in every dimension."""
    return (1, input_tokens, output_tokens, input_tokens + output_tokens)


def admissible(cost: Cost, quotas: Iterable[Limit]) -> tuple[Limit, int] | None:
    """The first quota that could never admit `cost`, and its capacity; None when every quota could."""
    for quota in quotas:
        capacity = capacity_of(quota)
        if cost[DIMENSIONS.index(quota.dimension)] > capacity:
            return quota, capacity
    return None


def output_that_fits(input_tokens: int, output_tokens: int, quotas: Iterable[Limit]) -> int:
    """The largest output not above `output_tokens` that every quota could admit beside `input_tokens`; at least 0."""
    for quota in quotas:
        capacity = capacity_of(quota)
        if quota.dimension == "output_tokens":
            output_tokens = min(output_tokens, capacity)
        elif quota.dimension == "total_tokens":
            output_tokens = min(output_tokens, capacity - input_tokens)
    return max(0, output_tokens)


def input_that_fits(input_tokens: int, output_tokens: int, quotas: Iterable[Limit]) -> int:
    """The largest input not above `input_tokens` that every quota could admit beside `output_tokens`; at least 0."""
    for quota in quotas:
        capacity = capacity_of(quota)
        if quota.dimension == "input_tokens":
            input_tokens = min(input_tokens, capacity)
        elif quota.dimension == "total_tokens":
            input_tokens = min(input_tokens, capacity - output_tokens)
    return max(0, input_tokens)


def capacity_fault(cost: Cost, quota: Limit, capacity: int) -> Fault:
    """What a call holds as its error, or is refused with, that one quota could never admit."""
    requested = cost[DIMENSIONS.index(quota.dimension)]
    return Fault(
        "CapacityExceeded",
        f"the call needs {requested} {quota.dimension} and its lane admits at most {capacity} at once, so it can never "
        "be sent; nothing was sent. Make it smaller, or raise the limit",
        detail=quota.dimension,
        requested=requested,
        capacity=capacity,
    )
