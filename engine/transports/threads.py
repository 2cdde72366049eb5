"""Short work of the system's in a thread of its own, which is never waited for behind others'.

Trio's own threads may all be taken, for as long as a handler or another library likes; what a run has left behind is
ended all the same. For a moment's work only: it cannot be cancelled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def in_thread(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """What `work` returns. A checkpoint before it begins; then it is waited for."""
    return await trio.to_thread.run_sync(work, *arguments, limiter=trio.CapacityLimiter(1))
