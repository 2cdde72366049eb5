"""The schedule alone, at speed: calls go in, are sent at once, and who was served is written down.

For the promises about shares and turns, which show only over hundreds of grants and where the naive model is too slow.
What is judged here is read off the list of grants and off what waited at each of them; of the schedule's inside nothing
is looked at.

Imports the schedule's public methods and effects only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from actors.effects import Effect, Granted
from actors.messages import CallRoute, OpenEndpoint, OpenLane, Outcome, QuotaSpec, Sent, Unsent
from actors.schedule import Schedule

UNIT = 2**32


@dataclass(frozen=True)
class Served:
    """One call as it was granted. `waiting` are the calls that waited then, itself too."""

    route: CallRoute
    seq: int
    at_us: int
    waiting: frozenset[int]


class Till:
    """One schedule with plenty of workers. `hold` is how many calls stay in flight (0: each ends when it is sent).

    `given_back` says of the n-th grant whether its worker reports it unsent instead.
    """

    def __init__(
        self,
        lanes: Iterable[OpenLane],
        *,
        workers: int = 3_000,
        hold: int = 0,
        given_back: Callable[[int], bool] = lambda number: False,
    ) -> None:
        self.schedule = Schedule()
        self.now_us = 0
        self.hold = hold
        self.given_back = given_back
        self.routes: dict[int, CallRoute] = {}
        self.waiting: set[int] = set()
        self.served: list[Served] = []
        self.flying: list[Granted] = []
        self.grants = 0
        for lane in lanes:
            self.schedule.open_lane(lane, 0)
        self.schedule.open_endpoint(OpenEndpoint(0, "endpoint", workers), 0)
        for _ in range(workers):
            self.schedule.ready(0, 0)

    def submit(
        self, *, lane: int = 0, flow: str = "", priority: int = 0, cost: int = 0, submitted_us: int | None = None
    ) -> int:
        call_id = len(self.routes) + 1
        at_us = self.now_us if submitted_us is None else submitted_us
        route = CallRoute(call_id, lane, 0, at_us, 0, 10**12, cost, 0, False, False, False, False, priority, flow)
        self.routes[call_id] = route
        self.waiting.add(call_id)
        self.take(self.schedule.submit(route, b"", self.now_us))
        return call_id

    def take(self, effects: list[Effect]) -> None:
        """Note every grant first, then let the workers report: the order of the grants is the schedule's."""
        granted = [effect for effect in effects if isinstance(effect, Granted)]
        for grant in granted:
            route = self.routes[grant.ticket.call_id]
            self.served.append(Served(route, grant.ticket.seq, self.now_us, frozenset(self.waiting)))
            self.waiting.remove(route.call_id)
        for grant in granted:
            self.report(grant)

    def report(self, grant: Granted) -> None:
        self.grants += 1
        call_id = grant.ticket.call_id
        if self.given_back(self.grants):
            last = max(n for n, one in enumerate(self.served) if one.route.call_id == call_id)
            del self.served[last]
            self.waiting.add(call_id)
            self.take(self.schedule.unsent(Unsent(call_id, grant.attempt, 0, True), self.now_us))
            return
        self.flying.append(grant)
        self.take(self.schedule.sent(Sent(call_id, grant.attempt, self.now_us), self.now_us))
        if len(self.flying) > self.hold:
            self.end(self.flying[0])

    def end(self, grant: Granted, *, barrier_us: int | None = None) -> None:
        """The oldest attempt is answered; `barrier_us`: with "too many", and how long to wait."""
        if grant in self.flying:
            self.flying.remove(grant)
            over = Outcome(grant.ticket.call_id, grant.attempt, 0, True, self.now_us, "done", "kept")
            if barrier_us is not None:
                over = Outcome(
                    grant.ticket.call_id, grant.attempt, 0, True, self.now_us, "failed", "kept",
                    barrier=True, hint_us=barrier_us,
                )  # fmt: skip
            self.take(self.schedule.outcome(over, b"", self.now_us))

    def run(self, until_us: int | None = None, *, calls: int = 0) -> None:
        """Let time pass, to an instant, until so many were served, or until nothing happens any more."""
        while calls == 0 or len(self.served) < calls:
            wake_us = self.schedule.next_wake_us()
            if wake_us is not None and (until_us is None or wake_us <= until_us):
                self.now_us = max(self.now_us, wake_us)
                self.take(self.schedule.wake(self.now_us))
            elif self.flying and until_us is None:
                self.end(self.flying[0])
            else:
                break
        self.now_us = max(self.now_us, until_us or 0)


def part(cost: int, quotas: Iterable[QuotaSpec]) -> int:
    """What a call takes of the limits, in units of 1/UNIT: of requests one, of every other dimension `cost`."""
    shares = [-(-(1 if quota.dimension == "requests" else cost) * UNIT // quota.limit) for quota in quotas]
    return max([1, *shares]) if shares else UNIT


Who = Callable[[CallRoute], object]


def flow_of(route: CallRoute) -> str:
    return route.flow


def lane_of(route: CallRoute) -> int:
    return route.lane


def in_common(till: Till, who: Who, one: object, other: object) -> Iterator[list[Served]]:
    """The longest stretches of grants at each of which calls of both competitors waited."""
    stretch: list[Served] = []
    for grant in till.served:
        waiting = {who(till.routes[call_id]) for call_id in grant.waiting}
        if one in waiting and other in waiting:
            stretch.append(grant)
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def widest(stretch: list[Served], who: Who, one: object, other: object, charge: Callable[[CallRoute], int]) -> int:
    """By how much at most, between any two moments of the stretch, one of the two got more than the other."""
    ahead = least = most = 0
    for grant in stretch:
        ahead += charge(grant.route) * ((who(grant.route) == one) - (who(grant.route) == other))
        least, most = min(least, ahead), max(most, ahead)
    return most - least
