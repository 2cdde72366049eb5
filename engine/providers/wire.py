"""What a wire format is, and the shapes it speaks in: the encoded request, the usage, the view of an answer.

A format is the only place that knows a provider's field names. The engine asks it four things: write these arguments
as a body; what does this answer mean for the schedule; decode this body; show me the text, the tool calls, the end.
Also here: the lenient JSON reading that all formats share.

Pure: no trio, no httpx, no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

import msgspec

from actors.messages import Fault
from engine.retry import Advice


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """A request, written once: its body and what it will probably cost.

    `input_tokens` is the estimate with its margin, not calibrated by what the model was seen to count. `output_cap`
    is the caller's cap times the number of choices, or None where he set none.
    """

    body: bytes
    input_tokens: int
    output_cap: int | None
    streaming: bool


class Usage(msgspec.Struct, frozen=True):
    """What the provider says a call cost; None where it did not say.

    `cached_tokens` is a part of the input, `reasoning_tokens` a part of the output.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class ToolCall(msgspec.Struct, frozen=True):
    """A tool the model wants called. `arguments` is the JSON text as the model wrote it, which may be invalid."""

    id: str
    name: str
    arguments: str


class View(msgspec.Struct, frozen=True):
    """An answer in the same terms for every format.

    `finish_reason` is ``stop``, ``length``, ``tool_calls``, ``content_filter``, ``error``, or a word of the provider's.
    """

    text: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    provider_id: str | None = None
    model: str | None = None


class Reading(msgspec.Struct, frozen=True):
    """What an answer means for the call: its usage, its error if it is one, what to do, and the headers worth keeping.

    With ``advice.charge == "usage"`` both sides of the usage are known.
    """

    usage: Usage | None
    fault: Fault | None
    advice: Advice
    headers: tuple[tuple[str, str], ...] = ()


class WireFormat(Protocol):
    """A provider's language. `name` is unique for each distinct way to write a body, `path` follows the address."""

    @property
    def name(self) -> str:
        """What `APICalling.format` holds."""

    @property
    def path(self) -> str:
        """The path the body is posted to, with its leading slash."""

    def encode(self, arguments: Mapping[str, object]) -> Encoded:
        """Write a call's arguments as a body. They are not changed; those that are None are not sent.

        Raises:
          InvalidCall: they cannot be sent: which argument, what is wrong with it, what to do.
        """

    def read(self, status: int, headers: Mapping[str, str], body: bytes | memoryview, *, now_s: float) -> Reading:
        """What this answer means. `headers` have lower-case names; `now_s` is Unix time. Never raises."""

    def view(self, response: object) -> View:
        """A decoded answer in the common terms. Never raises, whatever was decoded."""

    def decode(self, body: bytes | memoryview) -> object:
        """A body as Python objects, leniently.

        Raises:
          msgspec.DecodeError: it is not JSON, however leniently read.
        """


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
        # Surrogate halves cannot be written out again as UTF-8; going through UTF-16 replaces those without a partner.
        text = json.dumps(found, ensure_ascii=False)
        return json.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(f"not JSON: {type(error).__name__}") from None


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
