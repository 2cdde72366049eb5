"""The naive model's half that says who is next: heads by level and flow, and the turns of lanes that share quotas.

`Order` keeps what was served (tags, clocks and turns, as the promises of fairness and priority name them) and answers
every question by walking over all calls: nothing is sorted, kept in step or remembered but those numbers.

Imports the messages and the quotas' history only; nothing of the code it judges.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from quota_history import NEVER, Amount, QuotaHistory

from actors.messages import CallRoute, OpenEndpoint, OpenLane

UNIT = 2**32


@dataclass
class ModelCall:
    """One call, from submit to long after its end. `state`: queued, backing, granted, sent or ended.

    `tag_added` and `turn_added` are what its live attempt was charged, with its flow and at each shared quota. `tries`
    counts attempts since its provider was last heard to have taken it; `calling` is the poll it sends since, and
    `taken_held` what the attempt that was taken holds, until that is settled.
    """

    route: CallRoute
    seq: int
    output_tokens: int
    state: str = "new"
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
    tag_added: int = 0
    turn_added: dict[int, int] = field(default_factory=dict)
    tries: int = 0
    calling: bytes = b""
    taken_held: list[tuple[QuotaHistory, Amount]] | None = None
    taken_settled: bool = False

    @property
    def is_taken(self) -> bool:
        """Whether its provider is to answer yet, and so to say what it cost."""
        return self.taken_held is not None and not self.taken_settled and self.state != "ended"

    @property
    def in_flight(self) -> bool:
        return self.state in ("granted", "sent")

    @property
    def level(self) -> tuple[int, int]:
        return (self.route.lane, self.route.priority)

    @property
    def flow(self) -> tuple[int, int, str]:
        return (self.route.lane, self.route.priority, self.route.flow)


@dataclass
class ModelLane:
    """One lane, and its head's instant as two bounds.

    `instant_us`: computed before anybody was granted in the step in which the call became head, or kept from an earlier
    time as head, before another call stood in front of it. `latest_us`: computed then and there, after those who went
    before it in that step (`appointed`).
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

    @property
    def grace_us(self) -> int:
        """By how much, once, its head may be admitted later than the instant it was given."""
        return max((quota.spec.guard_us for quota in self.quotas), default=0)

    def weight(self, flow: str) -> int:
        return dict(self.spec.weights).get(flow, 1)


def share(demand: list[tuple[QuotaHistory, int]]) -> int:
    """The largest part of a limit that these costs are, in units of 1/UNIT, rounded up; never nothing."""
    return max([1, *(-(-cost * UNIT // quota.limit) for quota, cost in demand)])


class Order:
    """Who waits, who flies, and who is next: in a lane, and among lanes."""

    def __init__(self) -> None:
        self.lanes: dict[int, ModelLane] = {}
        self.endpoints: dict[int, OpenEndpoint] = {}
        self.quotas: dict[int, QuotaHistory] = {}
        self.calls: dict[int, ModelCall] = {}
        self.tags: dict[tuple[int, int, str], int] = defaultdict(int)
        self.clocks: dict[tuple[int, int], int] = defaultdict(int)
        self.turns: dict[tuple[int, int], int] = defaultdict(int)
        self.turn_clocks: dict[int, int] = defaultdict(int)
        self.competing: set[int] = set()

    # --- who is where ---

    def in_state(self, *states: str, lane: int | None = None, endpoint: int | None = None) -> list[ModelCall]:
        found = [call for call in self.calls.values() if call.state in states]
        if lane is not None:
            found = [call for call in found if call.route.lane == lane]
        if endpoint is not None:
            found = [call for call in found if call.route.endpoint == endpoint]
        return sorted(found, key=lambda call: call.seq)

    def demand(self, call: ModelCall) -> list[tuple[QuotaHistory, int]]:
        quotas = self.lanes[call.route.lane].quotas
        return [(quota, quota.cost(call.route.input_tokens, call.output_tokens)) for quota in quotas]

    def free_permits(self, lane: int) -> float:
        limit = self.lanes[lane].spec.concurrency_limit
        return limit - len(self.in_state("granted", "sent", lane=lane)) if limit else float("inf")

    # --- inside a lane ---

    def head(self, lane: int) -> ModelCall | None:
        """First the level whose oldest call is the most urgent by now, then in it the flow that was served least."""
        queue = self.in_state("queued", lane=lane)
        if not queue:
            return None
        oldest: dict[int, ModelCall] = {}
        for call in queue:
            oldest.setdefault(call.route.priority, call)
        priority = min(oldest.values(), key=self.urgency).route.priority
        firsts: dict[str, ModelCall] = {}
        for call in queue:
            if call.route.priority == priority:
                firsts.setdefault(call.route.flow, call)
        return min(firsts.values(), key=lambda call: (self.tags[call.flow], call.seq))

    def urgency(self, call: ModelCall) -> tuple[int, int]:
        ageing_us = self.lanes[call.route.lane].spec.ageing_us
        return (call.route.submitted_us + call.route.priority * ageing_us, call.seq)

    def join(self, call: ModelCall, now_us: int) -> None:
        """A call comes into the queue. A flow of which nobody waited has earned nothing meanwhile; nor has a lane."""
        self.competing -= {lane for lane in self.competing if not self.competes(lane, now_us)}
        if not any(other.level == call.level for other in self.in_state("queued")):
            self.begin_anew(call.level)
        if not any(other.flow == call.flow for other in self.in_state("queued")):
            self.lift(call.flow)
        call.state = "queued"

    def lift(self, flow: tuple[int, int, str]) -> None:
        """To the clock, if it stands below. What it was charged before is waived by that, and not given back later."""
        clock = self.clocks[flow[:2]]
        if self.tags[flow] < clock:
            self.tags[flow] = clock
            for call in self.calls.values():
                if call.flow == flow:
                    call.tag_added = 0

    def begin_anew(self, level: tuple[int, int]) -> None:
        """Nobody waited in the level: its flows are even again, and what was charged before is never given back."""
        self.clocks[level] = 0
        for flow in [flow for flow in self.tags if flow[:2] == level]:
            del self.tags[flow]
        for call in self.calls.values():
            if call.level == level:
                call.tag_added = 0

    # --- among lanes ---

    def shared_quotas(self, lane: int) -> list[QuotaHistory]:
        return [quota for quota in self.lanes[lane].quotas if len(self.lanes_over(quota)) > 1]

    def lanes_over(self, quota: QuotaHistory) -> list[int]:
        return [number for number, lane in self.lanes.items() if quota in lane.quotas]

    def competes(self, lane: int, now_us: int) -> bool:
        waits = any(call.route.lane == lane for call in self.in_state("queued"))
        return waits and now_us >= self.lanes[lane].barrier_until_us and self.free_permits(lane) > 0

    def turn(self, lane: int, quota: QuotaHistory) -> int:
        """Where the lane stands at a quota; one that begins to compete only now has earned nothing meanwhile."""
        stands_at = self.turns[lane, quota.spec.quota_id]
        return stands_at if lane in self.competing else max(stands_at, self.turn_clocks[quota.spec.quota_id])

    def turn_lane(self, quota: QuotaHistory, now_us: int) -> int | None:
        """The lane whose turn it is at a quota, if any competes for it."""
        found = []
        for lane in self.lanes_over(quota):
            head = self.head(lane)
            if head is not None and self.competes(lane, now_us):
                found.append((self.lead(lane), head.seq, lane))
        return min(found)[2] if found else None

    def lead(self, lane: int) -> int:
        """How far a lane is ahead of the clock of a quota, at the one where it is least so."""
        quotas = self.shared_quotas(lane)
        return min(self.turn(lane, quota) - self.turn_clocks[quota.spec.quota_id] for quota in quotas)

    def look_at_turns(self, now_us: int) -> None:
        """Note who competes. To be called whenever somebody may be granted, and after that."""
        now_competing = {lane for lane in self.lanes if self.competes(lane, now_us)}
        for lane in now_competing - self.competing:
            for number in [quota.spec.quota_id for quota in self.shared_quotas(lane)]:
                if self.turns[lane, number] < self.turn_clocks[number]:
                    self.turns[lane, number] = self.turn_clocks[number]
                    for call in self.calls.values():
                        if call.route.lane == lane:
                            call.turn_added.pop(number, None)
        self.competing = now_competing

    # --- what was served ---

    def serve(self, call: ModelCall, now_us: int) -> None:
        """Charge a call that is about to be granted. The clocks move only with one whose turn it was."""
        lane = call.route.lane
        shared = self.shared_quotas(lane)
        if call is self.head(lane):
            self.clocks[call.level] = max(self.clocks[call.level], self.tags[call.flow])
            for number in [quota.spec.quota_id for quota in shared if self.turn_lane(quota, now_us) == lane]:
                self.turn_clocks[number] = max(self.turn_clocks[number], self.turns[lane, number])
        demand = self.demand(call)
        service = share(demand) if demand else UNIT
        part = share([(quota, cost) for quota, cost in demand if quota in shared])
        call.tag_added = -(-service // self.lanes[lane].weight(call.route.flow))
        call.turn_added = {quota.spec.quota_id: part for quota in shared}
        self.tags[call.flow] += call.tag_added
        for number, part in call.turn_added.items():
            self.turns[lane, number] += part

    def refund(self, call: ModelCall) -> None:
        """Its open reservation was given back whole: as if it had not been served."""
        self.tags[call.flow] -= call.tag_added
        for number, part in call.turn_added.items():
            self.turns[call.route.lane, number] -= part
