"""What only shows with long queues or long periods: order in a queue of hundreds, and windows of an hour.

The naive model is too slow beside these, so the promises are read off the grants alone.

Imports the schedule's public methods and effects only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from schedule_strategies import run_settings

from actors.effects import Effect, Granted
from actors.messages import CallRoute, OpenEndpoint, OpenLane, QuotaSpec, Sent
from actors.schedule import Schedule


def open_schedule(quota: QuotaSpec, workers: int) -> Schedule:
    schedule = Schedule()
    schedule.open_lane(OpenLane(0, "lane", (quota,)), 0)
    schedule.open_endpoint(OpenEndpoint(0, "endpoint", workers), 0)
    for _ in range(workers):
        schedule.ready(0, 0)
    return schedule


def submit(schedule: Schedule, call_id: int, cost: int, now_us: int) -> list[Effect]:
    route = CallRoute(call_id, 0, 0, now_us, 0, 10**9, cost, 0, False, False, False, False, 0, "")
    return schedule.submit(route, b"", now_us)


def grants(effects: Iterable[Effect]) -> list[Granted]:
    return [effect for effect in effects if isinstance(effect, Granted)]


@run_settings(10)
@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_promise_03_fifo_in_a_queue_of_a_thousand(random: object, costs: int) -> None:
    """A thousand calls of a few costs, every fifth cancelled: those of one cost are granted in their order, and all
    that were not cancelled are granted."""
    schedule = open_schedule(QuotaSpec(0, "window", "input_tokens", 10, 1_000, 0), workers=2_000)
    choose = random.randrange  # type: ignore[attr-defined]  # Hypothesis does not say what it draws
    cost_of = {call_id: 1 + choose(costs) for call_id in range(1, 1_001)}
    granted: list[int] = []

    def take(effects: list[Effect], now_us: int) -> None:
        """Send what is granted, at once, and whatever is granted through that."""
        for grant in grants(effects):
            granted.append(grant.ticket.call_id)
            take(schedule.sent(Sent(grant.ticket.call_id, grant.attempt, now_us), now_us), now_us)

    for call_id, cost in cost_of.items():
        take(submit(schedule, call_id, cost, 0), 0)
    gone = {call_id for call_id in cost_of if call_id % 5 == 0 and call_id not in granted}
    for call_id in sorted(gone, key=lambda _: choose(1_000)):
        take(schedule.cancel(call_id, 0), 0)
    while (now_us := schedule.next_wake_us()) is not None:
        take(schedule.wake(now_us), now_us)
    assert sorted(granted) == sorted(set(cost_of) - gone)
    for cost in set(cost_of.values()):
        same = [call_id for call_id in granted if cost_of[call_id] == cost]
        assert same == sorted(same)


@run_settings(30)
@given(st.lists(st.tuples(st.integers(0, 900_000), st.integers(1, 4)), min_size=20, max_size=80))
def test_promise_01_never_over_in_windows_of_an_hour(calls: list[tuple[int, int]]) -> None:
    """Entries of long windows may be merged, which may delay a little and must never let one more through; what is
    delayed is delayed by less than a thousandth of the period."""
    hour_us, limit = 3_600_000_000, 7
    schedule = open_schedule(QuotaSpec(0, "hourly", "input_tokens", limit, hour_us, 0), workers=200)
    seen: list[tuple[int, int]] = []
    cost_of: dict[int, int] = {}

    def take(effects: list[Effect], now_us: int) -> None:
        for grant in grants(effects):
            seen.append((now_us, cost_of[grant.ticket.call_id]))
            take(schedule.sent(Sent(grant.ticket.call_id, grant.attempt, now_us), now_us), now_us)

    now_us = 0
    for call_id, (pause_us, cost) in enumerate(calls, start=1):
        now_us += pause_us
        cost_of[call_id] = cost
        take(submit(schedule, call_id, cost, now_us), now_us)
    while (wake_us := schedule.next_wake_us()) is not None:
        take(schedule.wake(wake_us), wake_us)
    assert len(seen) == len(calls)
    for opens_us, _ in seen:
        assert sum(cost for at_us, cost in seen if opens_us <= at_us < opens_us + hour_us) <= limit
    for (before_us, _), (after_us, _) in itertools.pairwise(seen):
        assert after_us - before_us <= hour_us + hour_us // 1_000
