"""What a provider says of its limits, and what the lane's quotas make of it: told to the schedule, read off its state.

Lowered and raised again, never above what was stated; others' use counted; old news ignored; and nothing of a day ever
in a minute.
"""

from __future__ import annotations

import pytest

from actors.effects import Effect, Finished, Granted
from actors.limits import LEARNED, Quota, QuotaStatistics, learned_spec
from actors.messages import CallRoute, LimitObserved, Observed, OpenEndpoint, OpenLane, Outcome, QuotaSpec, Sent
from actors.schedule import Schedule

MINUTE_US, DAY_US = 60_000_000, 86_400_000_000


class Told:
    """A schedule with one lane, whose calls are sent as soon as they are granted."""

    def __init__(self, *quotas: QuotaSpec) -> None:
        self.schedule = Schedule()
        self.now_us = 0
        self.granted: list[int] = []
        self.ended: dict[int, str] = {}
        self.schedule.open_lane(OpenLane(0, "lane", quotas), 0)
        self.schedule.open_endpoint(OpenEndpoint(0, "endpoint", 100), 0)
        for _ in range(100):
            self.schedule.ready(0, 0)

    def note(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Granted):
                self.granted.append(effect.ticket.call_id)
                self.note(self.schedule.sent(Sent(effect.ticket.call_id, effect.attempt, self.now_us), self.now_us))
            elif isinstance(effect, Finished):
                fault = effect.ended.fault
                self.ended[effect.ticket.call_id] = fault.kind if fault is not None else effect.ended.status

    def submit(self, call_id: int, input_tokens: int = 1) -> None:
        route = CallRoute(
            call_id, 0, 0, self.now_us, 0, 10**12, input_tokens, 0, False, False, False, False, 0, ""
        )  # fmt: skip
        self.note(self.schedule.submit(route, b"", self.now_us))

    def hear(self, call_id: int, *said: Observed) -> None:
        self.note(self.schedule.observe_limit(LimitObserved(call_id, 1, said), self.now_us))

    def refuse(self, call_id: int, hint_us: int | None = None) -> None:
        outcome = Outcome(
            call_id, 1, 0, True, self.now_us, "retry", "requests_kept", barrier=True, exempt=True, hint_us=hint_us
        )  # fmt: skip
        self.note(self.schedule.outcome(outcome, b"", self.now_us))

    def wake(self, now_us: int) -> None:
        self.now_us = now_us
        self.note(self.schedule.wake(now_us))

    @property
    def quota(self) -> QuotaStatistics:
        return self.schedule.statistics(self.now_us).lanes[0].quotas[0]

    @property
    def barrier_us(self) -> int:
        return self.schedule.statistics(self.now_us).lanes[0].barrier_until_us


def requests(limit: int, period_s: float = 60.0) -> QuotaSpec:
    return Quota("requests", limit, period_s, guard_s=0.0).spec(1)


def minute(limit: int, remaining: int = -1) -> Observed:
    return Observed("requests", limit, remaining, -1, MINUTE_US)


def test_a_limit_is_lowered_and_raised_again_but_never_above_what_was_stated() -> None:
    told = Told(requests(100))
    told.submit(1)
    limits = []
    for limit in (40, 70, 500):
        told.hear(1, minute(limit))
        limits.append(told.quota.limit)
    assert limits == [40, 70, 100]


def test_what_others_used_is_no_room_of_ours() -> None:
    """Of 100 the provider says 30 are left after our one: 69 were somebody else's, for a minute."""
    told = Told(requests(100))
    told.submit(1)
    told.hear(1, minute(100, 30))
    assert told.quota.occupied == 70
    told.hear(1, minute(100, 30))
    assert told.quota.occupied == 70, "heard twice is counted once"
    told.wake(MINUTE_US)
    assert told.quota.occupied == 0


def test_what_others_used_is_gone_when_the_provider_says_so() -> None:
    """Its window has room again in ten seconds, not in a minute."""
    told = Told(requests(100))
    told.submit(1)
    told.hear(1, Observed("requests", 100, 30, 10_000_000, MINUTE_US))
    told.wake(9_999_999)
    assert told.quota.occupied == 70
    told.wake(10_000_000)
    assert told.quota.occupied == 1


def test_a_limit_that_is_not_said_again_is_forgotten() -> None:
    """Else one answer could refuse all larger calls for good: none would be sent that could hear better."""
    told = Told(Quota("total_tokens", 1_000, 60.0, guard_s=0.0).spec(1))
    told.submit(1)
    told.hear(1, Observed("total_tokens", 10, -1, -1, MINUTE_US))
    told.submit(2, input_tokens=500)
    assert told.ended[2] == "CapacityExceeded"
    told.wake(2 * MINUTE_US)
    told.submit(3, input_tokens=500)
    assert told.ended[3] == "CapacityExceeded"
    told.wake(2 * MINUTE_US + 1)
    told.submit(4, input_tokens=500)
    assert 4 in told.granted
    assert told.quota.limit == 1_000


def test_learning_goes_on_where_nobody_says_the_limit_any_more() -> None:
    told = Told(learned_spec(*LEARNED[0], 60.0, 1))
    told.submit(1)
    told.hear(1, minute(10_000))
    assert told.quota.limit == 10_000
    told.wake(2 * MINUTE_US + 1_000_000)
    told.submit(2)
    assert told.quota.limit < 100


def test_our_own_calls_on_their_way_are_not_taken_for_somebody_elses() -> None:
    """Ten were sent; the answer to the first has seen one of them, that to the last all."""
    told = Told(requests(100))
    for call_id in range(1, 11):
        told.submit(call_id)
    told.hear(1, minute(100, 99))
    told.hear(10, minute(100, 90))
    assert told.quota.occupied == 10


def test_more_left_than_we_know_of_gives_no_room() -> None:
    told = Told(requests(100))
    told.submit(1)
    told.hear(1, minute(100, 100))
    assert told.quota.occupied == 1


def test_what_an_older_request_was_told_changes_nothing() -> None:
    told = Told(requests(100))
    told.submit(1)
    told.wake(1_000)
    told.submit(2)
    told.hear(2, minute(50))
    told.hear(1, minute(80, 0))
    assert (told.quota.limit, told.quota.occupied) == (50, 2)


def test_what_is_said_to_an_attempt_that_is_over_is_not_heard() -> None:
    told = Told(requests(100))
    told.hear(7, minute(1))
    assert told.quota.limit == 100


@pytest.mark.parametrize(
    ("quota", "said"),
    [
        (requests(100), Observed("requests", 50, 0, 8_640_000, DAY_US)),
        (requests(100, 86_400.0), minute(50, 0)),
        (requests(100), Observed("total_tokens", 50, 0, 1_000_000, MINUTE_US)),
        (requests(100, 1.0), Observed("requests", 50, 0, 30_000_000, 0)),
        (requests(100, 86_400.0), Observed("requests", 50, 0, 30_000_000, 0)),
        (requests(100), Observed("requests", 50, 49, 1_000, 0)),
    ],
    ids=["a day's in a minute", "a minute's in a day", "tokens in requests", "long in short", "unnamed in a day",
         "a bucket too fast for it"],
)  # fmt: skip
def test_what_is_of_another_dimension_or_period_changes_nothing(quota: QuotaSpec, said: Observed) -> None:
    told = Told(quota)
    told.submit(1)
    told.hear(1, said)
    assert (told.quota.limit, told.quota.occupied) == (100, 1)


def test_an_unnamed_period_is_recognised_by_the_only_quota_it_can_mean() -> None:
    told = Told(requests(100, 2.0))
    told.submit(1)
    told.hear(1, Observed("requests", 50, 49, 2_000_000, 0))
    assert told.quota.limit == 50


def test_a_waiting_call_ends_when_it_can_never_fit_under_a_told_limit() -> None:
    tokens = Quota("input_tokens", 100, 60.0).spec(1)
    told = Told(tokens)
    told.submit(1, 60)
    told.submit(2, 60)
    told.submit(3, 20)
    told.hear(1, Observed("input_tokens", 50, -1, -1, MINUTE_US))
    assert told.ended == {2: "CapacityExceeded"}


# --- limits that nobody states ----------------------------------------------------------------------------------------


def unstated() -> tuple[QuotaSpec, ...]:
    return tuple(learned_spec(what, first, 60.0, number) for number, (what, first) in enumerate(LEARNED))


def test_a_lane_that_learns_begins_small_and_says_so() -> None:
    told = Told(*unstated())
    for call_id in range(1, 40):
        told.submit(call_id)
    assert len(told.granted) == 16
    quotas = told.schedule.statistics(0).lanes[0].quotas
    assert [(quota.limit, quota.learned) for quota in quotas] == [(16, True), (0, True)]


def test_a_told_limit_is_taken_at_once() -> None:
    told = Told(*unstated())
    for call_id in range(1, 90):
        told.submit(call_id)
    told.hear(1, minute(60, 59))
    assert (told.quota.limit, len(told.granted)) == (60, 60)


def test_a_call_larger_than_what_was_learned_waits_for_an_empty_window_and_is_not_refused() -> None:
    told = Told(learned_spec("input_tokens", 10, 60.0, 1))
    told.submit(1, 5)
    told.submit(2, 5_000)
    assert told.ended == {}
    assert told.granted == [1]
    told.wake(60_050_000)
    assert told.granted == [1, 2]


def test_a_refusal_bars_a_lane_that_learns_only_if_it_asks_for_a_wait() -> None:
    """What was learned holds the others back; the window is not lost besides."""
    told = Told(*unstated())
    for call_id in range(1, 20):
        told.submit(call_id)
    told.refuse(1)
    assert told.barrier_us == 0
    assert told.quota.limit < 16
    told.refuse(2, hint_us=3_000_000)
    assert told.barrier_us == 3_000_000
