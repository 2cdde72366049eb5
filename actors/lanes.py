"""The order of one lane: which of its calls is next. No other file knows why.

A lane has a level for each priority and serves the one whose oldest call has the smallest
``submitted_us + priority * ageing_us``, so that waiting lifts every call over later ones. Within a level, flows take
turns by weight. Within a flow, first come, first served by sequence number; a call that returns from backoff keeps its
number and so stands ahead of later calls. When nobody waits in a level any more, its flows are even again.

All calls for one endpoint stand in one queue, which is searched by cost. As long as all that wait are of one flow, that
is all there is; queues of flows and rankings are built when a second one comes.

Pure: no trio, no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from actors.limits import Cost
from actors.queues import CallQueue, Ceilings, Ranking, Ticket, lesser, seq_of, within
from actors.turns import Fare, Turns

_MOST_DEBTS = 10_000
"""Flows that are away and owe something, remembered for each level."""


class _Level:
    """The flows of one priority that wait. `queues` is empty while the lane has one flow alone."""

    __slots__ = ("_sweep_at", "by_age", "by_tag", "queues", "turns")

    def __init__(self) -> None:
        self.turns: Turns[str] = Turns()
        self.queues: dict[str, CallQueue] = {}
        self.by_tag: Ranking[tuple[int, int], str] = Ranking()
        self.by_age: Ranking[int, str] = Ranking()
        self._sweep_at = 64

    def push(self, ticket: Ticket) -> None:
        queue = self.queues.get(ticket.flow)
        if queue is None:
            queue = self.queues[ticket.flow] = CallQueue()
            self.turns.join(ticket.flow)
            if len(self.turns) > self._sweep_at:
                self.turns.forget(self.queues, debts=len(self.turns) - len(self.queues) > _MOST_DEBTS)
                self._sweep_at = 2 * len(self.turns) + 64
        queue.push(ticket)
        if queue.first() is ticket:
            self.rank(ticket.flow)

    def remove(self, ticket: Ticket) -> None:
        queue = self.queues[ticket.flow]
        was_first = queue.first() is ticket
        queue.remove(ticket)
        if not queue:
            del self.queues[ticket.flow]
        if was_first:
            self.rank(ticket.flow)

    def rank(self, flow: str) -> None:
        """The first call of a flow has changed, or its tag."""
        queue = self.queues.get(flow)
        first = queue.first() if queue is not None else None
        if first is None:
            self.by_tag.drop(flow)
            self.by_age.drop(flow)
        else:
            self.by_tag.put(flow, (self.turns.tag(flow), first.seq))
            self.by_age.put(flow, first.seq)

    def next(self) -> Ticket | None:
        """The first call of the flow whose turn it is."""
        return self.queues[self.by_tag.first()].first()

    def oldest(self) -> Ticket | None:
        """The call that has waited longest."""
        return self.queues[self.by_age.first()].first()


class LaneOrder:
    """The order of one lane. `weights` are those of its flows, 1 where none is given."""

    def __init__(self, ageing_us: int, weights: Mapping[str, int]) -> None:
        self._ageing_us = ageing_us
        self._weights = weights
        self._queues: dict[int, CallQueue] = {}
        self._levels: dict[int, _Level] = {}
        self._by_age: Ranking[tuple[int, int], int] = Ranking()
        self._alone: tuple[int, str] | None = None
        self._head: Ticket | None = None
        self.waiting = 0

    def __iter__(self) -> Iterator[Ticket]:
        """All that wait, in no particular order."""
        for queue in self._queues.values():
            yield from queue

    @property
    def head(self) -> Ticket | None:
        """The call that is next."""
        if self._head is None and self.waiting:
            self._head = self._first() if self._alone else self._levels[self._by_age.first()].next()
        return self._head

    @property
    def least(self) -> Cost:
        """No waiting call costs less than this in any dimension; nearly always exact. Only where somebody waits."""
        queues = iter(self._queues.values())
        least = next(queues).least
        for queue in queues:
            least = lesser(least, queue.least)
        return least

    def push(self, ticket: Ticket) -> bool:
        """A call starts to wait, or comes back. Whether that may matter to anybody now.

        It does not if the head stays the same and a call that costs no more waits for the same endpoint already.
        """
        queue = self._queues.get(ticket.endpoint)
        if queue is None:
            queue = self._queues[ticket.endpoint] = CallQueue()
        last = queue.last()
        before, self._head = self.head, None
        queue.push(ticket)
        self.waiting += 1
        self._enter(ticket)
        if self._alone and before is not None:
            self._head = before if before.seq < ticket.seq else ticket
        if self.head is not before or last is None:
            return True
        return last.cost is not ticket.cost and not within(last.cost, ticket.cost)

    def remove(self, ticket: Ticket) -> None:
        """A call no longer waits."""
        queue = self._queues[ticket.endpoint]
        queue.remove(ticket)
        if not queue:
            del self._queues[ticket.endpoint]
        self.waiting -= 1
        self._head = None
        if not self.waiting:
            self._levels.clear()
            self._by_age = Ranking()
            self._alone = None
        elif not self._alone:
            level = self._levels[ticket.priority]
            level.remove(ticket)
            if not level.queues:
                del self._levels[ticket.priority]
            self._rank(ticket.priority)

    def grant(self, ticket: Ticket, service: int) -> Fare[str]:
        """A call no longer waits because it was granted; what its flow pays for that."""
        in_turn = ticket is self.head
        level = self._levels[ticket.priority]
        self.remove(ticket)
        fare = level.turns.pay(ticket.flow, -(-service // self._weights.get(ticket.flow, 1)), in_turn=in_turn)
        if not self._alone:
            level.rank(ticket.flow)
        return fare

    def refund(self, ticket: Ticket, fare: Fare[str]) -> None:
        """A granted call was not sent; it may be pushed again. What a level charged that has ended is forgotten."""
        level = self._levels.get(ticket.priority)
        if level is not None and level.turns is fare.turns:
            level.turns.refund(fare)
            level.rank(ticket.flow)
            self._head = None

    def endpoints(self) -> Iterator[int]:
        """The endpoints its calls wait for."""
        return iter(self._queues)

    def waiting_at(self, endpoint: int) -> int:
        """How many of its calls wait for one endpoint."""
        queue = self._queues.get(endpoint)
        return len(queue) if queue is not None else 0

    def oldest(self, endpoint: int) -> Ticket | None:
        """The call that has waited longest for one endpoint."""
        queue = self._queues.get(endpoint)
        return queue.first() if queue is not None else None

    def behind(self, ceilings: Ceilings, may_use: Callable[[int], bool]) -> Ticket | None:
        """The oldest call but the head that costs no more than `ceilings`, at an endpoint that `may_use` allows."""
        head = self.head
        found: Ticket | None = None
        for endpoint, queue in self._queues.items():
            if may_use(endpoint):
                ticket = queue.search(ceilings, head)
                if ticket is not None and (found is None or ticket.seq < found.seq):
                    found = ticket
        return found

    def soonest_behind(
        self, when: Callable[[Cost], int | None], may_use: Callable[[int], bool], before: int | None
    ) -> int | None:
        """The least of `when(cost)` over the calls behind the head at endpoints that `may_use` allows, or `before`."""
        for endpoint, queue in self._queues.items():
            if may_use(endpoint):
                before = queue.soonest(when, self.head, before)
        return before

    def _enter(self, ticket: Ticket) -> None:
        """Put a call that has come into its queue into its level and flow."""
        whose = (ticket.priority, ticket.flow)
        if not self._levels:
            self._alone = whose
            self._levels[ticket.priority] = level = _Level()
            level.turns.join(ticket.flow)
        elif self._alone == whose:
            ticket.flow = self._alone[1]  # one text for all that wait
        elif self._alone:
            self._alone = None
            for waiting in sorted(self, key=seq_of):
                self._file(waiting)
        else:
            self._file(ticket)

    def _file(self, ticket: Ticket) -> None:
        level = self._levels.get(ticket.priority)
        if level is None:
            level = self._levels[ticket.priority] = _Level()
        level.push(ticket)
        self._rank(ticket.priority)

    def _rank(self, priority: int) -> None:
        """The oldest call of a level may have changed."""
        level = self._levels.get(priority)
        oldest = level.oldest() if level is not None else None
        if oldest is None:
            self._by_age.drop(priority)
        else:
            self._by_age.put(priority, (oldest.submitted_us + priority * self._ageing_us, oldest.seq))

    def _first(self) -> Ticket | None:
        firsts = [first for queue in self._queues.values() if (first := queue.first()) is not None]
        return firsts[0] if len(firsts) == 1 else min(firsts, key=seq_of)
