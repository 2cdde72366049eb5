"""A limit that nobody states is found, kept to, and followed when it changes: whole runs against a hidden judge.

Twenty windows in virtual time, 24 calls in flight at most; the provider halves its limits after seven windows and
doubles them after fourteen, both in the midst of a burst. Of
each of the three regimes, from its third window on, nine tenths are spent; refusals stay below a hundredth of the calls
and those that were in flight at the instant of each change.
"""

from __future__ import annotations

import pytest
from learning_world import World, learning

from actors.learned import LearnedWindow
from actors.learning import Learner
from actors.limits import UNBOUNDED, Quota, learned_spec
from actors.meters import Claim
from engine.simulator.config import ProviderLimit

PERIOD_S = 2.0
REQUESTS = ProviderLimit("requests", 400, PERIOD_S)
TOKENS = ProviderLimit("total_tokens", 20_000, PERIOD_S)
LIMITS = {
    "requests": (REQUESTS,),
    "tokens": (TOKENS,),
    "both": (REQUESTS, ProviderLimit("total_tokens", 15_000, PERIOD_S)),
}


@pytest.mark.parametrize("headers", [True, False], ids=["headers", "refusals alone"])
@pytest.mark.parametrize("what", LIMITS)
def test_each_regime_is_spent_and_few_are_refused(what: str, headers: bool) -> None:
    big = 1 if what == "requests" else 10
    world = World(LIMITS[what], quotas=learning(PERIOD_S), headers=headers, big=big).run()
    assert min(world.spent) >= 0.9
    assert world.refused <= world.allowance
    assert world.failed == 0


def test_a_provider_that_does_not_say_of_what_there_was_too_much() -> None:
    world = World((REQUESTS,), quotas=learning(PERIOD_S), names=False).run()
    assert min(world.spent) >= 0.9
    assert world.refused <= world.allowance


def test_a_stated_quota_beside_it_stays_a_ceiling() -> None:
    """100 are stated, 400 would be admitted: nothing is refused, and no more than 100 are sent."""
    stated = Quota("requests", 100, PERIOD_S, guard_s=0.0).spec(9)
    world = World((REQUESTS,), quotas=(stated, *learning(PERIOD_S)), changes=(), windows=6).run()
    assert world.refused == 0
    assert world.spent[0] == pytest.approx(0.25, abs=0.01)


def test_two_programs_with_one_key_are_told_of_each_other_by_headers() -> None:
    """Somebody else comes evenly, a quarter of the limit. Heard of, he costs far fewer refusals than unheard."""
    quota = Quota("requests", 400, PERIOD_S).spec(1)
    heard, unheard = (
        World((REQUESTS,), quotas=(quota,), changes=(), windows=10, headers=headers, others=100, permits=5_000).run()
        for headers in (True, False)
    )
    assert heard.refused < unheard.refused / 2
    assert heard.spent[0] >= 0.7


# --- the rules, one by one --------------------------------------------------------------------------------------------


def learner(level: int = 0) -> Learner:
    """One whose first window of 1,000,000 us has been accepted up to this level, at the instant 1."""
    one = Learner(16, 1_000_000)
    if level:
        one.accepted(level, 1, 1, 1)
    return one


def test_nothing_rises_before_something_is_accepted() -> None:
    assert learner().limit == 16


def test_a_climb_begins_with_an_eighth_or_the_square_root_above_what_is_proven() -> None:
    assert learner(49).limit == 49 + 7
    assert learner(400).limit == 400 + 50


def test_after_a_refusal_a_climb_begins_with_one_call_doubles_and_ends_below_the_refused() -> None:
    one = learner(400)
    one.refused(440, 1, 2, 3)
    limits = []
    for now_us in range(4, 12):
        one.accepted(one.limit, 1, now_us, now_us)
        limits.append(one.limit)
    assert limits == [401, 402, 404, 408, 416, 428, 428, 428], "428 is within a twenty-fourth of 440: found"


def test_no_more_is_on_its_way_above_the_proven_than_a_step() -> None:
    one = learner(100)
    assert not one.admitted(1, 100)
    assert all(one.admitted(1, 100 + above) for above in range(1, 13))
    assert one.limit == 100
    one.landed(1)
    assert one.limit == 112


def test_a_refusal_of_what_was_proven_is_forgiven_and_another_of_the_test_costs_a_quarter() -> None:
    one = learner(100)
    one.refused(100, 1, 2, 10)
    assert one.limit == 99
    one.refused(99, 1, 9, 11)
    assert one.limit == 99, "it was on its way already"
    one.refused(99, 1, 12, 13)
    assert one.limit == 75
    assert one.pause_us == 1_000_000 // 16


def test_each_refusal_within_a_window_costs_twice_as_much() -> None:
    one = Learner(0, 1_000_000)
    one.accepted(6_400, 1, 1, 1)
    one.refused(6_400, 1, 2, 10)
    limits = []
    for now_us in (20, 2_000_000):
        one.accepted(one.limit, 1, now_us, now_us)
        one.refused(one.limit, 1, now_us + 1, now_us + 2)
        limits.append(one.limit)
    assert limits == [6_300 - 6_300 // 32, 6_104 - 6_104 // 64]


def test_while_testing_one_call_at_a_time_is_sent_until_one_is_accepted() -> None:
    one = learner(100)
    one.refused(100, 1, 2, 10)
    assert one.pause_us == 1_000_000 // 16
    one.accepted(60, 1, 9, 20)
    assert one.pause_us, "it was sent before"
    one.accepted(60, 1, 11, 20)
    assert not one.pause_us
    assert one.limit == 99


def test_what_is_refused_proves_nothing() -> None:
    one = learner(100)
    one.admitted(1, 112)
    one.refused(112, 1, 2, 3)
    one.landed(1)
    assert one.limit == 100
    assert one.is_suspect(101)


def test_a_settled_limit_is_looked_above_once_in_a_window_and_in_150_calls() -> None:
    one = learner(100)
    one.refused(104, 1, 2, 10)
    one.accepted(100, 1, 11, 12)
    assert one.limit == 100
    for _ in range(149):
        one.admitted(1, 100)
    one.accepted(100, 1, 13, 1_100_000)
    assert one.limit == 100, "not 150 calls"
    one.admitted(1, 100)
    one.accepted(100, 1, 13, 500_000)
    assert one.limit == 100, "not a window has passed"
    one.accepted(100, 1, 14, 1_100_000)
    assert one.limit == 101
    one.accepted(101, 1, 1_100_001, 1_100_002)
    assert one.limit == 102
    one.accepted(102, 1, 1_100_003, 1_100_004)
    assert one.limit == 104, "it was raised: a climb"


def test_tokens_have_no_end_until_one_is_refused() -> None:
    one = Learner(0, 1_000_000)
    assert one.limit >= UNBOUNDED
    one.accepted(500, 50, 1, 1)
    one.refused(800, 50, 2, 3)
    assert one.limit == 600


# --- the window that a learner holds ----------------------------------------------------------------------------------


def sent(meter: LearnedWindow, count: int, now_us: int) -> list[Claim]:
    """So many calls of 1 that leave at once."""
    claims = [meter.claim(1, now_us) for _ in range(count)]
    for claim in claims:
        meter.stamp(claim, now_us, now_us)
    return claims


def test_what_was_refused_is_no_part_of_what_an_accepted_call_proves() -> None:
    """Five of ten were refused: with the next one the provider has counted six."""
    meter = LearnedWindow(learned_spec("requests", 16, 1.0, 0))
    for claim in sent(meter, 10, 1)[5:]:
        meter.refuse(claim, 1, 2)
        meter.keep(claim)
    meter.accept(sent(meter, 1, 3)[0], 3, 4)
    assert meter.limit == 6


def test_a_call_above_the_proven_makes_room_for_the_next_when_it_ends_or_was_not_sent() -> None:
    meter = LearnedWindow(learned_spec("requests", 16, 1.0, 0))
    meter.accept(sent(meter, 16, 1)[-1], 1, 2)
    assert meter.limit == 17
    claim = meter.claim(1, 3)
    assert meter.limit == 16
    meter.give_back(claim)
    assert meter.limit == 17
    (claim,) = sent(meter, 1, 4)
    assert meter.limit == 16
    meter.keep(claim)
    assert meter.limit == 17
