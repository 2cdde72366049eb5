"""The way in: what is looked at before a call is queued, its places in the queue, and its one encoding.

Whatever can be known to be wrong with a call is raised here, before anything is reserved or sent. A call that is
refused stays pending and can be submitted elsewhere. The handlers before a call are asked here, through the hook bus: a
call in its handlers holds no place. Nothing here knows what becomes of a call afterwards.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import trio

from actors import messages as ms
from actors.clock import now_us
from actors.limits import admissible, capacity_fault, cost_of, input_that_fits, output_that_fits
from actors.mailbox import Mailbox, Places
from actors.retrying import POLL_LEAST_US
from actors.slots import Progress, ReplySlots
from engine.accounts import Lanes, OpenedLane
from engine.asking import Asking
from engine.call import Call, Handled
from engine.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidCall,
    PenstockError,
    ShuttingDown,
    error_of,
)
from engine.handling import AnswerSlot
from engine.providers.wire import Encoded
from engine.switchboard import Binding, Switchboard

LARGEST = 1 << 53
"""More input, output or answers than any call can be about."""


class _Estimate(NamedTuple):
    """What to reserve for a call."""

    input_tokens: int
    output_tokens: int
    guessed: bool
    """Whether the output is a guess."""


class Intake:
    """Takes calls in for one engine, until it is closed."""

    def __init__(
        self,
        lanes: Lanes,
        switchboard: Switchboard,
        slots: ReplySlots,
        scheduler: Mailbox,
        asking: Asking,
        all_places: Places,
    ) -> None:
        self._lanes = lanes
        self._switchboard = switchboard
        self._slots = slots
        self._scheduler = scheduler
        self.asking = asking
        self._all_places = all_places
        self._cancel_call, self._cancel_handled = self._cancel, self._cancel_both  # bound once: each call holds one
        self._failed = False
        self._discards = False
        self.closed = False

    @property
    def places_taken(self) -> int:
        """Places taken in all queues together."""
        return self._all_places.taken

    def close(self, *, failed: bool = False, discard: bool = False) -> None:
        """Take no more calls; whoever waits for a place is told. `discard`: nor those whose handlers run."""
        self.closed = True
        self._failed = self._failed or failed
        self._discards = self._discards or discard or failed
        self._lanes.close()
        self._all_places.close()

    def check_open(self, call: Call | None = None) -> None:
        """Raise `ShuttingDown` if no more calls are taken, `InternalError` if that is the engine's own fault.

        A call that was taken before, and was in its handlers since, may still go.
        """
        if self.closed and (self._discards or call is None or call.handled is None):
            raise self._refusal(call)

    @staticmethod
    def ended(call: object) -> bool:
        """Whether this is a call that has ended already. Raises `InvalidCall` for what is no call."""
        if not isinstance(call, Call):
            raise InvalidCall(f"the engine takes calls made by create_api_calling, not {type(call).__name__}")
        return call.mail is not None

    def check(self, call: Call) -> None:
        """Raise what can be known to be wrong with a call now, and queue nothing."""
        self._check_pending(call)
        self._prepare(call)

    def accept(self, call: Call) -> bool:
        """Queue a call if there is a place for it now; False if there is none. One that has ended is left as it is.

        Raises:
          UsageError: the call's fault, or its model's. ShuttingDown: no more calls are taken.
        """
        if self.ended(call):
            return True
        self._check_pending(call)
        binding, estimate = self._prepare(call)
        handled = self.asking.handlers_of(call) if self.asking.has_handlers(call) else None
        if handled is not None and handled.before:
            places = binding.lane.places
            if places.waiting or places.taken + self.asking.in_lane(call.owner.lane_name) >= places.capacity:
                return False
            if (
                self._all_places.waiting
                or self._all_places.taken + self.asking.in_handlers >= self._all_places.capacity
            ):
                return False
            request, answer = call.request, self.asking.ask(call, handled)
            answer.call_at_end(lambda _: self._go_on(call, answer, handled, request, (binding, estimate)))
            return True
        if not self._take_places_nowait(binding.lane):
            return False
        call.handled = handled
        self._send_or_free(call, binding, estimate, now_us() if handled is None else handled.submitted_us)
        return True

    async def submit(self, call: Call) -> None:
        """Queue a call, after its handlers, waiting for a place if need be. It may have ended in its handlers. A
        checkpoint.

        Raises what `accept` and `wait` raise.
        """
        if self.asking.has_handlers(call):
            self._check_pending(call)
            self._prepare(call)
            handled = self.asking.handlers_of(call)
            if handled is not None:
                await self.asking.answer(call, handled)
                if not call.over:
                    await self._queue(call, handled)
                return
        if self.accept(call):
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self.wait(call)

    async def wait(self, call: Call, submitted_us: int | None = None) -> None:
        """Wait in line for a place in the lane's queue and in the engine's, then queue the call.

        The wait counts towards the call's deadline; a call that is cancelled meanwhile needs no place.

        Raises:
          DeadlineExceeded: the deadline came first. Otherwise as `accept`.
        """
        self._check_pending(call)
        binding, _ = self._prepare(call)
        if submitted_us is None:
            submitted_us = now_us()
        deadline_s = call.options.deadline_s
        deadline = math.inf if deadline_s is None else submitted_us / 1e6 + deadline_s
        call.progress = Progress.IN_LINE
        with trio.CancelScope(deadline=deadline) as scope:
            call.call_at_end(lambda _: scope.cancel())
            try:
                await self._take_places(binding.lane)
            except ShuttingDown:
                raise self._refusal(call) from None
            finally:
                if call.mail is None:
                    call.call_at_end(None)
                    call.progress = Progress.PENDING
                    call.wake()
        if not scope.cancelled_caught:
            # More may be known by now of how the model counts and what it answers.
            self._send_or_free(call, binding, self._estimate(call, binding), submitted_us)
        elif call.mail is None:
            raise DeadlineExceeded(
                "the deadline passed while the call waited for a place in the queue; nothing was sent",
                call=call,
                call_id=call.id,
                lane=call.owner.lane_name,
                endpoint=call.owner.endpoint_name,
            )

    # --- handlers ---

    async def _queue(self, call: Call, handled: Handled) -> None:
        """Queue a call whose handlers have let it go."""
        try:
            binding, estimate = self._prepare(call)
            if not self._take_places_nowait(binding.lane):
                if not self.closed:
                    await self.wait(call, handled.submitted_us)
                    return
                self._exceed_places(binding.lane)  # it was taken in before the drain, and goes
            self._send_or_free(call, binding, estimate, handled.submitted_us)
        except BaseException:
            if call.handled is handled and call.progress is Progress.PENDING:
                call.handled = None
            raise

    def _go_on(
        self, call: Call, answer: AnswerSlot, handled: Handled, request: Encoded, prepared: tuple[Binding, _Estimate]
    ) -> None:
        """The same where nobody waits: what would be raised is on the call, and it needs no place any more."""
        self.asking.answered(call, answer)
        if call.over:
            return
        try:
            self.check_open(call)
            binding, estimate = prepared if call.request is request else self._prepare(call)
            if not self._take_places_nowait(binding.lane):
                self._exceed_places(binding.lane)
            self._send_or_free(call, binding, estimate, handled.submitted_us)
        except PenstockError as error:
            call.skip(error)

    def _exceed_places(self, lane: OpenedLane) -> None:
        lane.places.exceed()
        self._all_places.exceed()

    def _take_places_nowait(self, lane: OpenedLane) -> bool:
        if not lane.places.take_nowait():
            return False
        if not self._all_places.take_nowait():
            lane.places.free()
            return False
        return True

    async def _take_places(self, lane: OpenedLane) -> None:
        await lane.places.take()
        try:
            await self._all_places.take()
        except BaseException:
            lane.places.free()
            raise

    def _prepare(self, call: Call) -> tuple[Binding, _Estimate]:
        """Where a call goes and what it will take. Raises what can be known to be wrong with it before it is queued."""
        self.check_open(call)
        binding = self._switchboard.bind(call.owner)
        if binding.check is not None:
            binding.check(call.request.body)
        estimate = self._estimate(call, binding)
        output_tokens = estimate.output_tokens
        if estimate.guessed:
            output_tokens = output_that_fits(estimate.input_tokens, output_tokens, binding.lane.quotas)
        cost = cost_of(estimate.input_tokens, output_tokens)
        too_small = admissible(cost, binding.lane.quotas)
        if too_small is not None:
            where = {"lane": call.owner.lane_name, "endpoint": call.owner.endpoint_name}
            raise error_of(capacity_fault(cost, *too_small), call_id=call.id, **where)
        return binding, estimate

    @staticmethod
    def _check_pending(call: Call) -> None:
        if call.progress is Progress.IN_LINE:
            raise InvalidCall(f"call {call.id} is being submitted already, by another task", call_id=call.id)

    def _estimate(self, call: Call, binding: Binding) -> _Estimate:
        """What to reserve, by what is known now.

        A call that only its calibration makes larger than a limit reserves all of the limit instead. What was learned
        of other calls is no proof against this one: it goes alone, and its provider judges it. What is too large by the
        plain estimate too stays refused.
        """
        request = call.request
        cap = request.output_cap
        if request.input_tokens > LARGEST or request.choices > LARGEST or (cap is not None and cap > LARGEST):
            text = f"call {call.id} asks for more than anybody has: its tokens, or how many answers; nothing was sent"
            raise InvalidCall(text, call_id=call.id)
        learned = self._switchboard.learned(binding.endpoint, call.model)
        output_tokens = learned.output.guess(request.choices) if cap is None else cap
        input_tokens = learned.input.calibrated(request.input_tokens)
        if input_tokens > request.input_tokens:
            fits = input_that_fits(input_tokens, cap or 0, binding.lane.quotas)
            input_tokens = max(fits, request.input_tokens)
        return _Estimate(input_tokens, output_tokens, guessed=cap is None)

    def _send_or_free(self, call: Call, binding: Binding, estimate: _Estimate, submitted_us: int) -> None:
        """Encode the call, once, and put it into the scheduler's mailbox; its places are taken, or free again."""
        if call.mail is not None:  # cancelled while its place was being handed over
            binding.lane.places.free()
            self._all_places.free()
            return
        try:
            self.check_open(call)
            calling = self._encode(call, binding, estimate, submitted_us)
        except BaseException:
            binding.lane.places.free()
            self._all_places.free()
            raise
        handled = call.handled is not None and bool(call.handled.after)
        call.under_way(calling, self._cancel_handled if handled else self._cancel_call)
        self._slots.add(call.id, call)
        self._scheduler.submit(calling)

    def _encode(self, call: Call, binding: Binding, estimate: _Estimate, submitted_us: int) -> bytes:
        options, request = call.options, call.request
        return ms.encode_to_keep(
            ms.APICalling(
                call_id=call.id,
                lane=binding.lane.number,
                endpoint=binding.endpoint,
                submitted_us=submitted_us,
                deadline_us=submitted_us + _microseconds(options.deadline_s) if options.deadline_s else 0,
                timeout_us=_microseconds(options.timeout_s),
                input_tokens=estimate.input_tokens,
                output_tokens=estimate.output_tokens,
                output_is_guess=estimate.guessed,
                retry_unknown=options.on_unknown == "retry",
                acknowledge=options.deadline_s is not None,
                handled=call.handled is not None and bool(call.handled.after),
                priority=options.priority,
                flow=options.flow,
                max_attempts=options.max_attempts,
                model=call.model,
                format=binding.format,
                streaming=request.streaming,
                first_byte_us=_microseconds(options.first_byte_s) if options.first_byte_s else 0,
                idle_us=_microseconds(options.idle_s) if options.idle_s else 0,
                raw_input_tokens=request.input_tokens,
                choices=request.choices,
                method=request.method,
                path=request.path,
                poll_lane=binding.poll_lane,
                poll_wait_us=max(POLL_LEAST_US, _microseconds(options.poll_s)) if binding.poll_lane else 0,
                body=memoryview(request.body),
            )
        )

    def _cancel(self, call_id: int) -> None:
        self._scheduler.post(ms.encode(ms.Cancel(call_id)))

    def _cancel_both(self, call_id: int) -> None:
        self._cancel(call_id)
        self.asking.cancel(call_id)

    def _refusal(self, call: Call | None) -> PenstockError:
        if self._failed:
            return InternalError("the engine has failed; open another")
        return ShuttingDown("the engine takes no more calls; nothing was sent", call=call)


def _microseconds(span_s: float) -> int:
    return max(1, round(span_s * 1_000_000))
