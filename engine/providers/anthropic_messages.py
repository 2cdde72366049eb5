"""Anthropic's Messages format: how a call is written, what an answer means, and what is in it.

The version of the API is a setting, because it decides what may be sent: 2023-06-01 still takes sampling parameters,
2026-10-21 refuses them. `anthropic_arguments` writes the arguments, `anthropic_stream` reads the streams. An answer's
content is a list of blocks of an open set of kinds; the kinds not read here are in the raw answer.

Pure: no trio, no httpx, no I/O. Never raises on what the provider sent.
Source: platform.claude.com/docs/en/api/messages and anthropic 2.11.0, 2026-11-20.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from engine.errors import UnknownEndpoint
from engine.estimate import CountText, estimate_messages, estimate_text
from engine.providers.anthropic_arguments import MessagesOptions, written
from engine.providers.anthropic_stream import MessagesAssembler, MessagesMonitor, input_text
from engine.providers.arguments import to_json
from engine.providers.json_format import JsonFormat
from engine.providers.openai_chunks import is_stream
from engine.providers.wire import (
    Citation,
    Encoded,
    Found,
    ToolCall,
    Usage,
    View,
    count,
    decode_json,
    mapping,
    text_or_none,
)
from engine.retry import ErrorView
from engine.sse import EventReader

DEFAULT_VERSION = "2023-06-01"
"""The version that takes everything a caller of the seed may set; Anthropic still serves it (2026-11-20)."""

VERSION_HEADER = "anthropic-version"

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause_turn": "pause",
}
"""The common words for a `stop_reason`. One that is not here stays as it is."""

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class AnthropicMessages(JsonFormat):
    """`StreamFormat` of the Messages API in one of its versions. Immutable; holds no key and no address.

    Every request must carry `headers`, which name the version.
    """

    __slots__ = ("name", "version")
    path = "/v1/messages"
    options: type[msgspec.Struct] | None = MessagesOptions

    def __init__(self, version: str = DEFAULT_VERSION) -> None:
        if not _VERSION.fullmatch(version):
            raise UnknownEndpoint(f"{VERSION_HEADER} must be a date like {DEFAULT_VERSION}, not {version!a:.40}")
        self.version = version
        self.name = f"anthropic_messages/{version}"

    def __repr__(self) -> str:
        return f"AnthropicMessages({self.version!r})"

    @property
    def headers(self) -> dict[str, str]:
        """What a request in this format must carry beside its key."""
        return {VERSION_HEADER: self.version}

    def headed(self, headers: Mapping[str, str]) -> AnthropicMessages:
        """The format for a caller who sends these headers of his own (lower-case names): in the version they name,
        itself where they name none."""
        version = headers.get(VERSION_HEADER, "").strip()
        return self if version in ("", self.version) else AnthropicMessages(version)

    def encode(self, arguments: Mapping[str, object], *, count_text: CountText = estimate_text) -> Encoded:
        """Write a call's arguments as a body. They are not changed; those that are None are not sent.

        Messages and tools may be in OpenAI's spelling. The API takes no request without `max_tokens`, so 8192 is sent
        where the caller sets no cap; that is ours, not his, so `Encoded.output_cap` is None then.

        Raises:
          InvalidCall: an argument is missing, unknown, out of its range, refused by this version, or cannot be written.
        """
        payload, cap = written(arguments, self.version)
        body = to_json(payload)
        return Encoded(body, estimate_messages(payload, count_text), cap, payload.get("stream") is True)

    def usage_of(self, payload: object) -> Usage | None:
        """The usage of an answer; None where nothing of it is a number.

        Their `input_tokens` leave out what was written to the cache and what was read from it; ours are the sum.
        """
        found = mapping(mapping(payload).get("usage"))
        fresh, made = count(found.get("input_tokens")), count(found.get("output_tokens"))
        cached = count(found.get("cache_read_input_tokens"))
        given = None if fresh is None else fresh + _cache_writes(found) + (cached or 0)
        if given is None and made is None:
            return None
        return Usage(
            input_tokens=given,
            output_tokens=made,
            total_tokens=None if given is None or made is None else given + made,
            cached_tokens=cached,
            reasoning_tokens=count(mapping(found.get("output_tokens_details")).get("thinking_tokens")),
        )

    def plain_usage(self, body: bytes | memoryview) -> Usage | None:
        """The usage of an answer as documented; its content is not read."""
        try:
            usage = _plain.decode(body).usage
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        given = usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens
        thoughts = usage.output_tokens_details
        return Usage(
            given,
            usage.output_tokens,
            given + usage.output_tokens,
            usage.cache_read_input_tokens,
            None if thoughts is None else thoughts.thinking_tokens,
        )

    def is_answer(self, payload: object) -> bool:
        """Whether a success holds an answer: it says so, has content, or at least says what it cost."""
        body = mapping(payload)
        is_message = body.get("type") == "message" or isinstance(body.get("content"), list)
        return is_message or self.usage_of(payload) is not None

    def error_of(self, payload: object, *, failed: bool) -> ErrorView | None:
        """The error a decoded body holds, or None. One that calls itself an error is one, whatever its status."""
        return super().error_of(payload, failed=failed or mapping(payload).get("type") == "error")

    def free_tokens_in(self, usage: Usage | None) -> int:
        """What was read from the cache: it does not count towards the input limit of most models (their rate-limit
        page, 2026-11-20)."""
        return 0 if usage is None else usage.cached_tokens or 0

    def view(self, response: object) -> View:
        """A decoded answer in the common terms. Never raises, whatever was decoded.

        Tools that the provider runs itself are no tool calls; what its web search found is in `results`. A citation of
        a document has the address ``""``.
        """
        body = mapping(response)
        content = body.get("content")
        blocks = [mapping(block) for block in content] if isinstance(content, list) else []
        texts = [block for block in blocks if block.get("type") == "text"]
        finish = text_or_none(body.get("stop_reason")) or ("error" if body.get("error") else None)
        return View(
            text="".join(text_or_none(block.get("text")) or "" for block in texts) if texts else None,
            reasoning=_reasoning(blocks),
            tool_calls=_tool_calls(blocks),
            finish_reason=FINISH.get(finish, finish) if finish else None,
            provider_id=text_or_none(body.get("id")),
            model=text_or_none(body.get("model")),
            citations=tuple(_citation(mapping(found)) for block in texts for found in _items(block.get("citations"))),
            results=_results(blocks),
        )

    def decode(self, body: bytes | memoryview) -> object:
        """A body as Python objects, leniently (`engine.providers.wire.decode_json`); a stream's as one answer.

        Raises:
          msgspec.DecodeError: it is not JSON, however leniently read.
        """
        return self.decode_stream(body) if is_stream(body) else decode_json(body)

    def decode_stream(self, body: bytes | memoryview) -> dict[str, object]:
        """A recorded stream as the one answer that it makes up. Never raises."""
        assembler = self.assembler()
        reader = EventReader(cap_bytes=len(body))
        for event in [*reader.feed(bytes(body)), *reader.end()]:
            assembler.feed(event)
        return assembler.response()

    def monitor(self) -> MessagesMonitor:
        """What the worker hears one attempt's stream with."""
        return MessagesMonitor(self)

    def assembler(self) -> MessagesAssembler:
        """What makes one stream's chunks and its answer."""
        return MessagesAssembler(FINISH)


_Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]


class _Thoughts(msgspec.Struct, gc=False):
    thinking_tokens: _Count | None = None


class _PlainUsage(msgspec.Struct, gc=False):
    input_tokens: _Count
    output_tokens: _Count
    cache_creation_input_tokens: _Count
    cache_read_input_tokens: _Count
    output_tokens_details: _Thoughts | None = None


class _Plain(msgspec.Struct, gc=False):
    """An answer as the documentation shows it. Whatever it may say of an error has to be read in full."""

    type: Literal["message"]
    usage: _PlainUsage
    error: None = None


_plain = msgspec.json.Decoder(_Plain)


def _cache_writes(usage: Mapping[str, object]) -> int:
    """What was written to the cache: the sum, or its parts by lifetime where the sum is missing or null."""
    whole = count(usage.get("cache_creation_input_tokens"))
    parts = mapping(usage.get("cache_creation")).values()
    return sum(count(part) or 0 for part in parts) if whole is None else whole


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _reasoning(blocks: list[Mapping[str, object]]) -> str | None:
    thoughts = [text_or_none(block.get("thinking")) or "" for block in blocks if block.get("type") == "thinking"]
    return "".join(thoughts) or None


def _tool_calls(blocks: list[Mapping[str, object]]) -> tuple[ToolCall, ...]:
    calls = []
    for position, block in enumerate(blocks):
        name = block.get("name")
        if block.get("type") == "tool_use" and isinstance(name, str):
            calls.append(
                ToolCall(text_or_none(block.get("id")) or f"call_{position}", name, input_text(block.get("input")))
            )
    return tuple(calls)


def _citation(found: Mapping[str, object]) -> Citation:
    address = text_or_none(found.get("url")) or text_or_none(found.get("source")) or ""
    title = text_or_none(found.get("title")) or text_or_none(found.get("document_title"))
    return Citation(address, title, text_or_none(found.get("cited_text")))


def _results(blocks: list[Mapping[str, object]]) -> tuple[Found, ...]:
    return tuple(
        Found(url, text_or_none(mapping(found).get("title")), published=text_or_none(mapping(found).get("page_age")))
        for block in blocks
        if block.get("type") == "web_search_tool_result"
        for found in _items(block.get("content"))
        if (url := text_or_none(mapping(found).get("url")))
    )
