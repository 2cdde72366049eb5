"""The display of a run: what it counts, that it never waits with a thread, and that it ends when it is told.

The loop is tested once, over drawings of its own; what the two commands draw is tested for what it says.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator

import pytest
import trio
from rich.console import Console
from rich.table import Table

from actors.limits import QuotaStatistics
from engine.batch import Gauges, Tally
from engine.cli import run_display
from engine.cli.demo_display import Progress, line, panel
from engine.cli.display import Bar, panel_of, show

START = Progress(
    calls=600,
    done=0,
    failed=0,
    in_flight=0,
    queued=0,
    backing_off=0,
    spent=0,
    limit=100,
    period_s=1.0,
    refusals=0,
    input_tokens=0,
    output_tokens=0,
)


@pytest.mark.parametrize(
    ("changes", "eta_s"),
    [
        ({}, 5),
        ({"spent": 100}, 6),
        ({"spent": 100, "in_flight": 100}, 5),
        ({"done": 450, "in_flight": 50, "spent": 100}, 1),
        ({"done": 500, "in_flight": 50, "spent": 50}, 0),
        ({"done": 600}, 0),
        ({"spent": 100, "period_s": 60.0}, 360),
    ],
)
def test_eta_is_the_limit_s_pace_over_what_is_left(changes: dict[str, int], eta_s: int) -> None:
    """What fits into the present window costs no time; the rest goes at limit per period."""
    assert START._replace(**changes).eta_s == eta_s


def test_a_line_says_everything_once() -> None:
    now = START._replace(
        done=9, in_flight=8, queued=7, backing_off=6, spent=5, refusals=4, input_tokens=3, output_tokens=2
    )
    assert line(now) == (
        "9/600 done, 8 in flight, 7 queued, 6 backing off, 5/100 of the limit per 1 s, 4 refused, "
        "3 input tokens, 2 output tokens, ETA 5 s"
    )
    assert "1 failed" in line(now._replace(failed=1))


def shown_of(table: Table, columns: int = 80) -> str:
    """A panel as a terminal of that width would show it, without its colours."""
    written = io.StringIO()
    Console(file=written, width=columns, color_system=None).print(table)
    return written.getvalue()


def test_a_panel_says_as_much_as_a_line_in_80_columns() -> None:
    now = START._replace(
        calls=900_000, done=123_456, failed=12, in_flight=1_000, queued=776_000, backing_off=40, spent=100, refusals=3
    )
    shown = shown_of(panel(now))
    for said in (
        "123456 of 900000 done",
        "100 of 100 requests in 1 s",
        "1000 in flight",
        "40 backing off",
        "3 refused",
    ):
        assert said in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert len(shown.splitlines()) == 4, "no row is broken"


def test_a_run_s_panel_has_a_bar_for_its_lines_and_one_for_each_limit() -> None:
    """Four limits at most; how long it will take is said only if it can be known."""
    tally = Tally()
    tally.read, tally.completed, tally.failed = 12, 3, 1
    quotas = [QuotaStatistics("", "total_tokens", 9_000, 2_000_000, number, 0, 0) for number in range(6)]
    gauges = Gauges(in_flight=5, queued=2, backing_off=1, retries=7, quotas=tuple(quotas))
    shown = shown_of(run_display.panel(tally, gauges, 0.25, 42.4))
    assert "4 of 12 done, ETA 42 s" in shown
    assert [f"{number} of 9000 total tokens in 2 s" in shown for number in range(6)] == [True] * 4 + [False] * 2
    assert "5 in flight   2 queued   1 backing off   1 failed   7 retries" in shown
    text = run_display.line(tally, gauges, None)
    assert text.startswith("4/12 done, 1 failed, 5 in flight, 2 queued, 1 backing off, 0/9000 total tokens in 2 s, ")
    assert "ETA" not in text + shown_of(run_display.panel(tally, gauges, None, None))


@pytest.mark.parametrize(("done", "filled"), [(0, 0), (5, 15), (10, 30), (14, 30)])
def test_a_bar_is_as_full_as_it_is_done(done: int, filled: int) -> None:
    """More than the whole, as a debt is, fills it and no more."""
    shown = shown_of(panel_of([Bar("limit", done, 10, "said")], "a row"))
    assert shown.count("\N{BOX DRAWINGS HEAVY HORIZONTAL}") == filled
    assert [row.split()[0] for row in shown.splitlines()] == ["limit", "a"]


def growing() -> Iterator[int]:
    done = 0
    while True:
        yield done
        done += 1


def as_table(text: str) -> Table:
    table = Table.grid()
    table.add_row(text)
    return table


async def test_off_a_terminal_it_writes_plain_lines_ever_more_rarely(autojump_clock: trio.testing.MockClock) -> None:
    """At once, then after 1, 2, 4, ... and at most 60 s, and the last state when it is cancelled; nothing is drawn."""
    written = io.StringIO()
    states = growing()
    times: list[float] = []

    def next_line() -> str:
        times.append(round(trio.current_time() - started_s, 3))
        return f"{next(states)} done"

    def never() -> Table:
        raise AssertionError("a panel was drawn into a file")

    started_s = trio.current_time()
    with trio.move_on_after(250.0):
        await show(Console(file=written, force_terminal=False, width=5), panel=never, line=next_line)
    assert times == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 250]
    assert written.getvalue().splitlines() == [f"{number} done" for number in range(11)]
    assert "\x1b" not in written.getvalue()


async def test_on_a_terminal_it_draws_in_place_without_a_thread(autojump_clock: trio.testing.MockClock) -> None:
    """The panel is redrawn ten times a second by the task itself, and its last state stays."""
    written = io.StringIO()
    states = growing()
    threads: set[int] = set()

    def next_panel() -> Table:
        threads.add(threading.active_count())
        return as_table(f"{next(states)} done")

    def never() -> str:
        raise AssertionError("a line was written onto a terminal")

    with trio.move_on_after(0.95):
        await show(Console(file=written, force_terminal=True, width=120), panel=next_panel, line=never)
    assert threads == {threading.active_count()}
    drawn = re.findall(r"(\d+) done", written.getvalue())
    assert list(dict.fromkeys(drawn)) == [str(number) for number in range(11)]
    assert written.getvalue().rstrip().endswith("\x1b[?25h"), "the cursor is shown again"
