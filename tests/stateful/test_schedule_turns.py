"""Lanes that share a quota take turns, each with the same weight, whatever waits in each of them (promise 4).

Two lanes that wait throughout differ, in what they were granted of the limits they share, by at most the sum of their
largest calls; what slips in behind the head whose turn it is comes on top. A lane that could not use its turn (nobody
waited, a barrier stood over it, no permit was free) has nothing in store.

Long runs are judged from the list of grants alone (`schedule_till`), runs with calls of mixed sizes beside the model.
"""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule_pair import Layout, Pair
from schedule_strategies import come_to_rest, run_settings, with_workers
from schedule_till import Till, in_common, lane_of, part, widest

from actors.messages import Dimension, OpenEndpoint, OpenLane, QuotaSpec


def quota(
    number: int, limit: int, dimension: Dimension = "requests", period_us: int = 1_000, guard_us: int = 10
) -> QuotaSpec:
    return QuotaSpec(number, f"quota {number}", dimension, limit, period_us, guard_us)


def lanes_over(*quotas: tuple[QuotaSpec, ...], permits: int = 0) -> list[OpenLane]:
    return [OpenLane(number, f"lane {number}", over, permits) for number, over in enumerate(quotas)]


ARRIVALS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12), st.integers(0, 6_000)), min_size=2, max_size=20)
"""Which lane, how many calls at once, and how long nothing comes then."""


@run_settings(120)
@given(ARRIVALS, st.integers(1, 6), st.integers(0, 5), st.booleans())
def test_promise_04_lanes_that_wait_together_take_turns(
    arrivals: list[tuple[int, int, int]], limit: int, cost: int, two_quotas: bool
) -> None:
    """Whatever each of them did before: one that was idle has earned nothing, one that was served owes nothing."""
    quotas = (quota(0, limit), quota(1, 17, "input_tokens", 3_000)) if two_quotas else (quota(0, limit),)
    till = Till(lanes_over(quotas, quotas, quotas, quotas))
    for lane, calls, pause_us in arrivals:
        for _ in range(calls):
            till.submit(lane=lane, cost=cost)
        till.run(till.now_us + pause_us)
    till.run()
    assert len(till.served) == len(till.routes)
    charge = part(cost, quotas)
    for one, other in itertools.combinations(range(4), 2):
        for stretch in in_common(till, lane_of, one, other):
            assert widest(stretch, lane_of, one, other, lambda route: charge) <= 2 * charge


def shares(till: Till, since: int, count: int) -> Counter[int]:
    return Counter(one.route.lane for one in till.served[since : since + count])


@pytest.mark.parametrize("alone", [1, 7, 60])
@pytest.mark.parametrize("why", ["idle", "barrier", "no permit"])
def test_a_lane_that_could_not_compete_earned_no_credit(alone: int, why: str) -> None:
    """Lane 0 is served alone for a while; when lane 1 can go again, both get every second call."""
    common = quota(0, 1)
    till = Till([OpenLane(0, "busy", (common,)), OpenLane(1, "away", (common,), 1)], hold=1_000)
    till.submit(lane=1)
    held = till.flying[0]
    if why == "barrier":
        till.end(held, barrier_us=alone * 1_010 + 1)
    elif why == "idle":
        till.end(held)
    for _ in range(alone + 30):
        till.submit(lane=0)
    if why != "idle":
        for _ in range(30):
            till.submit(lane=1)
    till.run(calls=1 + alone)
    if why == "idle":
        for _ in range(30):
            till.submit(lane=1)
    assert shares(till, 1, alone) == {0: alone}
    till.hold = 0
    for grant in list(till.flying):
        till.end(grant)
    till.run(calls=1 + alone + 40)
    after = shares(till, 1 + alone, 40)
    assert abs(after[0] - after[1]) <= 2
    first = shares(till, 1 + alone, 6)
    assert first[1] <= 4


@pytest.mark.parametrize(("first", "second"), [(4, 4), (2, 6), (6, 2), (1, 9)])
def test_a_chain_of_three_lanes_starves_nobody(first: int, second: int) -> None:
    """Lane 1 needs room at both quotas, its neighbours at one each: it gets half of the scarcer one, and they get what
    is left of theirs."""
    left, right = quota(0, first), quota(1, second)
    till = Till(lanes_over((left,), (left, right), (right,)))
    for _ in range(400):
        for lane in range(3):
            till.submit(lane=lane)
    rounds = 30
    till.run(rounds * 1_010 - 1)
    counts = Counter(one.route.lane for one in till.served)
    fair = min(first, second) * rounds // 2
    assert abs(counts[1] - fair) <= min(first, second) + 2
    assert counts[0] >= first * rounds - counts[1] - first
    assert counts[2] >= second * rounds - counts[1] - second
    for lane in range(3):
        at = [one.at_us for one in till.served if one.route.lane == lane]
        assert max(after - before for before, after in itertools.pairwise(at)) <= 4 * 1_010


@pytest.mark.parametrize("sharing", [
    ((0,), (0, 1), (0, 1)),
    ((0, 1), (1, 2), (0, 2)),
    ((0, 1), (0, 1), (0, 1), (1,)),
    ((0, 1, 2), (0, 1), (1, 2), (2, 0)),
])  # fmt: skip
@run_settings(40)
@given(
    arrivals=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2_500)), min_size=4, max_size=40),
    limits=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
)
def test_lanes_whose_turns_cross_do_not_wait_for_each_other(
    sharing: tuple[tuple[int, ...], ...], arrivals: list[tuple[int, int]], limits: tuple[int, int, int]
) -> None:
    """One lane may be next at one quota and another at a second one: still every call is granted."""
    quotas = [quota(n, limit, period_us=(1_000, 3_000, 1_000)[n]) for n, limit in enumerate(limits)]
    till = Till(lanes_over(*(tuple(quotas[n] for n in over) for over in sharing)))
    for lane, pause_us in arrivals:
        till.submit(lane=lane % len(sharing))
        till.run(till.now_us + pause_us)
    till.run()
    assert not till.waiting


def test_turns_that_cross_by_hand() -> None:
    """Lanes 1 and 2 share both quotas, lane 0 one of them. After these calls it is lane 2's turn at the first quota and
    lane 1's at the second."""
    first, second = quota(0, 3, guard_us=0), quota(1, 1, period_us=3_000, guard_us=1)
    till = Till(lanes_over((first,), (first, second), (first, second)))
    for lane in (0, 1, 0, 2, 2, 1):
        till.submit(lane=lane)
    till.run()
    assert not till.waiting


def test_whose_turn_it_is_at_one_quota_is_decided_before_another_is_paid() -> None:
    """Lane 1 pays for both quotas at once: being next at the first makes it no less next at the second."""
    left, right = quota(0, 1, guard_us=1), quota(1, 1, guard_us=500)
    layout = Layout(tuple(lanes_over((left,), (left, right), (right,))), (OpenEndpoint(0, "endpoint", 40),))
    pair = with_workers(Pair(layout), 20)
    for lane in (2, 2, 0, 0, 1, 0, 1, 1):
        pair.submit(lane=lane)
    come_to_rest(pair)


MIXED = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 8)), min_size=6, max_size=20)


@run_settings(120)
@given(MIXED, st.integers(8, 12), st.sampled_from((0, 400)), st.booleans())
def test_turns_with_calls_of_mixed_sizes(
    calls: list[tuple[int, int]], limit: int, guard_us: int, own_quota: bool
) -> None:
    """Of two lanes that waited from the start, the one that is ahead got its last call in turn when it was not, or what
    it got since then it got by slipping in."""
    common = quota(0, limit, "input_tokens", guard_us=guard_us)
    own = (quota(1, 9, "input_tokens", 3_000),) if own_quota else ()
    lanes = lanes_over((common, *own), (common,), (common,), (common,))
    pair = with_workers(Pair(Layout(tuple(lanes), (OpenEndpoint(0, "endpoint", 40),))), 40)
    plug = pair.submit(lane=3, input_tokens=limit)
    for lane, cost in calls:
        pair.submit(lane=lane, input_tokens=cost)
    pair.sent(pair.model.calls[plug])
    while (wake_us := pair.schedule.next_wake_us()) is not None:
        pair.wake_at(wake_us)
        while flying := pair.model.in_state("granted"):
            pair.sent(flying[0])
    service, slipped, largest = [0, 0, 0], [0, 0, 0], [0, 0, 0]
    for grant in pair.grants[1:]:
        charge = part(pair.model.calls[grant.call_id].route.input_tokens, (common,))
        lane = grant.lane
        service[lane] += charge
        slipped[lane] = 0 if grant.in_turn_at else slipped[lane] + charge
        largest[lane] = max(largest[lane], charge)
        for other in {pair.model.calls[call_id].route.lane for call_id in grant.waiting}:
            assert service[lane] - service[other] <= largest[lane] + slipped[lane]
    come_to_rest(pair)


@run_settings(60)
@given(
    st.lists(st.integers(0, 2), min_size=2, max_size=25),
    st.sets(st.integers(1, 40), max_size=15),
    st.integers(1, 3),
)
def test_what_is_given_back_does_not_count_as_a_turn(calls: list[int], back: set[int], most: int) -> None:
    """One at a time, everything unsent is sent next, and all that follows comes as if it had been sent at once."""

    def order(given_back: set[int]) -> list[int]:
        common = quota(0, most)
        till = Till(lanes_over((common,), (common,), (common,)), workers=1, given_back=given_back.__contains__)
        for lane in calls:
            till.submit(lane=lane)
        till.run()
        return [one.route.call_id for one in till.served]

    assert order(back) == order(set())
