"""Short scripts with their answers written out: what random scripts reach rarely, and what once went wrong.

Every step is judged by the naive model too (`schedule_pair`); the numbers here are counted by hand.

Imports nothing of the schedule: the pair does.
"""

from __future__ import annotations

import pytest
from schedule_pair import Layout, Pair
from schedule_strategies import come_to_rest, with_workers

from actors.messages import OpenEndpoint, OpenLane, QuotaSpec

SECOND_US = 1_000_000
HALF = 2**31
ONE_PER_MS = QuotaSpec(0, "requests", "requests", 1, 1_000, 0)
FIVE_PER_MS = QuotaSpec(0, "requests", "requests", 5, 1_000, 0)
PLENTY = QuotaSpec(0, "requests", "requests", 1_000, 1_000, 0)


def one_lane(quota: QuotaSpec = PLENTY, *, workers: int = 9, permits: int = 0) -> Pair:
    layout = Layout((OpenLane(0, "lane", (quota,), permits),), (OpenEndpoint(0, "endpoint", 20),))
    return with_workers(Pair(layout), workers)


def states(pair: Pair) -> list[str]:
    return [call.state for call in pair.model.calls.values()]


@pytest.mark.parametrize("message", ["cancel in flight", "cancel ended", "late sent", "drain", "refused submit"])
def test_a_message_that_comes_just_before_a_due_wake_up_does_not_swallow_it(message: str) -> None:
    """The loop reads its mail first and asks for the next wake-up then: by then what was due must have happened."""
    pair = one_lane(ONE_PER_MS)
    first, second, third = pair.submit(), pair.submit(), pair.submit()
    pair.sent(pair.model.calls[first])
    pair.cancel(third)
    assert pair.schedule.next_wake_us() == 1_000
    pair.now_us = 1_000
    if message == "cancel in flight":
        pair.cancel(first)
    elif message == "cancel ended":
        pair.cancel(third)
    elif message == "late sent":
        pair.sent(pair.model.calls[first])
    elif message == "drain":
        pair.drain("finish")
    else:
        pair.submit(deadline_us=1)
    assert pair.model.calls[second].state == "granted"


@pytest.mark.parametrize("way", ["retried", "unsent"])
def test_a_deadline_outlives_the_attempt_it_stood_over(way: str) -> None:
    """A call that was in flight, and waits again, still ends at its deadline, by timer."""
    pair = one_lane(ONE_PER_MS, workers=1)
    call = pair.model.calls[pair.submit(deadline_us=5_000)]
    assert pair.schedule.next_wake_us() is None
    if way == "retried":
        pair.outcome(call, "retry", "kept", ready=False, jitter=1)
    else:
        pair.unsent(call, ready=False)
    pair.wake_at(4_999)
    assert call.state == "queued"
    assert pair.schedule.next_wake_us() == 5_000
    pair.wake_at(5_000)
    assert call.ended == ["failed", "told"]


def test_a_grant_returned_after_its_deadline_is_not_given_out_again() -> None:
    """The worker gave it back because it was too late; granting it once more would go round for ever."""
    pair = one_lane()
    call = pair.model.calls[pair.submit(deadline_us=1_000)]
    pair.now_us = 1_000
    pair.unsent(call)
    assert call.ended == ["failed", "told"]
    assert [grant.at_us for grant in pair.grants] == [0]


@pytest.mark.parametrize("how", ["time passes", "limit rises"])
def test_a_worker_is_asked_for_when_room_comes_back(how: str) -> None:
    """Slow answers hold the workers that are open: room that returns meanwhile is no use without another connection."""
    pair = one_lane(FIVE_PER_MS, workers=1)
    pair.submit()
    pair.sent(pair.model.calls[1])
    pair.observe_limit(0, "requests", 1_000, 1)
    pair.submit()
    if how == "time passes":
        pair.wake_at(1_000)
    else:
        pair.observe_limit(0, "requests", 1_000, 5)
    assert pair.wanted[0] >= (2, True)
    pair.ready()
    assert states(pair) == ["sent", "granted"]


def test_a_head_delayed_by_a_third_lane_sets_those_behind_it_free() -> None:
    """Lane 0 and 2 share one quota, 2 and 1 another. When lane 1 takes what lane 2's head waited for, that head's
    instant moves far away and lane 0 need not wait for it."""
    left = QuotaSpec(0, "left", "total_tokens", 5, 3_000, 0, burst=5)
    right = QuotaSpec(1, "right", "total_tokens", 7, 7_500, 0)
    lanes = (OpenLane(0, "a", (left,)), OpenLane(1, "b", (right,)), OpenLane(2, "c", (left, right)))
    pair = with_workers(Pair(Layout(lanes, (OpenEndpoint(0, "endpoint", 20),))))
    pair.sent(pair.model.calls[pair.submit(lane=2, input_tokens=4)])
    pair.submit(lane=1, input_tokens=5)
    pair.submit(lane=2, input_tokens=5)
    pair.submit(lane=0, input_tokens=2)
    for _ in range(5):
        wake_us = pair.schedule.next_wake_us()
        if wake_us is not None:
            pair.wake_at(wake_us)
    assert states(pair) == ["sent", "granted", "queued", "granted"]


@pytest.mark.parametrize("lane_of_the_first", [0, 1])
@pytest.mark.parametrize("way", ["sent", "unsent"])
def test_a_head_is_nearer_once_what_it_waits_for_is_stamped_or_given_back(lane_of_the_first: int, way: str) -> None:
    """In its own lane or in another with the same quota: from then on nobody may pass who would fit only before the
    later instant that was assumed."""
    quota = QuotaSpec(0, "input", "input_tokens", 10, 1_000, 0)
    lanes = (OpenLane(0, "a", (quota,)), OpenLane(1, "b", (quota,)))
    pair = with_workers(Pair(Layout(lanes, (OpenEndpoint(0, "endpoint", 20),))))
    kept, first = (pair.model.calls[pair.submit(lane=lane_of_the_first, input_tokens=cost)] for cost in (1, 5))
    head = pair.model.calls[pair.submit(lane=1, input_tokens=10)]
    assert pair.model.lanes[1].instant_us == 5_001_000
    pair.sent(kept)
    if way == "sent":
        pair.sent(first)
    else:
        pair.cancel(first.route.call_id)
        pair.unsent(first)
    assert pair.model.lanes[1].instant_us == 1_000
    later = pair.model.calls[pair.submit(lane=1, input_tokens=4)]
    assert later.state == "queued"
    pair.wake_at(1_000)
    assert (head.state, later.state) == ("granted", "queued")


def test_a_call_returns_to_its_old_place() -> None:
    """Back from backoff it stands before calls that came later, and equals keep their order."""
    pair = one_lane(workers=1)
    first = pair.model.calls[pair.submit()]
    second, third = pair.submit(), pair.submit()
    pair.outcome(first, "retry", "kept", jitter=HALF, ready=False)
    pair.wake_at(250_000)
    for _ in range(3):
        pair.ready()
    assert [grant.call_id for grant in pair.grants] == [1, 1, second, third]


@pytest.mark.parametrize(("jitter", "hint_us", "wait_us"), [
    (0, None, 0), (HALF, None, 250_000), (2**32 - 1, None, 499_999), (HALF, 1_000, 250_000),
    (HALF, 2_000_000, 2_000_000),
])  # fmt: skip
def test_backoff_is_the_longer_of_jitter_and_hint(jitter: int, hint_us: int | None, wait_us: int) -> None:
    """Half a second times the jitter's fraction for the first attempt, unless the provider wished for more."""
    pair = one_lane()
    call = pair.model.calls[pair.submit()]
    pair.outcome(call, "retry", "kept", jitter=jitter, hint_us=hint_us)
    assert call.return_us == wait_us
    if wait_us:
        pair.wake_at(wait_us - 1)
        assert call.state == "backing"
    pair.wake_at(wait_us)
    assert call.state == "granted"


def test_backoff_doubles_and_four_attempts_are_all() -> None:
    """0.5, 1 and 2 s at full jitter, then the call ends with its last error."""
    pair = one_lane()
    call = pair.model.calls[pair.submit()]
    for wait_us in (499_999, 999_999, 1_999_999):
        pair.outcome(call, "retry", "kept", jitter=2**32 - 1)
        assert call.return_us == pair.now_us + wait_us
        pair.wake_at(call.return_us)
    pair.outcome(call, "retry", "kept")
    assert call.ended == ["failed", "told"]
    assert call.attempts == 4


def test_a_hint_above_two_minutes_fails_the_call() -> None:
    """120 s are waited for, one microsecond more is not."""
    pair = one_lane()
    patient, hopeless = (pair.model.calls[pair.submit()] for _ in range(2))
    pair.outcome(patient, "retry", "requests_kept", hint_us=120 * SECOND_US, exempt=True)
    pair.outcome(hopeless, "retry", "requests_kept", hint_us=120 * SECOND_US + 1, exempt=True)
    assert (patient.state, hopeless.ended) == ("backing", ["failed", "told"])


def test_barriers_double_only_for_attempts_sent_after_the_last_one() -> None:
    """1 s, then 2, 4 ... up to 60; refusals of attempts that were on their way already change nothing; a success after
    the barrier begins again at 1 s."""
    pair = one_lane(workers=20)
    lane = pair.model.lanes[0]
    refused = {"charge": "requests_kept", "barrier": True, "exempt": True, "hint_us": None}
    first, second = (pair.model.calls[pair.submit()] for _ in range(2))
    pair.sent(first)
    pair.sent(second)
    pair.outcome(first, "failed", **refused)
    assert lane.barrier_until_us == SECOND_US
    pair.outcome(second, "failed", **refused)
    assert lane.barrier_until_us == SECOND_US
    for wait_s in (2, 4, 8, 16, 32, 60, 60):
        pair.submit()
        assert pair.model.in_state("granted") == []
        pair.wake_at(lane.barrier_until_us)
        (call,) = pair.model.in_state("granted")
        pair.outcome(call, "failed", **refused)
        assert lane.barrier_until_us == pair.now_us + wait_s * SECOND_US
    pair.submit()
    pair.wake_at(lane.barrier_until_us)
    pair.outcome(pair.model.in_state("granted")[0], "done")
    pair.submit()
    pair.outcome(pair.model.in_state("granted")[0], "failed", **refused)
    assert lane.barrier_until_us == pair.now_us + SECOND_US


def test_retry_budget_is_ten_and_a_fifth_for_each_success() -> None:
    """Ten retries, then none; five successes buy one more; a refusal by the provider's limit is exempt."""
    pair = one_lane(workers=20)

    def retried(*, exempt: bool = False) -> bool:
        call = pair.model.calls[pair.submit()]
        pair.outcome(call, "retry", "kept", hint_us=100 * SECOND_US, exempt=exempt)
        return call.state == "backing"

    assert [retried() for _ in range(11)] == [True] * 10 + [False]
    assert retried(exempt=True)
    for _ in range(4):
        pair.outcome(pair.model.calls[pair.submit()], "done")
    assert not retried()
    pair.outcome(pair.model.calls[pair.submit()], "done")
    assert [retried(), retried()] == [True, False]


@pytest.mark.parametrize(("how", "ends"), [
    ("finish", ["granted", "queued", "backing", "refused"]),
    ("discard", ["granted", "aborted", "failed", "refused"]),
    ("stop", ["dropped", "aborted", "failed", "refused"]),
])  # fmt: skip
def test_drain(how: str, ends: list[str]) -> None:
    """What each way of draining does to a call in flight, a queued one, one that backs off and one that comes later."""
    pair = one_lane(workers=1)
    backing = pair.model.calls[pair.submit()]
    pair.outcome(backing, "retry", "kept", hint_us=SECOND_US)
    flying, queued = pair.model.calls[pair.submit()], pair.model.calls[pair.submit()]
    pair.drain(how)
    late = pair.model.calls[pair.submit()]
    assert (late.ended == ["skipped", "told"]) is (ends[3] == "refused")
    assert (queued.ended or ["queued"])[0] == ends[1]
    assert (backing.ended or ["backing"])[0] == ends[2]
    assert flying.state == "granted"
    assert flying.dropped is (ends[0] == "dropped")
    come_to_rest(pair)


def test_a_cancelled_call_may_still_complete() -> None:
    """A worker that was faster than the cancellation wins; one that had sent nothing gives everything back."""
    pair = one_lane()
    fast, slow = (pair.model.calls[pair.submit()] for _ in range(2))
    pair.cancel(1)
    pair.cancel(2)
    pair.outcome(fast, "done")
    pair.unsent(slow)
    assert (fast.ended[0], slow.ended[0]) == ("completed", "cancelled")
    stats = pair.schedule.statistics(pair.now_us)
    assert (stats.reservations_settled, stats.reservations_given_back) == (1, 1)


def test_a_worker_that_comes_is_used_for_the_smallest_call_as_soon_as_that_fits() -> None:
    """The bucket owes one: it is empty at 750, where a call that costs nothing fits, and holds one at 1,500. The worker
    comes after both instants were last computed."""
    bucket = QuotaSpec(0, "bucket", "input_tokens", 4, 3_000, 0, burst=2)
    pair = Pair(Layout((OpenLane(0, "lane", (bucket,)),), (OpenEndpoint(0, "near", 9), OpenEndpoint(1, "far", 9))))
    pair.submit(endpoint=1, input_tokens=1)
    debtor, free = pair.submit(endpoint=0), pair.submit(endpoint=0)
    pair.ready(0)
    pair.outcome(pair.model.calls[debtor], "done", "usage", input_tokens=3, ready=False)
    pair.ready(0)
    assert pair.schedule.next_wake_us() == 750
    pair.wake_at(750)
    assert pair.model.calls[free].state == "granted"


def test_a_head_that_lacks_only_a_worker_keeps_its_room() -> None:
    """Its instant was given under a limit of one and lies far ahead; with three it could start now. A call at another
    endpoint leaves it the last place."""
    quota = QuotaSpec(0, "requests", "requests", 3, 8_000_000, 500)
    endpoints = (OpenEndpoint(0, "none ready", 9), OpenEndpoint(1, "ready", 9))
    pair = with_workers(Pair(Layout((OpenLane(0, "lane", (quota,)),), endpoints)), 1)
    head = pair.model.calls[pair.submit(endpoint=0)]
    pair.observe_limit(0, "requests", 8_000_000, 1)
    pair.outcome(head, "retry", "kept", jitter=0, ready=False)
    second = pair.model.calls[pair.submit(endpoint=1)]
    pair.observe_limit(0, "requests", 8_000_000, 3)
    third = pair.submit(endpoint=1)
    pair.outcome(second, "done")
    assert (head.state, pair.model.calls[third].state) == ("queued", "queued")
