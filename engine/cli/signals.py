"""SIGINT, SIGTERM and SIGHUP for commands that wait: cancel the work, let it clean up, and say with which code to exit.

A terminal that is closed would else leave agents behind, which have sessions of their own. Only the command line
handles signals; the library leaves them to whoever embeds it.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import trio


def ending_signals() -> tuple[signal.Signals, ...]:
    """The signals that end a command. Under nohup a closed terminal is not among them."""
    hung_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGINT, signal.SIGTERM, *hung_up)


async def until_signalled(work: Callable[[], Awaitable[int | None]]) -> int:
    """Run `work` and return its exit code (None is 0), or 128 plus the signal's number if one came first.

    The work is cancelled by the first signal and has time to clean up. What it raises comes in a group of one.
    """
    caught: list[int] = []

    async def watch(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for number in signals:
            caught.append(number)
            scope.cancel()

    code: int | None = None
    with trio.open_signal_receiver(*ending_signals()) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, signals, nursery.cancel_scope)
            code = await work()
            nursery.cancel_scope.cancel()
    return 128 + caught[0] if caught else code or 0
