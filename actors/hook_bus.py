"""HookBusActor: tells observers what happens, and runs what comes after a call before its caller is answered.

Rules: an observer is told through a bounded buffer and never waited for; what it misses is counted. Handlers get a task
of their own and a deadline; one that raises, hangs or is slow never loses a response, never stalls another call and
never ends the bus. The registry of handlers and what they may change belong to the engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType

import msgspec
import trio

from actors import messages as ms
from actors.actor import BATCH
from actors.mailbox import Mailbox, MailboxStatistics
from actors.slots import ReplySlots

AfterCall = Callable[[int, ms.Mail], Awaitable[ms.Mail]]
"""What runs after a call: given its number and terminal mail, it returns the mail to deliver."""


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
    """The bus of one engine.

    `after_call` runs for calls that have handlers, for at most `after_call_s` seconds; `unobserved` is called when the
    last observer has left.
    """

    def __init__(
        self,
        slots: ReplySlots,
        *,
        after_call: AfterCall | None = None,
        after_call_s: float = 30.0,
        unobserved: Callable[[], None] = lambda: None,
    ) -> None:
        self.mailbox = Mailbox("hook bus", self._reject)
        self._slots = slots
        self._after_call = after_call
        self._after_call_s = after_call_s
        self._unobserved = unobserved
        self._observers: list[Observer] = []
        self._pending: dict[int, ms.Mail] = {}
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
        """Work until told to stop; the handlers of calls that are pending then are cancelled, the calls delivered."""
        try:
            async with trio.open_nursery() as nursery:
                handled = 0
                while (mail := await self.mailbox.receive()) is not None:
                    head, rest = mail
                    message = ms.decode_for_hook_bus.decode(head)
                    if isinstance(message, ms.HookEvent):
                        for observer in self._observers:
                            observer.tell(message)
                    elif isinstance(message, ms.HookCall):
                        self._pending[message.call_id] = (message.ended, rest)
                        nursery.start_soon(self._finish, message.call_id)
                    else:
                        nursery.cancel_scope.cancel()
                        break
                    handled += 1
                    if handled % BATCH == 0:
                        await trio.lowlevel.checkpoint()
        finally:
            self._stopped = True
            self.mailbox.close()
            for call_id in list(self._pending):
                self._deliver(call_id)
            for observer in list(self._observers):
                observer.close()

    def statistics(self) -> HookBusStatistics:
        """A frozen copy of the state."""
        return HookBusStatistics(
            in_handlers=len(self._pending),
            observers=tuple(observer.statistics() for observer in self._observers),
            mailbox=self.mailbox.statistics(),
        )

    def __repr__(self) -> str:
        return f"<HookBusActor: {len(self._observers)} observers, {len(self._pending)} calls in handlers>"

    async def _finish(self, call_id: int) -> None:
        """Run what comes after one call; whatever becomes of that, the call is delivered."""
        try:
            with trio.move_on_after(self._after_call_s):
                if self._after_call is not None:
                    self._pending[call_id] = await self._after_call(call_id, self._pending[call_id])
        except BaseExceptionGroup as group:
            # A handler's failure must not cost an answer, and `after_call` reports its own; what is left is not ours.
            rest = group.split(Exception)[1]
            if rest is not None:
                raise rest from None
        except Exception:  # noqa: BLE001, S110  # as above
            pass
        finally:
            self._deliver(call_id)

    def _deliver(self, call_id: int) -> None:
        mail = self._pending.pop(call_id, None)
        if mail is not None:
            self._slots.deliver(call_id, mail)

    def _reject(self, mail: ms.Mail) -> None:
        """After the bus has closed: an answer is delivered as it stands, an event is lost."""
        message = ms.decode_for_hook_bus.decode(mail[0])
        if isinstance(message, ms.HookCall):
            self._slots.deliver(message.call_id, (message.ended, mail[1]))

    def _left(self, observer: Observer) -> None:
        if observer in self._observers:
            self._observers.remove(observer)
            if not self._observers:
                self._unobserved()
