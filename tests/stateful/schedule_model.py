"""The naive model of the schedule: what may happen, decided from the whole history by brute force.

`ScheduleModel` is told what the schedule is told, in the same order, and says which ends, returns and refusals must
follow (`Expected`). It never chooses whom to admit: it says of any call whether it *may* start now, and is told which
ones did. So it accepts every order that keeps the promises and no other.

Imports the messages and the quotas' history only; nothing of the code it judges.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from quota_history import QuotaHistory, earliest
from schedule_order import ModelCall, ModelLane
from schedule_standing import Standing

from actors.messages import CallRoute, ConnectAttemptFailed, Observed, OpenEndpoint, OpenLane, Outcome, Unsent

HINT_LIMIT_US = 120_000_000
POLL_ATTEMPTS = 6
POLL_TIMEOUT_US = 60_000_000
DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Expected:
    """One effect that must come. `allowed` are the details it may have: usually one; more where the promises leave a
    choice. An empty `allowed` accepts any."""

    kind: str
    subject: int
    allowed: tuple[tuple[object, ...], ...] = ()


class ScheduleModel(Standing):
    """See the file's first lines. Every method takes `now_us`; what happens of itself by then has happened first."""

    def __init__(self) -> None:
        super().__init__()
        self.down_endpoints: set[int] = set()
        self.draining = ""
        self.made = self.settled = self.returned = self.late = 0
        self.last_seq = -1

    # --- what it is told ---

    def open_lane(self, lane: OpenLane) -> None:
        quotas = [self.quotas.setdefault(spec.quota_id, QuotaHistory(spec)) for spec in lane.quotas]
        self.lanes[lane.lane] = ModelLane(lane, quotas)

    def open_endpoint(self, endpoint: OpenEndpoint) -> None:
        self.endpoints[endpoint.endpoint] = endpoint
        self.ready_workers[endpoint.endpoint] = 0

    def wake(self, now_us: int) -> list[Expected]:
        """Deadlines first: a call whose backoff and deadline have both passed is not sent any more."""
        self.step += 1
        over = [call for call in self.in_state("queued", "backing") if 0 < call.route.deadline_us <= now_us]
        expected = [self.passed(call) for call in over]
        for call in self.in_state("backing"):
            if call.return_us > now_us:
                continue
            if call.route.endpoint in self.down_endpoints:
                expected.append(self.end(call, ("failed", "", "")))
            else:
                self.join(call, now_us)
                expected.append(Expected("queued", call.route.call_id, ((True,),)))
        self.look_at_heads(now_us)
        return expected

    def next_seq(self) -> int:
        self.last_seq += 1
        return self.last_seq

    def passed(self, call: ModelCall) -> Expected:
        gave_up, kind = ("deadline", "") if call.attempts else ("", "DeadlineExceeded")
        return self.end(call, ("failed", gave_up, kind))

    def submit(self, route: CallRoute, now_us: int) -> list[Expected]:
        expected = self.wake(now_us)
        for quota in self.lanes[route.lane].quotas:
            if quota.limit < quota.spec.limit and now_us - quota.told_us > 2 * quota.window_us:
                quota.set_limit(quota.spec.limit, now_us)
        call = ModelCall(route, self.next_seq(), route.output_tokens)
        refusal = self.refusal(call, now_us)
        self.calls[route.call_id] = call
        if refusal:
            also = "InternalError" if refusal == "ConnectFailed" else refusal
            return [*expected, self.end(call, ("skipped", "", refusal), ("skipped", "", also))]
        self.join(call, now_us)
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
        soonest = max([now_us, *(self.at_best(quota, cost, now_us) for quota, cost in self.demand(call))])
        soonest = max(soonest, self.lanes[route.lane].barrier_until_us)
        return "DeadlineExceeded" if 0 < route.deadline_us <= soonest else ""

    def at_best(self, quota: QuotaHistory, cost: int, now_us: int) -> int:
        """When there could be room at the earliest, if every call in flight gave all it holds back."""
        live = [amount for call in self.in_state("granted", "sent") for its, amount in call.held if its is quota]
        taken = [call.taken_held for call in self.calls.values() if call.taken_held is not None and call.is_taken]
        live += [amount for held in taken for its, amount in held if its is quota]
        live = [amount for amount in live if not amount.given_back]
        if quota.spec.burst:
            back = sum(amount.amount for amount in live) * quota.window_us
            level = min(quota.spec.burst * quota.window_us, quota.available(now_us, now_us) + back)
            ready_us = now_us + max(0, -((level - cost * quota.window_us) // quota.limit))
            return max(ready_us, quota.paced_until()) if quota.spec.pace else ready_us
        for amount in live:
            amount.given_back = True
        ready_us = earliest([(quota, cost)], now_us)
        for amount in live:
            amount.given_back = False
        return ready_us

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
        self.look_at_turns(now_us)
        self.serve(call, now_us)
        call.held = [(quota, quota.admit(cost, now_us)) for quota, cost in self.demand(call)]
        call.state, call.granted_us, call.sent_us, call.live_attempt = "granted", now_us, 0, attempt
        self.ready_workers[call.route.endpoint] -= 1
        self.made += 1
        self.look_at_heads(now_us)
        self.look_at_turns(now_us)

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
        self.refund(call)
        if call.cancelled:
            expected.append(self.end(call, ("cancelled", "", "CallCancelled")))
        elif self.draining in ("discard", "stop"):
            expected.append(self.discard(call))
        elif 0 < call.route.deadline_us <= now_us:
            expected.append(self.passed(call))
        else:
            self.join(call, now_us)
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
            self.refund(call)
        else:
            if call.state == "granted":
                self.stamp(call, min(max(message.at_us, call.granted_us), now_us), now_us)
            self.settle(call, message, now_us)
        call.attempts += 1
        call.tries += 1
        lane = self.lanes[call.route.lane]
        if message.barrier:
            expected.append(self.raise_barrier(lane, call, message))
        return expected + self.conclude(call, lane, message, now_us)

    def settle(self, call: ModelCall, message: Outcome, now_us: int) -> None:
        """What a poll brings of a usage is that of the attempt that was taken; a poll costs what it reserved."""
        if call.taken_held is None and message.verdict == "later":
            call.taken_held = call.held
            return
        if message.charge == "nothing":
            self.give_back(call, now_us)
            return
        self.settled += 1
        held = call.held
        if call.taken_held is not None and message.charge == "usage":
            held = [] if call.taken_settled else call.taken_held
            self.settled += not call.taken_settled
            call.taken_settled = True
        for quota, entry in held:
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
        if message.verdict == "later":
            if call.sent_us >= lane.barrier_until_us:
                lane.strikes = 0
            lane.budget_fifths += 1
        if call.cancelled:
            return [self.end(call, ("cancelled", "", "CallCancelled"), ("cancelled", "", ""), ("failed", "", ""))]
        if message.verdict == "cancelled":
            return [self.end(call, ("cancelled", "", "CallCancelled"), ("cancelled", "", ""))]
        if message.verdict == "later":
            return [self.ask_later(call, message, now_us)]
        if again:
            return [self.try_again(call, lane, message, message.hint_us, message.exempt, now_us)]
        if message.verdict == "unknown" and 0 < call.route.deadline_us <= now_us:
            return [self.end(call, ("failed", "deadline", ""))]
        return [self.end(call, ("failed", "", ""))]

    def ask_later(self, call: ModelCall, message: Outcome, now_us: int) -> Expected:
        """The call waits, in the lane of polls, for the next of them; its limits from before hold what it took."""
        call.route = msgspec.structs.replace(
            call.route, lane=message.poll_lane, input_tokens=0, retry_unknown=True,
            timeout_us=min(call.route.timeout_us, POLL_TIMEOUT_US),
            deadline_us=call.route.deadline_us or now_us + DAY_US,
        )  # fmt: skip
        call.output_tokens, call.seq = 0, self.next_seq()
        call.tries, call.calling = 0, message.poll
        deadline_us = call.route.deadline_us
        if 0 < deadline_us <= now_us:
            return self.end(call, ("failed", "deadline", ""))
        if self.draining in ("discard", "stop"):
            return self.end(call, ("failed", "shutdown", ""))
        wait_us = message.poll_wait_us
        if wait_us:
            wait_us = min(60_000_000, max(200_000, wait_us * 4 // 5 + (message.jitter * (wait_us * 2 // 5) >> 32)))
        hint_us = message.hint_us or 0
        since_us = min(message.at_us, now_us)
        return_us = since_us + max(wait_us, hint_us)
        last_us = deadline_us - 1_000_000
        if return_us > last_us > since_us and since_us + hint_us <= last_us:
            return_us = last_us
        return_us = min(return_us, deadline_us)
        call.state, call.return_us = "backing", max(now_us, return_us)
        return Expected("later", call.route.call_id, ((call.return_us,),))

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
        exempt = exempt or call.taken_held is not None
        step = min(30_000_000, 500_000 * 2 ** (call.tries - 1))
        since_us = message.at_us if isinstance(message, Outcome) else now_us
        return_us = max(now_us, since_us + max(hint_us or 0, (message.jitter * step) >> 32))
        against = {
            "attempts": call.tries >= max(call.route.max_attempts, POLL_ATTEMPTS if call.taken_held is not None else 0),
            "hint": (hint_us or 0) > HINT_LIMIT_US and call.taken_held is None,
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
        if call.taken_held is not None and not call.taken_settled:
            self.settled += 1  # nobody has said what it cost: it stays as reserved
        call.state = "ended"
        call.ended.append(how[0][0])
        return Expected("finished", call.route.call_id, how)

    def connect_failed(self, message: ConnectAttemptFailed, now_us: int) -> list[Expected]:
        expected = self.wake(now_us)
        queue = self.in_state("queued", endpoint=message.endpoint)
        if queue:
            queue[0].attempts += 1
            queue[0].tries += 1
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

    def observe_limit(self, call: ModelCall, said: Observed, now_us: int) -> list[Expected]:
        """Never above what was stated; what was said to a later request stands."""
        expected = self.wake(now_us)
        sent_us = call.sent_us if call.state == "sent" else now_us
        for quota in self.lanes[call.route.lane].quotas:
            same = (quota.spec.dimension, quota.spec.period_us) == (said.dimension, said.period_us)
            if same and sent_us >= quota.told_us:
                quota.told_us = sent_us
                quota.set_limit(min(said.limit, quota.spec.limit), now_us)
        return expected
