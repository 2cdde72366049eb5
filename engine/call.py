"""What a user holds: a `Call`, what it was asked with, and what became of it.

A call is its own reply slot: identity and arguments first, its one outcome later. Its arguments are written once, by
the wire format, when the call is made, so changing them afterwards changes nothing; what came back is decoded when it
is looked at. A call knows what to send and what came back, never how.
"""

from __future__ import annotations

import contextvars
import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, Protocol, cast

import msgspec
import trio

from actors.messages import Ended, Fault, Mail, Reply, decode_calling, decode_ended, decode_reply, encode
from actors.slots import Progress, ReplySlot
from engine.accounts import Model
from engine.call_options import NO_OPTIONS, OPTION_NAMES, CallOptions, Timings
from engine.errors import InvalidCall, PenstockError, UsageError, error_of, fault_of
from engine.hooks import Handler, HookEventTypes
from engine.providers.wire import Encoded, StreamFormat, Usage, View, WireFormat

__all__ = ["NO_OPTIONS", "OPTION_NAMES", "Call", "CallOptions", "CallStatus", "Timings", "Usage"]

CallStatus = Literal[
    "pending", "queued", "processing", "calling", "completed", "failed", "cancelled", "skipped", "aborted"
]

_LIVE: dict[Progress, CallStatus] = {
    Progress.PENDING: "pending",
    Progress.IN_LINE: "pending",
    Progress.SUBMITTED: "queued",
    Progress.QUEUED: "queued",
    Progress.GRANTED: "processing",
    Progress.SENT: "calling",
}

_numbers = itertools.count(1)


class CallOwner(Model, Protocol):
    """Who a call belongs to: the model it was made for."""

    @property
    def lane_name(self) -> str:
        """What its lane is called."""

    @property
    def endpoint_name(self) -> str:
        """What its provider account is called."""

    @property
    def format(self) -> WireFormat:
        """The wire format that writes its requests and reads its answers."""

    @property
    def exit_hook(self) -> bool:
        """Whether a handler that raises fails the call, where the call does not say."""


class Handled:
    """What a call that has handlers carries from its submit on: which they are, and what they are to see.

    `before` and `after` are handlers, `before` with their phases; `deadline` is trio's time of the call's own;
    `original` is what it asked for, and of whom, before a handler changed that; `failure` is what the handler raised
    that ended it, `follows` the call that it waits for, to end as that one does.
    """

    __slots__ = ("after", "before", "context", "deadline", "failure", "follows", "original", "submitted_us")

    def __init__(
        self,
        call: Call,
        before: tuple[tuple[HookEventTypes, Handler], ...],
        after: tuple[Handler, ...],
        deadline: float,
        submitted_us: int,
    ) -> None:
        self.original = call.owner, call.model, call.request
        self.before = before
        self.after = after
        self.context = contextvars.copy_context()
        self.deadline = deadline
        self.submitted_us = submitted_us
        self.failure: BaseException | None = None
        self.follows: Call | None = None


within: contextvars.ContextVar[tuple[tuple[Call, Handler], ...]] = contextvars.ContextVar("penstock_within", default=())
"""The handlers that run around this code, each with the call it runs for."""


class _Seen(msgspec.Struct, eq=False):
    """What has been read of a call's end so far. A call that waits has none: a hundred thousand may."""

    ended: Ended
    reply: Reply | None = None
    response: Any = msgspec.UNSET
    together: bool = False
    error: PenstockError | None = None


class Call(ReplySlot):
    """One metered API call: made by `iModel.create_api_calling`, sent by `submit`, `invoke` or `map`.

    `id` is unique in the process. Looking at a call never waits; `wait()` does. A call that is dropped does not cancel
    itself.
    """

    __slots__ = ("_cancel", "_request", "_seen", "handled", "id", "model", "options", "owner")

    def __init__(
        self,
        owner: CallOwner,
        model: str,
        request: Encoded | InvalidCall,
        options: CallOptions = NO_OPTIONS,
    ) -> None:
        super().__init__()
        self.id = next(_numbers)
        self.owner = owner
        self.model = model
        self.options = options
        self._request: Encoded | InvalidCall | bytes = request
        self._cancel: Callable[[int], None] | None = None
        self._seen: _Seen | None = None
        self.handled: Handled | None = None

    # --- on the way out ---

    @property
    def request(self) -> Encoded:
        """What is to be sent.

        Raises:
          InvalidCall: the arguments could not be written, or the call has been submitted already.
        """
        if isinstance(self._request, Encoded):
            return self._request
        if isinstance(self._request, bytes):
            raise InvalidCall(f"call {self.id} is under way already; wait for it, or make another", call_id=self.id)
        raise self._request

    def under_way(self, calling: bytes, cancel: Callable[[int], None]) -> None:
        """Note that the call has been submitted as `calling`, and how it can be cancelled."""
        self._request = calling
        self._cancel = cancel

    def in_handlers(self, cancel: Callable[[int], None] | None) -> None:
        """Note that its handlers run and how it can be cancelled meanwhile; None: they do not any more."""
        self.progress = Progress.PENDING if cancel is None else Progress.IN_LINE
        self._cancel = cancel
        if cancel is None:
            self.wake()  # it may have been taken back by who submitted it, and then nothing else would tell who waits

    def take_back(self, handled: Handled) -> None:
        """Be as before its handlers ran: pending, with what it asked for then."""
        self.mail, self._seen, self.handled = None, None, None
        self.owner, self.model, self._request = handled.original
        self.in_handlers(None)
        self.wake()

    def adopt(self, other: Call) -> None:
        """Take over what another call asks for, and of whom. This one stays itself: number, options, who waits."""
        if not other.over:
            self._request = other.request
        self.owner, self.model = other.owner, other.model

    @property
    def payload(self) -> Any:
        """The request body as Python objects: what the provider is or was sent. None if it could not be written."""
        body = self.body
        return self.owner.format.decode(body) if body is not None else None

    @property
    def body(self) -> bytes | memoryview | None:
        """The request body itself: what the provider is or was sent. None if it could not be written."""
        if isinstance(self._request, Encoded):
            return self._request.body
        if isinstance(self._request, bytes):
            return decode_calling.decode(self._request).body
        return None

    @property
    def place(self) -> tuple[str, str]:
        """The method of the request and its path; an empty one is that of the provider's address."""
        request = decode_calling.decode(self._request) if isinstance(self._request, bytes) else self._request
        return ("POST", "") if isinstance(request, InvalidCall) else (request.method, request.path)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The caller's own, as given."""
        return self.options.metadata if self.options.metadata is not None else _NOTHING

    # --- on the way back ---

    @property
    def status(self) -> CallStatus:
        """Where the call is: ``pending queued processing calling``, or how it ended: ``completed failed cancelled
        skipped aborted``. Queued also while backing off; processing is granted, calling is sent."""
        seen = self._look()
        return seen.ended.status if seen is not None else _LIVE[self.progress]

    @property
    def ended(self) -> Ended | None:
        """The terminal message, None while the call is live."""
        seen = self._look()
        return seen.ended if seen is not None else None

    def _look(self) -> _Seen | None:
        """What has been read of the call's end; None while it is live."""
        if self._seen is None and self.mail is not None:
            self._seen = _Seen(decode_ended.decode(self.mail[0]))
        return self._seen

    @property
    def reply(self) -> Reply:
        """What the last attempt brought back, as bytes; an empty one if none did."""
        seen = self._look()
        if seen is None or self.mail is None or not self.mail[1]:
            return _NO_REPLY
        if seen.reply is None:
            seen.reply = decode_reply.decode(self.mail[1])
        return seen.reply

    @property
    def response(self) -> Any:
        """The provider's answer as Python objects, decoded once; None while there is none or it cannot be decoded.

        A stream is the one answer that its events make up, as far as they came.
        """
        seen = self._look()
        if seen is not None and seen.response is msgspec.UNSET:
            body, wire = self.reply.body, self.owner.format
            try:
                if self.reply.streamed:
                    seen.response = cast(StreamFormat, wire).decode_stream(body)
                else:
                    seen.response = wire.decode(body) if len(body) else None
            except msgspec.DecodeError:
                seen.response = None
        return seen.response if seen is not None else None

    def show(self, mail: Mail) -> None:
        """Let the outcome be looked at while handlers may change it; nobody who waits is woken before it is put."""
        self.mail = mail
        self._seen = None

    def put(self, mail: Mail) -> None:
        """Put the outcome; see `ReplySlot`."""
        if self.mail is not None:  # it was shown, perhaps otherwise
            self._seen = None
        super().put(mail)

    def put_together(self, response: object) -> None:
        """What the reader of a stream has put together of it, which then need not be done again."""
        seen = self._look()
        if seen is not None:
            seen.response, seen.together = response, True

    @property
    def view(self) -> View:
        """The answer in the same terms for every provider."""
        return self.owner.format.view(self.response)

    @property
    def text(self) -> str | None:
        """The answer's text, None if it has none; of a stream that was cut short, what came of it."""
        seen = self._look()
        if seen is None:
            return None
        readable = (
            seen.together or self.reply.streamed or (self.reply.fault is None and bool(self.mail and self.mail[1]))
        )
        return self.view.text if readable else None

    @property
    def usage(self) -> Usage | None:
        """What the provider says the call cost, None where it did not say."""
        reply = self.reply
        if reply.input_tokens is None and reply.output_tokens is None:
            return None
        total = None
        if reply.input_tokens is not None and reply.output_tokens is not None:
            total = reply.input_tokens + reply.output_tokens
        return Usage(reply.input_tokens, reply.output_tokens, total, reply.cached_tokens, reply.reasoning_tokens)

    @property
    def attempts(self) -> int:
        """How many times it was tried; failed connections count."""
        return self.ended.attempts if self.ended is not None else 0

    @property
    def timings(self) -> Timings | None:
        """Where its time went, None while it is live."""
        ended = self.ended
        if ended is None:
            return None
        granted = ended.granted_us if ended.granted_us >= 0 else None
        sent = ended.sent_us if ended.sent_us >= 0 else None
        return Timings(
            waited_s=None if granted is None else (granted - ended.submitted_us) / 1e6,
            sending_s=None if granted is None or sent is None else (sent - granted) / 1e6,
            answering_s=None if sent is None else (ended.ended_us - sent) / 1e6,
            total_s=(ended.ended_us - ended.submitted_us) / 1e6,
            first_chunk_s=(first - sent) / 1e6 if (first := self.reply.first_us) >= 0 and sent is not None else None,
        )

    @property
    def error(self) -> PenstockError | None:
        """Why the call did not complete; None while it is live and when it did. Always the same object."""
        seen = self._look()
        if seen is None or seen.ended.status == "completed":
            return None
        if seen.error is None:
            fault = seen.ended.fault or self.reply.fault or _NO_REASON
            where = {"lane": self.owner.lane_name, "endpoint": self.owner.endpoint_name}
            seen.error = error_of(fault, call_id=self.id, gave_up=seen.ended.gave_up, call=self, **where)
            if self.handled is not None and fault.kind in _OF_HANDLERS:
                seen.error.__cause__ = self.handled.failure
        return seen.error

    def raise_for_status(self) -> Call:
        """Itself if it completed.

        Raises:
          PenstockError: `error`, if it ended otherwise.
          InvalidCall: it has not ended yet.
        """
        if self.mail is None:
            raise InvalidCall(f"call {self.id} has not ended yet ({self.status}); wait for it", call_id=self.id)
        if self.error is not None:
            raise self.error
        return self

    # --- while it is under way ---

    async def wait(self) -> Call:
        """Wait until it has ended, and return it. Any number of tasks may, at any time.

        Cancellation ends only this wait, never the call. A handler of the call's own does not wait: it is what the
        others wait for.

        Raises:
          InvalidCall: it is not submitted, so it would never end; or a handler that comes before it waits for it.
        """
        while not self.over:
            if within.get() and any(call is self for call, _ in within.get()):
                if self.mail is not None:
                    break
                raise InvalidCall(f"call {self.id} waits for the handler that waits for it", call_id=self.id)
            if self.progress is Progress.PENDING:
                raise InvalidCall(f"call {self.id} was never submitted; there is nothing to wait for", call_id=self.id)
            await self.wait_moved()
        await trio.lowlevel.checkpoint()
        return self

    def cancel(self) -> None:
        """Give the call up, wherever it is: in its handlers, queued, backing off or in flight.

        No effect on one that has ended.

        Raises:
          UsageError: this is another thread than its engine's; use `cancel` of the portal's engine.
        """
        if self.over:
            return
        if (self._cancel is not None or self.progress) and not trio.lowlevel.in_trio_run():
            raise UsageError(
                f"call {self.id} is under way in another thread's loop, which nobody else may touch: use "
                "`engine.cancel(call)` of the portal's engine",
                call_id=self.id,
            )
        if self._cancel is not None:
            self._cancel(self.id)
        else:
            self.conclude("cancelled", Fault("CallCancelled", "the call was cancelled before it was submitted"))

    def conclude(self, status: Literal["cancelled", "skipped"], fault: Fault) -> None:
        """End a call that never reached the scheduler."""
        ended = Ended(self.id, status, 0, 0, -1, -1, 0, fault=fault)
        self.put((encode(ended), b""))

    def skip(self, error: PenstockError) -> None:
        """End a call that could not be queued, with the error that `submit` would have raised."""
        self.conclude("skipped", fault_of(error))

    def __repr__(self) -> str:
        return f"<Call {self.id} {self.status} model={self.model!r} endpoint={self.owner.endpoint_name!r}>"


_NOTHING: Mapping[str, Any] = MappingProxyType({})
_NO_REPLY = Reply()
_OF_HANDLERS = ("Vetoed", "HandlerFailed")
_NO_REASON = Fault("InternalError", "the call ended without saying why: a bug in penstock, please report it")
