"""SchedulerActor: mail in, `Schedule` in the middle, effects out, asleep until exactly the next instant that matters.

The single writer of every limit. It decodes only the heads of what it is sent, hands the rest on as it came, and never
waits for anybody: grants and drops go to endpoints' mailboxes, terminal values to reply slots or, for calls with
handlers, to the hook bus. How late its own loop was at a timed wake-up is measured and shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import trio

from actors import effects as ef
from actors import messages as ms
from actors.actor import BATCH
from actors.clock import now_us
from actors.mailbox import Mailbox, MailboxStatistics, Places
from actors.queues import State
from actors.schedule import Schedule
from actors.slots import Progress, ReplySlots


class SchedulerStatistics(msgspec.Struct, frozen=True):
    """The scheduler's state. `lateness_max_us` is the most its loop has been late at a wake-up it had set itself."""

    schedule: ef.ScheduleStatistics
    mailbox: MailboxStatistics
    wakeups: int
    lateness_max_us: int
    lateness_mean_us: float


class SchedulerActor:
    """Owns the schedule of one engine.

    `endpoints` are the mailboxes of the endpoint actors by number, `places` the queue places by lane, both kept by the
    runtime; `hook_bus` is told of what happens once somebody observes.
    """

    def __init__(
        self,
        slots: ReplySlots,
        endpoints: Mapping[int, Mailbox],
        places: Mapping[int, Places],
        all_places: Places,
        hook_bus: Mailbox,
    ) -> None:
        self.mailbox = Mailbox("scheduler", self._too_late)
        self._schedule = Schedule()
        self._slots = slots
        self._endpoints = endpoints
        self._places = places
        self._all_places = all_places
        self._hook_bus = hook_bus
        self._observed = False
        self._running = True
        self._failed = False
        self._watches: list[ms.Watch] = []
        self._ahead = False
        self._early: list[ms.Mail] = []
        self._wakeups = 0
        self._lateness_max_us = 0
        self._lateness_sum_us = 0
        self._handlers: dict[type, Callable[[Any, bytes, bytes, int], list[ef.Effect]]] = {
            ms.CallRoute: self._on_submit,
            ms.Sent: lambda m, head, rest, now: self._schedule.sent(m, now),
            ms.Outcome: lambda m, head, rest, now: self._schedule.outcome(m, rest, now),
            ms.Unsent: self._on_unsent,
            ms.Ready: lambda m, head, rest, now: self._schedule.ready(m.endpoint, now),
            ms.Lost: lambda m, head, rest, now: self._schedule.lost(m.endpoint, now),
            ms.ConnectAttemptFailed: lambda m, head, rest, now: self._schedule.connect_failed(m, now),
            ms.Down: lambda m, head, rest, now: self._schedule.down(m, now),
            ms.Cancel: self._on_cancel,
            ms.OpenLane: self._on_open_lane,
            ms.OpenEndpoint: self._on_open_endpoint,
            ms.LimitObserved: lambda m, head, rest, now: self._schedule.observe_limit(m, now),
            ms.Drain: self._on_drain,
            ms.Observe: self._on_observe,
            ms.Watch: self._on_watch,
            ms.Stop: self._on_stop,
        }
        self._carriers: dict[type, Callable[[Any, int], None]] = {
            ef.Queued: self._queued,
            ef.Granted: self._granted,
            ef.Left: self._left,
            ef.Retrying: self._retrying,
            ef.Later: lambda effect, at_us: None,  # to its caller it is as it was: sent, and not answered
            ef.Dropped: self._dropped,
            ef.Finished: self._finished,
            ef.Want: self._want,
            ef.Barred: lambda effect, at_us: None,  # a decision only observers are told of
        }

    async def run(self) -> None:
        """Work until told to stop.

        Stopped or cancelled, it ends what waits, and reports that still come are handled as they come, so that every
        call ends as it should. Only a bug in the schedule itself leaves calls without an end: see `failed`.
        """
        try:
            while self._running:
                wake_us = self._schedule.next_wake_us()
                mail = await self.mailbox.receive(wake_us)
                at_us = now_us()
                if wake_us is not None and at_us >= wake_us:
                    self._woke(at_us - wake_us)
                    self._carry_out(self._schedule.wake(at_us), at_us)
                handled = 0
                while mail is not None and handled < BATCH:
                    self._handle(mail, at_us)
                    handled += 1
                    mail = self.mailbox.receive_nowait()
                if mail is not None:
                    self._handle(mail, at_us)
                    await trio.lowlevel.checkpoint()
                else:
                    self._answer_watches()
        except Exception:
            self._failed = True
            raise
        finally:
            if not self._failed:
                self._take_submitted(now_us())
                self._carry_out(self._schedule.drain("stop", now_us()), now_us())
            self.mailbox.close()
            self._answer_watches(all_of_them=True)

    def statistics(self) -> SchedulerStatistics:
        """A frozen copy of the state, now."""
        return SchedulerStatistics(
            schedule=self._schedule.statistics(now_us()),
            mailbox=self.mailbox.statistics(),
            wakeups=self._wakeups,
            lateness_max_us=self._lateness_max_us,
            lateness_mean_us=self._lateness_sum_us / self._wakeups if self._wakeups else 0.0,
        )

    def __repr__(self) -> str:
        return f"<SchedulerActor: {self._schedule.live} live calls, {self._schedule.waiting} of them waiting>"

    @property
    def taken(self) -> int:
        """How many calls their providers have taken and will answer later."""
        return self._schedule.taken

    @property
    def failed(self) -> bool:
        """Whether a bug has ended it: calls that are live then will never be heard of."""
        return self._failed

    # --- mail ---

    def _handle(self, mail: ms.Mail, at_us: int) -> None:
        head, rest = mail
        message = ms.decode_for_scheduler.decode(head)
        effects = self._handlers[type(message)](message, head, rest, at_us)
        if effects:
            self._carry_out(effects, at_us)

    def _on_submit(self, route: ms.CallRoute, head: bytes, rest: bytes, at_us: int) -> list[ef.Effect]:
        if self._ahead and not self._schedule.knows(route.lane, route.endpoint):
            self._early.append((head, rest))  # what opens them lies in the other band still
            return []
        effects = self._schedule.submit(route, head, at_us)
        if route.acknowledge:
            self._carry_out(effects, at_us)
            slot = self._slots.get(route.call_id)
            if slot is not None:
                slot.wake()
            return []
        return effects

    def _on_unsent(self, message: ms.Unsent, head: bytes, rest: bytes, at_us: int) -> list[ef.Effect]:
        if self._observed and (ticket := self._schedule.granted(message.call_id, message.attempt)) is not None:
            self._tell(ms.HookEvent("unsent", at_us, ticket.call_id, ticket.lane, ticket.endpoint, message.attempt))
        return self._schedule.unsent(message, at_us)

    def _on_cancel(self, message: ms.Cancel, head: bytes, rest: bytes, at_us: int) -> list[ef.Effect]:
        self._take_submitted(at_us)  # the call itself may still lie in the mailbox behind its cancellation
        return self._schedule.cancel(message.call_id, at_us)

    def _on_drain(self, message: ms.Drain, head: bytes, rest: bytes, at_us: int) -> list[ef.Effect]:
        self._take_submitted(at_us)  # what was accepted before the drain is part of it
        return self._schedule.drain(message.queue, at_us)

    def _on_observe(self, message: ms.Observe, head: bytes, rest: bytes, at_us: int) -> list[ef.Effect]:
        self._observed = message.listening
        return []

    def _on_watch(self, message: ms.Watch, head: bytes, rest: bytes, at_us: int) -> list[ef.Effect]:
        self._watches.append(message)
        return []

    def _on_stop(self, message: ms.Stop, head: bytes, rest: bytes, at_us: int) -> list[ef.Effect]:
        self._running = False
        return []

    def _on_open_lane(self, message: ms.OpenLane, head: bytes, rest: bytes, at_us: int) -> list[ef.Effect]:
        self._carry_out(self._schedule.open_lane(message, at_us), at_us)
        return self._submit_early(at_us)

    def _on_open_endpoint(self, message: ms.OpenEndpoint, head: bytes, rest: bytes, at_us: int) -> list[ef.Effect]:
        self._carry_out(self._schedule.open_endpoint(message, at_us), at_us)
        return self._submit_early(at_us)

    def _submit_early(self, at_us: int) -> list[ef.Effect]:
        early, self._early = self._early, []
        self._ahead = bool(early)
        for mail in early:
            self._handle(mail, at_us)
        self._ahead = False
        return []

    def _take_submitted(self, at_us: int) -> None:
        """Take submitted calls before the control mail that lies there."""
        self._ahead = True
        while (mail := self.mailbox.receive_submitted_nowait()) is not None:
            self._handle(mail, at_us)
        self._ahead = False

    def _too_late(self, mail: ms.Mail) -> None:
        """Mail that comes when the loop has ended; after a bug in the schedule there is nobody to handle it."""
        if not self._failed:
            self._handle(mail, now_us())
            self._answer_watches(all_of_them=True)

    def _answer_watches(self, *, all_of_them: bool = False) -> None:
        """Only with an empty mailbox: what lies in it is not done yet."""
        for watch in list(self._watches):
            live = self._schedule.waiting if watch.until == "none_waiting" else self._schedule.live
            if all_of_them or not live:
                self._watches.remove(watch)
                self._slots.deliver(watch.call_id, (ms.encode(watch), b""))

    def _woke(self, late_us: int) -> None:
        self._wakeups += 1
        self._lateness_sum_us += late_us
        self._lateness_max_us = max(self._lateness_max_us, late_us)

    # --- effects ---

    def _carry_out(self, effects: list[ef.Effect], at_us: int) -> None:
        if self._observed:  # first, so that a call is told to have ended before its handlers are told to begin
            for effect in effects:
                event = _event_of(effect, at_us)
                if event is not None:
                    self._tell(event)
        for effect in effects:
            self._carriers[type(effect)](effect, at_us)

    def _queued(self, effect: ef.Queued, at_us: int) -> None:
        ticket = effect.ticket
        if effect.returned:
            self._places[ticket.lane].exceed()
            self._all_places.exceed()
        if ticket.taken is None:  # polls do not show
            self._slots.advance(ticket.call_id, Progress.QUEUED)

    def _granted(self, effect: ef.Granted, at_us: int) -> None:
        ticket = effect.ticket
        self._free_place(ticket.lane)
        grant = ms.Grant(ticket.call_id, effect.attempt, effect.granted_us, effect.not_after_us, effect.stop_us)
        self._endpoints[ticket.endpoint].post(ms.encode(grant), ticket.calling)
        if ticket.taken is None:  # polls do not show
            self._slots.advance(ticket.call_id, Progress.GRANTED)

    def _left(self, effect: ef.Left, at_us: int) -> None:
        self._slots.advance(effect.ticket.call_id, Progress.SENT)

    def _retrying(self, effect: ef.Retrying, at_us: int) -> None:
        ticket = effect.ticket
        if effect.was_queued:
            self._free_place(ticket.lane)
        if ticket.taken is None:  # polls do not show
            self._slots.advance(ticket.call_id, Progress.QUEUED)

    def _dropped(self, effect: ef.Dropped, at_us: int) -> None:
        drop = ms.Drop(effect.ticket.call_id, effect.reason)
        self._endpoints[effect.ticket.endpoint].post(ms.encode(drop))

    def _finished(self, effect: ef.Finished, at_us: int) -> None:
        ticket = effect.ticket
        if effect.was_queued:
            self._free_place(ticket.lane)
        ended = ms.encode_to_keep(effect.ended)
        if ticket.handled:
            self._hook_bus.post(ms.encode(ms.HookCall(ticket.call_id, ticket.call_id, ended)), effect.reply)
        else:
            self._slots.deliver(ticket.call_id, (ended, effect.reply))

    def _want(self, effect: ef.Want, at_us: int) -> None:
        self._endpoints[effect.endpoint].post(ms.encode(ms.Wanted(effect.connections, effect.queued)))

    def _free_place(self, lane: int) -> None:
        if lane in self._places:
            self._places[lane].free()
            self._all_places.free()

    def _tell(self, event: ms.HookEvent) -> None:
        self._hook_bus.post(ms.encode(event))


_EVENTS: dict[type, ms.EventName] = {
    ef.Queued: "queued",
    ef.Granted: "granted",
    ef.Left: "sent",
    ef.Retrying: "retrying",
    ef.Later: "later",
    ef.Finished: "ended",
}


def _event_of(effect: ef.Effect, at_us: int) -> ms.HookEvent | None:
    """What observers are told of an effect, if anything."""
    if isinstance(effect, ef.Barred):
        return ms.HookEvent("barrier", at_us, 0, effect.lane, 0, 0)
    if isinstance(effect, ef.Want | ef.Dropped):
        return None
    ticket = effect.ticket
    detail: str = effect.ended.status if isinstance(effect, ef.Finished) else ""
    if isinstance(effect, ef.Retrying) and ticket.reply and (fault := ms.decode_reply.decode(ticket.reply).fault):
        detail = fault.kind
    # What queued it may have granted it at once; it was queued before.
    granted_since = isinstance(effect, ef.Queued) and ticket.state is State.GRANTED
    return ms.HookEvent(
        name=_EVENTS[type(effect)],
        at_us=ticket.sent_us if isinstance(effect, ef.Left) else at_us,
        call_id=ticket.call_id,
        lane=ticket.lane,
        endpoint=ticket.endpoint,
        attempt=ticket.grants - granted_since,
        detail=detail,
    )
