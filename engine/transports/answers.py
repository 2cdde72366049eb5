"""From the bytes of a response to the `Answer` a worker posts: decompression, verdict, usage, the provider's words.

What the bytes mean is the wire format's to say; here stands what to do when they did not all arrive. A key never
leaves: what a provider says of an error, and the headers that are kept, are searched for it, since some repeat the key
they refuse.

No sockets here and no httpx: bytes and messages only.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from actors.messages import EMPTY, Fault, Observed, Reply, Verdict
from actors.transport import Answer
from engine.errors import CUT
from engine.secret import REMOVED, SHORTEST_MASKED, forms_of

if TYPE_CHECKING:
    from engine.providers.wire import Reading, Usage

_MOST_MEMBERS = 1_000
_PART_CHARS = 6


class Undecodable(Exception):  # a signal between two functions, never seen by a caller
    """The body cannot be decompressed; the text says why."""


def decompressed(body: bytes, coding: str, *, cap_bytes: int) -> bytes:
    """`body` without its Content-Encoding (RFC 9110, section 8.4), never more than `cap_bytes` of it.

    Raises:
      Undecodable: it is damaged, cut short, larger than the cap, or in a coding that was not asked for.
    """
    inflater = Inflater(coding, cap_bytes=cap_bytes)
    body = inflater.feed(body)
    inflater.end()
    return body


class Inflater:
    """A body decompressed as it comes, whatever codings it has one over the other."""

    def __init__(self, coding: str, *, cap_bytes: int) -> None:
        names = [part.strip().lower() for part in coding.split(",")]
        self._layers = [_Layer(name, cap_bytes) for name in reversed(names) if name not in ("", "identity")]

    def feed(self, data: bytes) -> bytes:
        """What these bytes hold.

        Raises:
          Undecodable: they are damaged, hold more than there is room for, or are in a coding that was not asked for.
        """
        for layer in self._layers:
            data = layer.feed(data)
        return data

    def end(self) -> None:
        """All has come. Raises `Undecodable` if that was not all of it."""
        for layer in self._layers:
            layer.end()


class _Layer:
    """One coding. A body may consist of several compressed members, one after the other, and of zeros behind them."""

    def __init__(self, name: str, cap_bytes: int) -> None:
        if name not in ("gzip", "x-gzip", "deflate"):
            raise Undecodable(f"it is encoded as {name[:20]!r}, which was not asked for")
        self._gzip = name != "deflate"
        self._cap_bytes = cap_bytes
        self._room = cap_bytes
        self._members = 0
        self._start = b""
        self._inflater: zlib._Decompress | None = None

    def feed(self, data: bytes) -> bytes:
        found: list[bytes] = []
        while data:
            if self._inflater is None:
                data = self._start + data
                if data[:1] == b"\0" and self._members:
                    return b"".join(found)  # padding
                if len(data) < 2:
                    self._start = data
                    break
                self._start = b""
                self._inflater = self._next_member(data)
            data = self._inflate(self._inflater, data, found)
        return b"".join(found)

    def end(self) -> None:
        if self._inflater is not None or self._start:
            raise Undecodable("its compression is cut short")

    def _inflate(self, inflater: zlib._Decompress, data: bytes, found: list[bytes]) -> bytes:
        try:
            # One byte more than there is room for tells "full" from "too large".
            found.append(inflater.decompress(data, self._room + 1))
        except zlib.error as error:
            raise Undecodable(f"its compression is damaged ({error})") from None
        self._room -= len(found[-1])
        if self._room < 0:
            raise Undecodable(f"it holds more than {self._cap_bytes} bytes")
        if not inflater.eof:
            return b""
        self._inflater = None
        return inflater.unused_data

    def _next_member(self, start: bytes) -> zlib._Decompress:
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise Undecodable(f"it consists of more than {_MOST_MEMBERS} compressed parts")
        if self._gzip:
            return zlib.decompressobj(zlib.MAX_WBITS | 16)
        # Some servers send deflate without the zlib envelope; its two first bytes tell.
        wrapped = start[0] & 0x0F == 8 and int.from_bytes(start[:2], "big") % 31 == 0
        return zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)


def answer_of(
    reading: Reading,
    *,
    status: int,
    body: bytes,
    keep: bool,
    flaw: str = "",
    secrets: Iterable[str] = (),
    streamed: bool = False,
    observed: tuple[Observed, ...] = (),
) -> Answer:
    """The answer for a response whose status is known, as its wire format read it.

    With `flaw` the body could not be read although the provider did its work: a success becomes a failure that stays
    charged, anything else is judged by its status. `secrets` are removed from the fault and the kept headers.
    `observed` is what its head says of the provider's limits.
    """
    advice = reading.advice
    verdict: Verdict = advice.verdict
    charge = advice.charge
    fault = reading.fault
    counts = counted(reading.usage)
    if flaw and verdict == "done":
        verdict = "failed"
        message = f"the provider answered, but its answer cannot be read: {flaw}. The call was made and may be billed."
        fault = Fault(kind="MalformedReply", message=message, status=status, sent=True)
    if charge == "usage" and counts is None:
        charge = "kept"
    input_tokens, output_tokens = counts or (0, 0)
    input_tokens = max(0, input_tokens - reading.free_tokens)
    usage = reading.usage
    if fault is not None:
        body = without_in_bytes(body, secrets)
    reply = Reply(
        status=status,
        headers=_cleaned(reading.headers, secrets),
        input_tokens=usage.input_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
        cached_tokens=usage.cached_tokens if usage else None,
        reasoning_tokens=usage.reasoning_tokens if usage else None,
        fault=_clean(fault, secrets),
        streamed=streamed,
        body=memoryview(body) if body else EMPTY,
    )
    return Answer(
        verdict=verdict,
        charge=charge,
        reply=reply,
        keep=keep,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        barrier=advice.barrier,
        hint_us=advice.hint_us,
        exempt=advice.exempt,
        refused=advice.refused,
        observed=observed,
    )


def lost_answer(message: str, *, status: int, verdict: Verdict = "unknown", secrets: Iterable[str] = ()) -> Answer:
    """The answer for a request that left and whose response did not arrive whole: all that was reserved stays spent."""
    fault = Fault(kind="OutcomeUnknown", message=message, detail="closed", status=status, sent=True)
    return Answer(verdict=verdict, charge="kept", reply=Reply(status=status, fault=_clean(fault, secrets)), keep=False)


def counted(usage: Usage | None) -> tuple[int, int] | None:
    """Input and output tokens to charge, or None if the usage does not say.

    One missing number follows from the total; a total alone is counted as input. An absent output alone is zero, as
    it is for embeddings; an absent input is never taken for zero, which would give tokens back that were spent, and
    nothing at all is no count either: no request is empty.
    """
    if usage is None:
        return None
    total = usage.total_tokens
    given, made = usage.input_tokens, usage.output_tokens
    if given is None:
        if total is None:
            return None
        given = total - (made or 0)
    if made is None:
        made = total - given if total is not None else 0
    return (max(given, 0), max(made, 0)) if given > 0 or made > 0 else None


def without(text: str, secrets: Iterable[str]) -> str:
    """`text` with every secret in it replaced, and the beginning of one that was cut off where the text was."""
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, REMOVED)
        if secret[:_PART_CHARS] in text:
            text = CUT.join([_without_tail(part, secret) for part in text.split(CUT)])
    return text


def without_in_bytes(data: bytes, secrets: Iterable[str]) -> bytes:
    """The same for what a provider sent: with every whole secret in it replaced."""
    for secret in secrets:
        if len(secret) >= SHORTEST_MASKED:  # what is shorter may be a word of the format itself
            for form in forms_of(secret):
                data = data.replace(form.encode(), REMOVED.encode())
    return data


def _without_tail(text: str, secret: str) -> str:
    longest = next((size for size in range(len(secret), _PART_CHARS - 1, -1) if text.endswith(secret[:size])), 0)
    return text[:-longest] + REMOVED if longest else text


def _cleaned(headers: tuple[tuple[str, str], ...], secrets: Iterable[str]) -> tuple[tuple[str, str], ...]:
    values = "\n".join([value for _, value in headers])
    if not any(secret[:_PART_CHARS] in values for secret in secrets):
        return headers
    return tuple([(name, without(value, secrets)) for name, value in headers])


def _clean(fault: Fault | None, secrets: Iterable[str]) -> Fault | None:
    if fault is None:
        return None
    message, code = without(fault.message, secrets), without(fault.code, secrets)
    request_id = without(fault.request_id, secrets)
    if (message, code, request_id) == (fault.message, fault.code, fault.request_id):
        return fault
    return msgspec.structs.replace(fault, message=message, code=code, request_id=request_id)
