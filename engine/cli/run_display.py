"""The progress of `penstock run`, drawn: a bar for the lines, and one for each limit.

How many lines there are is not known before the last one was read, so how far the run is, and how long it will take,
comes from the share of the file that is done. Only drawing is here; when, and where to, is `engine.cli.display`'s.
"""

from __future__ import annotations

import trio
from rich.console import Console
from rich.table import Table

from actors.limits import QuotaStatistics
from engine.batch import Batch, Gauges, LineReader, Tally
from engine.cli.display import Bar, panel_of, show

MOST_QUOTAS = 4


async def show_run(batch: Batch, reader: LineReader, on: Console) -> None:
    """Show the run from its beginning until cancelled; at the end the last state stays on the screen."""
    await batch.begun.wait()
    started_s = trio.current_time()

    def eta_s() -> float | None:
        share = share_done(batch.tally, reader)
        return (trio.current_time() - started_s) * (1 - share) / share if share else None

    await show(
        on,
        panel=lambda: panel(batch.tally, batch.gauges(), share_done(batch.tally, reader), eta_s()),
        line=lambda: line(batch.tally, batch.gauges(), eta_s()),
    )


def share_done(tally: Tally, reader: LineReader) -> float | None:
    """The share of the input that has been read and has ended; None where nobody can know."""
    if not reader.size_bytes or not tally.read:
        return None
    return min(reader.taken_bytes / reader.size_bytes, 1.0) * tally.done / tally.read


def line(tally: Tally, now: Gauges, eta_s: float | None) -> str:
    """The run in one line of plain text."""
    parts = [f"{tally.done}/{tally.read} done"]
    if tally.failed:
        parts.append(f"{tally.failed} failed")
    parts += [f"{now.in_flight} in flight", f"{now.queued} queued", f"{now.backing_off} backing off"]
    parts += [f"{quota.occupied}/{_limit(quota)}" for quota in now.quotas[:MOST_QUOTAS]]
    parts += [f"{now.retries} retries", f"{tally.input_tokens} input tokens", f"{tally.output_tokens} output tokens"]
    if eta_s is not None:
        parts.append(f"ETA {eta_s:.0f} s")
    return ", ".join(parts)


def panel(tally: Tally, now: Gauges, done: float | None, eta_s: float | None) -> Table:
    """The run as bars and two rows of counts."""
    ended = f"{tally.done} of {tally.read} done" + ("" if eta_s is None else f", ETA {eta_s:.0f} s")
    limits = [
        Bar("limit", quota.occupied, quota.limit, f"{quota.occupied} of {_limit(quota)}")
        for quota in now.quotas[:MOST_QUOTAS]
    ]
    return panel_of(
        [Bar("lines", done, 1.0, ended), *limits],
        f"{now.in_flight} in flight   {now.queued} queued   {now.backing_off} backing off   {tally.failed} failed   "
        f"{now.retries} retries",
        f"{tally.input_tokens} input tokens   {tally.output_tokens} output tokens",
    )


def _limit(quota: QuotaStatistics) -> str:
    return f"{quota.limit} {quota.dimension.replace('_', ' ')} in {quota.period_us / 1e6:g} s"
