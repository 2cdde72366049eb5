"""Promise 12: of the priorities of one lane, the one whose oldest call has the smallest time is served first.

Its time is when it was submitted, later by `ageing_us` for every step of priority. So urgent calls go first, and every
other call is overtaken only by those that came less than its own ageing after it: nobody waits for ever.

Judged from what waited at each grant (`schedule_till`); nothing of the schedule's inside is looked at.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule_pair import Layout, Pair
from schedule_strategies import AGEINGS_US, run_settings, with_workers
from schedule_till import Served, Till

from actors.messages import OpenEndpoint, OpenLane, QuotaSpec

ONE_PER_MS = QuotaSpec(0, "requests", "requests", 1, 1_000, 0)
MINUTE_US = 60_000_000


def lane(ageing_us: int = MINUTE_US, quota: QuotaSpec = ONE_PER_MS) -> OpenLane:
    return OpenLane(0, "lane", (quota,), 0, ageing_us)


def plugged(ageing_us: int = MINUTE_US) -> Till:
    """A lane whose limit is used up for this millisecond, so that what comes now waits."""
    till = Till([lane(ageing_us)])
    till.submit()
    return till


def level_to_serve(till: Till, grant: Served, ageing_us: int) -> int:
    """The promise's own words, over all that waited: each priority's oldest call, and the least of their times."""
    oldest: dict[int, int] = {}
    for call_id in sorted(grant.waiting):
        oldest.setdefault(till.routes[call_id].priority, call_id)
    routes = [till.routes[call_id] for call_id in oldest.values()]
    first = min(routes, key=lambda route: (route.submitted_us + route.priority * ageing_us, route.call_id))
    return first.priority


CALLS = st.lists(
    st.tuples(
        st.sampled_from((-1, 0, 0, 1, 2, 1_000_000)), st.sampled_from(("", "a", "b")), st.integers(0, 5),
        st.sampled_from((0, 0, 300, 1_000, 2_500)), st.sampled_from((0, 0, 400, 5_000)),
    ),
    min_size=2, max_size=40,
)  # fmt: skip
"""Priority, flow, how many calls at once, how long nothing comes then, how long each had been under way before."""


@run_settings(150)
@given(CALLS, st.sampled_from((*AGEINGS_US, 400, 3_000)), st.integers(1, 3))
def test_promise_12_the_most_urgent_level_is_served(
    calls: list[tuple[int, str, int, int, int]], ageing_us: int, limit: int
) -> None:
    """Whatever flows there are in it and however old the calls were when they came."""
    till = Till([lane(ageing_us, QuotaSpec(0, "requests", "requests", limit, 1_000, 0))])
    for priority, flow, count, pause_us, age_us in calls:
        for _ in range(count):
            till.submit(priority=priority, flow=flow, submitted_us=till.now_us - age_us)
        till.run(till.now_us + pause_us)
    till.run()
    assert len(till.served) == len(till.routes)
    for grant in till.served:
        assert grant.route.priority == level_to_serve(till, grant, ageing_us)


@run_settings(100)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 2_000)), min_size=2, max_size=60), st.integers(1, 5_000))
def test_promise_12_one_flow_is_served_in_the_order_of_aged_times(calls: list[tuple[int, int]], ageing_us: int) -> None:
    """Of all that wait, the one with the smallest submission time plus its priority's ageing, the earlier on a tie."""
    till = Till([lane(ageing_us)])
    for priority, pause_us in calls:
        till.submit(priority=priority)
        till.run(till.now_us + pause_us)
    till.run()
    for grant in till.served:
        times = [(till.routes[n].submitted_us + till.routes[n].priority * ageing_us, n) for n in grant.waiting]
        assert min(times)[1] == grant.route.call_id


@pytest.mark.parametrize("priority", [1, 2, 5])
@pytest.mark.parametrize("flows", [("",), ("a", "b", "c")])
def test_ageing_ends_the_wait_behind_a_stream_of_urgent_calls(priority: int, flows: tuple[str, ...]) -> None:
    """Twice as many urgent calls come as the limit admits, for ever: the patient call goes before every one of them
    that came after its own ageing was over, and after every one that came before."""
    ageing_us = 10_000
    till = plugged(ageing_us)
    patient = till.submit(priority=priority)
    while patient in till.waiting:
        till.submit(flow=flows[len(till.routes) % len(flows)])
        till.run(till.now_us + 500)
        assert till.now_us < 40 * priority * ageing_us, "it starves"
    ahead = [one.route for one in till.served[1:-1]]
    assert max(route.submitted_us for route in ahead) <= priority * ageing_us
    left = [till.routes[call_id].submitted_us for call_id in till.waiting]
    assert min(left) >= priority * ageing_us


def test_the_head_of_an_aged_level_may_be_of_another_flow() -> None:
    """The level's turn came through its oldest call; inside it, the flows still take turns."""
    till = plugged(1_000)
    for flow in "aaab":
        till.submit(priority=1, flow=flow)
    till.run(calls=3)
    assert [one.route.flow for one in till.served[1:]] == ["a", "b"]


@pytest.mark.parametrize(("ageing_us", "order"), [
    (0, [0, 1, 2, 3, 4]), (1, [3, 1, 0, 2, 4]), (MINUTE_US, [3, 1, 4, 0, 2]), (30, [3, 1, 0, 4, 2]),
])  # fmt: skip
def test_priorities_by_hand(ageing_us: int, order: list[int]) -> None:
    """Priorities 0, -1, 2, -2, -1, submitted at 0, 0, 0, 0 and 40: times are 0, -30, 60, -60 and 10 with an ageing of
    30. Without ageing, first come, first served; with a long one, strictly by priority."""
    till = plugged(ageing_us)
    calls = [till.submit(priority=priority) for priority in (0, -1, 2, -2)]
    till.run(40)
    calls.append(till.submit(priority=-1))
    till.run()
    assert [calls.index(one.route.call_id) for one in till.served[1:]] == order


def test_each_level_counts_for_itself() -> None:
    """What a flow got in one level is not held against it in another."""
    till = plugged()
    for _ in range(5):
        till.submit(flow="a", priority=-1)
    for flow in "abab":
        till.submit(flow=flow)
    till.run()
    assert "".join(one.route.flow for one in till.served[1:]) == "aaaaaabab"


def test_a_call_that_comes_back_is_as_old_as_it_was() -> None:
    """A retry keeps its submission time and its number: it goes before what came meanwhile, whatever its priority was
    outdone by at first."""
    pair = with_workers(Pair(Layout((lane(1_000),), (OpenEndpoint(0, "endpoint", 9),))), 9)
    back = pair.model.calls[pair.submit(priority=1)]
    pair.sent(back)
    pair.outcome(back, "retry", "kept", jitter=2**31)
    pair.wake_at(249_999)
    pair.submit(priority=1)
    for _ in range(3):
        pair.submit(priority=0)
    pair.sent(pair.model.in_state("granted")[0])
    pair.wake_at(250_000)
    pair.wake_at(250_999)
    assert [grant.call_id for grant in pair.grants] == [1, 2, 1]
