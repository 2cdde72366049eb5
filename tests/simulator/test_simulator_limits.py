"""The provider's limits against naive models: what fits, how long it does not, what is left, what comes back."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.simulator.config import ProviderLimit
from engine.simulator.limits import Cost, Hold, LimitSet, Refusal, meter_for

ORIGIN_US = 1_000


class Naive:
    """Keeps everything that was ever charged and recomputes from the definition, in fractions, each time."""

    def __init__(self, rule: ProviderLimit) -> None:
        self.rule = rule
        self.events: list[tuple[int, str, int, int]] = []

    def room(self, at_us: int) -> int:
        rule, period = self.rule, self.rule.period_us
        if rule.kind == "token_bucket":
            return self._level(at_us) // 1
        if rule.kind == "fixed_window":
            window = (at_us - ORIGIN_US) // period
            inside = [e for e in self.events if (e[0] - ORIGIN_US) // period == window]
        else:
            inside = [e for e in self.events if e[0] > at_us - period]
        return rule.limit - sum(amount for _, _, amount, _ in inside)

    def _level(self, at_us: int) -> Fraction:
        full = Fraction(self.rule.burst or self.rule.limit)
        level, last = full, ORIGIN_US
        for when, _, amount, _ in sorted(self.events, key=lambda event: event[3]):
            level = min(full, level + Fraction((when - last) * self.rule.limit, self.rule.period_us))
            level, last = min(full, level - amount), when
        return min(full, level + Fraction((at_us - last) * self.rule.limit, self.rule.period_us))

    def take(self, at_us: int, amount: int) -> int:
        self.events.append((at_us, "take", amount, len(self.events)))
        return len(self.events) - 1

    def settle(self, at_us: int, index: int, used: int) -> None:
        when, kind, amount, order = self.events[index]
        if self.rule.kind == "token_bucket":
            self.events.append((at_us, "back", used - amount, len(self.events)))
        else:
            self.events[index] = (when, kind, used, order)


class Step(NamedTuple):
    """Time goes on, an amount is asked for, perhaps an earlier charge is settled to a share of what it held."""

    on_us: int
    amount: int
    settle: tuple[int, int] | None


@st.composite
def histories(draw: st.DrawFn) -> tuple[ProviderLimit, list[Step]]:
    """A small limit and steps that crowd around its edges in time and amount."""
    kind = draw(st.sampled_from(["fixed_window", "sliding_window", "token_bucket"]))
    limit, period_us = draw(st.integers(1, 6)), draw(st.integers(1, 23))
    burst = draw(st.integers(0, 8)) if kind == "token_bucket" else 0
    on_us = st.sampled_from([0, 0, 0, 1, period_us // 2, period_us - 1, period_us, period_us + 1, 3 * period_us])
    settle = st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(0, 2)))
    steps = st.lists(st.builds(Step, on_us, st.integers(0, (burst or limit) + 1), settle), min_size=5, max_size=30)
    return ProviderLimit("total_tokens", limit, period_us / 1e6, kind, "usage", burst), draw(steps)


@settings(max_examples=300)
@given(histories())
def test_a_meter_agrees_with_its_definition(history: tuple[ProviderLimit, list[Step]]) -> None:
    rule, steps = history
    meter, naive, at_us = meter_for(rule, ORIGIN_US), Naive(rule), ORIGIN_US
    capacity = rule.burst or rule.limit
    charges: list[tuple[Hold, int, int]] = []
    for step in steps:
        at_us += step.on_us
        assert meter.remaining(at_us) == naive.room(at_us)
        wait_us = meter.wait_us(at_us, step.amount)
        if wait_us == 0:
            assert step.amount <= naive.room(at_us)
            charges.append((meter.take(at_us, step.amount), naive.take(at_us, step.amount), step.amount))
        elif wait_us is None:
            assert step.amount > capacity
        else:
            assert naive.room(at_us + wait_us) >= step.amount, "the wait is too short"
            assert naive.room(at_us + wait_us - 1) < step.amount, "the wait is too long"
        if step.settle is not None and charges:
            place, share = step.settle
            hold, index, held = charges.pop(place % len(charges))
            meter.settle(at_us, hold, held * share // 2)
            naive.settle(at_us, index, held * share // 2)
            assert meter.remaining(at_us) == naive.room(at_us)
        assert naive.room(at_us + meter.reset_us(at_us)) == capacity


def test_a_request_is_charged_to_every_limit_or_to_none() -> None:
    limits = LimitSet([ProviderLimit("requests", 3, 1.0), ProviderLimit("input_tokens", 10, 1.0)], 0)
    assert not isinstance(limits.admit(0, Cost(8, 1)), Refusal)
    refused = limits.admit(5, Cost(8, 1))
    assert isinstance(refused, Refusal)
    assert (refused.rule.dimension, refused.asked, refused.remaining, refused.wait_us) == (
        "input_tokens", 8, 2, 999_995,
    )  # fmt: skip
    assert limits.standing(5, "requests") == (3, 2, 999_995)


def test_the_refusal_names_the_limit_that_makes_it_wait_longest() -> None:
    limits = LimitSet([ProviderLimit("requests", 1, 1.0), ProviderLimit("total_tokens", 10, 5.0)], 0)
    limits.admit(0, Cost(5, 4))
    refused = limits.admit(0, Cost(1, 1))
    assert isinstance(refused, Refusal)
    assert (refused.rule.dimension, refused.wait_us) == ("total_tokens", 5_000_000)


def test_what_can_never_fit_has_no_wait() -> None:
    limits = LimitSet([ProviderLimit("requests", 1, 1.0), ProviderLimit("output_tokens", 10, 5.0)], 0)
    refused = limits.admit(0, Cost(1, 11))
    assert isinstance(refused, Refusal)
    assert (refused.rule.dimension, refused.wait_us) == ("output_tokens", None)


@pytest.mark.parametrize(("charge", "left"), [("arrival", 4), ("usage", 7)])
def test_only_a_limit_that_charges_by_usage_gives_anything_back(charge: str, left: int) -> None:
    limits = LimitSet([ProviderLimit("total_tokens", 10, 1.0, charge=charge)], 0)  # type: ignore[arg-type]
    holds = limits.admit(0, Cost(2, 4))
    assert not isinstance(holds, Refusal)
    limits.settle(1, holds, Cost(2, 1))
    standing = limits.standing(1, "tokens")
    assert standing is not None
    assert standing.remaining == left


def test_the_headers_of_a_family_speak_of_its_tightest_limit() -> None:
    limits = LimitSet([ProviderLimit("requests", 9, 60.0), ProviderLimit("requests", 5, 1.0)], 0)
    limits.admit(0, Cost(1, 1))
    assert limits.standing(0, "requests") == (5, 4, 1_000_000)
    assert limits.standing(0, "tokens") is None
