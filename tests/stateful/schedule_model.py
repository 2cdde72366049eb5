"""The naive model of the schedule: what may happen, decided from the whole history by brute force.

`ScheduleModel` is told what the schedule is told, in the same order, and says which ends, returns and refusals must
follow (`Expected`). It never chooses whom to admit: it says of any call whether it *may* start now, and is told which
ones did. So it accepts every order that keeps the promises and no other.

Imports the messages and the quotas' history only; nothing of the code it judges.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from actors.messages import CallRoute, ConnectAttemptFailed, OpenEndpoint, OpenLane, Outcome, Unsent
from quota_history import ASSUMED_SEND_US, NEVER, Amount, QuotaHistory, admissible, earliest

HINT_LIMIT_US = 120_000_000
MAX_ATTEMPTS = 4


@dataclass(frozen=True)
class Expected:
    """One effect that must come. `allowed` are the details it may have: usually one; more where the promises leave a
    choice. An empty `allowed` accepts any."""

    kind: str
    subject: int
    allowed: tuple[tuple[object, ...], ...] = ()


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
    """The head's instant, as two bounds. `instant_us`: computed before anybody was granted in the step in which the call
    became head, or kept from an earlier time as head, before a returning call stood in front of it. `latest_us`: computed
    then and there, after those who went before it in that step (`appointed`)."""

    spec: OpenLane
    quotas: list[QuotaHistory]
    barrier_until_us: int = 0
    strikes: int = 0
    budget_fifths: int = 50
    head_id: int | None = None
    instant_us: int = NEVER
    latest_us: int = NEVER
    appointed: int = -1


class ScheduleModel:
    """See the file's first lines. Every method takes `now_us`; what happens of itself by then has happened first."""

    def __init__(self) -> None:
        self.lanes: dict[int, ModelLane] = {}
        self.endpoints: dict[int, OpenEndpoint] = {}
        self.quotas: dict[int, QuotaHistory] = {}
        self.ready_workers: dict[int, int] = {}
        self.down_endpoints: set[int] = set()
        self.calls: dict[int, ModelCall] = {}
        self.draining = ""
        self.step = 0
        self.made = self.settled = self.returned = self.late = 0

    # --- who is where -----------------------------------------------------------------------------------------------

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

    # --- who may start ----------------------------------------------------------------------------------------------

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

    # --- heads and their instants --------------------------------------------------------------------------------------

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

    # --- what it is told ------------------------------------------------------------------------------------------------

    def open_lane(self, lane: OpenLane) -> None:
        quotas = [self.quotas.setdefault(spec.quota_id, QuotaHistory(spec)) for spec in lane.quotas]
        self.lanes[lane.lane] = ModelLane(lane, quotas)

    def open_endpoint(self, endpoint: OpenEndpoint) -> None:
        self.endpoints[endpoint.endpoint] = endpoint
        self.ready_workers[endpoint.endpoint] = 0

    def wake(self, now_us: int) -> list[Expected]:
        """Deadlines first: a call whose backoff and deadline have both passed is not sent any more."""
        self.step += 1
        expected = []
        for call in self.in_state("queued", "backing"):
            if 0 < call.route.deadline_us <= now_us:
                expected.append(self.passed(call))
        for call in self.in_state("backing"):
            if call.return_us > now_us:
                continue
            if call.route.endpoint in self.down_endpoints:
                expected.append(self.end(call, ("failed", "", "")))
            else:
                call.state = "queued"
                expected.append(Expected("queued", call.route.call_id, ((True,),)))
        self.look_at_heads(now_us)
        return expected

    def passed(self, call: ModelCall) -> Expected:
        gave_up, kind = ("deadline", "") if call.attempts else ("", "DeadlineExceeded")
        return self.end(call, ("failed", gave_up, kind))

    def submit(self, route: CallRoute, now_us: int) -> list[Expected]:
        expected = self.wake(now_us)
        call = ModelCall(route, len(self.calls), route.output_tokens)
        refusal = self.refusal(call, now_us)
        self.calls[route.call_id] = call
        if refusal:
            also = "InternalError" if refusal == "ConnectFailed" else refusal
            return [*expected, self.end(call, ("skipped", "", refusal), ("skipped", "", also))]
        self.look_at_heads(now_us)
        return [*expected, Expected("queued", route.call_id, ((False,),))]

    def refusal(self, call: ModelCall, now_us: int) -> str:
        """The kind of fault with which a call is refused at once, or nothing."""
        route = call.route
        if self.draining:
            return "ShuttingDown"
        if route.lane not in self.lanes or route.endpoint not in self.endpoints:
            return "InternalError"
        if route.endpoint in self.down_endpoints:
            return "ConnectFailed"
        if route.output_is_guess:
            call.output_tokens = self.fitting_output(call)
        if any(cost > quota.capacity for quota, cost in self.demand(call)):
            return "CapacityExceeded"
        soonest = max(earliest(self.demand(call), now_us), self.lanes[route.lane].barrier_until_us)
        return "DeadlineExceeded" if 0 < route.deadline_us <= soonest else ""

    def fitting_output(self, call: ModelCall) -> int:
        room = [call.output_tokens]
        for quota in self.lanes[call.route.lane].quotas:
            if quota.spec.dimension == "output_tokens":
                room.append(quota.capacity)
            if quota.spec.dimension == "total_tokens":
                room.append(quota.capacity - call.route.input_tokens)
        return max(0, min(room))

    def grant(self, call: ModelCall, attempt: int, now_us: int) -> None:
        """The schedule has started `call`; whether it might have was asked before."""
        call.held = [(quota, quota.admit(cost, now_us)) for quota, cost in self.demand(call)]
        call.state, call.granted_us, call.sent_us, call.live_attempt = "granted", now_us, 0, attempt
        self.ready_workers[call.route.endpoint] -= 1
        self.made += 1
        self.look_at_heads(now_us)

    def sent(self, call: ModelCall, sent_us: int, now_us: int) -> list[Expected]:
        expected = self.wake(now_us)
        if call.state == "granted":
            self.stamp(call, min(max(sent_us, call.granted_us), now_us), now_us)
        else:
            self.late += 1
        return expected

    def stamp(self, call: ModelCall, stamp_us: int, now_us: int) -> None:
        call.state, call.sent_us = "sent", stamp_us
        for quota, entry in call.held:
            quota.stamp(entry, stamp_us, now_us)
        self.something_returned([quota for quota, _ in call.held], now_us)

    def give_back(self, call: ModelCall, now_us: int) -> None:
        for quota, entry in call.held:
            quota.give_back(entry, now_us)
        self.returned += 1
        self.something_returned([quota for quota, _ in call.held], now_us)

    def unsent(self, call: ModelCall, message: Unsent, now_us: int) -> list[Expected]:
        expected = self.wake(now_us)
        self.ready_workers[message.endpoint] += message.ready
        if not call.in_flight or message.attempt != call.live_attempt:
            self.late += 1
            return expected
        self.give_back(call, now_us)
        call.state = "queued"
        if call.cancelled:
            expected.append(self.end(call, ("cancelled", "", "CallCancelled")))
        elif self.draining in ("discard", "stop"):
            expected.append(self.discard(call))
        elif 0 < call.route.deadline_us <= now_us:
            expected.append(self.passed(call))
        else:
            expected.append(Expected("queued", call.route.call_id, ((True,),)))
        self.look_at_heads(now_us)
        return expected

    def outcome(self, call: ModelCall, message: Outcome, now_us: int) -> list[Expected]:
        expected = self.wake(now_us)
        self.ready_workers[message.endpoint] += message.ready
        if not call.in_flight or message.attempt != call.live_attempt:
            self.late += 1
            return expected
        if call.state == "granted" and not message.wrote:
            self.give_back(call, now_us)
        else:
            if call.state == "granted":
                self.stamp(call, min(max(message.at_us, call.granted_us), now_us), now_us)
            self.settle(call, message, now_us)
        call.attempts += 1
        lane = self.lanes[call.route.lane]
        if message.barrier:
            expected.append(self.raise_barrier(lane, call, message))
        return expected + self.conclude(call, lane, message, now_us)

    def settle(self, call: ModelCall, message: Outcome, now_us: int) -> None:
        if message.charge == "nothing":
            self.give_back(call, now_us)
            return
        self.settled += 1
        for quota, entry in call.held:
            used = quota.cost(message.input_tokens, message.output_tokens)
            keeps_all = quota.spec.settle == "reserved"
            if message.charge == "usage" and used > entry.amount:
                quota.owe(used - entry.amount, now_us)
            elif message.charge == "usage" and not keeps_all:
                quota.shrink(entry, used, now_us)
            elif message.charge == "requests_kept" and quota.spec.dimension != "requests":
                quota.shrink(entry, 0, now_us)

    def raise_barrier(self, lane: ModelLane, call: ModelCall, message: Outcome) -> Expected:
        if lane.strikes == 0 or call.sent_us >= lane.barrier_until_us:
            lane.strikes += 1
        wait = min(60_000_000, 1_000_000 * 2 ** (lane.strikes - 1)) if message.hint_us is None else message.hint_us
        lane.barrier_until_us = max(lane.barrier_until_us, message.at_us + wait)
        return Expected("barred", lane.spec.lane, ((lane.barrier_until_us,),))

    def conclude(self, call: ModelCall, lane: ModelLane, message: Outcome, now_us: int) -> list[Expected]:
        again = message.verdict == "retry" or (message.verdict == "unknown" and call.route.retry_unknown)
        if message.verdict == "done":
            if call.sent_us >= lane.barrier_until_us:
                lane.strikes = 0
            lane.budget_fifths += 1
            return [self.end(call, ("completed", "", ""))]
        if call.cancelled:
            return [self.end(call, ("cancelled", "", "CallCancelled"), ("cancelled", "", ""), ("failed", "", ""))]
        if message.verdict == "cancelled":
            return [self.end(call, ("cancelled", "", "CallCancelled"), ("cancelled", "", ""))]
        if again:
            return [self.try_again(call, lane, message, message.hint_us, message.exempt, now_us)]
        if message.verdict == "unknown" and 0 < call.route.deadline_us <= now_us:
            return [self.end(call, ("failed", "deadline", ""))]
        return [self.end(call, ("failed", "", ""))]

    def try_again(
        self,
        call: ModelCall,
        lane: ModelLane,
        message: Outcome | ConnectAttemptFailed,
        hint_us: int | None,
        exempt: bool,
        now_us: int,
    ) -> Expected:
        """Backoff, or every reason against it: the schedule may name any of those that hold."""
        step = min(30_000_000, 500_000 * 2 ** (call.attempts - 1))
        since_us = message.at_us if isinstance(message, Outcome) else now_us
        return_us = max(now_us, since_us + max(hint_us or 0, (message.jitter * step) >> 32))
        against = {
            "attempts": call.attempts >= MAX_ATTEMPTS,
            "hint": (hint_us or 0) > HINT_LIMIT_US,
            "budget": lane.budget_fifths < 5 and not exempt,
            "deadline": 0 < call.route.deadline_us <= return_us,
            "shutdown": self.draining in ("discard", "stop"),
        }
        if any(against.values()):
            return self.end(call, *(("failed", reason, "") for reason, holds in against.items() if holds))
        lane.budget_fifths -= 0 if exempt else 5
        call.state, call.return_us = "backing", return_us
        return Expected("retrying", call.route.call_id, ((return_us,),))

    def end(self, call: ModelCall, *how: tuple[str, str, str]) -> Expected:
        """`how`: the status, `gave_up` and the kind of the fault with which it may end."""
        call.state = "ended"
        call.ended.append(how[0][0])
        return Expected("finished", call.route.call_id, how)

    def connect_failed(self, message: ConnectAttemptFailed, now_us: int) -> list[Expected]:
        expected = self.wake(now_us)
        queue = self.in_state("queued", endpoint=message.endpoint)
        if queue:
            queue[0].attempts += 1
            lane = self.lanes[queue[0].route.lane]
            expected.append(self.try_again(queue[0], lane, message, None, exempt=False, now_us=now_us))
        self.look_at_heads(now_us)
        return expected

    def cancel(self, call: ModelCall, now_us: int) -> list[Expected]:
        expected = self.wake(now_us)
        if call.state in ("queued", "backing"):
            expected.append(self.end(call, ("cancelled", "", "CallCancelled")))
        elif call.in_flight and not call.cancelled:
            call.cancelled = True
            expected.append(Expected("dropped", call.route.call_id, (("cancelled",),)))
        self.look_at_heads(now_us)
        return expected

    def drain(self, how: str, now_us: int) -> list[Expected]:
        expected = self.wake(now_us)
        self.draining = how
        if how in ("discard", "stop"):
            expected += [self.discard(call) for call in self.in_state("queued", "backing")]
        if how == "stop":
            for call in self.in_state("granted", "sent"):
                if not call.cancelled and not call.dropped:
                    call.dropped = True
                    expected.append(Expected("dropped", call.route.call_id, (("shutdown",),)))
        self.look_at_heads(now_us)
        return expected

    def discard(self, call: ModelCall) -> Expected:
        if call.attempts or call.state == "backing":
            return self.end(call, ("failed", "shutdown", ""))
        return self.end(call, ("aborted", "", "ShuttingDown"))

    def take_down(self, endpoint: int, now_us: int) -> list[Expected]:
        expected = self.wake(now_us)
        self.down_endpoints.add(endpoint)
        lost = self.in_state("queued", endpoint=endpoint)
        expected += [self.end(call, ("failed", "", "ConnectFailed"), ("failed", "", "")) for call in lost]
        self.look_at_heads(now_us)
        return expected

    def observe_limit(self, lane: int, name: str, limit: int, now_us: int) -> list[Expected]:
        expected = self.wake(now_us)
        for quota in self.lanes[lane].quotas:
            if quota.spec.name == name:
                quota.set_limit(limit, now_us)
        return expected
