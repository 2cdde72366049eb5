"""A run's progress on stderr: a live panel on a terminal, plain lines anywhere else.

`Progress` is what is shown, gathered by whoever runs the calls; this file only draws. It is driven by one trio task and
starts no thread. Nothing here may write to stdout: that is for data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import trio
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

REFRESH_S = 0.1
LINE_EVERY_S = 1.0


class Progress(NamedTuple):
    """How far a run is. `spent` of `limit` requests stand in the present window of `period_s` seconds."""

    calls: int
    done: int
    failed: int
    in_flight: int
    queued: int
    backing_off: int
    spent: int
    limit: int
    period_s: float
    refusals: int
    input_tokens: int
    output_tokens: int

    @property
    def eta_s(self) -> int:
        """Whole seconds until the calls still to be admitted have been, at the limit's pace; in flight not counted."""
        waiting = self.calls - self.done - self.in_flight
        return math.ceil(max(waiting - (self.limit - self.spent), 0) / self.limit * self.period_s)


def progress_console() -> Console:
    """The console for progress: stderr, whatever stdout is."""
    return Console(stderr=True)


async def show(progress: Callable[[], Progress], on: Console) -> None:
    """Show the run until cancelled; at the end the last state stays on the screen."""
    if on.is_terminal:
        with Live(panel(progress()), console=on, auto_refresh=False) as live:
            try:
                while True:
                    live.update(panel(progress()), refresh=True)
                    await trio.sleep(REFRESH_S)
            finally:
                live.update(panel(progress()), refresh=True)
    try:
        while True:
            on.out(line(progress()), highlight=False)
            await trio.sleep(LINE_EVERY_S)
    finally:
        on.out(line(progress()), highlight=False)


def line(now: Progress) -> str:
    """The run in one line of plain text."""
    parts = [
        f"{now.done}/{now.calls} done",
        f"{now.in_flight} in flight",
        f"{now.queued} queued",
        f"{now.backing_off} backing off",
        f"{now.spent}/{now.limit} of the limit per {now.period_s:g} s",
        f"{now.refusals} refused",
        f"{now.input_tokens} input tokens",
        f"{now.output_tokens} output tokens",
        f"ETA {now.eta_s} s",
    ]
    if now.failed:
        parts.insert(1, f"{now.failed} failed")
    return ", ".join(parts)


def panel(now: Progress) -> Table:
    """The run as two bars and two rows of counts; it fits into 80 columns."""
    bars = Table.grid(padding=(0, 2))
    bars.add_row(
        "calls", ProgressBar(now.calls, now.done, width=30), f"{now.done} of {now.calls} done, ETA {now.eta_s} s"
    )
    spent = min(now.spent, now.limit)
    bars.add_row(
        "limit", ProgressBar(now.limit, spent, width=30), f"{now.spent} of {now.limit} requests in {now.period_s:g} s"
    )
    whole = Table.grid()
    whole.add_row(bars)
    whole.add_row(
        f"{now.in_flight} in flight   {now.queued} queued   {now.backing_off} backing off   {now.failed} failed   "
        f"{now.refusals} refused"
    )
    whole.add_row(f"{now.input_tokens} input tokens   {now.output_tokens} output tokens")
    return whole
