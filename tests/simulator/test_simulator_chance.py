"""What chance decides: repeatable by call and attempt, in the proportions that were asked for."""

from __future__ import annotations

from statistics import mean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.simulator import (
    ConstantLatency,
    ExponentialLatency,
    FaultRates,
    Latency,
    LognormalLatency,
    UniformLatency,
)
from engine.simulator.faults import FaultTable, draw
from engine.simulator.latency import LONGEST_US

FRACTIONS = [draw(7, f"call-{i}", 1).latency for i in range(20_000)]


@given(st.integers(0, 2**63 - 1), st.text(), st.integers(1, 99))
def test_a_draw_depends_on_seed_call_and_attempt_alone(seed: int, call: str, attempt: int) -> None:
    here = draw(seed, call, attempt)
    assert here == draw(seed, call, attempt)
    assert (
        len({here, draw(seed ^ 1, call, attempt), draw(seed, call + "x", attempt), draw(seed, call, attempt + 1)}) == 4
    )
    assert all(0.0 <= fraction < 1.0 for fraction in here[:3])


def test_the_chances_of_one_attempt_are_unrelated() -> None:
    draws = [draw(3, f"c{i}", 1) for i in range(4_000)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        both = sum(d[one] < 0.5 and d[other] < 0.5 for d in draws)  # type: ignore[operator]
        assert both / len(draws) == pytest.approx(0.25, abs=0.03)


def test_faults_strike_as_often_as_asked() -> None:
    table = FaultTable(FaultRates(server_error=0.02, stall=0.3, null_usage=0.1).rates())
    struck = [table.pick(fraction, 1) for fraction in FRACTIONS]
    for name, rate in (("server_error", 0.02), ("stall", 0.3), ("null_usage", 0.1), ("", 0.58)):
        assert struck.count(name) / len(struck) == pytest.approx(rate, abs=0.012)


def test_probabilities_that_add_up_to_one_leave_no_call_alone() -> None:
    table = FaultTable(FaultRates(**dict.fromkeys(("stall", "html", "empty", "truncated", "reset_after"), 0.2)).rates())
    assert table.pick(1 - 2**-53, 1) == "truncated"
    assert table.pick(0.0, 1) == "reset_after"


def test_faults_can_be_kept_to_the_first_attempts() -> None:
    table = FaultTable(FaultRates(html=1.0).rates(), only_first_attempts=2)
    assert [table.pick(0.5, attempt) for attempt in (1, 2, 3, 4)] == ["html", "html", "", ""]


@pytest.mark.parametrize(
    ("latency", "middle_s", "mean_s", "low_s", "high_s"),
    [
        (ConstantLatency(0.25), 0.25, 0.25, 0.25, 0.25),
        (UniformLatency(0.1, 0.5), 0.3, 0.3, 0.1, 0.5),
        (LognormalLatency(0.3, 0.5), 0.3, 0.34, 0.0, 6.0),
        (ExponentialLatency(0.2), 0.1386, 0.2, 0.0, 4.0),
    ],
)
def test_a_latency_has_its_distribution(
    latency: Latency, middle_s: float, mean_s: float, low_s: float, high_s: float
) -> None:
    drawn = [latency.draw_us(fraction) / 1e6 for fraction in FRACTIONS]
    assert median(drawn) == pytest.approx(middle_s, rel=0.03)
    assert mean(drawn) == pytest.approx(mean_s, rel=0.03)
    assert low_s <= min(drawn) <= max(drawn) <= high_s


@pytest.mark.parametrize(
    "latency", [LognormalLatency(1e9, 500.0), ExponentialLatency(1e9), ConstantLatency(1e9), UniformLatency(1e9, 2e9)]
)
@pytest.mark.parametrize("fraction", [0.0, 0.5, 1 - 2**-53])
def test_no_tail_is_endless(latency: Latency, fraction: float) -> None:
    assert 0 <= latency.draw_us(fraction) <= LONGEST_US
