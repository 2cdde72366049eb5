"""Exact instants, computed by hand, for the model and the schedule alike.

Each row is (when, cost, admitted): as in the tests of Go's rate limiter, the table is the specification and a reader
can check it with a pencil. Calls are sent at the microsecond of their grant unless the row says otherwise.

The random tests judge the schedule by the model; this file is what judges the model.
"""

from __future__ import annotations

import pytest
from quota_history import NEVER, QuotaHistory, earliest
from schedule_pair import Layout, Pair
from schedule_strategies import with_workers

from actors.messages import OpenEndpoint, OpenLane, QuotaSpec

WINDOW = QuotaSpec(0, "window", "input_tokens", 3, 1_000, 0)
GUARDED = QuotaSpec(0, "guarded", "input_tokens", 3, 1_000, 10)
BUCKET = QuotaSpec(0, "bucket", "input_tokens", 3, 1_000, 0, burst=5)
PACED = QuotaSpec(0, "paced", "input_tokens", 3, 1_000, 0, pace=True)

TABLES = {
    "window: the fourth waits for the first to leave": (
        WINDOW,
        [(0, 1, True), (0, 2, True), (0, 1, False), (999, 1, False), (1_000, 3, True), (1_999, 1, False),
         (2_000, 1, True)],
    ),
    "window: it slides, it does not tumble": (
        WINDOW,
        [(0, 1, True), (900, 2, True), (1_000, 1, True), (1_000, 1, False), (1_899, 1, False), (1_900, 2, True)],
    ),
    "guard: the window is that much longer": (
        GUARDED,
        [(0, 3, True), (1_000, 1, False), (1_009, 1, False), (1_010, 3, True)],
    ),
    "bucket: full at first, then 3 per 1,000 µs": (
        BUCKET,
        [(0, 5, True), (0, 1, False), (333, 1, False), (334, 1, True), (666, 1, False), (667, 1, True),
         (9_000, 5, True), (9_000, 1, False)],
    ),
    "pace: a third of the window for each unit, rounded up": (
        PACED,
        [(0, 1, True), (333, 1, False), (334, 2, True), (1_000, 1, False), (1_001, 1, True), (1_334, 1, False),
         (1_335, 1, True)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_model_by_hand(name: str) -> None:
    """The naive history gives the table's answers, and `earliest` the instant at which the answer turns."""
    spec, rows = TABLES[name]
    quota = QuotaHistory(spec)
    for at_us, cost, admitted in rows:
        assert quota.has_room(cost, at_us, at_us) is admitted, (at_us, cost)
        turn_us = earliest([(quota, cost)], at_us)
        assert (turn_us == at_us) is admitted
        assert turn_us == at_us or not quota.has_room(cost, turn_us - 1, at_us)
        if admitted:
            quota.stamp(quota.admit(cost, at_us), at_us, at_us)


@pytest.mark.parametrize("name", TABLES)
def test_schedule_by_hand(name: str) -> None:
    """The schedule gives the same: a call that must wait is granted at the table's microsecond, not one before."""
    spec, rows = TABLES[name]
    pair = with_workers(Pair(Layout((OpenLane(0, "lane", (spec,)),), (OpenEndpoint(0, "endpoint", 40),))))
    for at_us, cost, admitted in rows:
        pair.wake_at(at_us)
        call_id = pair.submit(input_tokens=cost)
        call = pair.model.calls[call_id]
        assert (call.state == "granted") is admitted, (at_us, cost)
        if admitted:
            pair.sent(call)
        else:
            pair.cancel(call_id)


def test_open_entries_never_expire_but_are_assumed_sent_after_five_seconds() -> None:
    """An open amount stands in the window however late it gets; instants count on it as sent 5 s after its grant."""
    quota = QuotaHistory(WINDOW)
    entry = quota.admit(3, 0)
    assert not quota.has_room(1, 60_000_000, 60_000_000)
    assert earliest([(quota, 1)], 0) == 5_001_000
    assert earliest([(quota, 1)], 6_000_000) == 6_001_000
    quota.stamp(entry, 6_000_000, 6_000_400)
    assert earliest([(quota, 1)], 6_000_400) == 6_001_000


def test_debt_is_waited_for_and_never_admits() -> None:
    """Usage above the reservation stands in the window from the moment it is known, even above the limit."""
    quota = QuotaHistory(WINDOW)
    quota.stamp(quota.admit(1, 0), 0, 0)
    quota.owe(4, 500)
    assert quota.occupied(500, 500) == 5
    assert not quota.has_room(0, 999, 999)
    assert earliest([(quota, 1)], 500) == 1_500


def test_a_limit_below_the_cost_admits_never() -> None:
    """What no instant admits is said to be never, not late."""
    quota = QuotaHistory(WINDOW)
    quota.set_limit(2, 10)
    assert earliest([(quota, 3)], 10) == NEVER


def test_bucket_keeps_what_is_open_out_of_its_level_but_not_out_of_its_brim() -> None:
    """An open amount does not let the bucket refill behind it: the brim counts before it leaves."""
    quota = QuotaHistory(BUCKET)
    entry = quota.admit(5, 0)
    assert quota.available(4_000, 4_000) == 0
    quota.stamp(entry, 0, 4_000)
    assert quota.available(4_000, 4_000) == 0
    assert earliest([(quota, 1)], 4_000) == 4_334
