"""The progress of `penstock run` on stderr: a live panel on a terminal, plain lines, ever rarer, anywhere else.

How many lines there are is not known before the last one was read, so how far the run is, and how long it will take,
comes from the share of the file that is done. Driven by one trio task; nothing here may write to stdout.
"""

from __future__ import annotations

import trio
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from actors.limits import QuotaStatistics
from engine.batch import Batch, Gauges, LineReader, Tally
from engine.cli.display import LINE_EVERY_S, REFRESH_S

MOST_QUOTAS = 4
RAREST_S = 60.0


async def show_run(batch: Batch, reader: LineReader, on: Console) -> None:
    """Show the run from its beginning until cancelled; at the end the last state stays on the screen."""
    await batch.begun.wait()
    started_s = trio.current_time()

    def done() -> float | None:
        """The share of the input that has been read and has ended."""
        if not reader.size_bytes or not batch.tally.read:
            return None
        read = min(reader.taken_bytes / reader.size_bytes, 1.0)
        return read * batch.tally.done / batch.tally.read

    def eta_s() -> float | None:
        share = done()
        return (trio.current_time() - started_s) * (1 - share) / share if share else None

    if on.is_terminal:
        with Live(console=on, auto_refresh=False) as live:
            try:
                while True:
                    live.update(panel(batch.tally, batch.gauges(), done(), eta_s()), refresh=True)
                    await trio.sleep(REFRESH_S)
            finally:
                live.update(panel(batch.tally, batch.gauges(), done(), eta_s()), refresh=True)
    pause_s = LINE_EVERY_S
    try:
        while True:
            on.out(line(batch.tally, batch.gauges(), eta_s()), highlight=False)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, RAREST_S)
    finally:
        on.out(line(batch.tally, batch.gauges(), eta_s()), highlight=False)


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
    """The run as bars and two rows of counts; it fits into 80 columns."""
    bars = Table.grid(padding=(0, 2))
    ended = f"{tally.done} of {tally.read} done" + ("" if eta_s is None else f", ETA {eta_s:.0f} s")
    bars.add_row("lines", ProgressBar(1.0, done or 0.0, width=30, pulse=done is None), ended)
    for quota in now.quotas[:MOST_QUOTAS]:
        bars.add_row(
            "limit",
            ProgressBar(quota.limit, min(quota.occupied, quota.limit), width=30),
            f"{quota.occupied} of {_limit(quota)}",
        )
    whole = Table.grid()
    whole.add_row(bars)
    whole.add_row(
        f"{now.in_flight} in flight   {now.queued} queued   {now.backing_off} backing off   {tally.failed} failed   "
        f"{now.retries} retries"
    )
    whole.add_row(f"{tally.input_tokens} input tokens   {tally.output_tokens} output tokens")
    return whole


def _limit(quota: QuotaStatistics) -> str:
    return f"{quota.limit} {quota.dimension.replace('_', ' ')} in {quota.period_us / 1e6:g} s"
