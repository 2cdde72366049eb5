"""The order of one lane: which of its calls is next. No other file knows why.

A lane has a level for each priority and serves the one whose oldest call has the smallest
``submitted_us + priority * ageing_us``, so that waiting lifts every call in the end. Within a level, flows take turns
by weight. Within a flow, first come, first served by sequence number; a call that returns from backoff keeps its number
and so stands ahead of later calls. When nobody waits in a level any more, its flows are even again.

Pure: no trio, no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from heapq import heapify, heappop, heappush

from actors.limits import Cost
from actors.queues import NO_CEILINGS, CallQueue, Ceilings, Ticket, lesser, seq_of, within
from actors.turns import Fare, Turns


class _Flow:
    """The waiting calls of one flow in one level, a queue for each endpoint."""

    __slots__ = ("first", "name", "queues")

    def __init__(self, name: str, first: Ticket) -> None:
        self.name = name
        self.first = first
        self.queues: dict[int, CallQueue] = {}

    def push(self, ticket: Ticket) -> None:
        queue = self.queues.get(ticket.endpoint)
        if queue is None:
            queue = self.queues[ticket.endpoint] = CallQueue()
        queue.push(ticket)
        if ticket.seq < self.first.seq:
            self.first = ticket

    def remove(self, ticket: Ticket) -> bool:
        """Take a ticket out; whether any is left."""
        queue = self.queues[ticket.endpoint]
        queue.remove(ticket)
        if not queue:
            del self.queues[ticket.endpoint]
        if ticket is self.first and self.queues:
            firsts = [first for one in self.queues.values() if (first := one.first()) is not None]
            self.first = firsts[0] if len(firsts) == 1 else min(firsts, key=seq_of)
        return bool(self.queues)


class _Level:
    """The waiting calls of one priority.

    Both heaps hold each flow at least once while there are several, and may hold entries that no longer stand; those
    are dropped when they come to the top. A lone flow needs none.
    """

    __slots__ = ("_by_age", "_by_tag", "flows", "priority", "turns")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.flows: dict[str, _Flow] = {}
        self.turns: Turns[str] = Turns()
        self._by_tag: list[tuple[int, int, str]] = []
        self._by_age: list[tuple[int, str]] = []

    def push(self, ticket: Ticket) -> None:
        flow = self.flows.get(ticket.flow)
        if flow is not None:
            ticket.flow = flow.name  # one text for all that wait
            flow.push(ticket)
            if flow.first is ticket:
                self._rank(flow)
            return
        flow = self.flows[ticket.flow] = _Flow(ticket.flow, ticket)
        flow.push(ticket)
        self.turns.join(ticket.flow)
        if len(self.turns) > 2 * len(self.flows) + 64:
            self.turns.forget_but(self.flows)
        if len(self.flows) == 2:
            self._rank_all()
        else:
            self._rank(flow)

    def remove(self, ticket: Ticket) -> None:
        flow = self.flows[ticket.flow]
        was_first = flow.first is ticket
        if not flow.remove(ticket):
            del self.flows[ticket.flow]
        elif was_first:
            self._rank(flow)

    def rank(self, name: str) -> None:
        """The tag of a flow has changed."""
        flow = self.flows.get(name)
        if flow is not None:
            self._rank(flow)

    def next(self) -> Ticket:
        """The first call of the flow whose turn it is."""
        if len(self.flows) == 1:
            return next(iter(self.flows.values())).first
        heap = self._by_tag
        while True:
            tag, seq, name = heap[0]
            flow = self.flows.get(name)
            if flow is not None and flow.first.seq == seq and self.turns.tag(name) == tag:
                return flow.first
            heappop(heap)

    def oldest(self) -> Ticket:
        """The call that has waited longest."""
        if len(self.flows) == 1:
            return next(iter(self.flows.values())).first
        heap = self._by_age
        while True:
            seq, name = heap[0]
            flow = self.flows.get(name)
            if flow is not None and flow.first.seq == seq:
                return flow.first
            heappop(heap)

    def _rank(self, flow: _Flow) -> None:
        if len(self.flows) == 1:
            return
        heappush(self._by_tag, (self.turns.tag(flow.name), flow.first.seq, flow.name))
        heappush(self._by_age, (flow.first.seq, flow.name))
        if len(self._by_tag) > 4 * len(self.flows) + 64:
            self._rank_all()

    def _rank_all(self) -> None:
        self._by_tag = [(self.turns.tag(flow.name), flow.first.seq, flow.name) for flow in self.flows.values()]
        self._by_age = [(flow.first.seq, flow.name) for flow in self.flows.values()]
        heapify(self._by_tag)
        heapify(self._by_age)


class Lane:
    """The order of one lane. `weights` are those of its flows, 1 where none is given."""

    def __init__(self, ageing_us: int, weights: Mapping[str, int]) -> None:
        self._ageing_us = ageing_us
        self._weights = weights
        self._levels: dict[int, _Level] = {}
        self._endpoints: dict[int, int] = {}
        self._least: Cost = NO_CEILINGS
        self._head: Ticket | None = None
        self.waiting = 0

    def __iter__(self) -> Iterator[Ticket]:
        """All that wait, in no particular order."""
        for _, queue in self._queues():
            yield from queue

    @property
    def head(self) -> Ticket | None:
        """The call that is next."""
        if self._head is None and self.waiting:
            self._head = self._first_level().next()
        return self._head

    @property
    def least(self) -> Cost:
        """No waiting call costs less than this in any dimension; nearly always exact."""
        return self._least

    def push(self, ticket: Ticket) -> bool:
        """A call starts to wait, or comes back. Whether that may matter to anybody now.

        It does not if the head stays the same and a call that costs no more waits for the same endpoint already.
        """
        level = self._levels.get(ticket.priority)
        if level is None:
            level = self._levels[ticket.priority] = _Level(ticket.priority)
        matters = not self._like_one_before(level, ticket)
        level.push(ticket)
        self._endpoints[ticket.endpoint] = self._endpoints.get(ticket.endpoint, 0) + 1
        self._least = lesser(self._least, ticket.cost) if self.waiting else ticket.cost
        self.waiting += 1
        if level.flows[ticket.flow].first is not ticket:
            return matters
        before, self._head = self._head, None
        return matters or self.head is not before

    def remove(self, ticket: Ticket) -> None:
        """A call no longer waits."""
        level = self._levels[ticket.priority]
        level.remove(ticket)
        if not level.flows:
            del self._levels[ticket.priority]
        left = self._endpoints[ticket.endpoint] - 1
        if left:
            self._endpoints[ticket.endpoint] = left
        else:
            del self._endpoints[ticket.endpoint]
        self.waiting -= 1
        self._head = None

    def grant(self, ticket: Ticket, service: int) -> Fare:
        """A call no longer waits because it was granted; what its flow pays for that."""
        in_turn = ticket is self.head
        level = self._levels[ticket.priority]
        fare = Fare(level.turns, -(-service // self._weights.get(ticket.flow, 1)))
        self.remove(ticket)
        level.turns.pay(ticket.flow, fare.paid, in_turn=in_turn)
        level.rank(ticket.flow)
        return fare

    def refund(self, ticket: Ticket, fare: Fare) -> None:
        """A granted call was not sent; it may be pushed again. What a level charged that has ended is forgotten."""
        level = self._levels.get(ticket.priority)
        if level is not None and level.turns is fare.turns:
            level.turns.refund(ticket.flow, fare.paid)
            level.rank(ticket.flow)
            self._head = None

    def endpoints(self) -> Iterator[int]:
        """The endpoints its calls wait for."""
        return iter(self._endpoints)

    def waiting_at(self, endpoint: int) -> int:
        """How many of its calls wait for one endpoint."""
        return self._endpoints.get(endpoint, 0)

    def oldest(self, endpoint: int) -> Ticket | None:
        """The call that has waited longest for one endpoint."""
        firsts = [first for at, queue in self._queues() if at == endpoint and (first := queue.first()) is not None]
        return min(firsts, key=seq_of, default=None)

    def behind(self, ceilings: Ceilings, may_use: Callable[[int], bool]) -> Ticket | None:
        """A call behind the head that costs no more than `ceilings`, at an endpoint that `may_use` allows.

        The first of its queue that does; of several, the one that is nearest to its turn.
        """
        head = self.head
        if head is None or not within(self._least, ceilings):
            return None
        for level in sorted(self._levels.values(), key=self._standing):
            found: list[tuple[int, int, Ticket]] = []
            for flow in level.flows.values():
                tag = level.turns.tag(flow.name)
                for endpoint, queue in flow.queues.items():
                    ticket = queue.search(ceilings, head) if may_use(endpoint) else None
                    if ticket is not None:
                        found.append((tag, ticket.seq, ticket))
            if found:
                return min(found)[2]
        self._measure()
        return None

    def soonest_behind(
        self, when: Callable[[Cost], int | None], may_use: Callable[[int], bool], before: int | None
    ) -> int | None:
        """The least of `when(cost)` over the calls behind the head at endpoints that `may_use` allows, or `before`."""
        head = self.head
        assert head is not None
        at_best_us = when(self._least)
        if at_best_us is None or (before is not None and at_best_us >= before):
            return before
        for endpoint, queue in self._queues():
            if may_use(endpoint):
                before = queue.soonest(when, head, before)
        self._measure()
        return before

    def _like_one_before(self, level: _Level, ticket: Ticket) -> bool:
        flow = level.flows.get(ticket.flow)
        queue = flow.queues.get(ticket.endpoint) if flow is not None else None
        last = queue.last() if queue is not None else None
        return last is not None and (last.cost is ticket.cost or within(last.cost, ticket.cost))

    def _first_level(self) -> _Level:
        if len(self._levels) == 1:
            return next(iter(self._levels.values()))
        return min(self._levels.values(), key=self._standing)

    def _standing(self, level: _Level) -> tuple[int, int]:
        oldest = level.oldest()
        return oldest.submitted_us + level.priority * self._ageing_us, oldest.seq

    def _queues(self) -> Iterator[tuple[int, CallQueue]]:
        for level in self._levels.values():
            for flow in level.flows.values():
                yield from flow.queues.items()

    def _measure(self) -> None:
        """Looked through in vain: make the lower bound exact."""
        self._least = NO_CEILINGS
        for _, queue in self._queues():
            self._least = lesser(self._least, queue.least)
