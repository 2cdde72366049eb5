"""A run's progress on stderr: a live panel on a terminal, plain lines anywhere else. The one loop for all commands.

What a run looks like is drawn by the command, as a panel and as a line; here is when, where to, and of which pieces a
panel is made. It is driven by one trio task and starts no thread. Nothing here may write to stdout: that is for data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, NoReturn

import trio
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

REFRESH_S = 0.1
LINE_EVERY_S = 1.0
RAREST_S = 60.0
BAR_COLUMNS = 30


class Bar(NamedTuple):
    """A bar with its name before it and its words behind it; `done` of `whole`, None where nobody can know."""

    name: str
    done: float | None
    whole: float
    said: str


def progress_console() -> Console:
    """The console for progress: stderr, whatever stdout is."""
    return Console(stderr=True)


async def show(on: Console, *, panel: Callable[[], Table], line: Callable[[], str]) -> None:
    """Show the run until cancelled; at the end the last state stays on the screen.

    `panel` and `line` draw the state of the moment. A terminal is redrawn ten times a second; elsewhere lines come ever
    more rarely, since they stay: after a second, after two more, and so on up to a minute.
    """
    if on.is_terminal:
        await _show_panel(on, panel)
    else:
        await _show_lines(on, line)


async def _show_panel(on: Console, panel: Callable[[], Table]) -> NoReturn:
    with Live(console=on, auto_refresh=False) as live:
        try:
            while True:
                live.update(panel(), refresh=True)
                await trio.sleep(REFRESH_S)
        finally:
            live.update(panel(), refresh=True)


async def _show_lines(on: Console, line: Callable[[], str]) -> NoReturn:
    pause_s = LINE_EVERY_S
    try:
        while True:
            on.out(line(), highlight=False)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, RAREST_S)
    finally:
        on.out(line(), highlight=False)


def panel_of(bars: Iterable[Bar], *rows: str) -> Table:
    """A panel: the bars below one another, and rows of text below them. It fits into 80 columns if they do."""
    drawn = Table.grid(padding=(0, 2))
    for bar in bars:
        done = min(bar.done or 0.0, bar.whole)
        drawn.add_row(bar.name, ProgressBar(bar.whole, done, width=BAR_COLUMNS, pulse=bar.done is None), bar.said)
    whole = Table.grid()
    whole.add_row(drawn)
    for row in rows:
        whole.add_row(row)
    return whole
