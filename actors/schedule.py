"""The schedule: what every message means, as a state machine without a clock.

Rules: each method takes `now_us`, which never decreases, changes the state and returns effects for the scheduler actor
to carry out; time-dependent changes that are due are made first. The first terminal message per (call, attempt) wins,
later ones are counted. What happens to a ticket stands in `moves`, what may be admitted in `admission`, who is next in
`lanes`, what is left of a limit in `meters`, whether to try again in `retrying`.

Pure: no trio, no clock, no random, no I/O.
"""

from __future__ import annotations

from heapq import heappop
from typing import Literal

from actors.admission import EndpointState, LaneState
from actors.again import Again
from actors.effects import Barred, Dropped, Effect, Left, Queued, ScheduleStatistics
from actors.learned import meter_of
from actors.limits import UNBOUNDED, Cost, admissible, capacity_fault, cost_of, output_that_fits
from actors.messages import (
    CallRoute,
    ConnectAttemptFailed,
    Down,
    Fault,
    LimitObserved,
    OpenEndpoint,
    OpenLane,
    Outcome,
    Reply,
    Sent,
    Unsent,
    encode,
)
from actors.moves import cancelled_fault
from actors.queues import State, Ticket, seq_of
from actors.telling import tell

__all__ = ["Schedule"]

_DRAIN_ORDER = ("", "finish", "discard", "stop")


class Schedule(Again):
    """Every decision about every call of one engine."""

    # --- what there is ---

    def knows(self, lane: int, endpoint: int) -> bool:
        """Whether both have been opened."""
        return lane in self._lanes and endpoint in self._endpoints

    def open_lane(self, spec: OpenLane, now_us: int) -> list[Effect]:
        """Add a lane. A quota whose `quota_id` is known already stands over both lanes from now on."""
        meters = []
        for quota in spec.quotas:
            meter = self._meters.get(quota.quota_id)
            if meter is None:
                meter = self._meters[quota.quota_id] = meter_of(quota)
            meters.append(meter)
        lane = self._lanes[spec.lane] = LaneState(spec, tuple(meters))
        for meter in meters:
            meter.lanes.append(spec.lane)
            self._tie(lane, self._lanes[meter.lanes[0]])
            for number in meter.lanes:
                self._lanes[number].share()
        return self._dispatch(self._advanced(now_us), now_us)

    def _tie(self, lane: LaneState, other: LaneState) -> None:
        if lane.tied is not other.tied:
            self._tied = True
            other.tied.extend(lane.tied)
            for number in lane.tied:
                self._lanes[number].tied = other.tied

    def open_endpoint(self, spec: OpenEndpoint, now_us: int) -> list[Effect]:
        """Add an endpoint, or note that its actor has started anew and has to be told again what is wanted."""
        endpoint = self._endpoints.get(spec.endpoint)
        if endpoint is None:
            self._endpoints[spec.endpoint] = EndpointState(spec.endpoint, spec.name, spec.max_connections)
        else:
            endpoint.wanted = 0
            self._changed[spec.endpoint] = None
        effects = self._advanced(now_us)
        return self._dispatch(effects, now_us)

    def observe_limit(self, message: LimitObserved, now_us: int) -> list[Effect]:
        """A provider says how its limits stand. Waiting calls that can never fit under a lowered one end with
        `CapacityExceeded`. What is said to an attempt that is over is not heard."""
        effects = self._advanced(now_us)
        found = self._attempt(message.call_id, message.attempt)
        if found is not None:
            lane = self._lanes[found[0].lane]
            changed, lowered = tell(lane.meters, found[1], message.observed, now_us)
            for meter in lowered:
                for number in meter.lanes:
                    self._refit(self._lanes[number], effects, now_us)
            if changed:
                self._hasten(lane, now_us)
        return self._dispatch(effects, now_us)

    def _forget(self, lane: LaneState, now_us: int) -> None:
        for meter in lane.meters:
            if meter.forget(now_us):
                for number in meter.lanes:
                    self._hasten(self._lanes[number], now_us)

    # --- a call comes ---

    def submit(self, route: CallRoute, calling: bytes, now_us: int) -> list[Effect]:
        """Queue a call, or refuse it (`Finished` with status ``skipped``, nothing reserved)."""
        effects = self._advanced(now_us)
        self._submitted += 1
        lane = self._lanes.get(route.lane)
        if lane is not None:
            self._forget(lane, now_us)
        output_tokens = route.output_tokens
        if route.output_is_guess and lane is not None:
            output_tokens = output_that_fits(route.input_tokens, output_tokens, lane.meters)
        cost, timeout_us = self._alike(cost_of(route.input_tokens, output_tokens), route.timeout_us)
        ticket = Ticket(
            call_id=route.call_id,
            lane=route.lane,
            endpoint=route.endpoint,
            seq=self._next_seq(),
            submitted_us=route.submitted_us,
            deadline_us=route.deadline_us,
            timeout_us=timeout_us,
            cost=cost,
            retry_unknown=route.retry_unknown,
            handled=route.handled,
            priority=route.priority,
            flow=route.flow,
            calling=calling,
            max_attempts=route.max_attempts,
        )
        fault = self._objection(ticket, lane, now_us)
        if fault is not None or lane is None:
            self._finish(ticket, "skipped", effects, now_us, fault=fault, was_queued=True)
            return self._dispatch(effects, now_us)
        self._live[ticket.call_id] = ticket
        effects.append(Queued(ticket, returned=False))
        self._enqueue(ticket, lane)
        return self._dispatch(effects, now_us)

    def _alike(self, cost: Cost, timeout_us: int) -> tuple[Cost, int]:
        """One tuple and one number for a run of equal calls, of which many may wait."""
        if (cost, timeout_us) != self._last_alike:
            self._last_alike = (cost, timeout_us)
        return self._last_alike

    def _objection(self, ticket: Ticket, lane: LaneState | None, now_us: int) -> Fault | None:
        """Why a call cannot even be queued."""
        endpoint = self._endpoints.get(ticket.endpoint)
        if lane is None or endpoint is None or ticket.call_id in self._live:
            return Fault(
                "InternalError", "a call came with an unknown lane or endpoint, or came twice; nothing was sent"
            )
        if self._draining:
            return Fault("ShuttingDown", "the engine takes no more calls; nothing was sent")
        if endpoint.down:
            return Fault("InternalError", f"endpoint {endpoint.name} failed too often and is down; nothing was sent")
        too_small = admissible(ticket.cost, lane.meters)
        if too_small is not None:
            return capacity_fault(ticket.cost, *too_small)
        if ticket.deadline_us:
            ready_us = max(lane.at_best(ticket.cost, now_us), lane.barrier.until_us)
            if ready_us >= ticket.deadline_us:
                return Fault(
                    "DeadlineExceeded",
                    "the limits admit no such call before its deadline, even with nobody ahead of it; nothing was sent",
                )
        return None

    # --- what endpoints report ---

    def ready(self, endpoint: int, now_us: int) -> list[Effect]:
        """A worker's connection is open."""
        effects = self._advanced(now_us)
        self._ready_again(self._endpoints[endpoint])
        return self._dispatch(effects, now_us)

    def lost(self, endpoint: int, now_us: int) -> list[Effect]:
        """A worker that was ready no longer is."""
        effects = self._advanced(now_us)
        self._endpoints[endpoint].ready -= 1
        self._changed[endpoint] = None
        for number in self._endpoints[endpoint].lanes:
            self._touch(self._lanes[number])
        return self._dispatch(effects, now_us)

    def connect_failed(self, message: ConnectAttemptFailed, now_us: int) -> list[Effect]:
        """No connection: that is one attempt of the call that has waited longest for the endpoint."""
        effects = self._advanced(now_us)
        lanes = [self._lanes[number] for number in self._endpoints[message.endpoint].lanes]
        oldest = (lane.order.oldest(message.endpoint) for lane in lanes)
        victim = min((ticket for ticket in oldest if ticket is not None), key=seq_of, default=None)
        if victim is not None:
            lane = self._lanes[victim.lane]
            self._dequeue(victim, lane)
            victim.attempts += 1
            if victim.taken is None:  # else what stands there says that the provider has it
                victim.reply = encode(Reply(fault=message.fault))
            self._retry(victim, lane, message, effects, now_us)
        return self._dispatch(effects, now_us)

    def down(self, message: Down, now_us: int) -> list[Effect]:
        """The endpoint is given up: what waits for it ends, and so does what comes later."""
        effects = self._advanced(now_us)
        endpoint = self._endpoints[message.endpoint]
        endpoint.down = encode(Reply(fault=message.fault))
        for ticket in [one for number in endpoint.lanes for one in self._lanes[number].order]:
            if ticket.endpoint == message.endpoint:
                self._dequeue(ticket, self._lanes[ticket.lane])
                self._fail_down(ticket, effects, now_us, was_queued=True)
        return self._dispatch(effects, now_us)

    def unsent(self, message: Unsent, now_us: int) -> list[Effect]:
        """A grant was not used: everything comes back, and the call to its place in the queue."""
        effects = self._advanced(now_us)
        endpoint = self._endpoints[message.endpoint]
        if message.ready:
            self._ready_again(endpoint)
        found = self._attempt(message.call_id, message.attempt)
        if found is None or found[0].state is not State.GRANTED:
            self._late += 1
            return self._dispatch(effects, now_us)
        ticket, reservation = found
        lane = self._release(ticket)
        self._give_back(ticket, reservation, lane, now_us)
        ticket.attempts -= 1
        if ticket.ending == "cancelled":
            self._finish(ticket, "cancelled", effects, now_us, fault=cancelled_fault(sent=ticket.wrote))
        elif endpoint.down:
            self._fail_down(ticket, effects, now_us, was_queued=False)
        elif self._draining in ("discard", "stop"):
            self._abandon(ticket, effects, now_us, was_queued=False)
        elif 0 < ticket.deadline_us <= now_us:
            self._expire(ticket, effects, now_us, was_queued=False)
        else:
            effects.append(Queued(ticket, returned=True))
            self._enqueue(ticket, lane)
        return self._dispatch(effects, now_us)

    def granted(self, call_id: int, attempt: int) -> Ticket | None:
        """The ticket, if this very attempt of it has leave to be sent and has not left yet."""
        found = self._attempt(call_id, attempt)
        return found[0] if found is not None and found[0].state is State.GRANTED else None

    def sent(self, message: Sent, now_us: int) -> list[Effect]:
        """The request has left: its reservation is stamped."""
        effects = self._advanced(now_us)
        found = self._attempt(message.call_id, message.attempt)
        if found is None or found[0].state is not State.GRANTED:
            self._late += 1
            return self._dispatch(effects, now_us)
        ticket, reservation = found
        self._stamp(reservation, self._lanes[ticket.lane], message.sent_us, now_us)
        ticket.state = State.SENT
        effects.append(Left(ticket))
        return self._dispatch(effects, now_us)

    def outcome(self, message: Outcome, reply: bytes, now_us: int) -> list[Effect]:
        """An attempt has ended: settle it, then finish the call or let it back off. `reply` is handed on unread."""
        effects = self._advanced(now_us)
        if message.ready:
            self._ready_again(self._endpoints[message.endpoint])
        found = self._attempt(message.call_id, message.attempt)
        if found is None:
            self._late += 1
            return self._dispatch(effects, now_us)
        ticket, reservation = found
        lane = self._release(ticket)
        learns = self._settle(ticket, reservation, lane, message, now_us)
        ticket.wrote = ticket.wrote or message.wrote
        if reply and (message.wrote or ticket.taken is None):
            ticket.reply = reply  # a poll that did not leave says nothing of what was sent before
        # Where limits are learned, what was learned from a refusal is the barrier, unless the provider asks for a wait.
        if message.barrier and (not learns or message.hint_us is not None):
            lane.barrier.refused(reservation.sent_us, message.at_us, message.hint_us)
            if lane.barrier.until_us > now_us:
                lane.was_away()
            effects.append(Barred(lane.number, lane.barrier.until_us))
        if message.verdict in ("done", "later"):
            lane.budget.deposit()
            lane.barrier.passed(reservation.sent_us)
        self._conclude(ticket, lane, message, effects, now_us)
        return self._dispatch(effects, now_us)

    def _conclude(self, ticket: Ticket, lane: LaneState, message: Outcome, effects: list[Effect], now_us: int) -> None:
        """What an attempt's verdict means for the call."""
        verdict = message.verdict
        if verdict == "done":
            self._finish(ticket, "completed", effects, now_us)
        elif verdict == "cancelled" or (ticket.ending == "cancelled" and verdict != "failed"):
            self._finish(ticket, "cancelled", effects, now_us, fault=cancelled_fault(sent=ticket.wrote))
        elif verdict == "later" and ticket.taken is not None:
            self._ask_later(ticket, ticket.taken, message, effects, now_us)
        elif verdict == "retry" or (verdict == "unknown" and ticket.retry_unknown):
            self._retry(ticket, lane, message, effects, now_us)
        else:
            past_deadline = verdict == "unknown" and 0 < ticket.deadline_us <= now_us
            self._finish(ticket, "failed", effects, now_us, gave_up="deadline" if past_deadline else "")

    # --- what callers and time do ---

    def cancel(self, call_id: int, now_us: int) -> list[Effect]:
        """The caller no longer wants it. A call that has ended already stays as it ended."""
        effects = self._advanced(now_us)
        ticket = self._live.get(call_id)
        if ticket is None or ticket.ending == "cancelled":
            return self._dispatch(effects, now_us)
        if ticket.state in (State.GRANTED, State.SENT) and ticket.reservation is not None:
            ticket.reservation.ending = "cancelled"
            effects.append(Dropped(ticket, "cancelled"))
            return self._dispatch(effects, now_us)
        was_queued = self._withdraw(ticket)
        fault = cancelled_fault(sent=ticket.wrote)
        self._finish(ticket, "cancelled", effects, now_us, fault=fault, was_queued=was_queued)
        return self._dispatch(effects, now_us)

    def drain(self, queue: Literal["finish", "discard", "stop"], now_us: int) -> list[Effect]:
        """Take no more. ``discard`` also ends what waits, ``stop`` also drops what is in flight."""
        effects = self._advanced(now_us)
        if _DRAIN_ORDER.index(queue) <= _DRAIN_ORDER.index(self._draining):
            return self._dispatch(effects, now_us)
        self._draining = queue
        if queue == "finish":
            return self._dispatch(effects, now_us)
        for ticket in list(self._live.values()):
            if ticket.state in (State.QUEUED, State.BACKING_OFF):
                self._abandon(ticket, effects, now_us, was_queued=self._withdraw(ticket))
            elif queue == "stop" and ticket.reservation is not None and not ticket.ending:
                ticket.reservation.ending = "shutdown"
                effects.append(Dropped(ticket, "shutdown"))
        return self._dispatch(effects, now_us)

    def wake(self, now_us: int) -> list[Effect]:
        """Time has passed: do what has become due."""
        return self._dispatch(self._advanced(now_us), now_us)

    def next_wake_us(self) -> int | None:
        """The next instant at which something changes by time alone; before it, nothing does."""
        wakes = self._wakes
        while wakes and self._lanes[wakes[0][1]].wake_us != wakes[0][0]:
            heappop(wakes)
        deadlines = self._deadlines
        while deadlines and not self._deadline_stands(deadlines[0][1]):
            self._pop_deadline()
        returns = self._returns
        while returns and not self._return_stands(returns[0]):
            heappop(returns)
        soonest = min(
            wakes[0][0] if wakes else UNBOUNDED,
            deadlines[0][0] if deadlines else UNBOUNDED,
            returns[0][0] if returns else UNBOUNDED,
        )
        return None if soonest == UNBOUNDED else soonest

    @property
    def live(self) -> int:
        """How many calls are queued, backing off or in flight."""
        return len(self._live)

    @property
    def waiting(self) -> int:
        """How many of them are queued or backing off, or wait for an answer that comes later."""
        return len(self._live) - self._in_flight + self._polling

    @property
    def taken(self) -> int:
        """How many of them their providers have taken and not answered yet."""
        return self._taken

    # --- what anybody may look at ---

    def statistics(self, now_us: int) -> ScheduleStatistics:
        """A frozen copy of everything that is counted here."""
        sent = sum(ticket.state is State.SENT for ticket in self._live.values())
        return ScheduleStatistics(
            queued=sum(lane.order.waiting for lane in self._lanes.values()),
            backing_off=sum(lane.backing_off for lane in self._lanes.values()),
            granted=self._in_flight - sent,
            sent=sent,
            permits_held=sum(lane.permits_held for lane in self._lanes.values()),
            open_reservations=self._ledger.open,
            live_reservations=self._ledger.live,
            reservations_made=self._ledger.made,
            reservations_settled=self._ledger.settled,
            reservations_given_back=self._ledger.given_back,
            late_messages=self._late,
            retries=self._retries,
            taken=self._taken,
            submitted=self._submitted,
            ended=dict(self._ended),
            lanes=tuple(lane.statistics(now_us) for lane in self._lanes.values()),
            endpoints=tuple(endpoint.statistics(self._lanes) for endpoint in self._endpoints.values()),
        )
