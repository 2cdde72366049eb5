"""The OpenAI chat completions format, which most providers speak, each with a few words of its own.

What differs between them is data, in a `Dialect`; the code is one. Arguments are checked against the provider's schema
before anything is sent; what is not in it is passed on as it is, because providers add fields faster than anybody lists
them, but for those that refuse it. Answers are read as leniently as possible: one odd field never costs an answer that
was paid for.

Pure: no trio, no httpx, no I/O. Ranges and field names: platform.openai.com/docs/api-reference/chat, and the
providers' own SDKs as of 2026-11-20.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from engine.estimate import CountText, estimate_chat, estimate_text, output_of
from engine.providers.arguments import checked, invalid, to_json
from engine.providers.chat_arguments import check_messages, check_model, one_cap, without_nulls
from engine.providers.chat_options import ChatOptions, required_of
from engine.providers.chat_view import view_of
from engine.providers.json_format import JsonFormat
from engine.providers.openai_chunks import ChatAssembler, decode_stream, is_stream
from engine.providers.openai_stream import ChatMonitor, first_choice
from engine.providers.wire import Encoded, Usage, View, count, decode_json, mapping


class Dialect(msgspec.Struct, frozen=True):
    """How a provider's chat format differs from the shared one.

    `cap_field` is the one name it takes for the cap on the output (None: whichever the caller used). `refused` maps a
    field it answers 400 to, to the only value it takes there (None: it takes none); `exclusive` are pairs of which it
    takes one; `closed`: it refuses every field that is not in `options`; without `message_names`, any message's `name`.
    `stream_usage`: it reports the usage of a stream only when asked. `rest_is_output`: its completion count leaves
    hidden reasoning out, its total does not.
    `cached_is_free`: what it read from its cache does not count towards its limits. `ends_with_done`: every stream of
    it ends with ``[DONE]``; the others are documented not to, or not at all.
    """

    name: str
    cap_field: str | None = None
    refused: Mapping[str, object] = {}
    stream_usage: bool = False
    rest_is_output: bool = False
    options: type[msgspec.Struct] = ChatOptions
    closed: bool = False
    exclusive: tuple[tuple[str, str], ...] = ()
    message_names: bool = True
    cached_is_free: bool = False
    ends_with_done: bool = False


class OpenAIChat(JsonFormat):
    """`StreamFormat` of the OpenAI chat shape, in one provider's dialect. Immutable; holds no key and no address."""

    __slots__ = ("_needs_model", "_watched", "dialect", "name", "options")
    path = "/chat/completions"

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.name = f"openai_chat/{dialect.name}"
        self.options = dialect.options
        self._watched = frozenset(dialect.refused).union(*dialect.exclusive)
        self._needs_model = "model" in required_of(dialect.options)

    def __repr__(self) -> str:
        return f"OpenAIChat({self.dialect.name!r})"

    def encode(self, arguments: Mapping[str, object], *, count_text: CountText = estimate_text) -> Encoded:
        """Write a call's arguments as a body. They are not changed; those that are None are not sent.

        `max_tokens` and `max_completion_tokens` are the same thing here: the one the provider takes is sent.

        Raises:
          InvalidCall: an argument is missing, out of its range, refused by this provider, or cannot be written as JSON.
        """
        dialect = self.dialect
        check_model(arguments.get("model"), self._needs_model)
        check_messages(arguments, dialect.message_names)
        payload = checked(arguments, dialect.options, provider=dialect.name, closed=dialect.closed)
        if not self._watched.isdisjoint(payload):
            self._check_dialect(payload)
        payload["messages"] = without_nulls(payload["messages"])
        one_cap(payload, dialect.cap_field)
        streaming = payload.get("stream") is True
        if streaming and dialect.stream_usage and "stream_options" not in payload:
            payload["stream_options"] = {"include_usage": True}
        input_tokens = estimate_chat(payload, count_text)
        return Encoded(to_json(payload), input_tokens, output_of(payload), streaming, payload.get("n", 1))

    def payload_of(self, body: bytes | memoryview) -> object:
        """What of a body decides about the call; the choices of an ordinary answer are not read."""
        return _skim(body)

    def is_answer(self, payload: object) -> bool:
        """Whether a success holds an answer: it has choices, or at least says what it cost (a blocked answer may)."""
        return isinstance(mapping(payload).get("choices"), list) or self.usage_of(payload) is not None

    def free_tokens_in(self, usage: Usage | None) -> int:
        """The part of the input that its provider does not count towards its limits."""
        return (usage.cached_tokens or 0) if usage is not None and self.dialect.cached_is_free else 0

    def view(self, response: object) -> View:
        """The first choice of a decoded answer. Never raises, whatever was decoded."""
        return view_of(response)

    def decode(self, body: bytes | memoryview) -> object:
        """A body as Python objects, leniently (`engine.providers.wire.decode_json`); a stream's as one answer.

        Raises:
          msgspec.DecodeError: it is not JSON, however leniently read.
        """
        return self.decode_stream(body) if is_stream(body) else decode_json(body)

    def decode_stream(self, body: bytes | memoryview) -> object:
        """A recorded stream as the one answer that it makes up. Never raises."""
        return decode_stream(body)

    def monitor(self) -> ChatMonitor:
        """What the worker hears one attempt's stream with."""
        return ChatMonitor(self, ends_with_done=self.dialect.ends_with_done)

    def assembler(self) -> ChatAssembler:
        """What makes one stream's chunks and its answer."""
        return ChatAssembler()

    def _check_dialect(self, payload: Mapping[str, object]) -> None:
        for name, allowed in self.dialect.refused.items():
            if name in payload and (allowed is None or payload[name] != allowed):
                takes = "does not take it" if allowed is None else f"takes only {allowed!r}"
                raise invalid(name, f"{self.dialect.name} {takes}; leave it out")
        for one, other in self.dialect.exclusive:
            if one in payload and other in payload:
                raise invalid(other, f"{self.dialect.name} takes it or {one}, not both; leave one out")

    def usage_of(self, payload: object) -> Usage | None:
        """The usage in any of the spellings seen; None where nothing of it is a number."""
        body = mapping(payload)
        found = mapping(body.get("usage")) or mapping(mapping(body.get("x_groq")).get("usage"))
        given = count(_first(found, "prompt_tokens", "input_tokens"))
        made = count(_first(found, "completion_tokens", "output_tokens"))
        total = count(found.get("total_tokens"))
        if total is not None and given is not None and total >= given:
            rest = total - given
            if made is None or (self.dialect.rest_is_output and rest > made):
                made = rest
        elif total is not None and given is None and made is not None and total >= made:
            given = total - made
        elif total is None and given is not None and made is not None:
            total = given + made
        cached = count(mapping(_first(found, "prompt_tokens_details", "input_tokens_details")).get("cached_tokens"))
        reasoning = mapping(_first(found, "completion_tokens_details", "output_tokens_details")).get("reasoning_tokens")
        if given is None and made is None and total is None:
            return None
        return Usage(
            input_tokens=given,
            output_tokens=made,
            total_tokens=total,
            cached_tokens=count(found.get("prompt_cache_hit_tokens")) if cached is None else cached,
            reasoning_tokens=count(found.get("reasoning_tokens") if reasoning is None else reasoning),
        )

    def plain_usage(self, body: bytes | memoryview) -> Usage | None:
        """The usage of an answer as documented; its choices are not read."""
        if b'"error"' in bytes(body):
            return None
        try:
            usage = _plain.decode(body).usage
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        made = usage.completion_tokens
        if self.dialect.rest_is_output:
            made = max(made, usage.total_tokens - usage.prompt_tokens)
        cached, reasoned = usage.prompt_tokens_details, usage.completion_tokens_details
        cached_tokens = cached.cached_tokens if cached is not None else None
        reasoning_tokens = reasoned.reasoning_tokens if reasoned is not None else None
        return Usage(
            usage.prompt_tokens,
            made,
            usage.total_tokens,
            usage.prompt_cache_hit_tokens if cached_tokens is None else cached_tokens,
            usage.reasoning_tokens if reasoning_tokens is None else reasoning_tokens,
        )


# --- reading ----------------------------------------------------------------------------------------------------------


_Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]


class _Cached(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None


class _Reasoned(msgspec.Struct, gc=False):
    reasoning_tokens: _Count | None = None


class _PlainUsage(msgspec.Struct, gc=False):
    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: _Cached | None = None
    completion_tokens_details: _Reasoned | None = None
    prompt_cache_hit_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None
    input_tokens_details: None = None
    output_tokens_details: None = None


class _Faultless(msgspec.Struct, gc=False):
    error: None = None


class _Plain(msgspec.Struct, gc=False):
    """An answer as the documentation shows it, of which the choices are not read."""

    usage: _PlainUsage
    choices: list[msgspec.Raw]
    error: None = None
    x_groq: _Faultless | None = None


_plain = msgspec.json.Decoder(_Plain)


class _Skimmed(msgspec.Struct):
    """The small part of an answer that decides about the call. The choices stay unread bytes."""

    error: Any = None
    usage: Any = None
    x_groq: Any = None
    request_id: Any = None
    choices: msgspec.Raw = msgspec.Raw(b"")


_skimmer = msgspec.json.Decoder(_Skimmed)


def _skim(body: bytes | memoryview) -> object:
    """What matters of a body as plain objects; None where it is not JSON.

    The common case, a well-formed answer, costs one pass that builds almost nothing. Whatever is not that, or says
    "error" somewhere, is decoded in full.
    """
    try:
        seen = _skimmer.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        seen = None
    choices = b"" if seen is None else bytes(seen.choices)
    if seen is not None and not seen.error and choices.startswith(b"[") and b'"error"' not in choices:
        return {"usage": seen.usage, "x_groq": seen.x_groq, "request_id": seen.request_id, "choices": []}
    try:
        payload = decode_json(body)
    except msgspec.DecodeError:
        return None
    failed = mapping(first_choice(payload)).get("error")
    if failed and isinstance(payload, dict) and not payload.get("error"):
        payload["error"] = failed
    return payload


def _first(found: Mapping[str, object], *names: str) -> object:
    return next((found[name] for name in names if found.get(name) is not None), None)
