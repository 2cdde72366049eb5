"""What all formats share whose answer is one JSON document, and whose stream, if they have one, is of such documents.

A format says four things: where the usage stands (`usage_of`), what an answer looks like (`is_answer`), what of the
input its provider does not count (`free_tokens_in`), and, where it differs from everybody's, what an error looks like
(`error_of`). The verdict on a whole answer is `JsonFormat`'s, that on a stream `JsonMonitor`'s.

Pure: no trio, no httpx, no I/O. Never raises, whatever a provider sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

from actors.limits import Quota
from actors.messages import Charge, Fault
from engine.providers.answers import error_in, fault_for, kept_headers, request_id_of, with_text
from engine.providers.wire import Reading, Usage, decode_json
from engine.retry import Advice, ErrorView, advise
from engine.sse import Event, Named


def is_known(usage: Usage | None) -> bool:
    """Whether both sides of a usage are known, so that it can be charged."""
    return usage is not None and usage.input_tokens is not None and usage.output_tokens is not None


def decoded_or_none(data: bytes | memoryview) -> object:
    """JSON, read leniently; None where it is not JSON."""
    try:
        return decode_json(data)
    except msgspec.DecodeError:
        return None


NO_USAGE = Usage()
"""What `JsonFormat.plain_usage` says of an ordinary answer of a provider that states no usage."""


class JsonFormat:
    """The reading half of a `WireFormat`. Immutable; holds no key and no address."""

    name: str
    path: str
    options: type[msgspec.Struct] | None = None
    polls: Quota | None = None

    def headed(self: Self, headers: Mapping[str, str]) -> Self:
        """The format for requests with these headers: the same, where none of them changes the language."""
        return self

    def usage_of(self, payload: object) -> Usage | None:
        """The usage in a decoded answer; None where nothing of it is a number."""
        raise NotImplementedError

    def plain_usage(self, body: bytes | memoryview) -> Usage | None:
        """The usage of a success that is whole and ordinary, for a fraction of what reading it in full takes.

        `NO_USAGE` where such an answer states none. None: it has to be read in full.
        """
        return None

    def is_answer(self, payload: object) -> bool:
        """Whether a success without an error in it holds an answer."""
        raise NotImplementedError

    def payload_of(self, body: bytes | memoryview) -> object:
        """What of a body decides about the call, as plain objects; None where it is not JSON."""
        return decoded_or_none(body)

    def error_of(self, payload: object, *, failed: bool) -> ErrorView | None:
        """The error a decoded body holds, or None. `failed`: the status already says that it is one."""
        return error_in(payload, failed=failed)

    def free_tokens_in(self, usage: Usage | None) -> int:
        """The part of the input that its provider does not count towards its limits."""
        return 0

    def read(self, status: int, headers: Mapping[str, str], body: bytes | memoryview, *, now_s: float) -> Reading:
        """What this answer means. Never raises; a success that cannot be read is a `MalformedReply`, its bytes kept."""
        kept = kept_headers(headers)
        success = 200 <= status <= 299
        plain = self.plain_usage(body) if success else None
        if plain is not None:
            advice = advise(status, headers, None, now_s, charge_usage=is_known(plain))
            return Reading(None if plain is NO_USAGE else plain, None, advice, kept, self.free_tokens_in(plain))
        payload = self.payload_of(body)
        usage = self.usage_of(payload) if success else None
        known = is_known(usage)
        error = self.error_of(payload, failed=not success)
        if success and error is None and self.is_answer(payload):
            advice = advise(status, headers, None, now_s, charge_usage=known)
            return Reading(usage, None, advice, kept, self.free_tokens_in(usage))
        if success and error is None:
            # Not tried again: the first attempt may be billed, and its bytes are the caller's.
            advice = Advice("failed", "kept", kind="MalformedReply")
            error = self.error_of(payload, failed=True)
        else:
            advice = advise(status, headers, error or ErrorView(), now_s, charge_usage=known)
        if error is None or not error.message:
            error = with_text(error or ErrorView(), body)
        fault = fault_for(advice, status, error, request_id_of(headers, payload))
        return Reading(usage, fault, advice, kept, self.free_tokens_in(usage))

    def read_poll(self, status: int, headers: Mapping[str, str], body: bytes | memoryview, *, now_s: float) -> Reading:
        """What the answer to a poll means: as that to the call itself, unless a format tells them apart."""
        return self.read(status, headers, body, now_s=now_s)

    def decode(self, body: bytes | memoryview) -> object:
        """A body as Python objects, leniently.

        Raises:
          msgspec.DecodeError: it is not JSON, however leniently read.
        """
        return decode_json(body)


class JsonMonitor:
    """The worker's view of one attempt's stream of JSON events: a `StreamMonitor` but for `heard` and `finished`.

    A format's own monitor hears the events: it counts them, and notes the usage, the first error, the terminator, and
    how many events were damaged.
    """

    __slots__ = ("_damaged", "_done", "_failed", "_format", "error", "events", "usage")

    def __init__(self, wire: JsonFormat) -> None:
        self.events = 0
        self.usage: Usage | None = None
        self.error: ErrorView | None = None
        self._format = wire
        self._failed: object = None
        self._done = False
        self._damaged = 0

    @property
    def finished(self) -> bool:
        """Whether the answer is complete."""
        return self._done

    @property
    def terminated(self) -> bool:
        """Whether its terminator itself came, after which nothing follows."""
        return self._done

    def heard(self, block: Sequence[Event]) -> None:
        """Take note of these events, in the order in which they came."""
        raise NotImplementedError

    def note_error(self, error: ErrorView, payload: object, data: bytes) -> None:
        """The stream holds this error. The first one stands."""
        if self.error is None:
            self.error = error if error.message else with_text(error, data)
            self._failed = payload

    def reading(self, status: int, headers: Mapping[str, str], *, now_s: float) -> Reading:
        """What the stream, which has now ended, means: see `StreamMonitor.reading`."""
        usage = self.usage
        known = is_known(usage)
        free_tokens = self._format.free_tokens_in(usage)
        kept = kept_headers(headers)
        error = self.error
        if error is None and not 200 <= status <= 299:
            error = ErrorView()
        if error is None and self._damaged and self.finished:
            message = (
                f"{self._damaged} events of the stream are damaged, so that the answer has holes. What came is kept, "
                "and was probably billed"
            )
            hole = Fault("MalformedReply", message, status=status, request_id=request_id_of(headers, None), sent=True)
            charge: Charge = "usage" if known else "kept"
            return Reading(usage, hole, Advice("failed", charge, kind="MalformedReply"), kept, free_tokens)
        if error is not None or self.finished:
            advice = advise(status, headers, error, now_s, charge_usage=known)
            request_id = request_id_of(headers, self._failed)
            fault = None if error is None else fault_for(advice, status, error, request_id)
            return Reading(usage, fault, advice, kept, free_tokens)
        message = (
            f"the stream ended before its end, after {self.events} events: the connection was closed and its last "
            "event never came. What came is kept, and was probably billed"
        )
        fault = Fault(
            kind="Truncated", message=message, status=status, request_id=request_id_of(headers, None), sent=True
        )
        return Reading(usage, fault, Advice("failed", "kept"), kept, free_tokens)


def named(event: Event) -> tuple[bytes, bytes]:
    """An event's name, empty if it has none of its own, and its data."""
    return (event.name, event.data) if isinstance(event, Named) else (b"", event)
