"""What the schedule answers: effects for its actor to carry out, and the statistics anybody may look at.

An effect names a ticket and what is to be done about it; the schedule has already changed its own state when it returns
one. Statistics are frozen copies.

Pure: no trio, no I/O.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from actors.limits import QuotaStatistics
from actors.messages import Ended
from actors.queues import Ticket


class Queued(msgspec.Struct, frozen=True, gc=False):
    """A call waits for its turn. `returned`: it was there before, and takes no new place from a submitter."""

    ticket: Ticket
    returned: bool


class Granted(msgspec.Struct, frozen=True, gc=False):
    """Send this call. Its place in the queue is free."""

    ticket: Ticket
    attempt: int
    granted_us: int
    not_after_us: int
    stop_us: int


class Left(msgspec.Struct, frozen=True, gc=False):
    """The request of this call has left, at `ticket.sent_us`."""

    ticket: Ticket


class Retrying(msgspec.Struct, frozen=True, gc=False):
    """The call backs off and returns at `at_us`. `was_queued`: it had a place, which is free."""

    ticket: Ticket
    at_us: int
    was_queued: bool


class Later(msgspec.Struct, frozen=True, gc=False):
    """The provider has taken this call and answers later. It is asked again at `at_us`, if its deadline allows."""

    ticket: Ticket
    at_us: int


class Dropped(msgspec.Struct, frozen=True, gc=False):
    """Tell the endpoint to give this call's attempt up."""

    ticket: Ticket
    reason: Literal["cancelled", "shutdown"]


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The one terminal value of a call. `reply` is the encoded `Reply` of its last attempt, or empty.

    `was_queued`: it had a place in the queue, which is free.
    """

    ticket: Ticket
    ended: Ended
    reply: bytes
    was_queued: bool


class Want(msgspec.Struct, frozen=True, gc=False):
    """Tell an endpoint how many connections could be used, those in use included."""

    endpoint: int
    connections: int
    queued: bool


class Barred(msgspec.Struct, frozen=True, gc=False):
    """Nothing of this lane is admitted before `until_us`."""

    lane: int
    until_us: int


Effect: TypeAlias = Queued | Granted | Left | Retrying | Later | Dropped | Finished | Want | Barred


class LaneStatistics(msgspec.Struct, frozen=True):
    """One lane. `number` is what events call it; `retry_budget`, how many retries it may still make without another
    success."""

    number: int
    name: str
    queued: int
    backing_off: int
    in_flight: int
    permits_held: int
    barrier_until_us: int
    retry_budget: float
    quotas: tuple[QuotaStatistics, ...]


class EndpointStatistics(msgspec.Struct, frozen=True):
    """One endpoint, as the scheduler knows it. `number` is what events call it."""

    number: int
    name: str
    ready: int
    wanted: int
    in_flight: int
    queued: int
    down: bool


class ScheduleStatistics(msgspec.Struct, frozen=True):
    """Everything the schedule holds. The first five are live gauges: zero when the engine is quiet; and so is `taken`,
    the calls whose provider answers later.

    reservations_made = reservations_settled + reservations_given_back + live_reservations, always.
    """

    queued: int
    backing_off: int
    granted: int
    sent: int
    permits_held: int
    open_reservations: int
    live_reservations: int
    reservations_made: int
    reservations_settled: int
    reservations_given_back: int
    late_messages: int
    retries: int
    taken: int
    submitted: int
    ended: dict[str, int]
    lanes: tuple[LaneStatistics, ...]
    endpoints: tuple[EndpointStatistics, ...]
