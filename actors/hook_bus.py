"""HookBusActor: tells observers what happens, and runs a call's handlers, before it is queued and after it has ended.

Rules: an observer is told through a bounded buffer and never waited for; what it misses is counted. The handlers of a
call get a task of their own, with the submitter's context; whatever they do, the call goes on or is delivered, no other
call waits for them, and the bus goes on. Which handlers there are, how long each may take and what its result means is
the engine's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import Context
from types import TracebackType
from typing import Protocol

import msgspec
import trio

from actors import messages as ms
from actors.actor import BATCH
from actors.clock import now_us
from actors.mailbox import Mailbox, MailboxStatistics
from actors.messages import Fault
from actors.slots import ReplySlots

RESTING = 100
"""Tasks that are kept for the next call's handlers."""


GRACE_S = 1.0
"""How long a handler that is told to stop may go on before its call is delivered without it."""


class Job:
    """The handlers of one call, being run: those after it if it has `ended`, else those before it.

    `mail` is what is delivered to the slot `key`, whenever that is; once it is `settled` a cancellation does not change
    it. `scope` is for whoever runs a handler: it is cancelled when the job is `over`, because the call is not wanted
    any more or the time for its handlers has passed. `until` is the instant the present handler is to end at.
    """

    __slots__ = ("_alarm", "call_id", "ended", "key", "mail", "over", "scope", "settled", "until")

    def __init__(self, call_id: int, key: int, mail: ms.Mail, *, ended: bool) -> None:
        self.call_id = call_id
        self.key = key
        self.mail = mail
        self.ended = self.settled = ended
        self.over = False
        self.scope: trio.CancelScope | None = None
        self.until = math.inf
        self._alarm: trio.CancelScope | None = None

    def begin(self, alarm: trio.CancelScope) -> None:
        """Note what wakes the one who looks after handlers that do not stop."""
        self._alarm = alarm

    def bound(self, until: float) -> None:
        """The handler that begins now is to end at this instant of trio's clock."""
        self.until = until
        if self._alarm is not None and until + GRACE_S < self._alarm.deadline:
            self._alarm.deadline = until + GRACE_S


class Handlers(Protocol):
    """The engine's side: which handlers a call has, and what comes of them."""

    def context(self, key: int) -> Context:
        """The context variables that the handlers of the call in this slot see."""

    async def run(self, job: Job) -> ms.Mail:
        """Run the handlers of a job, one after the other. Returns an encoded `HookAnswer` with the `Reply` behind it
        before the call, the mail to deliver after it."""


class NoHandlers:
    """An engine without any."""

    def context(self, key: int) -> Context:
        """An empty one."""
        return Context()

    async def run(self, job: Job) -> ms.Mail:
        """Nothing to do."""
        return job.mail


class ObserverStatistics(msgspec.Struct, frozen=True):
    """One observer: events handed over, events it missed, events that wait for it now."""

    told: int
    dropped: int
    buffered: int


class HookBusStatistics(msgspec.Struct, frozen=True):
    """The bus. `in_handlers` is a live gauge: calls whose handlers have not come to an end."""

    in_handlers: int
    observers: tuple[ObserverStatistics, ...]
    mailbox: MailboxStatistics


class Observer:
    """A subscription to lifecycle events: iterate it, in an ``async with`` that ends the subscription."""

    def __init__(self, buffer: int, leave: Callable[[Observer], None]) -> None:
        self._send, self._receive = trio.open_memory_channel[ms.HookEvent](buffer)
        self._leave = leave
        self.told = 0
        self.dropped = 0

    def tell(self, event: ms.HookEvent) -> None:
        """Hand an event over, or count it as missed."""
        try:
            self._send.send_nowait(event)
            self.told += 1
        except trio.WouldBlock:
            self.dropped += 1

    def statistics(self) -> ObserverStatistics:
        """A frozen copy of the counts."""
        return ObserverStatistics(self.told, self.dropped, self._receive.statistics().current_buffer_used)

    def close(self) -> None:
        """End the subscription; what is buffered can still be read. Idempotent."""
        self._send.close()
        self._leave(self)

    def __aiter__(self) -> Observer:
        return self

    async def __anext__(self) -> ms.HookEvent:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Observer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class HookBusActor:
    """The bus of one engine. `unobserved` is called when the last observer has left."""

    def __init__(
        self, slots: ReplySlots, handlers: Handlers | None = None, *, unobserved: Callable[[], None] = lambda: None
    ) -> None:
        self.mailbox = Mailbox("hook bus", self._reject)
        self._slots = slots
        self._handlers = handlers if handlers is not None else NoHandlers()
        self._unobserved = unobserved
        self._observers: list[Observer] = []
        self._jobs: dict[int, Job] = {}
        self._alarm = trio.CancelScope()
        self._resting: dict[trio.lowlevel.Task, list[Job]] = {}
        self._quiet = trio.lowlevel.ParkingLot()
        self._stopped = False

    def observe(self, buffer: int) -> Observer:
        """Subscribe from now on; at most `buffer` events wait to be read."""
        observer = Observer(buffer, self._left)
        self._observers.append(observer)
        if self._stopped:
            observer.close()
        return observer

    @property
    def observed(self) -> bool:
        """Whether anybody is subscribed."""
        return bool(self._observers)

    async def run(self) -> None:
        """Work until told to stop; the handlers that run then are cancelled, their calls delivered as they stand."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look_after)
                handled = 0
                while (mail := await self.mailbox.receive()) is not None:
                    head, rest = mail
                    message = ms.decode_for_hook_bus.decode(head)
                    if isinstance(message, ms.HookEvent):
                        self._tell(message)
                    elif isinstance(message, ms.HookCall):
                        self._begin(message, rest, nursery)
                    elif isinstance(message, ms.Cancel):
                        self._cancel(message.call_id)
                    elif isinstance(message, ms.Drain):
                        # Handlers that were started in this very turn get one of their own: many need no more.
                        await trio.lowlevel.checkpoint()
                        await trio.lowlevel.checkpoint()
                        self._interrupt()
                    else:
                        nursery.cancel_scope.cancel()
                        break
                    self._look_if_quiet()
                    handled += 1
                    if handled % BATCH == 0:
                        await trio.lowlevel.checkpoint()
        finally:
            self._stopped = True
            self.mailbox.close()
            self._interrupt()
            self._quiet.unpark_all()
            for observer in list(self._observers):
                observer.close()

    async def wait_quiet(self) -> None:
        """Wait until no handlers run and none are asked for. A checkpoint."""
        await trio.lowlevel.checkpoint()
        while not self.quiet:
            await self._quiet.park()

    @property
    def quiet(self) -> bool:
        """Whether no handlers run and none are asked for."""
        return self._stopped or not (self._jobs or self.mailbox.statistics().control)

    def statistics(self) -> HookBusStatistics:
        """A frozen copy of the state."""
        return HookBusStatistics(
            in_handlers=len(self._jobs),
            observers=tuple(observer.statistics() for observer in self._observers),
            mailbox=self.mailbox.statistics(),
        )

    def __repr__(self) -> str:
        return f"<HookBusActor: {len(self._observers)} observers, {len(self._jobs)} calls in handlers>"

    # --- handlers ---

    def _begin(self, message: ms.HookCall, rest: bytes, nursery: trio.Nursery) -> None:
        if self._slots.get(message.key) is None:  # whoever asked is gone
            return
        job = self._jobs[message.key] = _job_of(message, rest)
        job.begin(self._alarm)
        if self._observers:
            when = "after" if job.ended else "before"
            self._tell(ms.HookEvent("handling", now_us(), job.call_id, 0, 0, 0, when))
        context = self._handlers.context(job.key)
        if self._resting:
            task, given = self._resting.popitem()
            task.context = context.copy()
            given.append(job)
            trio.lowlevel.reschedule(task)
        else:
            context.run(nursery.start_soon, self._work, job)  # a new task takes a copy of the context it is started in

    async def _work(self, job: Job) -> None:
        """Run one job after another: a new task for each costs more than all the rest. Only some are kept for that."""
        task = trio.lowlevel.current_task()
        given = [job]
        while True:
            await self._run(given.pop())
            if len(self._resting) == RESTING:
                return
            self._resting[task] = given
            await trio.lowlevel.wait_task_rescheduled(self._stop_resting)

    def _stop_resting(self, _: object) -> trio.lowlevel.Abort:
        self._resting.clear()  # the bus itself ends, and with it all of them
        return trio.lowlevel.Abort.SUCCEEDED

    async def _run(self, job: Job) -> None:
        """Run a job; whatever becomes of that, its call is delivered."""
        try:
            if not job.over:
                job.mail = await self._handlers.run(job)
        except BaseExceptionGroup as group:
            # A failure here must not cost an answer, and those of handlers are reported; what is left is not ours.
            rest = group.split(Exception)[1]
            if rest is not None:
                raise rest from None
        except Exception:  # noqa: BLE001  # as above
            if not job.settled:
                fault = Fault("InternalError", "running its handlers failed: a bug in penstock, please report it")
                job.mail = _refusal(job.call_id, "failed", fault)
        finally:
            if not job.over:
                self._deliver(job)

    async def _look_after(self) -> None:
        """Deliver the calls of handlers that were told to stop and did not."""
        while True:
            with self._alarm:
                await trio.sleep_forever()
            now = (now_us() + 1) / 1_000_000
            for job in [job for job in self._jobs.values() if job.until + GRACE_S <= now]:
                if not job.settled:
                    fault = Fault("Vetoed", "a handler before the call was told to stop and did not; nothing was sent")
                    job.mail = _refusal(job.call_id, "aborted", fault)
                self._deliver(job)
            ends = min((job.until for job in self._jobs.values()), default=math.inf)
            self._alarm = trio.CancelScope(deadline=ends + GRACE_S)
            for job in self._jobs.values():
                job.begin(self._alarm)

    def _cancel(self, key: int) -> None:
        """The call is not wanted any more: its handlers end here, whatever they do about it."""
        job = self._jobs.get(key)
        if job is None:
            return
        if not job.settled:
            fault = Fault("CallCancelled", "the call was cancelled before it was queued; nothing was sent")
            job.mail = _refusal(job.call_id, "cancelled", fault)
        self._deliver(job)

    def _interrupt(self) -> None:
        for job in list(self._jobs.values()):
            self._deliver(job)

    def _deliver(self, job: Job) -> None:
        """Deliver what there is, and let go of the handlers if they still run."""
        del self._jobs[job.key]
        job.over = True
        if job.scope is not None:
            job.scope.cancel()
        self._slots.deliver(job.key, job.mail)
        if self._observers and not job.ended:
            answer = ms.decode_hook_answer.decode(job.mail[0])
            if isinstance(answer, ms.HookAnswer) and answer.ended:
                status = ms.decode_ended.decode(answer.ended).status
                self._tell(ms.HookEvent("ended", now_us(), job.call_id, 0, 0, 0, status))
        self._look_if_quiet()

    def _look_if_quiet(self) -> None:
        if self._quiet and self.quiet:
            self._quiet.unpark_all()

    def _reject(self, mail: ms.Mail) -> None:
        """After the bus has closed: a call is delivered as it stands, an event is lost."""
        message = ms.decode_for_hook_bus.decode(mail[0])
        if isinstance(message, ms.HookCall):
            self._slots.deliver(message.key, _job_of(message, mail[1]).mail)

    # --- observers ---

    def _tell(self, event: ms.HookEvent) -> None:
        for observer in self._observers:
            observer.tell(event)

    def _left(self, observer: Observer) -> None:
        if observer in self._observers:
            self._observers.remove(observer)
            if not self._observers:
                self._unobserved()


def _job_of(message: ms.HookCall, rest: bytes) -> Job:
    """What is to be run, with the mail that is delivered if it never comes to an end."""
    if message.ended:
        return Job(message.call_id, message.key, (message.ended, rest), ended=True)
    fault = Fault("ShuttingDown", "the engine stopped while the call's handlers ran; nothing was sent")
    return Job(message.call_id, message.key, _refusal(message.call_id, "aborted", fault), ended=False)


def _refusal(call_id: int, status: ms.Status, fault: Fault) -> ms.Mail:
    """The answer that ends a call before it is queued."""
    at_us = now_us()
    ended = ms.encode(ms.Ended(call_id, status, 0, at_us, -1, -1, at_us, fault=fault))
    return ms.encode(ms.HookAnswer(call_id, ended)), b""
