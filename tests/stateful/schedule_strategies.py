"""Random worlds and random scripts for the schedule's tests: small numbers, so that everything collides.

A script is a list of `Step`s: a word and three small integers, read against whatever the world holds at that moment, so
that any list is a valid script and a failing one shrinks to a few words.

Imports Hypothesis, the messages and the pair; not the schedule.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal, NamedTuple

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from schedule_pair import Layout, Pair

from actors.messages import OpenEndpoint, OpenLane, QuotaSpec

EXPLORE = int(os.environ.get("PENSTOCK_EXPLORE", "0"))


def run_settings(examples: int) -> settings:
    """The same scripts every time, so that a red run means a change of the code; `PENSTOCK_EXPLORE=20` draws new ones,
    twenty times as many."""
    return settings(
        max_examples=examples * max(1, EXPLORE), derandomize=not EXPLORE, deadline=None, database=None,
        report_multiple_bugs=False, phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip


PERIODS_US = (1_000, 3_000, 7_000, 1_000_000, 8_000_000)
GUARDS_US = (0, 1, 500, 2_000)
DIMENSIONS: tuple[Literal["requests", "input_tokens", "output_tokens", "total_tokens"], ...] = (
    "requests", "input_tokens", "output_tokens", "total_tokens",
)  # fmt: skip
PAUSES_US = (0, 1, 2, 499, 500, 1_000, 1_001, 3_500, 500_000, 1_000_000, 5_000_000, 9_000_000)
JITTERS = (0, 1, 2**31, 2**32 - 1)
AGEINGS_US = (1_000, 1_000_000, 60_000_000)
FLOWS = ("", "a", "b")
PRIORITIES = (0, -1, 1, 1_000)
WEIGHTS = ((), (("a", 2),), (("", 3), ("b", 1_000)), (("b", 3), ("a", 7)))
AGES_US = (0, 0, 1_000, 2_500_000)
ORDERS = (1, 3, 12)
"""How many of the twelve pairs of flow and priority a script mixes: none but the first, the flows, all of them."""
HINTS_US = (None, None, 0, 1_000, 2_500_000, 120_000_000, 120_000_001)


@st.composite
def quota_specs(draw: st.DrawFn, number: int, kinds: tuple[str, ...]) -> QuotaSpec:
    """One quota of a kind drawn from `kinds`: window, burst, pace, reserved."""
    kind = draw(st.sampled_from(kinds))
    dimension = draw(st.sampled_from(DIMENSIONS)) if kind != "pace" else draw(st.sampled_from(("requests",)))
    return QuotaSpec(
        quota_id=number,
        name=f"quota {number}",
        dimension=dimension,
        limit=draw(st.integers(1, 5 if dimension == "requests" else 10)),
        period_us=draw(st.sampled_from(PERIODS_US)),
        guard_us=draw(st.sampled_from(GUARDS_US)),
        burst=draw(st.integers(1, 8)) if kind == "burst" else 0,
        pace=kind == "pace",
        settle="reserved" if kind == "reserved" else "usage",
    )


ALL_KINDS = ("window", "window", "window", "burst", "pace", "reserved")


@st.composite
def layouts(
    draw: st.DrawFn,
    *,
    kinds: tuple[str, ...] = ALL_KINDS,
    max_lanes: int = 3,
    max_quotas: int = 3,
    permits: tuple[int, ...] = (0, 0, 1, 2, 3),
    max_endpoints: int = 2,
) -> Layout:
    """Lanes that share all, some (a chain) or none of their quotas; endpoints that they share. The last lane may be
    opened late."""
    quotas = [draw(quota_specs(number, kinds)) for number in range(draw(st.integers(1, max_quotas)))]
    lanes = []
    for number in range(draw(st.integers(1, max_lanes))):
        over = draw(st.integers(1, 2 ** len(quotas) - 1))
        chosen = tuple(quota for bit, quota in enumerate(quotas) if over >> bit & 1)
        most = draw(st.sampled_from(permits))
        ageing_us, weights = draw(st.sampled_from(AGEINGS_US)), draw(st.sampled_from(WEIGHTS))
        lanes.append(OpenLane(number, f"lane {number}", chosen, most, ageing_us, weights))
    endpoints = [OpenEndpoint(n, f"endpoint {n}", 20) for n in range(draw(st.integers(1, max_endpoints)))]
    late = len(lanes) - draw(st.integers(0, 1)) or 1
    return Layout(tuple(lanes[:late]), tuple(endpoints), tuple(lanes[late:]))


class Step(NamedTuple):
    """One word of a script and four numbers for it to use as it likes; `order` says with which flow and priority."""

    word: str
    a: int
    b: int
    c: int
    order: int = 0


BASIC_WORDS = ("submit", "submit", "submit", "ready", "sent", "sent", "done", "time", "time")
ALL_WORDS = (
    *BASIC_WORDS, "lost", "connect_failed", "unsent", "retry", "retry", "failed", "unknown", "cancelled", "cancel",
    "limit", "repeat", "submit_deadline", "oversleep", "open", "later", "later",
)  # fmt: skip


def scripts(
    words: tuple[str, ...] = ALL_WORDS, *, sizes: tuple[int, ...] = (5, 20, 45)
) -> st.SearchStrategy[list[Step]]:
    """Long ones as often as short ones: left alone, Hypothesis prefers lists too short to get anywhere."""
    numbers = st.integers(0, 11)

    def of(size: int, mixed: int) -> st.SearchStrategy[list[Step]]:
        step = st.builds(Step, st.sampled_from(words), numbers, numbers, numbers, st.integers(0, mixed - 1))
        return st.lists(step, min_size=size // 2, max_size=size)

    return st.tuples(st.sampled_from(sizes), st.sampled_from(ORDERS)).flatmap(lambda drawn: of(*drawn))


def with_workers(pair: Pair, count: int = 20) -> Pair:
    """A pair in which workers are never short."""
    for endpoint in pair.model.endpoints:
        for _ in range(count):
            pair.ready(endpoint)
    return pair


def play(pair: Pair, script: Iterable[Step]) -> Pair:
    for step in script:
        play_step(pair, step)
    return pair


def play_step(pair: Pair, step: Step) -> None:
    """Carry one word out; a word that has nothing to act on does nothing."""
    word, a, b, c, order = step
    endpoint = a % len(pair.model.endpoints)
    flying = pair.model.in_state("granted", "sent")
    call = flying[a % len(flying)] if flying else None
    if word in ("submit", "submit_deadline"):
        deadline_us = pair.now_us + (0, 1, 1_000, 3_000, 1_000_000, 6_000_000)[c % 6] if word != "submit" else 0
        pair.submit(
            lane=a % len(pair.model.lanes), endpoint=b % len(pair.model.endpoints), input_tokens=b % 5,
            output_tokens=c % 4, deadline_us=deadline_us, output_is_guess=a % 4 == 3, retry_unknown=c % 2 == 1,
            timeout_us=(1, 5_000, 600_000_000)[b % 3], max_attempts=(4, 4, 1, 2, 7)[c % 5],
            flow=FLOWS[order % 3], priority=PRIORITIES[order // 3], age_us=AGES_US[(a + c) % 4],
        )  # fmt: skip
    elif word == "ready" and busy(pair, endpoint) < 20:
        pair.ready(endpoint)
    elif word == "open" and pair.late:
        pair.open_lane(pair.late.pop(0))
    elif word == "lost" and pair.model.ready_workers[endpoint]:
        pair.lost(endpoint)
    elif word == "connect_failed":
        pair.connect_failed(endpoint, JITTERS[b % 4])
    elif word == "time":
        pass_time(pair, a, b)
    elif word == "oversleep":
        pair.now_us += (1, 2, 1_000, 3_500, 1_000_000, 7_000_000)[a % 6]
    elif word == "cancel" and pair.model.calls:
        pair.cancel(1 + (a + 12 * b) % len(pair.model.calls))
    elif word == "limit":
        quotas = pair.model.lanes[a % len(pair.model.lanes)].quotas
        quota = quotas[b % len(quotas)]
        most_waiting = max([cost for w in pair.model.in_state("queued", "backing", "granted", "sent")
                            for q, cost in pair.model.demand(w) if q is quota], default=1)  # fmt: skip
        least = max(1, c, most_waiting)
        pair.observe_limit(a % len(pair.model.lanes), quota.spec.dimension, quota.spec.period_us, least)
    elif word == "repeat" and pair.over and busy(pair, pair.over[a % len(pair.over)].endpoint) < 20:
        pair.repeat(pair.over[a % len(pair.over)])
    elif word == "down" and not pair.model.in_state("granted", "sent", endpoint=endpoint):
        pair.down(endpoint)
    elif word == "drain":
        words = ("", "finish", "discard", "stop")
        pair.drain(words[max(words.index(pair.model.draining), 1 + a % 3)])
    elif call is not None:
        end_attempt(pair, word, call.route.call_id, b, c)


def busy(pair: Pair, endpoint: int) -> int:
    return pair.model.ready_workers[endpoint] + len(pair.model.in_state("granted", "sent", endpoint=endpoint))


def end_attempt(pair: Pair, word: str, call_id: int, b: int, c: int) -> None:
    call = pair.model.calls[call_id]
    at_us = max(call.granted_us, call.sent_us, pair.now_us - (0, 0, 1, 1_000)[b % 4])
    ready = b % 3 > 0
    charge = ("usage", "usage", "kept", "requests_kept", "nothing")[c % 5]
    usage = {"input_tokens": b % 6, "output_tokens": c % 5}
    if word == "sent":
        early = (0, 0, 1, 1_500, -1_000, 6_000_000)[b % 6]
        pair.sent(call, pair.now_us - early)
    elif word == "unsent" and call.state == "granted":
        pair.unsent(call, ready=ready)
    elif word == "done":
        pair.outcome(call, "done", "usage" if c % 3 else "kept", at_us=at_us, ready=ready, **usage)
    elif word == "later":
        wait_us = 0 if call.taken_held is None else (200_000, 500_000, 90_000_000)[c % 3]
        lane = len(pair.model.lanes) - 1 - (c % 2 if len(pair.model.lanes) > 1 else 0)
        pair.outcome(
            call, "later", ("kept", "usage")[c % 2], at_us=at_us, ready=ready, **usage, jitter=JITTERS[b % 4],
            hint_us=HINTS_US[(b + c) % 7], poll=b"poll %d" % len(pair.over), poll_wait_us=wait_us,
            poll_lane=lane if call.taken_held is None else call.route.lane,
        )  # fmt: skip
    elif word == "retry":
        refused = c % 2 == 0
        pair.outcome(
            call, "retry", "requests_kept" if refused else charge, at_us=at_us, ready=ready, **usage,
            barrier=refused and b % 4 > 0, exempt=refused, hint_us=HINTS_US[(b + c) % 7], jitter=JITTERS[c % 4],
        )  # fmt: skip
    elif word == "failed":
        wrote = call.state == "sent" or b % 2 == 0
        pair.outcome(call, "failed", charge if wrote else "nothing", at_us=at_us, ready=ready, wrote=wrote, **usage)
    elif word == "unknown":
        pair.outcome(call, "unknown", "kept", at_us=at_us, ready=False, jitter=JITTERS[c % 4])
    elif word == "cancelled" and call.cancelled:
        pair.outcome(call, "cancelled", "kept", at_us=at_us, ready=False)


def pass_time(pair: Pair, a: int, b: int) -> None:
    """To the next wake-up, or the microsecond before it, or anywhere."""
    wake_us = pair.schedule.next_wake_us()
    if a < 5 and wake_us is not None:
        pair.wake_at(max(pair.now_us, wake_us))
    elif a < 7 and wake_us is not None:
        pair.wake_at(max(pair.now_us, wake_us - 1))
    else:
        pair.wake_at(pair.now_us + PAUSES_US[b])


def come_to_rest(pair: Pair) -> None:
    """Answer what is in flight, serve what waits or discard it, and look at the gauges: all of them must be zero."""
    if not pair.model.draining:
        pair.drain("finish")
    for _ in range(300):
        for call in pair.model.in_state("granted", "sent"):
            pair.outcome(call, "done", "usage", ready=True)
        for endpoint in pair.model.endpoints:
            if busy(pair, endpoint) == 0:
                pair.ready(endpoint)
        wake_us = pair.schedule.next_wake_us()
        if wake_us is not None:
            pair.wake_at(max(pair.now_us, wake_us))
        elif not pair.model.in_state("granted", "sent"):
            break
    stats = pair.schedule.statistics(pair.now_us)
    gauges = (stats.queued, stats.backing_off, stats.granted, stats.sent, stats.permits_held)
    assert gauges == (0, 0, 0, 0, 0)
    assert (stats.open_reservations, stats.live_reservations) == (0, 0)
    assert sum(stats.ended.values()) == stats.submitted
    assert pair.schedule.next_wake_us() is None
