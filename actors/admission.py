"""Who may be admitted now, and if nobody, when that will change. The rules of the promises 1, 2, 4 and 6.

A lane's *head* is admitted as soon as its quotas have room, a permit is free and a worker of its endpoint is ready. A
call behind it may go first only if the head loses next to nothing by it: it can still be admitted one guard after its
*instant*, and a permit and a worker are left to it. Among lanes that share a quota, the head of the lane whose turn it
is is kept for the others like their own. `pick` answers for now, `wake_us` for the future; the two use the same
questions, so a wake-up is exact.

Pure: no trio, no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable

from actors.effects import EndpointStatistics, LaneStatistics
from actors.lanes import LaneOrder
from actors.limits import UNBOUNDED, Cost
from actors.messages import OpenLane
from actors.meters import Meter
from actors.queues import NO_CEILINGS, Ceilings, Ticket, within
from actors.retrying import Barrier, RetryBudget
from actors.turns import Fare, service_of

OPEN_AHEAD_US = 200_000
"""How long before the limits have room a missing connection is asked for: about what TCP and TLS take."""


class LaneState:
    """One lane as the schedule keeps it: its order, its meters, its permits and what its provider last said.

    `tied` are the lanes that shared quotas tie it to, directly or through others, itself too; one list for them all.
    `learns`: some of its quotas were opened without a limit.
    `short_of_workers` says that a call could start soon if a worker were ready, `only_short_of_workers` that its head
    could start now and nothing but a worker can change that.
    `grace_us` is how long after its instant a head may have to wait for calls that went before it. Without it a room
    that is too small for the head stays empty if using it moved the head by a microsecond; with it, mixed sizes spend
    0.96 of a limit instead of 0.88. It is given once: a head that can no longer be admitted by then, because of a
    debt or a late sender, is not delayed any further.
    """

    def __init__(self, spec: OpenLane, meters: tuple[Meter, ...]) -> None:
        self.number = spec.lane
        self.name = spec.name
        self.order = LaneOrder(spec.ageing_us, dict(spec.weights))
        self.meters = meters
        self.learns = any(quota.learned for quota in spec.quotas)
        self.grace_us = max((quota.guard_us for quota in spec.quotas), default=0)
        self.tied = [spec.lane]
        self.shared: tuple[Meter, ...] = ()
        self.permits = spec.concurrency_limit or UNBOUNDED
        self.permits_held = 0
        self.backing_off = 0
        self.barrier = Barrier()
        self.budget = RetryBudget()
        self.watched: Ticket | None = None
        self.instant_us = 0
        self.wake_us: int | None = None
        self.short_of_workers = False
        self.only_short_of_workers = False
        self._competing = False

    @property
    def permits_free(self) -> int:
        return self.permits - self.permits_held

    def share(self) -> None:
        """Another lane may have come under one of its quotas."""
        shared = tuple(meter for meter in self.meters if len(meter.lanes) > 1)
        for meter in shared:
            if meter not in self.shared:
                meter.turns.join(self.number)
        self.shared = shared

    def competes(self, now_us: int) -> bool:
        """Whether it could use a turn: somebody waits, no barrier stands over it and a permit is free."""
        return self.order.waiting > 0 and self.barrier.until_us <= now_us and self.permits_free > 0

    def compete(self, now_us: int) -> None:
        """Take part in the turns of the shared quotas, from the present on if it was away."""
        if len(self.tied) == 1:
            return
        competes = self.competes(now_us)
        if competes and not self._competing:
            for meter in self.shared:
                meter.turns.join(self.number)
        self._competing = competes

    @property
    def standing(self) -> tuple[int, int]:
        """Among lanes that share quotas the least is next. Only for a lane with a head.

        How far it is ahead where it is least so. One measure for all its quotas, because a lane that was next at one
        and another that was next at a second would keep the room for each other and both wait for ever; and the least,
        because then the others' turns at any of its quotas bring its own nearer.
        """
        head = self.order.head
        assert head is not None
        return min((meter.turns.lead(self.number) for meter in self.shared), default=0), head.seq

    def was_away(self) -> None:
        """It cannot have used a turn until now."""
        self._competing = False

    def worth_opening(self, now_us: int) -> int:
        """About how many more calls the quotas admit until a new connection would be open: as many are worth opening.

        At least what a whole period admits of calls like the head, so that a window that comes free at once finds its
        connections there; and what the room of the next moments would hold of the smallest call that waits.
        """
        head = self.order.head
        if head is None:
            return 0
        least = self.order.least
        worth = UNBOUNDED
        for meter in self.meters:
            in_a_period = room = UNBOUNDED
            if head.cost[meter.index]:
                in_a_period = -(-(meter.burst or meter.limit) // head.cost[meter.index]) - self.permits_held
            if least[meter.index]:
                room = meter.spare(max(now_us + OPEN_AHEAD_US, meter.not_before_us), now_us) // least[meter.index]
            worth = min(worth, max(in_a_period, room))
        return worth

    def statistics(self, now_us: int) -> LaneStatistics:
        """A frozen copy of what this lane holds."""
        return LaneStatistics(
            number=self.number,
            name=self.name,
            queued=self.order.waiting,
            backing_off=self.backing_off,
            in_flight=self.permits_held,
            permits_held=self.permits_held,
            barrier_until_us=self.barrier.until_us,
            retry_budget=self.budget.left,
            quotas=tuple(meter.statistics(now_us) for meter in self.meters),
        )

    def room(self, now_us: int) -> Ceilings:
        """The most a call may cost in each dimension to be admitted now."""
        if not self.meters:
            return NO_CEILINGS
        ceilings = list(NO_CEILINGS)
        for meter in self.meters:
            ceilings[meter.index] = min(ceilings[meter.index], meter.room(now_us))
        return (ceilings[0], ceilings[1], ceilings[2], ceilings[3])

    def fresh_instant(self, cost: Cost, now_us: int) -> int:
        """The earliest time the quotas and pace allow `cost`, open claims assumed sent in time."""
        return max((meter.instant(cost[meter.index], now_us) for meter in self.meters), default=now_us)

    def at_best(self, cost: Cost, now_us: int) -> int:
        """An instant before which the quotas and pace cannot allow `cost`, whatever comes back of calls in flight."""
        return max((meter.at_best(cost[meter.index], now_us) for meter in self.meters), default=now_us)

    def watch(self, now_us: int) -> None:
        """Give a head that has just become one its instant."""
        head = self.order.head
        if head is not self.watched:
            self.watched = head
            if head is not None:
                self.instant_us = self.fresh_instant(head.cost, now_us)

    def leaves(self, ticket: Ticket) -> None:
        """A call is about to leave the queue: whoever is head after the head becomes it anew, with a new instant."""
        if ticket is self.order.head:
            self.watched = None

    def hasten(self, now_us: int) -> None:
        """A claim was stamped or given back: the head's instant may now be earlier, never later."""
        head = self.order.head
        if head is not None and head is self.watched and self.instant_us > now_us:
            self.instant_us = min(self.instant_us, self.fresh_instant(head.cost, now_us))

    def reference_us(self, head: Ticket, now_us: int) -> int:
        """By when the head is to be admitted: a grace after its instant, unless debt or a late sender prevents that."""
        self.watch(now_us)
        at_us = max(self.instant_us + self.grace_us, now_us)
        for meter in self.meters:
            if meter.spare(at_us, now_us) < head.cost[meter.index]:
                return self.fresh_instant(head.cost, now_us)
        return at_us


class EndpointState:
    """One endpoint as the schedule keeps it. `lanes` are those with calls that wait for it."""

    def __init__(self, number: int, name: str, max_connections: int) -> None:
        self.number = number
        self.name = name
        self.max_connections = max_connections
        self.ready = 0
        self.in_flight = 0
        self.wanted = 0
        self.told_queued = False
        self.down: bytes = b""
        self.lanes: dict[int, None] = {}

    def statistics(self, lanes: dict[int, LaneState]) -> EndpointStatistics:
        """A frozen copy of what this endpoint holds."""
        return EndpointStatistics(
            number=self.number,
            name=self.name,
            ready=self.ready,
            wanted=self.wanted,
            in_flight=self.in_flight,
            queued=sum(lanes[number].order.waiting_at(self.number) for number in self.lanes),
            down=bool(self.down),
        )


class _Kept:
    """A head that nobody admitted before it may delay, and the meters it shares with the lane in question."""

    __slots__ = ("cost", "endpoint", "meters", "reference_us")

    def __init__(self, owner: LaneState, head: Ticket, lane: LaneState, now_us: int) -> None:
        self.endpoint = head.endpoint
        self.cost = head.cost
        self.reference_us = owner.reference_us(head, now_us)
        self.meters = [meter for meter in lane.meters if owner is lane or meter in owner.meters]

    def slack(self, meter: Meter, now_us: int) -> int:
        return meter.slack(self.reference_us, self.cost[meter.index], now_us)


class Admission:
    """The question "who is next?", over lanes and endpoints that the schedule owns."""

    def __init__(self, lanes: dict[int, LaneState], endpoints: dict[int, EndpointState]) -> None:
        self._lanes = lanes
        self._endpoints = endpoints
        self._firsts: dict[int, LaneState | None] = {}

    def pick(self, lane: LaneState, now_us: int) -> Ticket | None:
        """The call of this lane to admit now, if any."""
        head = lane.order.head
        if head is None or lane.barrier.until_us > now_us or lane.permits_free < 1 or not self._any_worker(lane):
            return None
        ceilings = lane.room(now_us)
        if min(ceilings) < 0 or ceilings[0] < 1:
            return None
        kept = self._others(lane, now_us)
        ceilings = self._tighten(ceilings, kept, now_us)
        if within(head.cost, ceilings) and self._worker_left(head.endpoint, kept):
            return head
        if lane.order.waiting < 2 or lane.permits_free < 2:
            return None
        own = _Kept(lane, head, lane, now_us)
        ceilings = self._tighten(ceilings, [own], now_us)
        if ceilings[0] < 1:
            return None
        kept.append(own)
        return lane.order.behind(ceilings, lambda endpoint: self._worker_left(endpoint, kept))

    def wake_us(self, lane: LaneState, now_us: int) -> int | None:
        """When a call of this lane may be admitted next, if nobody reports anything before. None: not by time."""
        lane.watch(now_us)
        lane.short_of_workers = lane.only_short_of_workers = False
        head = lane.order.head
        if head is None:
            return None
        if lane.barrier.until_us > now_us:
            return lane.barrier.until_us
        if lane.permits_free < 1:
            return None
        if not lane.meters and not self._any_worker(lane):  # what follows, for a lane without limits
            lane.short_of_workers = lane.only_short_of_workers = True
            return None
        kept = self._others(lane, now_us)
        soonest = opening = None  # with a worker that is there; with one that would have to be opened first
        fits_us = self._when(lane, head.cost, kept, now_us)
        if fits_us == now_us and not self._any_worker(lane):
            lane.short_of_workers = True
            lane.only_short_of_workers = len(lane.tied) == 1
            return None
        if self._worker_left(head.endpoint, kept):
            soonest = fits_us
        else:
            opening = fits_us
        if lane.order.waiting > 1 and lane.permits_free > 1:
            kept.append(_Kept(lane, head, lane, now_us))

            def when(cost: Cost) -> int | None:
                return self._when(lane, cost, kept, now_us)

            if self._any_worker(lane):
                soonest = lane.order.soonest_behind(when, lambda at: self._worker_left(at, kept), soonest)
            if opening is None or opening - OPEN_AHEAD_US > now_us:
                opening = lane.order.soonest_behind(when, lambda at: not self._worker_left(at, kept), opening)
        if opening is None:
            return soonest
        lane.short_of_workers = opening - OPEN_AHEAD_US <= now_us
        if opening > now_us:
            early_us = opening - OPEN_AHEAD_US if opening - OPEN_AHEAD_US > now_us else opening
            soonest = min(UNBOUNDED if soonest is None else soonest, early_us)
        return soonest

    def _others(self, lane: LaneState, now_us: int) -> list[_Kept]:
        """The heads of other lanes whose turn it is at a quota they share with this one."""
        if len(lane.tied) == 1:
            return []
        kept: list[_Kept] = []
        seen: list[LaneState] = [lane]
        for meter in lane.shared:
            first = self._first(meter, now_us)
            if first is not None and first not in seen and first.order.head is not None:
                seen.append(first)
                kept.append(_Kept(first, first.order.head, lane, now_us))
        return kept

    def look_again(self) -> None:
        """Whose turn it is may have changed: somebody competes who did not, or was granted a call."""
        self._firsts.clear()

    def _first(self, meter: Meter, now_us: int) -> LaneState | None:
        """The lane whose turn it is at a shared quota. Found once between changes: each of its lanes asks."""
        key = meter.spec.quota_id
        if key not in self._firsts:
            lanes = (self._lanes[number] for number in meter.lanes)
            self._firsts[key] = min((lane for lane in lanes if lane.competes(now_us)), key=_standing, default=None)
        return self._firsts[key]

    def pay(self, lane: LaneState, ticket: Ticket, now_us: int) -> tuple[Fare[int], ...]:
        """What a lane pays at its shared quotas for a call of it that is about to be granted."""
        if len(lane.tied) == 1:
            return ()
        service = service_of(ticket.cost, lane.shared)
        # All turns are looked at before any is paid: what is paid at one quota counts at the others.
        is_head = ticket is lane.order.head
        in_turn = [is_head and self._first(meter, now_us) is lane for meter in lane.shared]
        turns = zip(lane.shared, in_turn, strict=True)
        return tuple([meter.turns.pay(lane.number, service, in_turn=its_turn) for meter, its_turn in turns])

    @staticmethod
    def _tighten(ceilings: Ceilings, kept: Iterable[_Kept], now_us: int) -> Ceilings:
        for one in kept:
            tighter = list(ceilings)
            for meter in one.meters:
                tighter[meter.index] = min(tighter[meter.index], one.slack(meter, now_us))
            ceilings = (tighter[0], tighter[1], tighter[2], tighter[3])
        return ceilings

    def _any_worker(self, lane: LaneState) -> bool:
        """Whether a worker is ready for any call that waits here."""
        for endpoint in lane.order.endpoints():  # noqa: SIM110  # several times a call, and twice as fast as any()
            if self._endpoints[endpoint].ready > 0:
                return True
        return False

    def _worker_left(self, endpoint: int, kept: list[_Kept]) -> bool:
        """Whether a worker is ready there, and one more for a kept head that waits at the same endpoint."""
        needed = 2 if kept and any(one.endpoint == endpoint for one in kept) else 1
        return self._endpoints[endpoint].ready >= needed

    @staticmethod
    def _when(lane: LaneState, cost: Cost, kept: Iterable[_Kept], now_us: int) -> int | None:
        """When `cost` could be admitted in this lane without harm to the kept heads, if nobody reports anything."""
        at_us = now_us
        for meter in lane.meters:
            fits_us = meter.earliest(cost[meter.index], now_us)
            if fits_us is None:
                return None
            at_us = max(at_us, fits_us)
        for one in kept:
            for meter in one.meters:
                amount = cost[meter.index]
                if amount <= one.slack(meter, now_us):
                    continue
                # Not beside the kept head while it still waits for its room: then only where both find room, which
                # a paced quota never has.
                both = amount + one.cost[meter.index]
                apart = meter.spec.pace or (meter.learned and both > meter.limit)
                both_us = None if apart else meter.earliest(both, now_us)
                if both_us is None:
                    return None
                at_us = max(at_us, both_us, one.reference_us)
        return at_us


def _standing(lane: LaneState) -> tuple[int, int]:
    return lane.standing
