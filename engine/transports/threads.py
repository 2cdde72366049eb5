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
    """What `work` returns: it is done here, if the system has no thread to spare. A checkpoint before it begins; then
    it is waited for."""
    has_begun = False

    def begin() -> T:
        nonlocal has_begun
        has_begun = True
        return work(*arguments)

    try:
        return await trio.to_thread.run_sync(begin, limiter=trio.CapacityLimiter(1))
    except RuntimeError:
        if has_begun:
            raise
        return work(*arguments)
