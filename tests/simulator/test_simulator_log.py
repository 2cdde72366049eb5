"""The log and its analysis, by property: nothing is lost on the way, and the sums agree with their definitions."""

from __future__ import annotations

import math
from collections import Counter
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.simulator import (
    Arrival,
    Aside,
    Late,
    ProviderLimit,
    StreamEnd,
    StreamTotals,
    read_log,
    spent_share,
    tally,
    tally_streams,
    worst_window,
)
from engine.simulator.log import ArrivalLog, LogFile


@st.composite
def arrivals_in_order(draw: st.DrawFn) -> list[Arrival]:
    """Arrivals whose instants never fall, often equal or a period apart."""
    at_us, arrivals = draw(st.integers(0, 5)), []
    for step in draw(st.lists(st.sampled_from([0, 0, 1, 2, 5, 10, 31]), max_size=30)):
        at_us += step
        cap = draw(st.integers(1, 9))
        arrivals.append(
            Arrival(
                at_us,
                draw(st.text(max_size=3)),
                draw(st.integers(1, 3)),
                draw(st.sampled_from(["", "", "", "requests", "injected"])),
                draw(st.sampled_from([0, 200, 429, 500])),
                draw(st.sampled_from(["", "stall", "html"])),
                draw(st.integers(0, 9)),
                cap,
                draw(st.integers(0, cap)),
            )
        )
    return arrivals


def log_of(arrivals: list[Arrival], *rules: ProviderLimit, capacity: int = 1_000) -> ArrivalLog:
    log = ArrivalLog(rules, capacity=capacity, guard_us=10)
    for arrival in arrivals:
        log.add(arrival)
    return log


@given(
    arrivals_in_order(),
    st.integers(1, 40),
    st.sampled_from(["requests", "input_tokens", "output_tokens", "total_tokens"]),
    st.sampled_from(["arrival", "usage"]),
)
def test_the_worst_window_is_the_fullest_of_all(arrivals: list, period_us: int, dimension, charge) -> None:  # type: ignore[no-untyped-def]
    def cost(arrival: Arrival) -> int:
        output = arrival.output_cap if charge == "arrival" else arrival.output_tokens
        parts = {"requests": 1, "input_tokens": arrival.input_tokens, "output_tokens": output}
        return parts.get(dimension, arrival.input_tokens + output)

    accepted = [arrival for arrival in arrivals if not arrival.refused_by]
    fullest = max(
        (
            sum(cost(other) for other in accepted if first.at_us <= other.at_us < first.at_us + period_us)
            for first in accepted
        ),
        default=0,
    )
    assert worst_window(arrivals, period_us, dimension, charge).amount == fullest
    rule = ProviderLimit(dimension, 5, period_us / 1e6, charge=charge)
    assert [window.worst for window in log_of(arrivals, rule).worst_windows()] == [fullest]


@given(arrivals_in_order())
def test_the_log_gives_back_what_it_was_given(arrivals: list[Arrival]) -> None:
    log = log_of(arrivals)
    assert list(log.read()) == arrivals
    assert read_log(log.lines(0, len(log)))[0] == arrivals
    counted = tally(arrivals)
    assert (log.accepted, dict(log.refused)) == (counted.accepted, counted.refused)
    assert counted.accepted == sum(arrival.accepted for arrival in arrivals)
    assert counted.refused == Counter(arrival.refused_by for arrival in arrivals if arrival.refused_by)


@given(arrivals_in_order(), st.integers(0, 10))
def test_a_full_log_counts_what_it_does_not_keep(arrivals: list[Arrival], capacity: int) -> None:
    log = log_of(arrivals, capacity=capacity)
    assert list(log.read()) == arrivals[:capacity]
    assert (log.arrivals, log.unlogged) == (len(arrivals), max(0, len(arrivals) - capacity))


@given(arrivals_in_order(), st.lists(st.integers(0, 30), max_size=5), st.integers(1, 9))
def test_the_file_holds_every_line_once(arrivals: list[Arrival], pauses: list[int], most: int) -> None:
    log, file = log_of([]), BytesIO()
    writer = LogFile(log, file)
    for place, arrival in enumerate(arrivals):
        log.add(arrival)
        if place in pauses:
            writer.write(most)
            log.turned(arrival.at_us, arrival.at_us + 11)
            for more in range(place % 4):
                log.stream_ended(StreamEnd(arrival.at_us, arrival.call, more, 3, 5, "left"))
                log.aside(Aside(arrival.at_us, arrival.call, "GET", "/jobs/1", more, 200))
    while writer.write(most):
        pass
    assert read_log(file.getvalue()) == (arrivals, log.lates, log.ends, log.asides)
    assert log.asked == len(log.asides)


def test_streams_are_counted_by_how_they_ended() -> None:
    ends = [
        StreamEnd(1, "a", 1, 9, 9, "done"),
        StreamEnd(2, "b", 1, 4, 9, "cut", "stream_cut"),
        StreamEnd(3, "c", 1, 0, 7, "left"),
        StreamEnd(4, "b", 2, 9, 9, "done"),
    ]
    log = log_of([], capacity=3)
    for _ in range(6):
        log.stream_began()
    for end in ends:
        log.stream_ended(end)
    assert log.streams() == StreamTotals(6, 2, {"done": 2, "cut": 1, "left": 1}, 22)
    assert log.ends == ends[:3], "as many as the log holds"
    assert tally_streams(ends) == ({"done": 2, "cut": 1, "left": 1}, 22, ends[1:3])


def test_lateness_counts_from_the_first_arrival_and_marks_what_exceeds_the_guard() -> None:
    log = log_of([])
    log.turned(0, 500)
    assert log.lateness().max_late_us == 0
    log.add(Arrival(600, "a", 1))
    log.turned(700, 710)
    assert (log.lateness().max_late_us, log.lateness().late) == (10, False)
    log.turned(800, 811)
    assert (log.lateness().max_late_us, log.lateness().over_guard, log.lateness().late) == (11, 1, True)
    assert log.lates == [Late(811, 11)]


def spent(*at_us: int, limit: int = 2, period_us: int = 100) -> float:
    return spent_share([Arrival(at, f"call-{at}-{i}", 1) for i, at in enumerate(at_us)], limit, period_us)


@pytest.mark.parametrize(
    ("at_us", "share"),
    [
        ((), 0.0),
        ((5,), 1.0),
        ((5, 5), 1.0),
        ((0, 10), 1.0),
        ((0, 0, 100, 100), 1.0),
        ((0, 0, 100, 100, 200), 1.0),
        ((0, 10, 100, 110), 1.0),
        ((0, 10, 100, 140), 110 / 140),
        ((0, 0, 125), 100 / 125),
        ((0, 0, 0), math.inf),
        ((0, 0, 50), 2.0),
    ],
)
def test_the_share_that_was_spent(at_us: tuple[int, ...], share: float) -> None:
    assert spent(*at_us) == share


def test_the_share_ends_with_the_last_first_attempt_and_counts_accepted_requests_alone() -> None:
    arrivals = [
        Arrival(0, "a", 1),
        Arrival(0, "b", 1, fault="server_error", status=500),
        Arrival(1, "c", 1, "requests", 429),
        Arrival(100, "b", 2),
        Arrival(125, "d", 1),
        Arrival(999, "c", 2),
    ]
    # n = 4: k = 2, one whole round: (0 + 100 - 0) / 125
    assert spent_share(arrivals, 2, 100) == 100 / 125


@given(st.integers(1, 5), st.integers(1, 50), st.integers(1, 30), st.integers(0, 9))
def test_who_sends_at_the_first_possible_instant_spends_all(limit: int, period_us: int, n: int, start: int) -> None:
    exact = [start + (i // limit) * period_us for i in range(n)]
    assert spent(*exact, limit=limit, period_us=period_us) == 1.0
    if n > limit:
        delayed = [*exact[:-1], exact[-1] + 1]
        assert spent(*delayed, limit=limit, period_us=period_us) < 1.0
