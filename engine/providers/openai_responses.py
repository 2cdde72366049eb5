"""OpenAI's Responses format: input and items instead of messages and choices, and a state that OpenAI keeps.

The arguments are checked in `responses_arguments`, the items of an answer read in `responses_output`, its stream in
`responses_stream`. Here is what puts them together, and the short way through an ordinary answer, whose output is not
read at all for the verdict.

Pure: no trio, no httpx, no I/O. Source: platform.openai.com/docs/api-reference/responses (2026-11-20).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from engine.estimate import CountText, estimate_text
from engine.providers import responses_output
from engine.providers.arguments import to_json
from engine.providers.json_format import JsonFormat
from engine.providers.openai_chunks import is_stream
from engine.providers.responses_arguments import ResponsesOptions, checked_responses, estimate_responses
from engine.providers.responses_stream import ResponsesAssembler, ResponsesMonitor
from engine.providers.wire import Encoded, Usage, View, decode_json, mapping
from engine.retry import ErrorView
from engine.sse import EventReader


class OpenAIResponses(JsonFormat):
    """`StreamFormat` of the Responses endpoint. Immutable; holds no key and no address."""

    __slots__ = ()
    name = "openai_responses"
    path = "/responses"
    options = ResponsesOptions

    def __repr__(self) -> str:
        return "OpenAIResponses()"

    def encode(self, arguments: Mapping[str, object], *, count_text: CountText = estimate_text) -> Encoded:
        """Write a call's arguments as a body. They are not changed; those that are None are not sent.

        With `background` the answer comes at once, queued: its `View.finish_reason` is ``pause``.

        Raises:
          InvalidCall: an argument is missing, of the wrong type, out of its range, the chat endpoint's, or cannot be
            written as JSON.
        """
        payload = checked_responses(arguments)
        estimate = estimate_responses(payload, count_text)
        return Encoded(to_json(payload), estimate, payload.get("max_output_tokens"), payload.get("stream") is True)

    def usage_of(self, payload: object) -> Usage | None:
        """The usage in a decoded answer; None where nothing of it is a number."""
        return responses_output.usage_of(mapping(payload))

    def plain_usage(self, body: bytes | memoryview) -> Usage | None:
        """The usage of an answer that came to its end and says so; its output is not read."""
        try:
            usage = _plain.decode(body).usage
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        cached, reasoned = usage.input_tokens_details, usage.output_tokens_details
        return Usage(
            usage.input_tokens,
            usage.output_tokens,
            usage.total_tokens,
            None if cached is None else cached.cached_tokens,
            None if reasoned is None else reasoned.reasoning_tokens,
        )

    def is_answer(self, payload: object) -> bool:
        """Whether a success holds an answer: it has an output, says what it is, or at least what it cost."""
        body = mapping(payload)
        return isinstance(body.get("output"), list) or body.get("object") == "response" or bool(self.usage_of(body))

    def error_of(self, payload: object, *, failed: bool) -> ErrorView | None:
        """The error a decoded answer holds, or None: a response that failed is one, whatever its HTTP status."""
        return responses_output.error_of(payload, failed=failed)

    def view(self, response: object) -> View:
        """A decoded answer in the common terms. Never raises, whatever was decoded.

        A refusal is no text: the finish reason is ``content_filter``, its words are in the raw answer.
        """
        return responses_output.view_of(response)

    def decode(self, body: bytes | memoryview) -> object:
        """A body as Python objects, leniently (`engine.providers.wire.decode_json`); a stream's as one answer.

        Raises:
          msgspec.DecodeError: it is not JSON, however leniently read.
        """
        return self.decode_stream(body) if is_stream(body) else decode_json(body)

    def decode_stream(self, body: bytes | memoryview) -> object:
        """A recorded stream as the one answer that it makes up. Never raises."""
        reader = EventReader(cap_bytes=len(body))
        assembler = self.assembler()
        for event in [*reader.feed(bytes(body)), *reader.end()]:
            assembler.feed(event)
        return assembler.response()

    def monitor(self) -> ResponsesMonitor:
        """What the worker hears one attempt's stream with."""
        return ResponsesMonitor(self)

    def assembler(self) -> ResponsesAssembler:
        """What makes one stream's chunks and its answer."""
        return ResponsesAssembler()


# --- the short way ----------------------------------------------------------------------------------------------------


_Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]


class _Cached(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None


class _Reasoned(msgspec.Struct, gc=False):
    reasoning_tokens: _Count | None = None


class _PlainUsage(msgspec.Struct, gc=False):
    input_tokens: _Count
    output_tokens: _Count
    total_tokens: _Count
    input_tokens_details: _Cached | None = None
    output_tokens_details: _Reasoned | None = None


class _Plain(msgspec.Struct, gc=False):
    """An answer that came to its end, of which nothing but the usage is read. Whatever else it may say of an error
    or of its end has to be read in full."""

    status: Literal["completed", "incomplete"]
    output: list[msgspec.Raw]
    usage: _PlainUsage
    error: None = None


_plain = msgspec.json.Decoder(_Plain)
