"""Endpoint actors: one per provider account, with a long-lived worker for each connection.

The actor opens as many connections as the scheduler wants, ahead of need, hands each granted call to the worker that
was used last, and lets the workers report to the scheduler themselves. Every grant is answered exactly once, whatever
ends the worker or the actor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import trio

from actors import messages as ms
from actors.clock import now_us, trio_deadline
from actors.errors import ConnectFailed
from actors.mailbox import Mailbox, MailboxStatistics
from actors.messages import Fault, decode_calling, encode
from actors.reports import answered, given_up, unsent
from actors.slots import StreamBuffer
from actors.transport import Connection, TooLate, Transport
from actors.worker import Timeouts, Worker, WorkersAttempt

IDLE_US = 60_000_000
CONNECTING_AT_ONCE = 64
CONNECT_WITHIN_S = 10.0
RECONNECT_FIRST_US = 100_000
RECONNECT_MOST_US = 10_000_000
NO_STREAMS: Mapping[int, StreamBuffer] = {}


class EndpointStatistics(msgspec.Struct, frozen=True):
    """One endpoint actor. `busy` is a live gauge; `served` counts exchanges that ended, `opened` connections made."""

    name: str
    idle: int
    busy: int
    connecting: int
    wanted: int
    opened: int
    connect_failures: int
    served: int
    mailbox: MailboxStatistics


class EndpointActor:
    """The connections to one provider account.

    `scheduler` is the mailbox its workers report to, `jitter` draws a random fraction of 2**32, `streams` are the
    buffers of the streams that are read, by call. Whatever ends the actor, every grant it holds is answered: with
    `Unsent` if no byte had left, else with an outcome that is unknown.
    """

    def __init__(
        self,
        number: int,
        name: str,
        transport: Transport,
        scheduler: Mailbox,
        jitter: Callable[[], int],
        *,
        max_connections: int = 1000,
        mailbox: Mailbox | None = None,
        streams: Mapping[int, StreamBuffer] = NO_STREAMS,
    ) -> None:
        self.number = number
        self.name = name
        self.mailbox = mailbox if mailbox is not None else Mailbox(f"endpoint {name}", self.reject)
        self.mailbox.express = self._hand_over
        self._transport = transport
        self._scheduler = scheduler
        self._jitter = jitter
        self._streams = streams
        self._max_connections = max_connections
        self._idle: list[Worker] = []
        self._busy: dict[int, Worker] = {}
        self._timeouts = Timeouts(self._busy)
        self._connecting = 0
        self._wanted = 0
        self._queued = False
        self._failures_in_a_row = 0
        self._not_before_us = 0
        self._opened = 0
        self._connect_failures = 0
        self._served = 0
        self._nursery: trio.Nursery | None = None
        self._crashed = False
        self.stopped = False

    async def run(self) -> None:
        """Work until told to stop. A bug in a worker or in the transport ends the actor with that exception."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._report(ms.OpenEndpoint(self.number, self.name, self._max_connections))
                nursery.start_soon(self._close_idle)
                nursery.start_soon(self._timeouts.run)
                try:
                    await self._read_mail(nursery)
                except Exception:
                    self._crashed = True
                    raise
                nursery.cancel_scope.cancel()
        finally:
            self.mailbox.express = None
            for worker in self._idle:
                self._report(ms.Lost(self.number))
                worker.wake.close()
            self._idle.clear()
            # What is still busy was handed a call and stopped before it looked at it.
            for worker in self._busy.values():
                self._scheduler.post(*self._unsent(worker.grant, ready=False))
            self._busy.clear()
            self.stopped = True

    def reject(self, mail: ms.Mail) -> None:
        """What becomes of mail nobody will read: a grant is handed back."""
        message = ms.decode_for_endpoint.decode(mail[0])
        if isinstance(message, ms.Grant):
            self._report(ms.Unsent(message.call_id, message.attempt, self.number, ready=True))

    def statistics(self) -> EndpointStatistics:
        """A frozen copy of the state."""
        return EndpointStatistics(
            name=self.name,
            idle=len(self._idle),
            busy=len(self._busy),
            connecting=self._connecting,
            wanted=self._wanted,
            opened=self._opened,
            connect_failures=self._connect_failures,
            served=self._served,
            mailbox=self.mailbox.statistics(),
        )

    def __repr__(self) -> str:
        return (
            f"<EndpointActor {self.name}: {len(self._busy)} busy, {len(self._idle)} idle, "
            f"{self._connecting} connecting, {self._wanted} wanted>"
        )

    # --- mail ---

    async def _read_mail(self, nursery: trio.Nursery) -> None:
        """Act on mail until it says stop."""
        going_on = True
        while going_on:
            self._open_connections(nursery)
            mail = await self.mailbox.receive()
            going_on = mail is not None and self._handle(mail)

    def _handle(self, mail: ms.Mail) -> bool:
        """Act on one piece of mail; False if it says stop."""
        message = ms.decode_for_endpoint.decode(mail[0])
        if isinstance(message, ms.Grant):
            self._give(message, mail)
        elif isinstance(message, ms.Wanted):
            self._wanted = message.connections
            self._queued = message.queued
            if message.queued:
                self._not_before_us = 0
        elif isinstance(message, ms.Drop):
            worker = self._busy.get(message.call_id)
            if worker is not None:
                worker.stop(message.reason)
        elif isinstance(message, ms.CloseIdle):
            self._close_all_idle()
        else:
            return False
        return True

    def _hand_over(self, mail: ms.Mail) -> bool:
        """Take a grant as it is posted, if a worker rests. See `Mailbox.express`."""
        if not self._idle or self._nursery is None:
            return False
        grant = ms.decode_grant.decode(mail[0])
        try:
            self._give(grant, mail)
        except Exception as error:  # noqa: BLE001  # a bug of the transport's is this actor's, not that of who posts
            self._scheduler.post(*self._unsent(grant, ready=True))
            self._nursery.start_soon(self._fail, error)
        return True

    async def _fail(self, error: Exception) -> None:
        self._crashed = True
        raise error

    def _give(self, grant: ms.Grant, mail: ms.Mail) -> None:
        """Hand a granted call to the worker that was used last and whose connection still stands."""
        stillborn = False
        while self._idle:
            worker = self._idle[-1]
            usable = worker.connection.usable()
            self._idle.pop()
            if usable:
                self._busy[grant.call_id] = worker
                worker.give(grant, mail)
                self._timeouts.watch(worker, grant)
                return
            self._report(ms.Lost(self.number))
            worker.wake.close()
            stillborn = stillborn or worker.stillborn
        # The place the grant took was that of a connection reported lost: it is free again, as far as grants go.
        self._scheduler.post(*self._unsent(grant, ready=True))
        if stillborn:  # reported last, when the call is back in the queue and can pay for the attempt
            self._closed_at_once()

    # --- connections ---

    def _open_connections(self, nursery: trio.Nursery) -> None:
        """As many as are wanted and not there yet, but few at a time, and slowly while nobody waits for them."""
        there = len(self._idle) + len(self._busy) + self._connecting
        missing = min(self._wanted, self._max_connections) - there
        if missing > 0 and not self._queued and now_us() < self._not_before_us:
            return
        for _ in range(min(missing, CONNECTING_AT_ONCE - self._connecting)):
            self._connecting += 1
            nursery.start_soon(self._work, nursery)

    def _close_all_idle(self) -> None:
        """Close what is not in use, and ask to be told again what is wanted."""
        while self._idle:
            self._report(ms.Lost(self.number))
            self._idle.pop().wake.close()
        self._wanted = len(self._busy) + self._connecting
        self._report(ms.OpenEndpoint(self.number, self.name, self._max_connections))

    async def _close_idle(self) -> None:
        """Close what has been idle for long. The list is in the order of last use, the longest idle first."""
        while True:
            due_us = (self._idle[0].idle_since_us if self._idle else now_us()) + IDLE_US
            await trio.sleep_until(trio_deadline(due_us))
            while self._idle and self._idle[0].idle_since_us + IDLE_US <= now_us():
                self._report(ms.Lost(self.number))
                self._idle.pop(0).wake.close()

    def _connect_failed(self, fault: Fault) -> None:
        self._connect_failures += 1
        at_us = now_us()
        if at_us >= self._not_before_us:  # connections that fail side by side are one failure
            wait_us = min(RECONNECT_MOST_US, RECONNECT_FIRST_US << min(self._failures_in_a_row, 10))
            self._failures_in_a_row += 1
            self._not_before_us = at_us + wait_us
        self._report(ms.ConnectAttemptFailed(self.number, fault, self._jitter()))

    def _closed_at_once(self, cause: str = "") -> None:
        """A connection that never carried a byte is as good as none: an attempt, or a provider that hangs up would be
        tried for ever."""
        cause = cause or f"{self.name} closed the connection at once; nothing was sent"
        self._connect_failed(Fault("ConnectFailed", cause))

    # --- a worker's life ---

    async def _work(self, nursery: trio.Nursery) -> None:
        """Open one connection and serve calls over it until it is not worth keeping."""
        connection = None
        try:
            try:
                connection = await self._connect()
            finally:
                self._connecting -= 1
            if connection is not None:
                await self._serve_all(Worker(connection), nursery)
        except Exception:
            self._crashed = True  # the other workers are cancelled by this, and tell their callers why
            raise
        if not self._queued and now_us() < self._not_before_us:
            await trio.sleep_until(trio_deadline(self._not_before_us))
        self._open_connections(nursery)

    async def _serve_all(self, worker: Worker, nursery: trio.Nursery) -> None:
        try:
            self._rest(worker)
            self._report(ms.Ready(self.number))
            self._open_connections(nursery)  # there is room again among those being opened
            while await self._serve_some(worker):
                pass  # stopped when its connection was not in use: it goes on in a fresh scope
        finally:
            await worker.connection.aclose()

    async def _connect(self) -> Connection | None:
        fault = None
        with trio.move_on_after(CONNECT_WITHIN_S) as scope:
            try:
                connection = await self._transport.connect()
            except ConnectFailed as error:
                fault = Fault("ConnectFailed", error.message)
            else:
                self._opened += 1
                self._failures_in_a_row = 0
                return connection
        if scope.cancelled_caught:
            fault = Fault(
                "ConnectFailed", f"{self.name} could not be reached in {CONNECT_WITHIN_S:.0f} s; nothing was sent"
            )
        if fault is not None:
            self._connect_failed(fault)
        return None

    def _rest(self, worker: Worker) -> None:
        worker.idle_since_us = now_us()
        self._idle.append(worker)

    async def _serve_some(self, worker: Worker) -> bool:
        """Serve calls until the connection is not worth keeping, or the worker was stopped. Whether it can go on."""
        with worker.renew_scope():
            while True:
                try:
                    _, calling = await worker.inbox.receive()
                except trio.EndOfChannel:
                    return False
                keep = await self._serve(worker, calling)
                del calling  # or the bytes of a call are held for as long as its worker rests
                if not keep or worker.stopped:
                    return keep
        return False  # stopped in the middle of an exchange

    async def _serve(self, worker: Worker, calling: bytes) -> bool:
        """One attempt: send, read, report. Whether the worker can serve another."""
        grant = worker.grant
        assert grant is not None, "a worker that was handed a call has a grant"
        asked = decode_calling.decode(calling)
        buffer = self._streams.get(grant.call_id) if asked.streaming else None
        attempt = WorkersAttempt(worker, grant, asked, self._timeouts, self._scheduler.post, buffer)
        cause = ""
        reason = "shutdown"  # of whatever cancels this task, unless the worker was told another
        keep = False
        report: ms.Mail | None = None
        try:
            if worker.stopped:  # after the grant, before this task had its turn: nothing is sent any more
                keep = worker.stopped != "timeout"
            else:
                answer = await worker.connection.exchange(asked, attempt)
                if answer.observed:
                    attempt.observed(answer.observed)
                jitter = 0 if answer.verdict == "done" else self._jitter()
                report = answered(attempt, self.number, answer, at_us=now_us(), jitter=jitter)
                keep = answer.keep
        except TooLate:
            reason = "late"
            if now_us() >= grant.stop_us:
                worker.stopped = worker.stopped or "timeout"
            keep = worker.stopped != "timeout"
        except ConnectFailed as error:
            reason, cause = "closed", error.message
            attempt.not_begun()
            keep = False
        except Exception:
            self._crashed = True  # the other workers are cancelled by this, and tell their callers why
            raise
        finally:
            # Also when this task is cancelled or the transport has a bug: every grant is answered, once.
            if report is None:
                reason = "crashed" if self._crashed else worker.stopped or reason
                report = self._given_up(attempt, worker, reason, ready=keep)
            del self._busy[grant.call_id]
            # It stood when the grant came and broke before a byte left. However old: httpx connects at the first use.
            stillborn = not (worker.served or keep or attempt.begun or worker.stopped)
            worker.served += 1
            self._served += 1
            if keep:
                self._rest(worker)
            self._scheduler.post(*report)
        if stillborn:
            self._closed_at_once(cause)
        return keep

    def _given_up(self, attempt: WorkersAttempt, worker: Worker, reason: str, *, ready: bool) -> ms.Mail:
        at_us, jitter = now_us(), self._jitter()
        return given_up(attempt, self.number, reason, bound=worker.bound, ready=ready, at_us=at_us, jitter=jitter)

    def _unsent(self, grant: ms.Grant | None, *, ready: bool) -> ms.Mail:
        assert grant is not None, "a busy worker has a grant"
        return unsent(grant, self.number, ready=ready)

    def _report(self, message: ms.Message) -> None:
        self._scheduler.post(encode(message))
