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
from actors.slots import StreamBuffer
from actors.transport import Connection, TooLate

STILLBORN_US = 500_000
TIMEOUT = "timeout_s"
_SPARE = 1_000


class Worker:
    """One connection's place: the task that owns it reads `inbox`, the actor writes to it.

    `scope` is the one the task works in; it is renewed after it was cancelled. `stopped` says why the present attempt
    was told to stop: ``"timeout"``, a `Drop`'s reason, or "" if it was not. `due_us` is when it will be, and `bound`
    of what; `watched_us` is the earliest entry for it in the heap of `Timeouts`.
    """

    __slots__ = (
        "bound",
        "connection",
        "due_us",
        "grant",
        "idle_since_us",
        "inbox",
        "opened_us",
        "scope",
        "served",
        "stopped",
        "wake",
        "watched_us",
    )

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.wake, self.inbox = trio.open_memory_channel[ms.Mail](1)
        self.grant: ms.Grant | None = None
        self.scope = trio.CancelScope()
        self.stopped = ""
        self.bound = TIMEOUT
        self.due_us = 0
        self.watched_us = 0
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
    """The one attempt a worker is busy with. See `actors.transport.Attempt`.

    `buffer` is where the events of a stream are read, if anybody reads it. `first_us` is when the answer began to come,
    as far as it was told: of streams, and of calls with bounds on silence.
    """

    __slots__ = ("_buffer", "_calling", "_report", "_sent", "_timeouts", "_worker", "begun", "first_us", "grant")

    def __init__(
        self,
        worker: Worker,
        grant: ms.Grant,
        calling: ms.APICalling,
        timeouts: Timeouts,
        report: Callable[[bytes], None],
        buffer: StreamBuffer | None,
    ) -> None:
        self.grant = grant
        self.begun = self._sent = False
        self.first_us = -1
        self._worker = worker
        self._calling = calling
        self._timeouts = timeouts
        self._report = report
        self._buffer = buffer

    @property
    def handed_over(self) -> bool:
        """Whether somebody may have read the beginning of the answer."""
        return self._buffer is not None and self._buffer.taken_over

    def begin(self) -> None:
        if now_us() > self.grant.not_after_us:
            raise TooLate
        self.begun = True

    def not_begun(self) -> None:
        """Nothing was taken of the request, the connection says: it is as if the attempt had not begun. Not believed
        of a request that was said to have left."""
        self.begun = self._sent

    def sent(self) -> None:
        self._sent = True
        at_us = now_us()
        self._report(encode(ms.Sent(self.grant.call_id, self.grant.attempt, at_us)))
        if self._calling.first_byte_us:
            self._timeouts.expect(self._worker, at_us + self._calling.first_byte_us, "first_byte_s")

    def observed(self, observed: tuple[ms.Observed, ...]) -> None:
        self._report(encode(ms.LimitObserved(self.grant.call_id, self.grant.attempt, observed)))

    def heard(self) -> None:
        if self.first_us >= 0 and not self._calling.idle_us:
            return  # as for nearly all events: no clock is read for them
        at_us = now_us()
        if self.first_us < 0:
            self.first_us = at_us
            if self._calling.first_byte_us:
                self._timeouts.relax(self._worker)
        if self._calling.idle_us:
            self._timeouts.expect(self._worker, at_us + self._calling.idle_us, "idle_s")

    async def hand_over(self, piece: bytes) -> None:
        if self._buffer is None:
            return
        self._buffer.put(piece)
        if self._buffer.full:
            self._timeouts.relax(self._worker)  # it is the reader who is slow
            await self._buffer.wait_room()
            self.heard()


class Timeouts:
    """Stops the attempts of one endpoint when their time is over: a heap of instants, and a task that sleeps.

    `busy` are the workers by the call they are busy with. An attempt that ends in time, as nearly all do, leaves its
    entry behind; once most entries are such, the heap is made anew of those that are busy. When the time of an attempt
    is put off, as with every event of a stream, its entry stays where it is, and is put back when it is reached.
    """

    def __init__(self, busy: Mapping[int, Worker]) -> None:
        self._busy = busy
        self._heap: list[tuple[int, int]] = []
        self._asleep = trio.CancelScope()
        self._until_us = UNBOUNDED

    def __len__(self) -> int:
        """How many instants it holds."""
        return len(self._heap)

    def watch(self, worker: Worker, grant: ms.Grant) -> None:
        """From now on watch over the attempt this grant began."""
        due_us = worker.due_us = worker.watched_us = grant.stop_us
        worker.bound = TIMEOUT
        heappush(self._heap, (due_us, grant.call_id))
        if due_us < self._until_us:
            self._wake_by(due_us)
        if len(self._heap) > 2 * len(self._busy) + _SPARE:
            self._heap = [(busy.due_us, call_id) for call_id, busy in self._busy.items()]
            for busy in self._busy.values():
                busy.watched_us = busy.due_us
            heapify(self._heap)

    def expect(self, worker: Worker, due_us: int, bound: str) -> None:
        """The attempt is to go on by then, or it is stopped for this bound; at its timeout whatever happens."""
        grant = worker.grant
        assert grant is not None, "a busy worker has a grant"
        if due_us >= grant.stop_us:
            self.relax(worker)
            return
        worker.bound = bound
        worker.due_us = due_us
        if due_us < worker.watched_us:
            self._enter(worker, grant)

    def relax(self, worker: Worker) -> None:
        """Nothing bounds the attempt now but its timeout."""
        assert worker.grant is not None, "a busy worker has a grant"
        worker.bound = TIMEOUT
        worker.due_us = worker.grant.stop_us

    def _enter(self, worker: Worker, grant: ms.Grant) -> None:
        due_us = worker.watched_us = worker.due_us
        heappush(self._heap, (due_us, grant.call_id))
        if due_us < self._until_us:
            self._wake_by(due_us)

    def _wake_by(self, due_us: int) -> None:
        self._until_us = due_us
        self._asleep.deadline = trio_deadline(due_us)

    async def run(self) -> None:
        """Sleep until the next attempt's time is over, and stop it; until cancelled."""
        while True:
            self._until_us = self._heap[0][0] if self._heap else UNBOUNDED
            with trio.CancelScope(deadline=trio_deadline(self._until_us)) as self._asleep:
                await trio.sleep_forever()
            at_us = now_us()
            while self._heap and self._heap[0][0] <= at_us:
                entry_us, call_id = heappop(self._heap)
                worker = self._busy.get(call_id)
                if worker is None or worker.grant is None:
                    continue
                # The call may be here again, with another attempt that has an entry of its own.
                if worker.due_us <= at_us:
                    worker.stop("timeout")
                elif worker.watched_us <= entry_us:
                    self._enter(worker, worker.grant)
