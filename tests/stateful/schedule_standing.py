"""The naive model's half that says who may start: every promise about order, as one question about one call.

`Standing` holds the calls, lanes and quotas and decides by trying: a call may start if, with its amounts entered, every
head before it could still be admitted at the instant it was given. Nothing is remembered but those instants.

Imports the messages and the quotas' history only; nothing of the code it judges.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from quota_history import ASSUMED_SEND_US, NEVER, Amount, QuotaHistory, admissible, earliest

from actors.messages import CallRoute, OpenEndpoint, OpenLane


@dataclass
class ModelCall:
    """One call, from submit to long after its end. `state`: queued, backing, granted, sent or ended."""

    route: CallRoute
    seq: int
    output_tokens: int
    state: str = "queued"
    attempts: int = 0
    return_us: int = 0
    granted_us: int = 0
    sent_us: int = 0
    live_attempt: int = 0
    cancelled: bool = False
    dropped: bool = False
    was_promised_us: int = NEVER
    held: list[tuple[QuotaHistory, Amount]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    @property
    def in_flight(self) -> bool:
        return self.state in ("granted", "sent")


@dataclass
class ModelLane:
    """The head's instant, as two bounds.

    `instant_us`: computed before anybody was granted in the step in which the call became head, or kept from an earlier
    time as head, before a returning call stood in front of it. `latest_us`: computed then and there, after those who
    went before it in that step (`appointed`).
    """

    spec: OpenLane
    quotas: list[QuotaHistory]
    barrier_until_us: int = 0
    strikes: int = 0
    budget_fifths: int = 50
    head_id: int | None = None
    instant_us: int = NEVER
    latest_us: int = NEVER
    appointed: int = -1


class Standing:
    """Who waits and who flies, and which of those that wait may start."""

    def __init__(self) -> None:
        self.lanes: dict[int, ModelLane] = {}
        self.endpoints: dict[int, OpenEndpoint] = {}
        self.quotas: dict[int, QuotaHistory] = {}
        self.ready_workers: dict[int, int] = {}
        self.calls: dict[int, ModelCall] = {}
        self.step = 0

    # --- who is where ---

    def in_state(self, *states: str, lane: int | None = None, endpoint: int | None = None) -> list[ModelCall]:
        found = [call for call in self.calls.values() if call.state in states]
        if lane is not None:
            found = [call for call in found if call.route.lane == lane]
        if endpoint is not None:
            found = [call for call in found if call.route.endpoint == endpoint]
        return sorted(found, key=lambda call: call.seq)

    def head(self, lane: int) -> ModelCall | None:
        queue = self.in_state("queued", lane=lane)
        return queue[0] if queue else None

    def demand(self, call: ModelCall) -> list[tuple[QuotaHistory, int]]:
        quotas = self.lanes[call.route.lane].quotas
        return [(quota, quota.cost(call.route.input_tokens, call.output_tokens)) for quota in quotas]

    # --- who may start ---

    def may_start(self, call: ModelCall, now_us: int, *, strictly: bool = False) -> bool:
        """Whether a queued call is eligible and has all it needs. `strictly`: by the earliest instants of the heads."""
        lane = self.lanes[call.route.lane]
        if now_us < lane.barrier_until_us or not admissible(self.demand(call), now_us, now_us):
            return False
        if self.ready_workers[call.route.endpoint] < 1:
            return False
        free = self.free_permits(call.route.lane)
        if free < 1 or (call is not self.head(call.route.lane) and free < 2):
            return False
        return all(self.spares(call, other, now_us, strictly) for other in self.before(call, now_us))

    def free_permits(self, lane: int) -> float:
        limit = self.lanes[lane].spec.concurrency_limit
        return limit - len(self.in_state("granted", "sent", lane=lane)) if limit else float("inf")

    def turn_heads(self, lane: ModelLane, now_us: int) -> list[ModelCall]:
        """For each quota of the lane, the head of the lane whose turn it is there."""
        found = []
        for quota in lane.quotas:
            heads = []
            for number, other in self.lanes.items():
                head = self.head(number)
                if head is not None and quota in other.quotas and now_us >= other.barrier_until_us:
                    heads.append(head)
            if heads:
                found.append(min(heads, key=lambda head: head.seq))
        return found

    def spares(self, call: ModelCall, head: ModelCall, now_us: int, strictly: bool) -> bool:
        """Whether `head` keeps its instant and a ready worker if `call` starts now."""
        if call.route.endpoint == head.route.endpoint and self.ready_workers[head.route.endpoint] < 2:
            return False
        lane = self.lanes[head.route.lane]
        afresh = earliest(self.demand(head), now_us)
        protected = max(afresh, lane.instant_us if strictly else lane.latest_us, now_us)
        with self.entered(call, now_us):
            return admissible(self.demand(head), protected, now_us)

    @contextmanager
    def entered(self, call: ModelCall, now_us: int) -> Iterator[None]:
        """The world in which `call` has just been granted."""
        demand = self.demand(call)
        for quota, cost in demand:
            quota.admit(cost, now_us)
        try:
            yield
        finally:
            for quota, _ in demand:
                quota.amounts.pop()
                if quota.spec.pace:
                    quota.starts.pop()

    def startable(self, now_us: int) -> list[ModelCall]:
        return [call for call in self.in_state("queued") if self.may_start(call, now_us, strictly=True)]

    def must_start(self, now_us: int) -> list[ModelCall]:
        """Those that nobody may keep waiting. While a worker takes over 5 s to send, nobody knows when a head will be
        admitted, and the instant it is counted on slides with the clock: then only calls without a head before them."""
        overdue = any(call.granted_us + ASSUMED_SEND_US < now_us for call in self.in_state("granted"))
        return [call for call in self.startable(now_us) if not overdue or not self.before(call, now_us)]

    def before(self, call: ModelCall, now_us: int) -> list[ModelCall]:
        """The heads that a call must not harm: its own lane's, and those whose turn it is at one of its quotas."""
        head = self.head(call.route.lane)
        assert head is not None
        heads = [head, *self.turn_heads(self.lanes[call.route.lane], now_us)]
        return [other for other in heads if other is not call]

    def instants_of_interest(self, now_us: int) -> set[int]:
        """Every later instant at which a call could become startable or end without anybody saying a word."""
        found = {lane.barrier_until_us for lane in self.lanes.values()}
        found |= {lane.instant_us for lane in self.lanes.values()}
        for call in self.in_state("queued", "backing"):
            found |= {call.route.deadline_us, call.return_us if call.state == "backing" else 0}
        queue = self.in_state("queued")
        for call in queue:
            for quota, cost in self.demand(call):
                found |= set(quota.instants(cost, now_us))
                for other in queue:
                    both = cost + quota.cost(other.route.input_tokens, other.output_tokens)
                    found |= set(quota.instants(both, now_us))
        for quota in self.quotas.values():
            found |= {entry.assumed_stamp(now_us) for entry in quota.amounts}
        return {instant for instant in found if now_us < instant < NEVER}

    # --- heads and their instants ---

    def look_at_heads(self, now_us: int) -> None:
        """A call that has become head is given its instant."""
        for number, lane in self.lanes.items():
            head = self.head(number)
            afresh = earliest(self.demand(head), now_us) if head else NEVER
            if (head.route.call_id if head else None) != lane.head_id:
                lane.head_id = head.route.call_id if head else None
                lane.instant_us = min(afresh, head.was_promised_us) if head else NEVER
                lane.latest_us = afresh
                lane.appointed = self.step
            elif lane.appointed == self.step:
                lane.latest_us = max(lane.latest_us, afresh)
            if head is not None:
                head.was_promised_us = lane.instant_us

    def something_returned(self, quotas: list[QuotaHistory], now_us: int) -> None:
        """An open entry of these quotas was stamped or given back: instants may become earlier."""
        for number, lane in self.lanes.items():
            head = self.head(number)
            if head is not None and head.route.call_id == lane.head_id and any(q in lane.quotas for q in quotas):
                afresh = earliest(self.demand(head), now_us)
                lane.instant_us = min(lane.instant_us, afresh)
                lane.latest_us = min(lane.latest_us, afresh)
