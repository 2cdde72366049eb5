"""A state machine over every method of the schedule, beside the naive model.

After each rule the pair has compared effects, statistics and wake-ups (see `schedule_pair`). At the end of each run the
world is brought to rest, and then every live gauge must be zero.

Imports nothing of the schedule: the pair does.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from schedule_pair import Layout, Pair
from schedule_strategies import ALL_KINDS, ORDERS, Step, come_to_rest, layouts, play_step, run_settings, with_workers

NUMBERS = st.integers(0, 11)


def step_rule(word: str) -> object:
    """A rule that plays one word of the scripts' language."""

    def play_word(self: ScheduleMachine, a: int, b: int, c: int, order: int = 0) -> None:
        play_step(self.pair, Step(word, a, b, c, order % self.mixed))

    play_word.__name__ = word
    order = {"order": NUMBERS} if word.startswith("submit") else {}
    return rule(a=NUMBERS, b=NUMBERS, c=NUMBERS, **order)(play_word)


class ScheduleMachine(RuleBasedStateMachine):
    """Everything at once: any lanes, any quotas, any order of messages."""

    kinds: tuple[str, ...] = ALL_KINDS
    permits: tuple[int, ...] = (0, 0, 1, 2, 3)
    max_lanes = 3

    @initialize(
        data=st.data(), workers=st.sampled_from((0, 1, 2, 9)), start=st.sampled_from((0, 123_456_789)),
        mixed=st.sampled_from(ORDERS),
    )  # fmt: skip
    def open_world(self, data: st.DataObject, workers: int, start: int, mixed: int) -> None:
        self.mixed = mixed
        layout: Layout = data.draw(layouts(kinds=self.kinds, permits=self.permits, max_lanes=self.max_lanes))
        self.pair = with_workers(Pair(layout, now_us=start), workers)

    submit = step_rule("submit")
    submit_again = step_rule("submit")
    submit_deadline = step_rule("submit_deadline")
    ready = step_rule("ready")
    lost = step_rule("lost")
    connect_failed = step_rule("connect_failed")
    sent = step_rule("sent")
    sent_again = step_rule("sent")
    unsent = step_rule("unsent")
    done = step_rule("done")
    retry = step_rule("retry")
    later = step_rule("later")
    failed = step_rule("failed")
    unknown = step_rule("unknown")
    cancel = step_rule("cancel")
    cancelled = step_rule("cancelled")
    limit = step_rule("limit")
    open = step_rule("open")
    repeat = step_rule("repeat")
    oversleep = step_rule("oversleep")
    time = step_rule("time")
    time_again = step_rule("time")

    @precondition(lambda self: len(self.pair.model.calls) > 8)
    @rule(a=NUMBERS)
    def drain(self, a: int) -> None:
        play_step(self.pair, Step("drain", a, 0, 0))

    @precondition(lambda self: len(self.pair.model.calls) > 6)
    @rule(a=NUMBERS)
    def down(self, a: int) -> None:
        play_step(self.pair, Step("down", a, 0, 0))

    def teardown(self) -> None:
        if hasattr(self, "pair") and not self.pair.disagreed:
            come_to_rest(self.pair)


class OneLane(ScheduleMachine):
    """One lane with windows, where order and backfilling are plainest."""

    kinds = ("window",)
    max_lanes = 1


class Buckets(ScheduleMachine):
    """Buckets and pace: continuous refill, rounding."""

    kinds = ("burst", "burst", "pace")


class SharedQuotas(ScheduleMachine):
    """Several lanes over the same quotas, no permits in the way."""

    kinds = ("window", "reserved", "burst")
    permits = (0,)


@pytest.mark.parametrize("machine", [ScheduleMachine, OneLane, Buckets, SharedQuotas])
def test_schedule_agrees_with_the_model(machine: type[ScheduleMachine]) -> None:
    """Any sequence of messages gives what the naive model allows, and ends with nothing held."""
    wanted = run_settings(150)
    run_state_machine_as_test(
        machine, settings=settings(wanted, stateful_step_count=40, suppress_health_check=list(HealthCheck))
    )
