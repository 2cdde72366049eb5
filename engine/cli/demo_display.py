"""The progress of `penstock demo`, drawn: how many calls there are is known, so how long they will take is, too.

Only drawing is here; when it is drawn, and where to, is `engine.cli.display`'s business.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from rich.table import Table

from engine.cli.display import Bar, panel_of


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
    """The run as two bars and two rows of counts."""
    return panel_of(
        (
            Bar("calls", now.done, now.calls, f"{now.done} of {now.calls} done, ETA {now.eta_s} s"),
            Bar("limit", now.spent, now.limit, f"{now.spent} of {now.limit} requests in {now.period_s:g} s"),
        ),
        f"{now.in_flight} in flight   {now.queued} queued   {now.backing_off} backing off   {now.failed} failed   "
        f"{now.refusals} refused",
        f"{now.input_tokens} input tokens   {now.output_tokens} output tokens",
    )
