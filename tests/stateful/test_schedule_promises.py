"""One property test for each promise of the schedule, over random scripts with the naive model beside it.

The `Pair` checks every step of every script already; each test here adds what its promise says in words of its own,
from the grants that were seen and not from the model's idea of eligibility, where that is possible.

Imports nothing of the schedule: the pair does. The promise of backpressure is the mailbox's and is tested there.
"""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from quota_history import earliest
from schedule_pair import GrantSeen, Layout, Pair
from schedule_strategies import (
    ALL_WORDS,
    BASIC_WORDS,
    Step,
    come_to_rest,
    layouts,
    play,
    play_step,
    run_settings,
    scripts,
    with_workers,
)  # fmt: skip

from actors.messages import OpenEndpoint, OpenLane, Outcome, QuotaSpec

CALM_WORDS = ("submit", "submit", "submit", "sent", "sent", "cancel", "time", "time", "time")
SEND_BOUND_US = 5_000_000
OPEN_AHEAD_US = 200_000
"""So long before there will be room, a missing connection may be asked for."""


@run_settings(250)
@given(
    layouts(kinds=("window", "reserved"), permits=(0,)),
    scripts(("submit", "submit", "sent", "sent", "unsent", "retry", "time", "time")),
    st.lists(st.integers(0, 4), min_size=1, max_size=5),
)
def test_promise_01_never_over(layout: Layout, script: list[Step], quarters: list[int]) -> None:
    """Whenever between its grant and its `sent` each request reached the provider, and wherever that provider places
    its window, it never counts more than the limit."""
    pair = play(with_workers(Pair(layout)), script)
    for quota in pair.model.quotas.values():
        arrivals = []
        for number, entry in enumerate(entry for entry in quota.amounts if entry not in quota.debts):
            last_us = pair.now_us if entry.stamp_us is None else entry.stamp_us
            quarter = quarters[number % len(quarters)]
            arrivals.append((entry.granted_us + (last_us - entry.granted_us) * quarter // 4, entry.amount))
        for opens_us, _ in arrivals:
            closes_us = opens_us + quota.window_us
            assert sum(amount for at_us, amount in arrivals if opens_us <= at_us < closes_us) <= quota.spec.limit


@run_settings(300)
@given(layouts(), scripts(ALL_WORDS), st.sampled_from((0, 1, 9)))
def test_promise_02_never_idle(layout: Layout, script: list[Step], workers: int) -> None:
    """No wake-up comes late, and none is a poll: each falls on an instant at which the history says that something may
    change, and there either something happens or the next one lies later."""
    pair = with_workers(Pair(layout), workers)
    for step in script:
        play_step(pair, step)
        wake_us = pair.schedule.next_wake_us()
        if wake_us is None or step.word != "time":
            continue
        meaning = pair.model.instants_of_interest(pair.now_us)
        assert {wake_us, wake_us + OPEN_AHEAD_US} & meaning, f"{wake_us} means nothing"
        pair.wake_at(max(pair.now_us, wake_us - 1))
        happened = pair.wake_at(max(pair.now_us, wake_us))
        later_us = pair.schedule.next_wake_us()
        assert happened or later_us is None or later_us > wake_us


@run_settings(200)
@given(layouts(max_quotas=2), scripts(ALL_WORDS), st.integers(0, 3))
def test_promise_03_fifo_among_equals(layout: Layout, script: list[Step], cost: int) -> None:
    """Calls of one cost, lane, priority, flow and endpoint are first granted in the order of their submission."""
    pair = with_workers(Pair(layout))
    for step in script:
        same = step._replace(a=step.a % 3, b=cost, c=cost) if step.word == "submit" else step
        if same.word not in ("submit_deadline", "connect_failed"):
            play_step(pair, same)
    routes = {number: call.route for number, call in pair.model.calls.items()}
    firsts = [routes[grant.call_id] for grant in pair.grants if grant.attempt == 1]
    for one, other in itertools.combinations(firsts, 2):
        same_place = (one.lane, one.priority, one.flow) == (other.lane, other.priority, other.flow)
        assert not same_place or one.call_id < other.call_id


class HeadWatch:
    """Remembers by when each head was promised to be admitted, and that it was.

    A promise binds everybody who comes after the head. It is void as soon as a call goes ahead that had not to spare
    the head, because it was ordered before it in its lane or was of a lane whose turn came before.
    """

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.promised: dict[int, int] = {}
        self.seen = 0

    def look(self) -> None:
        model, now_us = self.pair.model, self.pair.now_us
        for grant in self.pair.grants[self.seen :]:
            for call_id in [one for one in self.promised if self.voids(grant, one)]:
                del self.promised[call_id]
        self.seen = len(self.pair.grants)
        for call_id, by_us in self.promised.items():
            head = model.calls[call_id]
            if head.state == "queued" and not model.before(head, now_us):
                assert now_us < by_us, f"head {call_id} still waits at {now_us}, promised by {by_us}"
        for number, lane in model.lanes.items():
            head = model.head(number)
            if head is not None and not model.before(head, now_us):
                by_us = max(lane.latest_us + lane.grace_us, earliest(model.demand(head), now_us), now_us)
                self.promised.setdefault(head.route.call_id, by_us)

    def voids(self, grant: GrantSeen, call_id: int) -> bool:
        """Whether a promise to a head ends with this grant: its own, or of somebody ordered before it."""
        model = self.pair.model
        mine, its = (model.lanes[lane] for lane in (model.calls[call_id].route.lane, grant.lane))
        meet = mine is its or any(quota in its.quotas for quota in mine.quotas)
        return grant.call_id == call_id or (meet and call_id not in grant.spared)


@run_settings(250)
@given(layouts(kinds=("window", "window", "burst", "pace"), permits=(0,)), scripts(CALM_WORDS, sizes=(10, 60)))
def test_promise_04_no_starvation(layout: Layout, script: list[Step]) -> None:
    """With enough workers, every request sent within 5 s, no debt, barrier, lowered limit and nothing returned, a head
    is granted by the instant it was given, or one guard after it, whatever is submitted after it."""
    pair = with_workers(Pair(layout))
    watch = HeadWatch(pair)
    for step in script:
        if step.word == "time":
            send_in_time(pair, step)
        else:
            play_step(pair, step)
        if pair.model.ready_workers[0] < 3:
            pair.ready(0)
        watch.look()
    come_to_rest(pair)


def send_in_time(pair: Pair, step: Step) -> None:
    """Move on, but report what was granted as sent before its 5 s are over."""
    to_us = pair.now_us + (1, 500, 1_000, 3_500, 999_999, 4_000_000)[step.a % 6]
    for _ in range(200):
        due = [call.granted_us + SEND_BOUND_US for call in pair.model.in_state("granted")]
        wake_us = pair.schedule.next_wake_us()
        stops = [at for at in (min(due, default=None), wake_us) if at is not None and at <= to_us]
        if not stops:
            break
        pair.wake_at(max(pair.now_us, min(stops)))
        for call in pair.model.in_state("granted"):
            if call.granted_us + SEND_BOUND_US <= pair.now_us:
                pair.sent(call)
    pair.wake_at(max(pair.now_us, to_us))


@run_settings(120)
@given(st.data(), scripts(BASIC_WORDS, sizes=(10, 50)), scripts(BASIC_WORDS, sizes=(10, 50)))
def test_promise_04_lanes_without_a_common_quota_do_not_meet(
    data: st.DataObject, script: list[Step], noise: list[Step]
) -> None:
    """What a lane grants, and when, is the same whether or not another lane is busy beside it."""
    mine = data.draw(layouts(max_lanes=1, max_endpoints=1)).lanes[0]
    spec = data.draw(st.sampled_from((("requests", 1), ("total_tokens", 3))))
    other = OpenLane(1, "other", (QuotaSpec(9, "other's", spec[0], spec[1], 3_000, 0),))  # type: ignore[arg-type]  # a literal
    endpoints = (OpenEndpoint(0, "mine", 60), OpenEndpoint(1, "other's", 60))
    alone = lane_alone(Layout((mine,), endpoints), script, [])
    assert lane_alone(Layout((mine, other), endpoints), script, noise) == alone


def lane_alone(layout: Layout, script: list[Step], noise: list[Step]) -> list[tuple[int, int]]:
    """When lane 0 granted which of its own calls, by their number, at instants that the script alone decides."""
    pair = with_workers(Pair(layout), 30)
    own: list[int] = []
    for number, step in enumerate(script):
        for extra in noise[number : number + 1]:
            if extra.word == "submit":
                pair.submit(lane=1, endpoint=1, output_tokens=extra.c % 4)
        flying = pair.model.in_state("granted", "sent", lane=0)
        call = flying[step.a % len(flying)] if flying else None
        if step.word == "submit" and len(own) < 25:
            own.append(pair.submit(lane=0, endpoint=0, input_tokens=step.b % 5, output_tokens=step.c % 4))
        elif step.word == "sent" and call is not None:
            pair.sent(call)
        elif step.word == "done" and call is not None:
            pair.outcome(call, "done", "usage", input_tokens=step.b % 5, output_tokens=step.c % 4)
        elif step.word == "time":
            wait_through(pair, pair.now_us + (1, 499, 1_000, 3_500, 1_000_000, 6_000_000)[step.a % 6])
    return [(own.index(grant.call_id), grant.at_us) for grant in pair.grants if grant.lane == 0]


def wait_through(pair: Pair, to_us: int) -> None:
    """Be woken whenever the schedule wants it, up to `to_us`."""
    while (wake_us := pair.schedule.next_wake_us()) is not None and wake_us <= to_us:
        pair.wake_at(wake_us)
    pair.wake_at(to_us)


@run_settings(200)
@given(layouts(permits=(0, 1)), scripts(BASIC_WORDS), st.integers(0, 12), st.integers(0, 12), st.booleans())
def test_promise_05_never_admissible_is_refused_at_once(
    layout: Layout, script: list[Step], input_tokens: int, output_tokens: int, guess: bool
) -> None:
    """A call that costs more than a whole limit is refused when it is submitted, one that fits is not; a guessed output
    shrinks to what fits."""
    pair = play(with_workers(Pair(layout), 2), script)
    call_id = pair.submit(lane=0, input_tokens=input_tokens, output_tokens=output_tokens, output_is_guess=guess)
    least = 0 if guess else output_tokens
    fits = all(
        {"requests": 1, "input_tokens": input_tokens, "output_tokens": least, "total_tokens": input_tokens + least}[
            spec.dimension
        ]
        <= (spec.burst or spec.limit)
        for spec in layout.lanes[0].quotas
    )
    assert (pair.model.calls[call_id].ended == ["skipped", "told"]) is not fits


@run_settings(200)
@given(layouts(permits=(0, 1, 2)), scripts(ALL_WORDS))
def test_promise_06_all_or_nothing(layout: Layout, script: list[Step]) -> None:
    """A call that waits holds nothing anywhere; one in flight holds its cost in all its quotas and one permit."""
    pair = with_workers(Pair(layout), 3)
    for step in script:
        play_step(pair, step)
        stats = pair.schedule.statistics(pair.now_us)
        assert stats.permits_held == stats.granted + stats.sent
        assert 0 <= stats.live_reservations - stats.permits_held <= stats.taken  # those of calls that polls ask about
        open_lanes = [lane.spec for lane in pair.model.lanes.values()]
        for number, lane in enumerate(open_lanes):
            for quota in lane.quotas:
                sharing = [n for n, one in enumerate(open_lanes) if quota in one.quotas]
                unsent = [call for n in sharing for call in pair.model.in_state("granted", lane=n)]
                history = pair.model.quotas[quota.quota_id]
                held = sum(history.cost(call.route.input_tokens, call.output_tokens) for call in unsent)
                shown = next(one for one in stats.lanes[number].quotas if one.name == quota.name)
                assert shown.open == held


@run_settings(200)
@given(layouts(), scripts((*ALL_WORDS, "repeat", "repeat", "drain")), st.sampled_from((0, 2, 9)))
def test_promise_07_one_terminal_outcome(layout: Layout, script: list[Step], workers: int) -> None:
    """Every call ends once however often its worker says so, and every reservation is settled or given back."""
    pair = play(with_workers(Pair(layout), workers), script)
    come_to_rest(pair)
    stats = pair.schedule.statistics(pair.now_us)
    assert all(call.ended[1:] == ["told"] for call in pair.model.calls.values())
    assert stats.reservations_made == stats.reservations_settled + stats.reservations_given_back
    before = stats
    for message in pair.over:
        if isinstance(message, Outcome):
            pair.schedule.outcome(message, b"", pair.now_us)
        else:
            pair.schedule.unsent(message, pair.now_us)
    after = pair.schedule.statistics(pair.now_us)
    assert after.ended == before.ended
    assert after.reservations_settled == before.reservations_settled
    assert after.late_messages == before.late_messages + len(pair.over)


@run_settings(200)
@given(layouts(), scripts(ALL_WORDS), st.integers(0, 30))
def test_promise_08_cancel_frees_the_place_at_once(layout: Layout, script: list[Step], which: int) -> None:
    """A waiting call that is cancelled is out of every gauge before the method returns."""
    pair = play(with_workers(Pair(layout), 1), script)
    pair.wake_at(pair.now_us)
    waiting = pair.model.in_state("queued", "backing")
    before = pair.schedule.statistics(pair.now_us)
    if waiting:
        pair.cancel(waiting[which % len(waiting)].route.call_id)
        after = pair.schedule.statistics(pair.now_us)
        assert after.ended.get("cancelled", 0) == before.ended.get("cancelled", 0) + 1
        left = before.queued + before.backing_off - 1 - (after.granted - before.granted)
        assert after.queued + after.backing_off == left


@run_settings(300)
@given(layouts(), scripts((*ALL_WORDS, "submit_deadline", "submit_deadline", "unsent")), st.sampled_from((0, 1, 9)))
def test_promise_09_deadline(layout: Layout, script: list[Step], workers: int) -> None:
    """Nothing waits past its deadline and nothing is granted at or after it, whatever it went through before."""
    pair = with_workers(Pair(layout), workers)
    for step in script:
        play_step(pair, step)
        if step.word == "time":
            wake_us = pair.schedule.next_wake_us()
            deadlines = [c.route.deadline_us for c in pair.model.in_state("queued", "backing") if c.route.deadline_us]
            assert not deadlines or (wake_us is not None and wake_us <= min(deadlines))
    for grant in pair.grants:
        deadline_us = pair.model.calls[grant.call_id].route.deadline_us
        assert not deadline_us or grant.at_us < deadline_us
