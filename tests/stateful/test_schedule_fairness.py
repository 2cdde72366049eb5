"""Promise 11: flows of one lane share its limits by weight, whoever submits how much.

Two flows that wait throughout differ, in what they were granted over their weights, by at most the sum of their largest
calls. Where calls differ in size, one behind the head may use a room that is too small for the head; that is charged to
its flow, but comes on top of the bound. What a flow did not use while it was idle is gone.

Long runs are judged from the list of grants alone (`schedule_till`), runs with calls of mixed sizes beside the model.
"""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule_pair import Layout, Pair
from schedule_strategies import FLOWS, come_to_rest, run_settings, with_workers
from schedule_till import Till, flow_of, in_common, part, widest

from actors.messages import CallRoute, OpenEndpoint, OpenLane, QuotaSpec

NAMES = ("", "a", "b", "c", "d")
Weights = tuple[tuple[str, int], ...]


def requests(limit: int, *, burst: int = 0, pace: bool = False) -> QuotaSpec:
    return QuotaSpec(0, "requests", "requests", limit, 1_000, 10, burst, pace)


QUOTAS = st.builds(requests, st.integers(1, 7), burst=st.sampled_from((0, 0, 1, 5)), pace=st.booleans())
WEIGHTS = st.lists(st.integers(1, 5), min_size=len(NAMES), max_size=len(NAMES)).map(
    lambda drawn: tuple(zip(NAMES, drawn, strict=True))
)


def plugged(quota: QuotaSpec, weights: Weights = ()) -> Till:
    """A lane whose limit one call, of another flow, has used up already: what comes now waits."""
    till = Till([OpenLane(0, "lane", (quota,), 0, 60_000_000, weights)])
    for _ in range(quota.limit):
        till.submit(flow="plug")
    return till


def bounds_hold(till: Till, quotas: tuple[QuotaSpec, ...], weights: Weights, cost: int = 0) -> None:
    """For any two flows and any time in which both waited throughout, with calls of one size."""
    charge_of = {flow: -(-part(cost, quotas) // weight) for flow, weight in weights}

    def charge(route: CallRoute) -> int:
        return charge_of[route.flow]

    for one, other in itertools.combinations(NAMES, 2):
        for stretch in in_common(till, flow_of, one, other):
            assert widest(stretch, flow_of, one, other, charge) <= charge_of[one] + charge_of[other], (one, other)


ARRIVALS = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 12), st.integers(0, 6_000)), min_size=2, max_size=20)
"""Which flow, how many calls at once, and how long nothing comes then."""


@run_settings(120)
@given(QUOTAS, WEIGHTS, ARRIVALS)
def test_promise_11_flows_that_wait_together_are_served_by_weight(
    quota: QuotaSpec, weights: Weights, arrivals: list[tuple[int, int, int]]
) -> None:
    """Whatever each of them did before: one that was idle has earned nothing, one that was served owes nothing."""
    till = Till([OpenLane(0, "lane", (quota,), 0, 60_000_000, weights)])
    for flow, calls, pause_us in arrivals:
        for _ in range(calls):
            till.submit(flow=NAMES[flow])
        till.run(till.now_us + pause_us)
    till.run()
    assert len(till.served) == sum(calls for _, calls, _ in arrivals)
    bounds_hold(till, (quota,), weights)


@run_settings(60)
@given(WEIGHTS, ARRIVALS, st.integers(1, 3), st.integers(0, 9), st.booleans())
def test_promise_11_holds_where_permits_or_several_quotas_are_the_limit(
    weights: Weights, arrivals: list[tuple[int, int, int]], permits: int, cost: int, without_quotas: bool
) -> None:
    """A call costs the largest part of any of its limits, or one where there is no limit but that of permits."""
    quotas = () if without_quotas else (requests(7), QuotaSpec(1, "input", "input_tokens", 9, 3_000, 0))
    till = Till([OpenLane(0, "lane", quotas, permits, 60_000_000, weights)], hold=permits)
    for flow, calls, pause_us in arrivals:
        for _ in range(calls):
            till.submit(flow=NAMES[flow], cost=cost)
        till.run(till.now_us + pause_us)
        if till.flying:
            till.end(till.flying[0])
    till.run()
    assert len(till.served) == sum(calls for _, calls, _ in arrivals)
    bounds_hold(till, quotas, weights, cost)


@pytest.mark.parametrize(("weights", "order"), [
    ({}, "abababababab"),
    ({"b": 3}, "abbbabbbabbb"),
    ({"a": 3, "b": 1}, "abaabaaabaaa"),
    ({"a": 2, "b": 3}, "abbababbabab"),
])  # fmt: skip
def test_weights_by_hand(weights: dict[str, int], order: str) -> None:
    """Start tags are what was granted before, over the weight; the least goes first, the earlier call on a tie. Thirds
    are rounded up: a flow that was charged three of them stands a little behind one that was charged a whole."""
    till = plugged(requests(1), tuple(weights.items()))
    for flow in "ab" * 12:
        till.submit(flow=flow)
    till.run(calls=len(order) + 1)
    assert "".join(one.route.flow for one in till.served[1:]) == order


@pytest.mark.parametrize("weight", [1, 2, 3, 10])
def test_service_is_as_the_weights(weight: int) -> None:
    """1:3 gives 1:3, to a call, however long it goes on."""
    till = plugged(requests(5), (("heavy", weight),))
    for _ in range(500):
        till.submit(flow="light")
        till.submit(flow="heavy")
    for rounds in (1, 7, 40):
        till.run(calls=5 + rounds * (weight + 1))
        shares = Counter(one.route.flow for one in till.served[5 : 5 + rounds * (weight + 1)])
        assert abs(shares["light"] - rounds) <= 1
        assert abs(shares["heavy"] - rounds * weight) <= weight


def test_many_flows_take_turns() -> None:
    """Two hundred flows, submitted one whole flow after another: no flow is ever two calls ahead of another."""
    till = plugged(requests(7))
    names = [f"tenant {number}" for number in range(200)]
    for name in names:
        for _ in range(4):
            till.submit(flow=name)
    till.run()
    flows = [one.route.flow for one in till.served[7:]]
    assert [flows[at : at + 200] for at in range(0, 800, 200)] == [names] * 4


@pytest.mark.parametrize("alone", [1, 5, 40])
def test_an_idle_flow_earns_no_credit(alone: int) -> None:
    """However long another was served alone, whoever comes gets every second call from then on and not one more."""
    till = Till([OpenLane(0, "lane", (requests(1),))])
    for _ in range(alone + 20):
        till.submit(flow="busy")
    till.run(calls=alone)
    for _ in range(20):
        till.submit(flow="late")
    till.run(calls=alone + 20)
    flows = [one.route.flow for one in till.served[alone:]]
    assert flows in (["late", "busy"] * 10, ["busy", "late"] * 10)


def test_a_flow_that_ran_dry_keeps_what_it_owes() -> None:
    """Leaving for a moment and coming back is no way to be served before those who stayed."""
    till = Till([OpenLane(0, "lane", (requests(1),), 0, 60_000_000, (("patient", 4),))])
    for _ in range(30):
        till.submit(flow="patient")
    till.submit(flow="hasty")
    for _ in range(20):
        till.run(calls=len(till.served) + 1)
        if till.served[-1].route.flow == "hasty":
            till.submit(flow="hasty")
    shares = Counter(one.route.flow for one in till.served)
    assert shares["hasty"] <= 21 / 5 + 2


@run_settings(60)
@given(
    st.lists(st.tuples(st.sampled_from(FLOWS), st.sampled_from((-1, 0, 1))), min_size=2, max_size=25),
    st.sets(st.integers(1, 40), max_size=15),
    st.integers(1, 3),
)
def test_what_is_given_back_is_not_charged(calls: list[tuple[str, int]], back: set[int], most: int) -> None:
    """One at a time, everything unsent is sent next, and all that follows comes as if it had been sent at once."""

    def order(given_back: set[int]) -> list[int]:
        lane = OpenLane(0, "lane", (requests(most),), 1, 1_000, (("a", 2), ("b", 5)))
        till = Till([lane], given_back=given_back.__contains__)
        for flow, priority in calls:
            till.submit(flow=flow, priority=priority)
        till.run()
        return [one.route.call_id for one in till.served]

    assert order(back) == order(set())


def test_a_give_back_of_many_is_made_good() -> None:
    """Four grants of one flow were not sent; it gets those four places now, though the calls themselves are gone."""
    lane = OpenLane(0, "lane", (requests(8),))
    pair = with_workers(Pair(Layout((lane,), (OpenEndpoint(0, "endpoint", 40),))), 40)
    plug = [pair.model.calls[pair.submit(flow="plug")] for _ in range(8)]
    for flow in "ab" * 14:
        pair.submit(flow=flow)
    for call in plug:
        pair.sent(call)
    pair.wake_at(1_010)
    granted = pair.model.in_state("granted")
    assert [call.route.flow for call in granted] == ["a", "b"] * 4
    for call in granted:
        pair.cancel(call.route.call_id)
    for call in granted:
        if call.route.flow == "a":
            pair.unsent(call)
        else:
            pair.sent(call)
    pair.wake_at(2_020)
    flows = [pair.model.calls[grant.call_id].route.flow for grant in pair.grants[16:]]
    assert "".join(flows) == "aaaababa"


@pytest.mark.parametrize("from_before", [1, 3])
def test_what_was_charged_before_the_level_ran_empty_is_not_given_back(from_before: int) -> None:
    """All flows were even again when nobody waited: calls from before that come back are no credit for their flow."""
    lane = OpenLane(0, "lane", (requests(3),))
    pair = with_workers(Pair(Layout((lane,), (OpenEndpoint(0, "endpoint", 40),))), 40)
    early = [pair.model.calls[pair.submit(flow="a" if n < from_before else "plug")] for n in range(3)]
    for flow in "bababababa":
        pair.submit(flow=flow)
    for call in early[from_before:]:
        pair.sent(call)
    for call in early[:from_before]:
        pair.cancel(call.route.call_id)
        pair.unsent(call)
        pair.sent(pair.model.in_state("granted")[-1])
    pair.wake_at(1_010)
    flows = [pair.model.calls[grant.call_id].route.flow for grant in pair.grants[3:]]
    assert "".join(flows).startswith("bababa"[: len(flows)])


MIXED = st.lists(st.tuples(st.sampled_from(FLOWS), st.integers(1, 10)), min_size=6, max_size=22)


@run_settings(150)
@given(MIXED, st.integers(10, 14), st.sampled_from((0, 40, 400)), st.sampled_from(((), (("a", 2),), (("b", 3),))))
def test_promise_11_with_calls_of_mixed_sizes(
    calls: list[tuple[str, int]], limit: int, guard_us: int, weights: Weights
) -> None:
    """Of two flows that waited from the start, the one that is ahead got its last call in turn when it was not, or what
    it got since then it got by slipping in behind the head."""
    quota = QuotaSpec(0, "input", "input_tokens", limit, 1_000, guard_us)
    lane = OpenLane(0, "lane", (quota,), 0, 60_000_000, weights)
    pair = with_workers(Pair(Layout((lane,), (OpenEndpoint(0, "endpoint", 40),))), 40)
    plug = pair.submit(flow="plug", input_tokens=limit)
    for flow, cost in calls:
        pair.submit(flow=flow, input_tokens=cost)
    pair.sent(pair.model.calls[plug])
    while (wake_us := pair.schedule.next_wake_us()) is not None:
        pair.wake_at(wake_us)
        while flying := pair.model.in_state("granted"):
            pair.sent(flying[0])
    service = dict.fromkeys(FLOWS, 0)
    slipped = dict.fromkeys(FLOWS, 0)
    largest = dict.fromkeys(FLOWS, 0)
    for grant in pair.grants[1:]:
        route = pair.model.calls[grant.call_id].route
        charge = -(-part(route.input_tokens, (quota,)) // dict(weights).get(route.flow, 1))
        service[route.flow] += charge
        slipped[route.flow] = 0 if grant.in_turn else slipped[route.flow] + charge
        largest[route.flow] = max(largest[route.flow], charge)
        waiting = {pair.model.calls[call_id].route.flow for call_id in grant.waiting}
        for other in waiting & set(FLOWS):
            ahead = service[route.flow] - service[other]
            assert ahead <= largest[route.flow] + slipped[route.flow]
    come_to_rest(pair)


def test_who_slips_in_pays_for_it() -> None:
    """While the first flow waits for a worker of its endpoint, seven calls of the other slip in at theirs. With room
    for eight, the last is left to the head; of the next eight the first flow gets seven, then they take turns."""
    endpoints = (OpenEndpoint(0, "slow to connect", 40), OpenEndpoint(1, "ready", 40))
    pair = Pair(Layout((OpenLane(0, "lane", (requests(8),)),), endpoints))
    for _ in range(40):
        pair.ready(1)
    for flow, endpoint in (("a", 0), ("b", 1)):
        for _ in range(20):
            pair.submit(flow=flow, endpoint=endpoint)
    assert [grant.in_turn for grant in pair.grants] == [False] * 7
    for _ in range(40):
        pair.ready(0)
    for call in pair.model.in_state("granted"):
        pair.sent(call)
    pair.wake_at(1_010)
    flows = [pair.model.calls[grant.call_id].route.flow for grant in pair.grants]
    assert "".join(flows) == "bbbbbbb" + "a" + "aaaaaaab"
