"""Trio's clock and integer microseconds: the only place where the two meet.

The kernel counts whole microseconds of trio's clock. A deadline handed to trio lies half a microsecond after the one
meant, so that a task that slept until then never finds itself one rounding short of it.
"""

from __future__ import annotations

import trio


def now_us() -> int:
    """The present instant of the running loop's clock, in whole microseconds."""
    return int(trio.current_time() * 1_000_000)


def trio_deadline(at_us: int) -> float:
    """The instant `at_us` as trio's clock counts, for a cancel scope."""
    return (at_us + 0.5) / 1_000_000
