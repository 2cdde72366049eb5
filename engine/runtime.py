"""`Engine`: holds the actors together, takes calls, hands back what became of them.

The engine's nursery holds the scheduler, the hook bus and one endpoint actor for each provider account, each with its
supervisor. Rules: a call that was accepted ends, whatever happens to the actors; what is known to be wrong with it is
raised before it is queued; no exception group with a single cause leaves here. Signals are the command line's business.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, Iterable
from typing import Any, Literal

import msgspec
import trio

from actors import messages as ms
from actors.actor import supervise
from actors.hook_bus import HookBusActor, HookBusStatistics, Observer
from actors.limits import is_count, is_number
from actors.mailbox import Mailbox, Places
from actors.messages import Fault
from actors.scheduler import SchedulerActor, SchedulerStatistics
from actors.slots import Progress, ReplySlot, ReplySlots, StreamBuffer
from engine.accounts import Lanes, Model
from engine.asking import Asking
from engine.call import Call, within
from engine.config import EngineConfig
from engine.errors import InternalError, Overloaded, UsageError, fault_of
from engine.handling import Handlers
from engine.hooks import HookRegistry
from engine.intake import Intake
from engine.log import debugging, log
from engine.mapping import Mapping
from engine.streaming import CallStream, OnChunk, ReplySource, ReplyStream, check_streaming, watched
from engine.switchboard import AccountStatistics, Switchboard
from engine.usual_transports import TransportFactory


class EngineStatistics(msgspec.Struct, frozen=True):
    """An engine at one instant. `live` holds the gauges that are zero when it is quiet; `endpoints` say which transport
    reaches each provider account; `extensions` is what the extensions of its handlers count."""

    live: dict[str, int]
    scheduler: SchedulerStatistics
    endpoints: tuple[AccountStatistics, ...]
    hook_bus: HookBusStatistics
    extensions: tuple[Any, ...] = ()


class Engine:
    """An open engine. Made by `open_engine`; every method belongs to the trio loop it was opened in."""

    def __init__(
        self, config: EngineConfig, nursery: trio.Nursery, make_transport: TransportFactory, hooks: HookRegistry
    ) -> None:
        self._config = config
        self._nursery = nursery
        self._slots = ReplySlots()
        self._lanes = Lanes(config)
        all_places = Places("all lanes", config.engine.max_queued)
        self._handlers = Handlers(hooks, self._slots, self.invoke)
        self._hook_bus = HookBusActor(
            self._slots, self._handlers, unobserved=lambda: self._post(ms.Observe(listening=False))
        )
        mailboxes: dict[int, Mailbox] = {}
        self._scheduler = SchedulerActor(self._slots, mailboxes, self._lanes.places, all_places, self._hook_bus.mailbox)
        self._streams: dict[int, StreamBuffer] = {}
        self._switchboard = Switchboard(
            self._lanes, mailboxes, self._scheduler.mailbox, nursery, make_transport, self._streams
        )
        self._asking = Asking(self._handlers, self._hook_bus.mailbox, self._slots)
        self._intake = Intake(
            self._lanes, self._switchboard, self._slots, self._scheduler.mailbox, self._asking, all_places
        )
        self._mappings: dict[Mapping, None] = {}
        self._watching = 0
        self._failure: Exception | None = None
        self._loop = trio.lowlevel.current_trio_token()
        nursery.start_soon(self._run, self._scheduler)
        nursery.start_soon(self._run, self._hook_bus)
        if debugging():
            log.debug("engine opened", http=config.engine.http, max_queued=config.engine.max_queued)
            nursery.start_soon(self._log_events, self.observe())

    # --- calls ---

    async def submit(self, call: Call) -> Call:
        """Queue a call, once its handlers let it and its lane's queue has a place, and return it; it goes on by itself.

        A call that has ended already is returned as it is, and so is one that its handlers ended. A checkpoint.
        Cancellation before it is queued leaves the call pending.

        Raises:
          InvalidCall, CapacityExceeded, MissingKey, UnknownEndpoint: the call's fault; nothing was sent.
          DeadlineExceeded: its deadline cannot be met, even with nobody ahead of it.
          ShuttingDown: the engine takes no more calls.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._intake.ended(call):
            await trio.lowlevel.cancel_shielded_checkpoint()
            return call
        await self._intake.submit(call)
        if call.options.deadline_s is not None:
            await self._wait_until_queued(call)
        if call.over and call.status == "skipped" and call.error is not None:
            raise call.error
        return call

    @staticmethod
    async def _wait_until_queued(call: Call) -> None:
        """The schedule alone knows whether a deadline can be met."""
        try:
            while call.progress is Progress.SUBMITTED:
                await call.wait_moved()
        except BaseException:
            call.cancel()
            raise

    def submit_nowait(self, call: Call) -> Call:
        """Queue a call if its lane has a place for it now.

        Raises:
          Overloaded: the queue is full; the exception carries the call.
          InvalidCall, CapacityExceeded, MissingKey, UnknownEndpoint, ShuttingDown: as in `submit`.
        """
        if not self._intake.accept(call):
            raise Overloaded(
                f"the queue of lane {call.owner.lane_name!r} is full, or all queues are together (max_queued); nothing "
                "was sent. Use submit, which waits for a place, or try again later",
                call=call,
                call_id=call.id,
                lane=call.owner.lane_name,
                endpoint=call.owner.endpoint_name,
            )
        return call

    def accept(self, call: Call) -> bool:
        """Queue a call if there is a place for it now; False if there is none. Raises what `submit` raises."""
        return self._intake.accept(call)

    async def invoke(self, call: Call) -> Call:
        """Submit a call and wait until it has ended; what became of it is on the call, not raised.

        A call that has ended already is returned as it is. Cancellation cancels the call, wherever it is.

        Raises:
          What `submit` raises.
        """
        await self.submit(call)
        try:
            if within.get():  # a handler's own call may be this one, and does not wait for itself
                await call.wait()
            else:
                await call.wait_ended()
        except BaseException:
            call.cancel()
            raise
        return call

    def map(
        self, calls: Iterable[Call] | AsyncIterable[Call], *, ordered: bool = False, buffer: int = 1000
    ) -> CallStream[Call]:
        """Send many calls and read them as they end, or in their own order.

        Pulls from `calls` as it goes, and stops at `buffer` calls queued, in flight and unread together. What `submit`
        would raise comes out as a call with status ``skipped``. An exception of the iterable ends the pulling and is
        raised after the calls already pulled have come out; so does `ShuttingDown`, which is not raised.

        Raises:
          UsageError: `buffer` is not a whole number of at least 1.
          ShuttingDown, InternalError: the engine takes no more calls, or has failed.
        """
        _check_buffer(buffer, 1)
        self._intake.check_open()
        mapping = Mapping(self, calls, ordered=ordered, buffer=buffer)
        self._nursery.start_soon(self._pull, mapping)
        return CallStream(mapping)

    async def _pull(self, mapping: Mapping) -> None:
        self._mappings[mapping] = None
        try:
            await mapping.pull()
        finally:
            del self._mappings[mapping]

    def stream(self, call: Call, *, process: OnChunk = None, watch: OnChunk = None) -> ReplyStream:
        """The answer to a call, made with ``stream=True``, as it comes. Queued when the stream is first waited for.

        `watch` is called with every chunk as it came, then `process`: what that returns, or awaits to, is read in its
        place unless it is None.

        Raises:
          InvalidCall, CapacityExceeded, MissingKey, UnknownEndpoint: the call's fault; nothing was sent.
          ShuttingDown, InternalError: the engine takes no more calls, or has failed.
        """
        check_streaming(call)
        self._intake.check(call)
        return ReplyStream(ReplySource(self, call, watched(watch, self._handlers.of_chunks(call, process))))

    async def submit_stream(self, call: Call, buffer: StreamBuffer) -> None:
        """Queue a call whose events go into this buffer until it has ended. Raises what `submit` raises."""
        self._streams[call.id] = buffer
        try:
            await self.submit(call)
        except BaseException:
            del self._streams[call.id]
            raise

    def forget_stream(self, call: Call) -> None:
        """Its call has ended."""
        self._streams.pop(call.id, None)

    def run_soon(self, mapping: Mapping | ReplySource) -> None:
        """Stop a dropped mapping or stream from the engine's own thread."""
        with contextlib.suppress(trio.RunFinishedError):
            self._loop.run_sync_soon(mapping.stop)

    # --- the whole ---

    async def drain(self, *, queue: Literal["finish", "discard"] = "finish", deadline_s: float | None = None) -> None:
        """Take no more calls and wait until none is live.

        ``finish`` lets what is queued, backs off or is to be answered later run to its end, however long that takes;
        `deadline_s` (default 30) then bounds what is in flight. ``discard`` ends it (``aborted``, ``failed`` if it was
        attempted), and the deadline counts at once. What is in flight then is dropped (`OutcomeUnknown`).

        Cancellation: leaves the engine closed to new calls, and the live ones going on.
        """
        if queue not in ("finish", "discard"):
            raise UsageError(f'queue is "finish" or "discard", not {queue!r}')
        if deadline_s is None:
            deadline_s = self._config.engine.drain_deadline_s
        if not is_number(deadline_s) or deadline_s < 0:
            raise UsageError(f"deadline_s must be seconds of at least 0, or None, not {deadline_s!r}")
        if debugging():
            log.debug("draining", queue=queue, deadline_s=deadline_s, live_calls=len(self._slots))
        self._intake.close(discard=queue == "discard")
        for mapping in self._mappings:
            mapping.halt()
        if queue == "finish":
            await self._finish_handlers(deadline_s)
        self._post(ms.Drain(queue))
        while True:
            if queue == "finish":
                await self._watch("none_waiting")
            with trio.move_on_after(deadline_s):
                await self.wait_quiet()
                return
            if queue == "discard" or not self._scheduler.taken:  # by a provider that answers later, meanwhile
                break
        self._stop_handlers()
        self._post(ms.Drain("stop"))
        await self._watch("quiet")
        self._stop_handlers()
        await self.wait_quiet()

    async def _finish_handlers(self, deadline_s: float) -> None:
        """Let the handlers before accepted calls come to their end, and the calls into the queue.

        The deadline counts while nothing is queued.
        """
        while self._asking.in_handlers:
            await self._watch("none_waiting")
            with trio.move_on_after(deadline_s):
                await self._asking.wait_none()
                continue
            self._stop_handlers()
            await self._asking.wait_none()

    def _stop_handlers(self) -> None:
        self._hook_bus.mailbox.post(ms.encode(ms.Drain("stop")))

    async def wait_quiet(self) -> None:
        """Wait until no call is in handlers, queued or in flight. Others may submit meanwhile: then it waits on."""
        while True:
            await self._watch("quiet")
            if len(self._slots) == self._watching:  # every live call has a slot, whoever has it now
                return
            await self._asking.wait_none()
            await self._hook_bus.wait_quiet()

    def close_idle(self, model: Model) -> None:
        """Close the connections of this model's account that no call is using. The next call opens what it needs."""
        self._switchboard.close_idle(model)

    def observe(self, *, buffer: int = 1000) -> Observer:
        """Subscribe to the lifecycle events of all calls, from now on: ``async for event in observer``.

        At most `buffer` events wait to be read; the observer counts what it misses. What an event's `lane` and
        `endpoint` are called stands in `statistics`, beside their `number`; 0 is none. Its `at_us` is trio's clock.
        """
        _check_buffer(buffer, 0)
        observer = self._hook_bus.observe(buffer)
        self._post(ms.Observe(listening=True))
        return observer

    def statistics(self) -> EngineStatistics:
        """A frozen copy of everything that is counted, now."""
        scheduler = self._scheduler.statistics()
        hook_bus = self._hook_bus.statistics()
        endpoints, schedule = self._switchboard.statistics(), scheduler.schedule
        live = {
            "queued": schedule.queued,
            "backing_off": schedule.backing_off,
            "taken": schedule.taken,
            "in_handlers": hook_bus.in_handlers,
            "granted": schedule.granted,
            "in_flight": schedule.granted + schedule.sent,
            "permits_held": schedule.permits_held,
            "open_reservations": schedule.open_reservations,
            "live_reservations": schedule.live_reservations,
            "waiters": self._slots.waiters,
            "places_taken": self._intake.places_taken,
            "open_streams": len(self._streams),
            "busy_connections": sum(endpoint.busy for endpoint in endpoints),
            "children": sum(endpoint.children for endpoint in endpoints),
        }
        registries = (self._handlers.registry, *self._switchboard.hook_registries())
        extensions = dict.fromkeys(one for registry in registries for one in registry.extensions)
        return EngineStatistics(live, scheduler, endpoints, hook_bus, tuple(one.statistics() for one in extensions))

    def __repr__(self) -> str:
        return f"<Engine {'closed' if self._intake.closed else 'open'}: {len(self._slots)} live calls>"

    # --- what happens below ---

    async def _log_events(self, observer: Observer) -> None:
        """Write what happens to calls around their requests to the log, until the engine ends."""
        async with observer:
            async for event in observer:
                if event.name in _LOGGED and debugging():
                    which = {"call": event.call_id, "attempt": event.attempt} if event.call_id else {}
                    where = {"lane": self._lanes.name_of(event.lane)} if event.lane else {}
                    why = {"reason": event.detail} if event.detail else {}
                    log.debug(event.name, **which, **where, **why)

    def _post(self, message: ms.Message) -> None:
        self._scheduler.mailbox.post(ms.encode(message))

    async def _watch(self, until: Literal["none_waiting", "quiet"]) -> None:
        """Wait for the scheduler to say so; raises `InternalError` if it fails before."""
        self._check_failure()
        slot = ReplySlot()
        watch_id = -id(slot)  # no call has a negative number, and the slot lives as long as this wait
        self._slots.add(watch_id, slot)
        self._watching += 1
        self._post(ms.Watch(watch_id, until))
        try:
            await slot.wait_ended()
        finally:
            self._slots.forget(watch_id)
            self._watching -= 1
        self._check_failure()

    def _check_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def _run(self, actor: SchedulerActor | HookBusActor) -> None:
        await supervise(lambda: actor, failed=self._fail)

    def _fail(self, error: Exception, for_good: bool) -> None:
        """The scheduler or the hook bus has a bug: everybody who waits is told, and the engine ends."""
        self._failure = error
        log.error("engine failed", error=fault_of(error).message)
        self.end()
        self._nursery.cancel_scope.cancel()

    async def stop(self) -> None:
        """After a drain: stop the endpoints, the scheduler and the hook bus, in that order."""
        stop = ms.encode(ms.Stop())
        await self._switchboard.stop()
        self._scheduler.mailbox.post(stop)
        self._hook_bus.mailbox.post(stop)

    def end(self) -> None:
        """Nothing runs any more: whoever still waits is told so."""
        self._intake.close(failed=self._failure is not None)
        fault = Fault("InternalError", "the engine failed while the call was under way: a bug, please report it")
        for call_id in self._slots:
            self._slots.deliver(call_id, (ms.encode(ms.Ended(call_id, "failed", 0, 0, -1, -1, 0, fault=fault)), b""))

    @property
    def failure(self) -> InternalError | None:
        """What the engine itself failed of, as the error to raise."""
        if self._failure is None:
            return None
        error = InternalError(f"the engine failed: {fault_of(self._failure).message}")
        error.__cause__ = self._failure
        return error


_LOGGED = frozenset(("unsent", "retrying", "barrier", "ended"))
"""The events that no request's own line tells of."""


def _check_buffer(buffer: object, least: int) -> None:
    if not is_count(buffer) and not (least == 0 and type(buffer) is int and buffer == 0):
        raise UsageError(f"buffer must be a whole number of at least {least}, not {buffer!r}")
