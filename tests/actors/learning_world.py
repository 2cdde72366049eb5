"""A lane that learns its limits, and a provider that hides them: both pure, in virtual time, a whole run in a second.

There are always calls that wait, so that what is not spent is the lane's own doing. The provider is the simulator's own
judge; requests reach it a little later than they left, each by its own delay, and are answered after a latency.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from actors.effects import Effect, Finished, Granted
from actors.limits import LEARNED, learned_spec
from actors.messages import CallRoute, LimitObserved, Observed, OpenEndpoint, OpenLane, Outcome, QuotaSpec, Sent
from actors.schedule import Schedule
from engine.providers.limit_headers import read_limits
from engine.simulator.config import Dimension, LimitChange, ProviderLimit
from engine.simulator.limits import Cost, LimitSet, Refusal
from engine.simulator.reply import limit_headers

BACKLOG = 200


def learning(period_s: float) -> tuple[QuotaSpec, ...]:
    """The quotas of a lane that is told of none."""
    return tuple(learned_spec(dimension, first, period_s, number) for number, (dimension, first) in enumerate(LEARNED))


@dataclass
class Regime:
    """What the provider admits from one change of its limits to the next, and what was spent of it.

    Judged are all windows that lie between the end of the second and the end of the regime, wherever they begin: how
    full they were on average. The fullest dimension counts.
    """

    factor: float
    start_us: int
    stop_us: int
    limits: Sequence[ProviderLimit]
    held: dict[Dimension, int] = field(default_factory=dict)

    def note(self, at_us: int, cost: Cost, period_us: int) -> None:
        first_us = self.start_us + 2 * period_us
        if first_us <= at_us < self.stop_us:
            for_us = max(0, min(at_us + period_us, self.stop_us) - max(at_us, first_us + period_us))
            for rule in self.limits:
                self.held[rule.dimension] = self.held.get(rule.dimension, 0) + cost.amount(rule.dimension) * for_us

    def spent(self, period_us: int) -> float:
        judged_us = self.stop_us - self.start_us - 3 * period_us
        return max(self.held.get(rule.dimension, 0) / (rule.limit * self.factor * judged_us) for rule in self.limits)


class World:
    """One run. `latency_us` is the median; `hints` says whether a refusal asks for a wait, `names` whether it says what
    there was too much of."""

    def __init__(
        self,
        limits: Sequence[ProviderLimit],
        *,
        quotas: Sequence[QuotaSpec],
        changes: Sequence[tuple[float, float]] = ((7.1, 0.5), (14.2, 1.0)),
        windows: float = 20,
        latency_us: int = 50_000,
        headers: bool = False,
        names: bool = True,
        big: int = 1,
        others: float = 0.0,
        permits: int = 24,
        late_us: int = 900,
        seed: int = 0,
    ) -> None:
        self.period_us = limits[0].period_us
        self.end_us = round(windows * self.period_us)
        told = [LimitChange(at * self.period_us / 1e6, factor) for at, factor in changes]
        self.provider = LimitSet(limits, 0, told)
        bounds = [0, *(change.at_us for change in told), self.end_us]
        factors = [1.0, *(change.factor for change in told)]
        self.regimes = [
            Regime(factor, start, stop, limits)
            for factor, start, stop in zip(factors, bounds, bounds[1:], strict=False)
        ]
        self.change_us = bounds[1:-1]
        self.headers, self.names, self.latency_us, self.late_us, self.big = headers, names, latency_us, late_us, big
        self.draw = random.Random(seed)
        self.schedule = Schedule()
        self.events: list[tuple[int, int, object]] = []
        self.order = count()
        self.waiting = self.in_flight = self.refused = self.attempts = self.failed = 0
        self.on_their_way: list[int] = []
        self.costs: dict[int, Cost] = {}
        self.ids = count(1)
        self.schedule.open_lane(OpenLane(0, "lane", tuple(quotas)), 0)
        self.schedule.open_endpoint(OpenEndpoint(0, "endpoint", permits), 0)
        for _ in range(permits):
            self.schedule.ready(0, 0)
        if others:
            every_us = round(self.period_us / others)
            for at_us in range(0, self.end_us, every_us):
                self.at(at_us, "other")

    def at(self, at_us: int, what: object) -> None:
        heappush(self.events, (at_us, next(self.order), what))

    def run(self) -> World:
        for at_us in self.change_us:
            self.at(at_us, "change")
        self.submit(0)
        while True:
            wake_us = self.schedule.next_wake_us()
            if self.events and (wake_us is None or self.events[0][0] <= wake_us):
                now_us, _, what = heappop(self.events)
                effects = self.happen(what, now_us)
            elif wake_us is not None:
                now_us = wake_us
                effects = self.schedule.wake(now_us)
            else:
                break
            if now_us >= self.end_us:
                break
            self.carry_out(effects, now_us)
            self.submit(now_us)
        return self

    def submit(self, now_us: int) -> None:
        while self.waiting < BACKLOG:
            call_id = next(self.ids)
            factor = self.big if self.draw.random() < 0.05 else self.draw.uniform(0.5, 1.5) if self.big > 1 else 1
            cost = self.costs[call_id] = Cost(round(20 * factor), round(30 * factor))
            self.waiting += 1
            route = CallRoute(call_id, 0, 0, now_us, 0, 10**12, *cost, False, False, False, False, 0, "")
            self.carry_out(self.schedule.submit(route, b"", now_us), now_us)

    def carry_out(self, effects: list[Effect], now_us: int) -> None:
        for effect in effects:
            if isinstance(effect, Granted):
                self.waiting -= 1
                self.in_flight += 1
                self.attempts += 1
                call_id, attempt = effect.ticket.call_id, effect.attempt
                self.at(now_us + self.draw.randint(50, 150), Sent(call_id, attempt, 0))
            elif isinstance(effect, Finished) and effect.ended.status != "completed":
                self.failed += 1

    def happen(self, what: object, now_us: int) -> list[Effect]:
        if isinstance(what, Sent):
            delay_us = self.draw.randint(200, self.late_us)
            self.at(now_us + delay_us, (what.call_id, what.attempt))
            return self.schedule.sent(Sent(what.call_id, what.attempt, now_us), now_us)
        if isinstance(what, tuple):
            self.arrive(*what, now_us)
        elif isinstance(what, LimitObserved):
            return self.schedule.observe_limit(what, now_us)
        elif isinstance(what, Outcome):
            self.in_flight -= 1
            self.waiting += what.verdict == "retry"
            return self.schedule.outcome(what, b"", now_us)
        elif what == "change":
            self.on_their_way.append(self.in_flight)
        elif what == "other":
            self.provider.admit(now_us, Cost(20, 30))
        return []

    def arrive(self, call_id: int, attempt: int, now_us: int) -> None:
        cost = self.costs[call_id]
        judged = self.provider.admit(now_us, cost)
        if isinstance(judged, Refusal):
            self.refused += 1
            back_us = now_us + self.draw.randint(300, self.late_us)
            word = "requests" if judged.rule.dimension == "requests" else "tokens"
            outcome = Outcome(
                call_id, attempt, 0, True, back_us, "retry", "requests_kept", barrier=True, exempt=True,
                hint_us=judged.wait_us if self.headers else None,
                jitter=self.draw.getrandbits(32), refused=word if self.names else "",
            )  # fmt: skip
        else:
            back_us = now_us + round(self.latency_us * self.draw.lognormvariate(0, 0.3))
            for regime in self.regimes:
                regime.note(now_us, cost, self.period_us)
            outcome = Outcome(call_id, attempt, 0, True, back_us, "done", "usage", *cost)
        if self.headers:
            said = self.observed(now_us)
            self.at(back_us, LimitObserved(call_id, attempt, said))
        self.at(back_us, outcome)

    def observed(self, now_us: int) -> tuple[Observed, ...]:
        headers = {name.decode(): value.decode() for name, value in limit_headers(self.provider, now_us)}
        return read_limits("simulated", headers, 0.0)

    # --- what came of it ---

    @property
    def spent(self) -> list[float]:
        return [regime.spent(self.period_us) for regime in self.regimes]

    @property
    def allowance(self) -> float:
        """A hundredth of the calls, and those that were in flight at the instant of each change."""
        return 0.01 * self.attempts + sum(self.on_their_way)
