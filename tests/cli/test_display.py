"""The display of a run: what it counts, that it never waits with a thread, and that it ends when it is told."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import pytest
import trio
from rich.console import Console

from engine.cli.display import Progress, line, show

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


def growing() -> Iterator[Progress]:
    done = 0
    while True:
        yield START._replace(done=done)
        done += 1


async def test_off_a_terminal_it_writes_a_plain_line_a_second(autojump_clock: trio.testing.MockClock) -> None:
    """One line at once, one a second, and the last state when it is cancelled; no control characters."""
    written = io.StringIO()
    states = growing()
    with trio.move_on_after(2.5):
        await show(lambda: next(states), Console(file=written, force_terminal=False, width=20))
    lines = written.getvalue().splitlines()
    assert [text.split(" done")[0] for text in lines] == ["0/600", "1/600", "2/600", "3/600"]
    assert "\x1b" not in written.getvalue()


async def test_on_a_terminal_it_draws_in_place_without_a_thread(autojump_clock: trio.testing.MockClock) -> None:
    """The panel is redrawn ten times a second by the task itself, and its last state stays."""
    written = io.StringIO()
    states = growing()
    threads: set[int] = set()

    def next_state() -> Progress:
        threads.add(threading.active_count())
        return next(states)

    with trio.move_on_after(0.95):
        await show(next_state, Console(file=written, force_terminal=True, width=120))
    assert threads == {threading.active_count()}
    frames = written.getvalue().count(" of 600 done")
    assert frames >= 10
    assert "\x1b[?25h" in written.getvalue(), "the cursor is shown again"
