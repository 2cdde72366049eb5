"""What waits: the ticket of a live call, queues of tickets that can be searched by cost, and rankings.

A queue is a list of blocks, each ordered by sequence number, each with the least cost it holds in every dimension. So a
hundred thousand waiting calls are searched for the first that fits into a small room without looking at most of them.
In which order queues are served is the business of `lanes`.

Pure: no trio, no clock, no I/O.
"""

from __future__ import annotations

import enum
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import Generic, TypeVar

import msgspec

from actors.limits import UNBOUNDED, Cost
from actors.meters import Claim
from actors.turns import Fare

R = TypeVar("R")
K = TypeVar("K")

_BLOCK = 256
seq_of = attrgetter("seq")


class State(enum.Enum):
    """Where a live call is."""

    QUEUED = "queued"
    BACKING_OFF = "backing off"
    GRANTED = "granted"
    SENT = "sent"


class Reservation(msgspec.Struct, gc=False, eq=False):
    """What a grant took: a claim on each quota until that is settled, and what flow and lane paid for their turns.

    `number` counts the grants of its call. `sent_us` is -1 until the request has left. `ending` says why the call, in
    flight, was told to stop.
    """

    number: int
    granted_us: int
    claims: tuple[Claim, ...]
    flow_fare: Fare[str]
    lane_fares: tuple[Fare[int], ...]
    sent_us: int = -1
    ending: str = ""


class Taken(msgspec.Struct, gc=False, eq=False):
    """A call that its provider has taken and not answered yet: the reservation of the attempt that was taken, whose
    claims stay until the answer says what they were used for, and its lane.

    `settled`: the answer has said so. `attempts` are those of the call up to the last one that was heard.
    """

    reservation: Reservation
    lane: int
    attempts: int
    settled: bool = False


class Ticket(msgspec.Struct, gc=False, eq=False):
    """The record of one live call: a few hundred bytes, not a task.

    `calling` is the encoded `APICalling`, kept and never read here. `deadline_us` 0 means none. `attempts` counts those
    that count, `grants` also those that were never begun; `reservation` is that of the last grant; `wrote` says that a
    byte has left in any of them; `reply` is the encoded `Reply` of the last one that ended. Once its provider has
    `taken` it, what waits and is sent are polls, in a lane of theirs. `watched`: its deadline stands in the heap.
    """

    call_id: int
    lane: int
    endpoint: int
    seq: int
    submitted_us: int
    deadline_us: int
    timeout_us: int
    cost: Cost
    retry_unknown: bool
    handled: bool
    priority: int
    flow: str
    calling: bytes
    max_attempts: int = 4
    state: State = State.QUEUED
    attempts: int = 0
    wrote: bool = False
    reservation: Reservation | None = None
    reply: bytes = b""
    taken: Taken | None = None
    watched: bool = False

    @property
    def input_tokens(self) -> int:
        """The input it reserves."""
        return self.cost[1]

    @property
    def output_tokens(self) -> int:
        """The output it reserves."""
        return self.cost[2]

    @property
    def grants(self) -> int:
        """How often it was granted."""
        return self.reservation.number if self.reservation is not None else 0

    @property
    def ending(self) -> str:
        """Why it was told to stop when it was last in flight, or nothing."""
        return self.reservation.ending if self.reservation is not None else ""

    @property
    def sent_us(self) -> int:
        """When its request left in the last attempt, -1 if none has."""
        return self.reservation.sent_us if self.reservation is not None else -1


Ceilings = tuple[int, int, int, int]
"""The most a call may cost in each dimension."""

NO_CEILINGS: Ceilings = (UNBOUNDED, UNBOUNDED, UNBOUNDED, UNBOUNDED)


def within(cost: Cost, ceilings: Ceilings) -> bool:
    """Whether `cost` is no more than `ceilings` in every dimension."""
    return cost[0] <= ceilings[0] and cost[1] <= ceilings[1] and cost[2] <= ceilings[2] and cost[3] <= ceilings[3]


def lesser(one: Cost, other: Cost) -> Cost:
    """The least of both in each dimension."""
    return (1, min(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3]))


class _Block:
    """A run of tickets in order, and a lower bound of their costs that is exact after `measure`."""

    __slots__ = ("least", "tickets")

    def __init__(self, tickets: list[Ticket]) -> None:
        self.tickets = tickets
        self.least: Cost = NO_CEILINGS
        self.measure()

    def measure(self) -> None:
        self.least = NO_CEILINGS
        for ticket in self.tickets:
            self.least = lesser(self.least, ticket.cost)


class CallQueue:
    """The waiting calls of one lane for one endpoint, ordered by sequence number."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._least: Cost = NO_CEILINGS
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Ticket]:
        for block in self._blocks:
            yield from block.tickets

    def first(self) -> Ticket | None:
        return self._blocks[0].tickets[0] if self._blocks else None

    def last(self) -> Ticket | None:
        return self._blocks[-1].tickets[-1] if self._blocks else None

    def push(self, ticket: Ticket) -> None:
        """Put a ticket in its place: nearly always the end."""
        self._size += 1
        blocks = self._blocks
        if not blocks:
            blocks.append(_Block([ticket]))
            self._least = ticket.cost
            return
        at = len(blocks) - 1
        if ticket.seq < blocks[-1].tickets[0].seq:
            at = max(0, bisect_right(blocks, ticket.seq, key=lambda block: block.tickets[0].seq) - 1)
        block = blocks[at]
        tickets = block.tickets
        if ticket.seq > tickets[-1].seq:
            tickets.append(ticket)
            if len(tickets) <= _BLOCK and tickets[-2].cost is ticket.cost:
                return
        else:
            tickets.insert(bisect_left(tickets, ticket.seq, key=seq_of), ticket)
        self._least = lesser(self._least, ticket.cost)
        if len(tickets) <= _BLOCK:
            block.least = lesser(block.least, ticket.cost)
        else:
            half = len(tickets) // 2 if at < len(blocks) - 1 else _BLOCK
            blocks[at : at + 1] = [_Block(tickets[:half]), _Block(tickets[half:])]

    def remove(self, ticket: Ticket) -> None:
        """Take a ticket out, from wherever it stands. The block's least cost stays a lower bound."""
        blocks = self._blocks
        at = 0
        if blocks[0].tickets[0] is not ticket:
            at = bisect_right(blocks, ticket.seq, key=lambda block: block.tickets[0].seq) - 1
        tickets = blocks[at].tickets
        where = bisect_left(tickets, ticket.seq, key=seq_of)
        assert tickets[where] is ticket, "a ticket is taken out of the queue it stands in"
        del tickets[where]
        if not tickets:
            del blocks[at]
        self._size -= 1

    def search(self, ceilings: Ceilings, but: Ticket | None) -> Ticket | None:
        """The first ticket within `ceilings`, `but` left aside."""
        if not within(self._least, ceilings):
            return None
        for block in self._blocks:
            if not within(block.least, ceilings):
                continue
            for ticket in block.tickets:
                if within(ticket.cost, ceilings) and ticket is not but:
                    return ticket
            block.measure()
        self._measure()
        return None

    def soonest(self, when: Callable[[Cost], int | None], but: Ticket | None, before: int | None) -> int | None:
        """The least of `when(cost)` over all tickets but one; `when` never falls as the cost grows.

        `before` is an answer that is known already: what cannot be sooner is not looked at. None means never.
        """
        known: dict[Cost, int | None] = {}

        def sooner(cost: Cost) -> int | None:
            if cost not in known:
                known[cost] = when(cost)
            at_us = known[cost]
            return None if at_us is None or (before is not None and at_us >= before) else at_us

        best = sooner(self._least)
        if best is None:
            return before
        for block in self._blocks:
            if sooner(block.least) is None:
                continue
            for ticket in block.tickets:
                at_us = None if ticket is but else sooner(ticket.cost)
                if at_us is not None:
                    before = at_us
                    if before == best:
                        return before
            block.measure()
        self._measure()
        return before

    @property
    def least(self) -> Cost:
        """No ticket costs less than this in any dimension; nearly always exact."""
        return self._least

    def _measure(self) -> None:
        """Looked through in vain: make the lower bound exact."""
        self._least = NO_CEILINGS
        for block in self._blocks:
            self._least = lesser(self._least, block.least)


class Ranking(Generic[R, K]):
    """Names by ranks that change, the least first. Old entries are dropped when they come to the top, or are many."""

    __slots__ = ("_heap", "_ranks")

    def __init__(self) -> None:
        self._ranks: dict[K, R] = {}
        self._heap: list[tuple[R, K]] = []

    @property
    def entries(self) -> int:
        """How many entries are kept, old ones included."""
        return len(self._heap)

    def put(self, name: K, rank: R) -> None:
        """Give a name its rank, in place of any it had."""
        if self._ranks.get(name) == rank:
            return
        self._ranks[name] = rank
        heappush(self._heap, (rank, name))
        if len(self._heap) > 2 * len(self._ranks) + 64:
            self._heap = [(rank, name) for name, rank in self._ranks.items()]
            heapify(self._heap)

    def drop(self, name: K) -> None:
        """Forget a name, if it is there."""
        self._ranks.pop(name, None)

    def first(self) -> K:
        """The name with the least rank. There must be one."""
        heap = self._heap
        while self._ranks.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][1]
