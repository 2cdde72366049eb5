"""The fastest lawful schedule: what the benchmarks divide by, held against a naive schedule and small cases by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.lawful import in_window, least_fluid_us, least_requests_us, least_windows_us
from engine.simulator import Arrival, spent_share, worst_window


def greedy_us(calls: int, limit: int, period_us: int) -> list[int]:
    """Every call as early as the limit allows: the one that is `limit` places before it, and a period."""
    at_us: list[int] = []
    for number in range(calls):
        at_us.append(0 if number < limit else at_us[number - limit] + period_us)
    return at_us


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 1000))
def test_greedy_schedule_is_the_fastest_one(calls: int, limit: int, period_us: int) -> None:
    """A schedule that wastes nothing spends exactly its least span, and its windows are never over."""
    at_us = greedy_us(calls, limit, period_us)
    assert least_requests_us(at_us, limit, period_us) == at_us[-1] - at_us[0]
    assert max(in_window(at_us, [1] * calls, period_us)) == min(calls, limit)


@given(st.lists(st.integers(0, 500), min_size=2, max_size=60), st.integers(1, 10), st.integers(1, 1000))
def test_least_requests_is_what_the_simulator_calls_spent(steps: list[int], limit: int, period_us: int) -> None:
    """The two formulas are written twice and must not drift apart."""
    at_us = [sum(steps[: index + 1]) for index in range(len(steps))]
    span_us = at_us[-1] - at_us[0]
    if span_us:
        share = spent_share([Arrival(at, str(at), 1) for at in at_us], limit, period_us)
        assert least_requests_us(at_us, limit, period_us) == round(share * span_us)


@given(st.integers(1, 10_000), st.integers(1, 500), st.integers(1, 100_000))
def test_fluid_is_never_slower_than_whole_windows(total: int, limit: int, period_us: int) -> None:
    """Two lower bounds of the same span, less than a period apart."""
    fluid_us, windows_us = least_fluid_us(total, limit, period_us), least_windows_us(total, limit, period_us)
    assert fluid_us <= windows_us < fluid_us + period_us


def test_token_bounds_by_hand() -> None:
    """2.5 limits: one at once, 1.5 periods for the rest; in windows two periods."""
    assert least_fluid_us(2_500, 1_000, 2_000_000) == 3_000_000
    assert least_windows_us(2_500, 1_000, 2_000_000) == 4_000_000
    assert least_windows_us(2_000, 1_000, 2_000_000) == 2_000_000
    assert least_fluid_us(900, 1_000, 2_000_000) == least_windows_us(900, 1_000, 2_000_000) == 0
    assert least_requests_us([], 5, 10) == 0


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 50)), min_size=1, max_size=60), st.integers(1, 1000))
def test_fullest_window_agrees_with_the_simulators_own(steps: list[tuple[int, int]], period_us: int) -> None:
    """Counted twice, by different code."""
    at_us = [sum(step for step, _ in steps[: index + 1]) for index in range(len(steps))]
    amounts = [amount for _, amount in steps]
    log = [Arrival(at, str(at), 1, input_tokens=amount) for at, amount in zip(at_us, amounts, strict=True)]
    assert max(in_window(at_us, amounts, period_us)) == worst_window(log, period_us, "input_tokens").amount
