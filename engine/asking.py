"""The handlers before a call, as the intake asks them: through the hook bus, answered into a slot in the call's place.

A call that is being asked about is not queued and holds no place; how many there are is counted by lane, because they
will want places. Where no handler is registered nothing here is run but one look.
"""

from __future__ import annotations

import collections
import functools
import itertools
from typing import cast

import trio

from actors import messages as ms
from actors.mailbox import Mailbox
from actors.messages import Fault
from actors.slots import Progress, ReplySlots
from engine.call import Call, Handled
from engine.handling import AnswerSlot, Handlers


class Asking:
    """Asks the handlers before the calls of one engine."""

    def __init__(self, handlers: Handlers, hook_bus: Mailbox, slots: ReplySlots) -> None:
        self._handlers = handlers
        self._hook_bus = hook_bus
        self._slots = slots
        self._keys = itertools.count(-1, -1)  # no call has a negative number
        self._in_lane: collections.Counter[str] = collections.Counter()
        self._nobody = trio.lowlevel.ParkingLot()
        self.in_handlers = 0
        """Calls that are in the handlers before them."""

    def has_handlers(self, call: Call) -> bool:
        """Whether any handler may have to be asked."""
        return not (call.owner.hook_registry.empty and self._handlers.registry.empty)

    def handlers_of(self, call: Call) -> Handled | None:
        """The handlers a call has, as they are registered now."""
        return self._handlers.of(call)

    def in_lane(self, name: str) -> int:
        """How many calls of a lane are in the handlers before them."""
        return self._in_lane[name]

    async def wait_none(self) -> None:
        """Wait until no call is in the handlers before it. A checkpoint only if one is."""
        while self.in_handlers:
            await self._nobody.park()

    def ask(self, call: Call, handled: Handled) -> AnswerSlot:
        """Have the handlers before a call run; their answer comes into the slot, and is taken by `answered`."""
        call.handled = handled
        answer = AnswerSlot(call, next(self._keys))
        call.in_handlers(functools.partial(self._cancel, answer))
        self._count(answer, 1)
        self._slots.add(answer.key, answer)
        self._hook_bus.post(ms.encode(ms.HookCall(call.id, answer.key)))
        return answer

    def answered(self, call: Call, answer: AnswerSlot) -> None:
        """Take the answer: the call has ended, or is pending again and can be queued."""
        self._count(answer, -1)
        call.in_handlers(None)
        head, reply = cast(ms.Mail, answer.mail)
        message = ms.decode_hook_answer.decode(head)
        if isinstance(message, ms.Ended):  # the engine itself has failed
            call.put((head, reply))
        elif message.ended:
            call.put((message.ended, reply))
        elif answer.cancelled:  # when its handlers had let it go already
            self._conclude(call)

    async def answer(self, call: Call, handled: Handled) -> None:
        """Ask and wait for the answer. Cancellation ends the handlers and leaves the call pending."""
        if not handled.before:
            call.progress = Progress.IN_LINE
            try:
                await trio.lowlevel.checkpoint()
            finally:
                call.in_handlers(None)
            call.handled = handled
            return
        answer = self.ask(call, handled)
        try:
            await answer.wait_ended()
        except BaseException:
            if not answer.over:
                self.cancel(answer.key)
                self._slots.forget(answer.key)
            self._count(answer, -1)
            call.take_back(handled)
            if answer.cancelled:
                self._conclude(call)
            raise
        self.answered(call, answer)

    def cancel(self, key: int) -> None:
        """The handlers of this slot are to end: their call is not wanted any more."""
        self._hook_bus.post(ms.encode(ms.Cancel(key)))

    def _cancel(self, answer: AnswerSlot, call_id: int) -> None:
        answer.cancelled = True
        self.cancel(answer.key)

    @staticmethod
    def _conclude(call: Call) -> None:
        call.conclude("cancelled", Fault("CallCancelled", "the call was cancelled before it was queued"))

    def _count(self, answer: AnswerSlot, by: int) -> None:
        self._in_lane[answer.lane] += by
        self.in_handlers += by
        if not self.in_handlers:
            self._nobody.unpark_all()
