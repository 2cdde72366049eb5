"""The naive model's half that says who may start: every promise about room, as one question about one call.

`Standing` decides by trying: a call may start if, with its amounts entered, every head before it (see `schedule_order`)
could still be admitted at the instant it was given, or one guard after it. Nothing is remembered but those instants.

Imports the order and the quotas' history only; nothing of the code it judges.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from quota_history import ASSUMED_SEND_US, NEVER, QuotaHistory, admissible, earliest
from schedule_order import ModelCall, Order


class Standing(Order):
    """Which of those that wait may start."""

    def __init__(self) -> None:
        super().__init__()
        self.ready_workers: dict[int, int] = {}
        self.step = 0

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

    def before(self, call: ModelCall, now_us: int) -> list[ModelCall]:
        """The heads that a call must not harm: its own lane's, and those whose turn it is at one of its quotas."""
        mine = call.route.lane
        turns = {self.turn_lane(quota, now_us) for quota in self.shared_quotas(mine)} - {None}
        heads = [self.head(number) for number in sorted(turns | {mine})]
        return [head for head in heads if head is not None and head is not call]

    def spares(self, call: ModelCall, head: ModelCall, now_us: int, strictly: bool) -> bool:
        """Whether `head` keeps its instant, or loses one guard at most, and a ready worker, if `call` starts now.

        Whatever else has made it later (debt, a late sender) has used the guard up: then it keeps what is left.
        """
        if call.route.endpoint == head.route.endpoint and self.ready_workers[head.route.endpoint] < 2:
            return False
        lane = self.lanes[head.route.lane]
        afresh = earliest(self.demand(head), now_us)
        given_us = lane.instant_us if strictly else lane.latest_us
        protected = max(afresh, given_us + lane.grace_us, now_us)
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

    def instants_of_interest(self, now_us: int) -> set[int]:
        """Every later instant at which a call could become startable or end without anybody saying a word."""
        found = {lane.barrier_until_us for lane in self.lanes.values()}
        for lane in self.lanes.values():
            found |= {lane.instant_us, lane.instant_us + lane.grace_us}
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
