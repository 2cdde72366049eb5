"""The head's instant and its grace of one guard, by hand: who may start beside a large call that waits for its room.

Every step is judged by the naive model too (`schedule_pair`); the numbers here are counted by hand.

Imports nothing of the schedule: the pair does.
"""

from __future__ import annotations

from schedule_order import ModelCall
from schedule_pair import Layout, Pair
from schedule_strategies import with_workers

from actors.messages import OpenEndpoint, OpenLane, QuotaSpec

GUARDED = QuotaSpec(0, "input", "input_tokens", 10, 1_000, 100)


def waiting_for_nine(quota: QuotaSpec = GUARDED, *more: QuotaSpec) -> Pair:
    """Five of ten stand until 1,100 and one until 1,150. A head that costs nine was given the instant 1,100, and has
    until 1,200 to be admitted."""
    layout = Layout((OpenLane(0, "lane", (quota, *more)),), (OpenEndpoint(0, "endpoint", 20),))
    pair = with_workers(Pair(layout))
    take(pair, 0, 5)
    take(pair, 50, 1)
    assert take(pair, 50, 9).state == "queued"
    assert pair.model.lanes[0].instant_us == 1_100
    return pair


def take(pair: Pair, at_us: int, cost: int) -> ModelCall:
    """Submit a call at an instant, and send it at once if it is granted."""
    pair.wake_at(at_us)
    call = pair.model.calls[pair.submit(input_tokens=cost)]
    if call.state == "granted":
        pair.sent(call)
    return call


def granted_at(pair: Pair, call: ModelCall) -> int:
    """Let time pass to the microsecond at which a waiting call is granted, and send whatever is granted on the way."""
    while call.state == "queued":
        wake_us = pair.schedule.next_wake_us()
        assert wake_us is not None
        pair.wake_at(wake_us)
        for flying in pair.model.in_state("granted"):
            pair.sent(flying)
    return call.granted_us


def test_a_small_call_may_use_the_grace_of_a_large_head() -> None:
    """It moves the head from 1,100 to 1,150, and never further than to 1,200. A guard of zero gives none."""
    pair = waiting_for_nine()
    head = pair.model.in_state("queued")[0]
    assert take(pair, 60, 1).state == "sent"
    assert granted_at(pair, head) == 1_150
    exact = QuotaSpec(0, "input", "input_tokens", 10, 1_100, 0)
    assert take(waiting_for_nine(exact), 60, 1).state == "queued"


def test_the_grace_is_the_largest_guard_of_the_lane() -> None:
    """Another quota that is nowhere near its limit lends its guard of 60, not more: until 1,160."""
    exact = QuotaSpec(0, "input", "input_tokens", 10, 1_100, 0)
    for guard_us, state in ((60, "sent"), (49, "queued")):
        pair = waiting_for_nine(exact, QuotaSpec(1, "plenty", "requests", 1_000, 1_000, guard_us))
        assert take(pair, 59, 1).state == state


def test_the_grace_is_given_once() -> None:
    """Every small call must leave the head its room at 1,200, whatever went before: the third, which stands until
    1,250, uses up what is left, and a fourth does not make it 1,300."""
    pair = waiting_for_nine()
    head = pair.model.in_state("queued")[0]
    assert take(pair, 60, 1).state == "sent"
    assert take(pair, 70, 1).state == "sent"
    assert take(pair, 150, 1).state == "sent"
    assert take(pair, 160, 1).state == "queued"
    assert take(pair, 1_149, 1).state == "queued"
    assert granted_at(pair, head) == 1_170


def test_a_call_that_is_still_open_counts_against_the_grace() -> None:
    """Not sent yet, it is assumed to stand far beyond 1,200: a second one finds nothing left."""
    pair = waiting_for_nine()
    pair.wake_at(60)
    first, second = (pair.model.calls[pair.submit(input_tokens=1)] for _ in range(2))
    assert (first.state, second.state) == ("granted", "queued")
    pair.sent(first)
    assert second.state == "granted"


def test_what_debt_has_cost_the_head_leaves_no_grace() -> None:
    """The first call used two more than it had reserved, known at 500: the head has to wait until 1,600, and now to the
    microsecond. One call finds room beside it; a second would, if 1,700 were as good."""
    pair = waiting_for_nine()
    head = pair.model.in_state("queued")[0]
    pair.wake_at(500)
    pair.outcome(pair.model.calls[1], "done", "usage", input_tokens=7)
    assert take(pair, 550, 1).state == "sent"
    assert take(pair, 560, 1).state == "queued"
    assert granted_at(pair, head) == 1_600


def test_the_head_of_the_lane_whose_turn_it_is_gives_its_grace_to_other_lanes_too() -> None:
    """A call of another lane over the same quota is let in like one of its own lane, and is counted like one."""
    lanes = (OpenLane(0, "large", (GUARDED,)), OpenLane(1, "small", (GUARDED,)))
    pair = with_workers(Pair(Layout(lanes, (OpenEndpoint(0, "endpoint", 20),))))
    pair.sent(pair.model.calls[pair.submit(lane=1, input_tokens=5)])
    pair.wake_at(50)
    pair.sent(pair.model.calls[pair.submit(lane=1, input_tokens=1)])
    head = pair.model.calls[pair.submit(lane=0, input_tokens=9)]
    pair.wake_at(60)
    others = [pair.model.calls[pair.submit(lane=1, input_tokens=1)] for _ in range(2)]
    assert [call.state for call in others] == ["granted", "queued"]
    pair.sent(others[0])
    assert granted_at(pair, head) == 1_160


def test_a_head_that_stood_behind_a_returned_call_has_its_grace_anew() -> None:
    """The first call comes back unsent, which makes the room of the second look free now, and is granted again at once.
    The second then becomes head anew, with the instant 3,000; its grace of 500 lets a small call in beside it, and
    is used up by that."""
    exact = QuotaSpec(0, "exact", "input_tokens", 7, 3_000, 0)
    guarded = QuotaSpec(1, "guarded", "input_tokens", 9, 3_000, 500)
    pair = with_workers(Pair(Layout((OpenLane(0, "lane", (exact, guarded), 2),), (OpenEndpoint(0, "endpoint", 20),))))
    first, head, small = (pair.model.calls[pair.submit(input_tokens=cost)] for cost in (4, 4, 2))
    pair.unsent(first)
    assert (first.state, head.state, small.state) == ("granted", "queued", "queued")
    pair.outcome(first, "done")
    assert (head.state, small.state) == ("queued", "granted")
    pair.sent(small)
    assert granted_at(pair, head) == 3_500
