"""What an endpoint actor knows of each of its workers: the connection it owns, and the attempt it is busy with.

The actor writes to a worker's `inbox` and stops it; the task that owns the worker does everything else. One task, and
one heap, watch over the time of all attempts of an endpoint: a cancel scope of its own for each would cost more than
anything else a worker does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush

import trio

from actors import messages as ms
from actors.clock import now_us, trio_deadline
from actors.limits import UNBOUNDED
from actors.messages import encode
from actors.transport import Connection, TooLate

STILLBORN_US = 500_000
_SPARE = 1_000


class Worker:
    """One connection's place: the task that owns it reads `inbox`, the actor writes to it.

    `scope` is the one the task works in; it is renewed after it was cancelled. `stopped` says why the present attempt
    was told to stop: ``"timeout"``, a `Drop`'s reason, or "" if it was not.
    """

    __slots__ = ("connection", "grant", "idle_since_us", "inbox", "opened_us", "scope", "served", "stopped", "wake")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.wake, self.inbox = trio.open_memory_channel[ms.Mail](1)
        self.grant: ms.Grant | None = None
        self.scope = trio.CancelScope()
        self.stopped = ""
        self.idle_since_us = 0
        self.opened_us = now_us()
        self.served = 0

    def renew_scope(self) -> trio.CancelScope:
        """The scope to work in from now on."""
        self.scope = trio.CancelScope()
        return self.scope

    def give(self, grant: ms.Grant, mail: ms.Mail) -> None:
        """Hand a granted call over. Only to a worker that rests: its task waits at the inbox, in a fresh scope."""
        self.grant = grant
        self.stopped = ""
        self.wake.send_nowait(mail)

    def stop(self, reason: str) -> None:
        """End the present attempt, wherever it is. The first reason stands."""
        self.stopped = self.stopped or reason
        self.scope.cancel()

    @property
    def stillborn(self) -> bool:
        """Whether the connection ended right after it was opened, before a byte was written. One that has stood idle
        for a while is just old: servers close those."""
        return self.served == 0 and now_us() - self.opened_us < STILLBORN_US


class WorkersAttempt:
    """The one attempt a worker is busy with. See `actors.transport.Attempt`."""

    __slots__ = ("_report", "begun", "grant")

    def __init__(self, grant: ms.Grant, report: Callable[[bytes], None]) -> None:
        self.grant = grant
        self.begun = False
        self._report = report

    def begin(self) -> None:
        if now_us() > self.grant.not_after_us:
            raise TooLate
        self.begun = True

    def sent(self) -> None:
        self._report(encode(ms.Sent(self.grant.call_id, self.grant.attempt, now_us())))


class Timeouts:
    """Stops the attempts of one endpoint when their time is over: a heap of instants, and a task that sleeps.

    `busy` are the workers by the call they are busy with. An attempt that ends in time, as nearly all do, leaves its
    entry behind; once most entries are such, the heap is made anew of those that are busy.
    """

    def __init__(self, busy: Mapping[int, Worker]) -> None:
        self._busy = busy
        self._heap: list[tuple[int, int]] = []
        self._asleep = trio.CancelScope()
        self._until_us = UNBOUNDED

    def __len__(self) -> int:
        """How many instants it holds."""
        return len(self._heap)

    def watch(self, grant: ms.Grant) -> None:
        """From now on watch over the attempt this grant began."""
        heappush(self._heap, (grant.stop_us, grant.call_id))
        if grant.stop_us < self._until_us:
            self._until_us = grant.stop_us
            self._asleep.deadline = trio_deadline(grant.stop_us)
        if len(self._heap) > 2 * len(self._busy) + _SPARE:
            self._heap = [(worker.grant.stop_us, call_id) for call_id, worker in self._busy.items() if worker.grant]
            heapify(self._heap)

    async def run(self) -> None:
        """Sleep until the next attempt's time is over, and stop it; until cancelled."""
        while True:
            self._until_us = self._heap[0][0] if self._heap else UNBOUNDED
            with trio.CancelScope(deadline=trio_deadline(self._until_us)) as self._asleep:
                await trio.sleep_forever()
            at_us = now_us()
            while self._heap and self._heap[0][0] <= at_us:
                _, call_id = heappop(self._heap)
                worker = self._busy.get(call_id)
                # The call may be here again, with another attempt that has an entry of its own.
                if worker is not None and worker.grant is not None and worker.grant.stop_us <= at_us:
                    worker.stop("timeout")
