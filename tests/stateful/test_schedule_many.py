"""Many lanes, flows and priorities at once: what is looked at and kept must not grow with more than it has to.

Nothing is timed: calls of the functions that look are counted, and what is kept is measured through its public size.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule_strategies import run_settings
from schedule_till import Till

from actors.admission import LaneState
from actors.messages import OpenLane, QuotaSpec
from actors.queues import CallQueue, Ranking
from actors.turns import Turns

REQUESTS = QuotaSpec(0, "requests", "requests", 100, 1_000_000, 0)


def calls_of(functions: tuple[Callable[..., object], ...], action: Callable[[], object]) -> int:
    """How often any of the functions is called while the action runs."""
    codes = {function.__code__ for function in functions}
    count = 0

    def notice(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call" and frame.f_code in codes

    before = sys.getprofile()
    sys.setprofile(notice)
    try:
        action()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("lanes", [10, 40, 160])
def test_a_call_looks_a_few_times_at_each_lane_it_shares_a_quota_with(lanes: int) -> None:
    till = Till([OpenLane(number, f"lane {number}", (REQUESTS,)) for number in range(lanes)], workers=10)
    for number in range(2 * lanes + 200):
        till.submit(lane=number % lanes)
    till.run(till.now_us)
    assert till.waiting
    served = len(till.served)
    looks = calls_of((LaneState.competes,), lambda: till.run(till.now_us + 1_000_000))
    assert len(till.served) - served >= 90
    assert looks <= 8 * lanes * (len(till.served) - served)


@pytest.mark.parametrize("flows", [1, 10, 300])
def test_a_small_call_behind_a_head_is_found_without_looking_at_every_flow(flows: int) -> None:
    quota = QuotaSpec(0, "input", "input_tokens", 1_000, 1_000_000, 0)
    till = Till([OpenLane(0, "lane", (quota,))], workers=10)
    till.submit(cost=500)
    till.run(till.now_us)
    for number in range(600):
        till.submit(flow=f"flow {number % flows}", cost=900 + number % 90)
    looks = calls_of((CallQueue.search, CallQueue.soonest), lambda: till.submit(flow="small", cost=1))
    assert looks <= 10


@pytest.mark.parametrize("differ", ["flow", "priority"])
def test_a_call_among_many_flows_or_priorities_ranks_a_few(differ: str) -> None:
    till = Till([OpenLane(0, "lane", (REQUESTS,))], workers=200)
    for number in range(1_000):
        till.submit(**{differ: number if differ == "priority" else str(number)})  # type: ignore[arg-type]  # one of both
    served = len(till.served)
    ranked = calls_of((Ranking.put, Ranking.drop), lambda: till.run(till.now_us + 1_000_000))
    grants = len(till.served) - served
    assert grants >= 90
    assert ranked <= 12 * grants


@run_settings(200)
@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 9))))
def test_a_ranking_has_the_least_first_and_keeps_little(changes: list[tuple[int, int | None]]) -> None:
    ranking: Ranking[int, int] = Ranking()
    model: dict[int, int] = {}
    for name, rank in changes * 40:
        if rank is None:
            ranking.drop(name)
            model.pop(name, None)
        else:
            ranking.put(name, rank)
            model[name] = rank
        if model:
            first = ranking.first()
            assert model[first] == min(model.values())
    assert ranking.entries <= 2 * len(model) + 64 or not model


def test_what_a_lift_to_the_clock_has_waived_is_not_given_back() -> None:
    turns: Turns[str] = Turns()
    turns.join("x")
    turns.join("y")
    early = turns.pay("x", 50, in_turn=True)
    for _ in range(200):
        turns.pay("y", 1, in_turn=True)
    turns.join("x")
    assert turns.tag("x") == 199
    late = turns.pay("x", 7, in_turn=True)
    turns.refund(early)
    turns.refund(late)
    assert turns.tag("x") == 199


def test_flows_that_came_once_are_forgotten_in_the_end() -> None:
    """A new flow for every call: each owes something when it leaves, since the clock stands while new ones come."""
    turns: Turns[int] = Turns()
    for who in range(300):
        turns.join(who)
        turns.pay(who, 1, in_turn=True)
    turns.forget({299}, debts=False)
    assert len(turns) == 300
    turns.forget({299}, debts=True)
    assert len(turns) == 1


def test_a_lane_with_a_new_flow_for_every_call_keeps_a_bounded_number_of_debts() -> None:
    till = Till([OpenLane(0, "lane", (REQUESTS,))], workers=200)
    for number in range(50):
        till.submit(flow=str(number))
    for number in range(50, 25_000):
        till.submit(flow=str(number))
        if number % 100 == 0:
            till.run(till.now_us + 1_000_000)
    sizes = calls_of((Turns.forget,), lambda: [till.submit(flow=f"more {number}") for number in range(200)])
    assert sizes <= 2
