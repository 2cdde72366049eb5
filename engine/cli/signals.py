"""SIGINT and SIGTERM for commands that wait: cancel the work, let it clean up, and say with which code to exit.

Only the command line handles signals; the library leaves them to whoever embeds it.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import trio


async def until_signalled(work: Callable[[], Awaitable[int | None]]) -> int:
    """Run `work` and return its exit code, or 128 plus the signal's number if one came first.

    The work is cancelled by the first signal and has time to clean up; what it raises passes through unchanged.
    """
    caught: list[int] = []

    async def watch(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for number in signals:
            caught.append(number)
            scope.cancel()

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals, trio.CancelScope() as scope:
        # A system task and no nursery, so that an error of the work is not wrapped in a group.
        trio.lowlevel.spawn_system_task(watch, signals, scope)
        code = await work()
        if not caught:
            return code or 0
    return 128 + caught[0]
