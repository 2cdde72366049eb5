"""What an endpoint actor knows of each of its workers: the connection it owns, and the attempt it is busy with.

The actor writes to a worker's `inbox` and cancels its `scope`; the task that owns the worker does everything else.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from actors import messages as ms
from actors.clock import now_us
from actors.messages import encode
from actors.transport import Connection, TooLate

STILLBORN_US = 500_000


class Worker:
    """One connection's place: the task that owns it reads `inbox`, the actor writes to it."""

    __slots__ = ("connection", "drop_reason", "grant", "idle_since_us", "inbox", "opened_us", "scope", "served", "wake")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.wake, self.inbox = trio.open_memory_channel[ms.Mail](1)
        self.grant: ms.Grant | None = None
        self.scope = trio.CancelScope()
        self.drop_reason = ""
        self.idle_since_us = 0
        self.opened_us = now_us()
        self.served = 0

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
