"""The moves a ticket can make, and the dispatch that follows every one of them.

Life of a ticket: QUEUED -> GRANTED -> SENT -> gone; from GRANTED back to QUEUED (unsent); from GRANTED, SENT or QUEUED
(no connection) to BACKING_OFF (see `again`) and from there to QUEUED; from anywhere to gone. Rules: whoever
changes what a lane depends on touches the lane; `_dispatch` then grants what can be granted, notes the next wake-up of
each touched lane and tells the endpoints what could be used. `_advanced` makes the changes that time alone has brought
about.

Pure: no trio, no clock, no random, no I/O.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Literal

import msgspec

from actors.admission import Admission, EndpointState, LaneState
from actors.effects import Effect, Finished, Granted, Queued, Want
from actors.learned import learn
from actors.ledger import Ledger
from actors.limits import NOT_AFTER_US, Cost, admissible, capacity_fault, cost_of
from actors.messages import Ended, Fault, GaveUp, Outcome, Status
from actors.meters import Meter
from actors.queues import Reservation, State, Taken, Ticket
from actors.turns import service_of

DrainMode = Literal["", "finish", "discard", "stop"]

_IN_FLIGHT = (State.GRANTED, State.SENT)


class Moves:
    """All lanes, endpoints and live calls of one engine, and everything that can happen to them."""

    def __init__(self) -> None:
        self._lanes: dict[int, LaneState] = {}
        self._endpoints: dict[int, EndpointState] = {}
        self._meters: dict[int, Meter] = {}
        self._live: dict[int, Ticket] = {}
        self._admission = Admission(self._lanes, self._endpoints)
        self._draining: DrainMode = ""
        self._deadlines: list[tuple[int, int]] = []
        self._returns: list[tuple[int, int, int]] = []
        self._wakes: list[tuple[int, int]] = []
        self._dirty: dict[int, None] = {}
        self._changed: dict[int, None] = {}
        self._last_alike: tuple[Cost, int] = (cost_of(0, 0), 0)
        self._submitted = 0
        self._last_seq = 0
        self._tied = False  # whether any lanes share a quota
        self._ledger = Ledger()
        self._in_flight = 0
        self._late = 0
        self._retries = 0
        self._taken = 0
        self._polling = 0  # those of them that are in flight
        self._ended: dict[str, int] = {"completed": 0, "failed": 0, "cancelled": 0, "skipped": 0, "aborted": 0}

    # --- time ---

    def _advanced(self, now_us: int) -> list[Effect]:
        """Deadlines that have passed end their calls, backoffs that are over return theirs, ripe lanes get dirty."""
        effects: list[Effect] = []
        while self._deadlines and self._deadlines[0][0] <= now_us:
            call_id = self._pop_deadline()
            if self._deadline_stands(call_id):
                ticket = self._live[call_id]
                self._expire(ticket, effects, now_us, was_queued=self._withdraw(ticket))
        while self._returns and self._returns[0][0] <= now_us:
            entry = heappop(self._returns)
            if self._return_stands(entry):
                ticket = self._live[entry[2]]
                lane = self._lanes[ticket.lane]
                lane.backing_off -= 1
                if self._endpoints[ticket.endpoint].down:
                    self._fail_down(ticket, effects, now_us, was_queued=False)
                    continue
                effects.append(Queued(ticket, returned=True))
                self._enqueue(ticket, lane)
        while self._wakes and self._wakes[0][0] <= now_us:
            at_us, number = heappop(self._wakes)
            if self._lanes[number].wake_us == at_us:
                self._touch(self._lanes[number])  # a barrier that has ended may change whose turn it is
        return effects

    def _pop_deadline(self) -> int:
        """Take the first of the deadlines off; the call may be watched again."""
        call_id = heappop(self._deadlines)[1]
        ticket = self._live.get(call_id)
        if ticket is not None:
            ticket.watched = False
        return call_id

    def _deadline_stands(self, call_id: int) -> bool:
        ticket = self._live.get(call_id)
        return ticket is not None and ticket.state in (State.QUEUED, State.BACKING_OFF)

    def _return_stands(self, entry: tuple[int, int, int]) -> bool:
        ticket = self._live.get(entry[2])
        return ticket is not None and ticket.state is State.BACKING_OFF

    def _expire(self, ticket: Ticket, effects: list[Effect], now_us: int, *, was_queued: bool) -> None:
        """The deadline has come before another attempt could be sent."""
        if ticket.attempts:
            self._finish(ticket, "failed", effects, now_us, gave_up="deadline", was_queued=was_queued)
        else:
            fault = Fault(
                "DeadlineExceeded", "the deadline passed while the call waited for its turn; nothing was sent"
            )
            self._finish(ticket, "failed", effects, now_us, fault=fault, was_queued=was_queued)

    # --- admission ---

    def _dispatch(self, effects: list[Effect], now_us: int) -> list[Effect]:
        """Grant what can be granted, then note when to look again and tell the endpoints what could be used."""
        dirty = self._dirty
        if not dirty and not self._changed:
            return effects
        if self._tied:
            for number in dirty:
                self._lanes[number].compete(now_us)
            self._admission.look_again()
        line: list[int] = []
        while dirty:
            if not line:
                line = list(dirty) if len(dirty) == 1 else sorted(dirty, key=self._turn, reverse=True)
            number = line.pop()
            if number not in dirty:
                continue
            lane = self._lanes[number]
            ticket = self._admission.pick(lane, now_us)
            if ticket is not None:
                self._grant(ticket, lane, effects, now_us)
                if len(lane.tied) == 1:
                    line.append(number)  # nobody else's turn depends on this lane's
                else:
                    lane.compete(now_us)
                    self._admission.look_again()
                    line.clear()
                continue
            del dirty[number]
            for endpoint in lane.order.endpoints():
                if self._endpoints[endpoint].ready <= 1:  # one is left to a head that is kept
                    self._changed[endpoint] = None
            wake_us = self._admission.wake_us(lane, now_us)
            if wake_us != lane.wake_us:
                lane.wake_us = wake_us
                if wake_us is not None:
                    heappush(self._wakes, (wake_us, number))
        for number in self._changed:
            want = self._want(self._endpoints[number], now_us)
            if want is not None:
                effects.append(want)
        self._changed.clear()
        return effects

    def _turn(self, number: int) -> tuple[int, int]:
        lane = self._lanes[number]
        return lane.standing if lane.order.waiting else (0, 0)

    def _grant(self, ticket: Ticket, lane: LaneState, effects: list[Effect], now_us: int) -> None:
        lane.leaves(ticket)
        lane_fares = self._admission.pay(lane, ticket, now_us)
        flow_fare = lane.order.grant(ticket, service_of(ticket.cost, lane.meters))
        self._has_left(ticket, lane)
        endpoint = self._endpoints[ticket.endpoint]
        endpoint.ready -= 1
        endpoint.in_flight += 1
        lane.permits_held += 1
        self._in_flight += 1
        self._polling += ticket.taken is not None
        claims = self._ledger.reserve(ticket.cost, lane.meters, now_us)
        number = ticket.grants + 1
        ticket.reservation = Reservation(number, now_us, claims, flow_fare, lane_fares)
        ticket.state = State.GRANTED
        ticket.attempts += 1
        stop_us = now_us + ticket.timeout_us
        if ticket.deadline_us:
            stop_us = min(stop_us, ticket.deadline_us)
        effects.append(Granted(ticket, number, now_us, min(now_us + NOT_AFTER_US, stop_us), stop_us))

    def _want(self, endpoint: EndpointState, now_us: int) -> Want | None:
        """What to tell an endpoint, if that differs enough from what it was told last."""
        most = endpoint.max_connections
        if endpoint.wanted == most < 2 * endpoint.in_flight and endpoint.told_queued == bool(endpoint.lanes):
            return None  # it can neither be more nor enough less
        extra = 0
        for number in endpoint.lanes:
            lane = self._lanes[number]
            waiting = lane.order.waiting_at(endpoint.number)
            extra += max(0, min(waiting, lane.permits_free, lane.worth_opening(now_us)))
        queued = bool(endpoint.lanes)
        connections = min(most, endpoint.in_flight + extra)
        there = endpoint.ready + endpoint.in_flight
        if endpoint.wanted // 2 < connections <= max(endpoint.wanted, there) and queued == endpoint.told_queued:
            return None
        endpoint.wanted = connections
        endpoint.told_queued = queued
        return Want(endpoint.number, connections, queued)

    # --- the moves of a ticket ---

    def _attempt(self, call_id: int, attempt: int) -> tuple[Ticket, Reservation] | None:
        """The ticket, if this very attempt of it is in flight."""
        ticket = self._live.get(call_id)
        if ticket is None or ticket.grants != attempt or ticket.state not in _IN_FLIGHT:
            return None
        assert ticket.reservation is not None, "a granted call has its reservation"
        return ticket, ticket.reservation

    def _touch(self, lane: LaneState) -> None:
        """Something about the lane has changed: look again at it and at all that are tied to it by shared quotas.

        A lane where nobody waits has nothing to look at: it was looked at when its last call left the queue.
        """
        for number in lane.tied:
            if self._lanes[number].order.waiting:
                self._dirty[number] = None

    def _ready_again(self, endpoint: EndpointState) -> None:
        endpoint.ready += 1
        for number in endpoint.lanes:
            if self._lanes[number].short_of_workers:
                self._dirty[number] = None

    def _enqueue(self, ticket: Ticket, lane: LaneState) -> None:
        ticket.state = State.QUEUED
        self._watch_deadline(ticket)
        if not lane.order.waiting:
            lane.was_away()
        matters = lane.order.push(ticket)
        endpoint = self._endpoints[ticket.endpoint]
        endpoint.lanes[lane.number] = None
        if matters or endpoint.wanted < endpoint.max_connections or not endpoint.told_queued:
            self._changed[ticket.endpoint] = None
        if matters or lane.number in self._dirty:
            self._touch(lane)

    def _next_seq(self) -> int:
        self._last_seq += 1
        return self._last_seq

    def _watch_deadline(self, ticket: Ticket) -> None:
        """A call that waits ends at its deadline by timer; one in flight is stopped by its worker instead."""
        if ticket.deadline_us and not ticket.watched:
            ticket.watched = True
            heappush(self._deadlines, (ticket.deadline_us, ticket.call_id))

    def _dequeue(self, ticket: Ticket, lane: LaneState) -> None:
        lane.leaves(ticket)
        lane.order.remove(ticket)
        self._has_left(ticket, lane)

    def _has_left(self, ticket: Ticket, lane: LaneState) -> None:
        """A call waits no more: what that may change has to be looked at."""
        if not lane.order.waiting_at(ticket.endpoint):
            del self._endpoints[ticket.endpoint].lanes[lane.number]
        self._changed[ticket.endpoint] = None
        self._dirty[lane.number] = None
        self._touch(lane)

    def _withdraw(self, ticket: Ticket) -> bool:
        """Take a waiting call out of wherever it waits; whether that was the queue."""
        lane = self._lanes[ticket.lane]
        if ticket.state is State.QUEUED:
            self._dequeue(ticket, lane)
            return True
        lane.backing_off -= 1
        return False

    def _release(self, ticket: Ticket) -> LaneState:
        """The permit and the place at the endpoint come back."""
        lane = self._lanes[ticket.lane]
        if lane.permits_free < 1:
            lane.was_away()
        lane.permits_held -= 1
        self._in_flight -= 1
        self._polling -= ticket.taken is not None
        self._endpoints[ticket.endpoint].in_flight -= 1
        self._changed[ticket.endpoint] = None
        self._touch(lane)
        return lane

    def _stamp(self, reservation: Reservation, lane: LaneState, stamp_us: int, now_us: int) -> None:
        self._ledger.stamp(reservation, stamp_us, now_us)
        if lane.only_short_of_workers:
            lane.hasten(now_us)
        elif reservation.claims:
            self._hasten(lane, now_us)

    def _give_back(self, ticket: Ticket, reservation: Reservation, lane: LaneState, now_us: int) -> None:
        """Nothing of the attempt was written: its reservation comes back, and what was paid for its turn."""
        self._ledger.give_back(reservation)
        lane.order.refund(ticket, reservation.flow_fare)
        for fare in reservation.lane_fares:
            fare.turns.refund(fare)
        self._hasten(lane, now_us)

    def _settle(self, ticket: Ticket, reservation: Reservation, lane: LaneState, message: Outcome, now_us: int) -> bool:
        """The attempt's reservation becomes what the attempt cost. Whether any limit of the lane is being learned."""
        if ticket.state is State.GRANTED:
            if not message.wrote:
                self._give_back(ticket, reservation, lane, now_us)
                return False
            self._stamp(reservation, lane, message.at_us, now_us)
        learns = lane.learns and learn(reservation.claims, message, reservation.sent_us, now_us)
        if ticket.taken is not None:
            message = self._settle_taken(ticket.taken, message, now_us)
        elif message.verdict == "later":  # what it cost is for its answer to say
            ticket.taken = Taken(reservation, lane.number, ticket.attempts)
            self._taken += 1
            return learns
        self._ledger.settle(reservation, message, now_us)
        if learns or message.charge == "nothing":
            self._hasten(lane, now_us)
        return learns

    def _settle_taken(self, taken: Taken, message: Outcome, now_us: int) -> Outcome:
        """An answer that came later says what the attempt cost that was taken; the poll itself cost a poll."""
        if message.charge != "usage":
            return message
        kept = msgspec.structs.replace(message, charge="kept")
        if not taken.settled:
            taken.settled = True
            self._ledger.settle(taken.reservation, message, now_us)
            self._touch(self._lanes[taken.lane])
        return kept

    def _hasten(self, lane: LaneState, now_us: int) -> None:
        """A claim was stamped or given back: heads that wait for that quota may have an earlier instant."""
        self._touch(lane)
        lane.hasten(now_us)
        for meter in lane.shared:
            for number in meter.lanes:
                self._lanes[number].hasten(now_us)

    def _fail_down(self, ticket: Ticket, effects: list[Effect], now_us: int, *, was_queued: bool) -> None:
        """A call waits for an endpoint that is down: it ends with its own last error if it has one."""
        ticket.reply = ticket.reply or self._endpoints[ticket.endpoint].down
        self._finish(ticket, "failed", effects, now_us, was_queued=was_queued)

    def _abandon(self, ticket: Ticket, effects: list[Effect], now_us: int, *, was_queued: bool) -> None:
        """The engine stops before a waiting call's turn has come."""
        if ticket.attempts:
            self._finish(ticket, "failed", effects, now_us, gave_up="shutdown", was_queued=was_queued)
        else:
            fault = Fault("ShuttingDown", "the engine stopped before the call's turn came; nothing was sent")
            self._finish(ticket, "aborted", effects, now_us, fault=fault, was_queued=was_queued)

    def _refit(self, lane: LaneState, effects: list[Effect], now_us: int) -> None:
        """A limit has changed: what waits and can never fit any more ends."""
        for ticket in list(lane.order):
            too_small = admissible(ticket.cost, lane.meters)
            if too_small is not None:
                self._dequeue(ticket, lane)
                fault = capacity_fault(ticket.cost, *too_small)
                self._finish(ticket, "failed", effects, now_us, fault=fault, was_queued=True)

    def _finish(
        self,
        ticket: Ticket,
        status: Status,
        effects: list[Effect],
        now_us: int,
        *,
        fault: Fault | None = None,
        gave_up: GaveUp = "",
        was_queued: bool = False,
    ) -> None:
        """The one place every call leaves by."""
        reservation, taken = ticket.reservation, ticket.taken
        if taken is not None:
            reservation = taken.reservation
            self._taken -= 1
            if not taken.settled:
                self._ledger.keep(reservation)
        if self._live.get(ticket.call_id) is ticket:
            del self._live[ticket.call_id]
        self._ended[status] += 1
        ended = Ended(
            call_id=ticket.call_id,
            status=status,
            attempts=ticket.attempts,
            submitted_us=ticket.submitted_us,
            granted_us=reservation.granted_us if reservation is not None else -1,
            sent_us=reservation.sent_us if reservation is not None else -1,
            ended_us=now_us,
            gave_up=gave_up,
            fault=fault,
        )
        effects.append(Finished(ticket, ended, ticket.reply, was_queued))


def cancelled_fault(*, sent: bool) -> Fault:
    """What a cancelled call holds as its error."""
    left = "the request had left and may have been billed" if sent else "nothing was sent"
    return Fault("CallCancelled", f"the call was cancelled; {left}", sent=sent)
