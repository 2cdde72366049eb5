"""What a wire format is, and the shapes it speaks in: the encoded request, the reading of an answer, its stream.

A format is the only place that knows a provider's field names. The engine asks it four things: write these arguments
as a body; what does this answer mean for the schedule; decode this body; show me the text, the tool calls, the end.
A format that streams gives two more things: what the worker needs to judge a stream, and what the caller needs to read
it. Also here: the lenient JSON reading that all formats share.

Pure: no trio, no httpx, no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from actors.limits import Quota
from actors.messages import Fault
from engine.estimate import CountText, estimate_text
from engine.providers.view import Citation, Found, ToolCall, Usage, View
from engine.retry import Advice, ErrorView
from engine.sse import Event, Named

__all__ = [
    "Citation",
    "Encoded",
    "Found",
    "RawEvent",
    "Reading",
    "StreamAssembler",
    "StreamChunk",
    "StreamFormat",
    "StreamMonitor",
    "ToolCall",
    "Usage",
    "View",
    "WireFormat",
    "count",
    "decode_json",
    "mapping",
    "text_or_none",
    "whole_text",
    "without_halves",
]


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """A request, written once: its body and what it will probably cost.

    `input_tokens` is the estimate with its margin, not calibrated by what the model was seen to count. `output_cap`
    is the caller's cap times the number of `choices`, or None where he set none. `path` takes the place of the one in
    the endpoint's address, query included; without a leading slash it follows that one.
    """

    body: bytes
    input_tokens: int
    output_cap: int | None
    streaming: bool
    choices: int = 1
    method: str = "POST"
    path: str = ""


class Reading(msgspec.Struct, frozen=True):
    """What an answer means for the call: its usage, its error if it is one, what to do, and the headers worth keeping.

    With ``advice.charge == "usage"`` both sides of the usage are known. `free_tokens` is the part of the input that
    this provider does not count towards its limits (what it read from its cache). With the verdict ``later``, `poll` is
    the address at which the answer is to be asked for, whole or relative (empty: where this poll was answered); the
    fault is that of a call that is given up before it came.
    """

    usage: Usage | None
    fault: Fault | None
    advice: Advice
    headers: tuple[tuple[str, str], ...] = ()
    free_tokens: int = 0
    poll: str = ""


class WireFormat(Protocol):
    """A provider's language. `name` is unique for each distinct way to write a body, `path` follows the address."""

    @property
    def name(self) -> str:
        """What `APICalling.format` holds."""

    @property
    def path(self) -> str:
        """The path the body is posted to, with its leading slash."""

    @property
    def options(self) -> type[msgspec.Struct] | None:
        """The arguments it documents, with their types and ranges; None where it documents none."""

    @property
    def polls(self) -> Quota | None:
        """Where its provider may answer later (the verdict ``later``): the limit of all polls of one account."""

    def encode(self, arguments: Mapping[str, object], *, count_text: CountText = estimate_text) -> Encoded:
        """Write a call's arguments as a body. They are not changed; those that are None are not sent.

        `count_text` says what a text will count as.

        Raises:
          InvalidCall: they cannot be sent: which argument, what is wrong with it, what to do.
        """

    def headed(self, headers: Mapping[str, str]) -> WireFormat:
        """The format for requests with these headers (lower-case names): where one of them changes the language."""

    def read(self, status: int, headers: Mapping[str, str], body: bytes | memoryview, *, now_s: float) -> Reading:
        """What this answer means. `headers` have lower-case names; `now_s` is Unix time. Never raises."""

    def read_poll(self, status: int, headers: Mapping[str, str], body: bytes | memoryview, *, now_s: float) -> Reading:
        """The same for the answer to a poll, where its provider may answer later."""

    def view(self, response: object) -> View:
        """A decoded answer in the common terms. Never raises, whatever was decoded."""

    def decode(self, body: bytes | memoryview) -> object:
        """A body as Python objects, leniently.

        Raises:
          msgspec.DecodeError: it is not JSON, however leniently read.
        """


# --- streams ----------------------------------------------------------------------------------------------------------


class RawEvent(Mapping[str, object]):
    """``{"event": decoded}``, and ``"name"`` where the event had one; decoded when it is first looked at.

    What is not JSON stands there as text.
    """

    __slots__ = ("_decoded", "_raw")

    def __init__(self, raw: Event) -> None:
        self._raw = raw

    def __getitem__(self, key: str) -> object:
        return self._found()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())

    def __repr__(self) -> str:
        return repr(self._found())

    def _found(self) -> dict[str, object]:
        try:
            return self._decoded  # set below, at the first look
        except AttributeError:
            data = self._raw.data if isinstance(self._raw, Named) else self._raw
        try:
            event: object = decode_json(data)
        except msgspec.DecodeError:
            event = data.decode("utf-8", "replace")
        self._decoded: dict[str, object] = {"event": event}
        if isinstance(self._raw, Named):
            self._decoded["name"] = self._raw.name.decode("utf-8", "replace")
        return self._decoded


class StreamChunk(msgspec.Struct, frozen=True, gc=False):
    """One step of a streamed answer. ``str(chunk)`` is its text, and ``""`` where it is no text for the reader.

    With `is_delta` the content (of ``tool_use``: `tool_input`, JSON text) is a fragment, to be joined to those before.
    `metadata` holds the provider's own event under ``"event"``.
    """

    type: Literal["text", "thinking", "tool_use", "tool_result", "system", "result", "error"]
    content: str | None = None
    is_delta: bool = False
    metadata: Mapping[str, object] = {}
    tool_name: str | None = None
    tool_id: str | None = None
    tool_input: Any = None
    tool_output: Any = None
    is_error: bool = False

    def __str__(self) -> str:
        return self.content or "" if self.type == "text" else ""


class StreamMonitor(Protocol):
    """The worker's view of one attempt's stream: is it over, what did it cost, was it an error?

    It hears every event and decodes almost none. Pure, and never raises.
    """

    @property
    def events(self) -> int:
        """How many events were heard, the terminator included. Zero: nothing can have been handed to the caller."""

    @property
    def usage(self) -> Usage | None:
        """What the stream says it cost so far: the last that it said."""

    @property
    def error(self) -> ErrorView | None:
        """The error inside the stream, the first if there are several."""

    @property
    def finished(self) -> bool:
        """Whether the answer is complete: its terminator came, or what counts as one where there may be none."""

    @property
    def terminated(self) -> bool:
        """Whether its terminator itself came, after which nothing follows. Without it, a stream that is `finished` may
        still tell its usage, or go on with another choice; its end is that of the response."""

    def heard(self, block: Sequence[Event]) -> None:
        """Take note of these events, in the order in which they came."""

    def reading(self, status: int, headers: Mapping[str, str], *, now_s: float) -> Reading:
        """What the stream, which has now ended, means: as `WireFormat.read`, for a success (2xx) alone.

        Done, with its usage; or the error it held, classified like a body that holds it; or `Truncated`, which stays
        charged. That nothing may be tried again once a chunk was handed over is for the caller of this to see to.
        """


class StreamAssembler(Protocol):
    """The caller's view of one stream: its chunks, one after the other, and at any time the answer they make up.

    Pure, and never raises.
    """

    @property
    def unreadable(self) -> int:
        """How many events were not JSON. Their text is in their `system` chunks only, and missing in `response`."""

    def feed(self, event: Event) -> list[StreamChunk]:
        """The chunks of this event: one as a rule, several where it says several things, none where it says nothing.

        ``text`` and ``thinking`` are deltas of the first choice. ``tool_use`` is a fragment of a tool call of it, with
        the call's name and id as far as they are known. ``result`` comes once, last, when the provider says that it is
        done: its metadata hold the event of the end, ``finish_reason`` and ``usage``. ``error`` is the provider's.
        Everything else is ``system``, further choices (``n > 1``) too.
        """

    def end(self) -> list[StreamChunk]:
        """The stream is over: the chunks that were waiting for a next event. Empty when called again."""

    def response(self) -> dict[str, object]:
        """All events so far as one decoded answer, in the shape of one that was not streamed: `WireFormat.view` reads
        it. All choices are in it, and every field the events held; an error stands under ``"error"``.
        """


class StreamFormat(WireFormat, Protocol):
    """A provider's language that can also be streamed. `WireFormat.decode` takes a recorded stream's body as well."""

    def monitor(self) -> StreamMonitor:
        """A new one for each attempt."""

    def assembler(self) -> StreamAssembler:
        """A new one for each stream."""

    def decode_stream(self, body: bytes | memoryview) -> object:
        """A recorded stream as the one answer that it makes up. Never raises."""


# --- reading leniently ------------------------------------------------------------------------------------------------


def decode_json(body: bytes | memoryview) -> object:
    """JSON as Python objects, and also what only looks like it.

    What the strict reading refuses but paid-for answers contain is accepted: a byte-order mark, half an emoji written
    as a lone surrogate escape (it becomes U+FFFD), ``NaN``, bytes that are not UTF-8.

    Raises:
      msgspec.DecodeError: nothing can be made of it, or it is nested beyond what Python's stack holds.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _decode_leniently(bytes(body))
    except RecursionError:
        raise msgspec.DecodeError("JSON is nested too deeply") from None


def _decode_leniently(body: bytes) -> object:
    try:
        found = json.loads(body.decode("utf-8-sig", "replace"))
        return without_halves(found)
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(f"not JSON: {type(error).__name__}") from None


def whole_text(text: str) -> str:
    """The text with its surrogate halves joined to characters; those without a partner become U+FFFD.

    Halves cannot be written out again as UTF-8.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def without_halves(found: object) -> object:
    """Decoded JSON with every text in it whole. Raises what `json` raises for what it cannot write."""
    return json.loads(whole_text(json.dumps(found, ensure_ascii=False)))


def count(value: object) -> int | None:
    """A count of anything, from whatever a provider wrote: ``3``, ``3.0``, ``"3"``; None for all else.

    True and False are not numbers, and no honest count is negative or beyond 10**12.
    """
    if isinstance(value, str):
        try:
            value = float(value) if len(value) <= 24 else None
        except ValueError:
            return None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= 10**12 else None


def mapping(value: object) -> Mapping[str, object]:
    """The value if it is a JSON object, else an empty one: for reading on without asking at each step."""
    return value if isinstance(value, dict) else {}


def text_or_none(value: object) -> str | None:
    """The value if it is a text with something in it."""
    return value if isinstance(value, str) and value else None
