"""Limits as they travel in messages: a quota of a lane, and what a provider says of one of its own.

Parts of messages, not messages; times are integer microseconds, `_us` in the name.

Pure: no trio, no I/O.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Dimension: TypeAlias = Literal["requests", "input_tokens", "output_tokens", "total_tokens"]


class QuotaSpec(msgspec.Struct, frozen=True, array_like=True):
    """A `Quota` as it travels. `quota_id` is shared by every lane the quota stands over. `learned`: nobody states
    its limit, which is found as calls are made; `limit` is where that begins (0: as if there were none)."""

    quota_id: int
    name: str
    dimension: Dimension
    limit: int
    period_us: int
    guard_us: int
    burst: int = 0
    pace: bool = False
    settle: Literal["usage", "reserved"] = "usage"
    learned: bool = False


class Observed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a provider says of one of its limits: its size, what is left of it, in how long nothing is used any more.
    -1: it does not say. `period_us` is the limit's period, 0 where only `reset_us` tells of it."""

    dimension: Dimension
    limit: int = -1
    remaining: int = -1
    reset_us: int = -1
    period_us: int = 0
