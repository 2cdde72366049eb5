"""Text completions as OpenAI and the servers like it have them: ``/completions``, a prompt in, a text out.

The older sibling of chat completions: usage, errors, refusals and the end of a stream are written as there, and read by
the same code. Its own are the prompt, which may be several, and the place of the text, ``choices[].text``.

Pure: no trio, no httpx, no I/O. Fields: platform.openai.com/docs/api-reference/completions (2026-11-20), and for
Inferneo the server of omkar-droid/inferneo at 3492952 (2026-07-27).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engine.estimate import CountText, choices_of, estimate_text, with_margin
from engine.providers.arguments import checked, invalid, to_json
from engine.providers.chat_arguments import check_model
from engine.providers.chat_options import Bias, Cap, Flag, Fraction, Object, Penalty, Text
from engine.providers.openai_chat import Dialect, OpenAIChat
from engine.providers.openai_chunks import ChatAssembler, decode_stream
from engine.providers.openai_stream import first_choice
from engine.providers.wire import Encoded, RawEvent, StreamChunk, View, mapping, text_or_none
from engine.sse import Event

Prompt: TypeAlias = str | Annotated[list[str | int | list[int]], Meta(min_length=1)]
_AtLeast0: TypeAlias = Annotated[int, Meta(ge=0)] | UnsetType


class CompletionOptions(msgspec.Struct, kw_only=True, gc=False):
    """What OpenAI documents and most others take. `prompt` is one text or several, or the numbers of one or several
    that were cut into a model's vocabulary already; each is answered by `n` choices of its own."""

    model: str
    prompt: Prompt
    max_tokens: _AtLeast0 = UNSET
    temperature: Annotated[float, Meta(ge=0, le=2)] | UnsetType = UNSET
    top_p: Fraction = UNSET
    n: Cap = UNSET
    best_of: Cap = UNSET
    stop: str | list[Any] | UnsetType = UNSET
    presence_penalty: Penalty = UNSET
    frequency_penalty: Penalty = UNSET
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | UnsetType = UNSET
    logprobs: _AtLeast0 | bool = UNSET
    logit_bias: dict[str | int, Bias] | UnsetType = UNSET
    echo: Flag = UNSET
    suffix: Text = UNSET
    stream: Flag = UNSET
    stream_options: Object = UNSET
    user: Text = UNSET


class InferneoCompletionOptions(CompletionOptions, kw_only=True, gc=False):
    """Its server serves the first of several prompts alone. `priority`: the higher is served first."""

    top_k: int | UnsetType = UNSET
    min_p: Fraction = UNSET
    repetition_penalty: Annotated[float, Meta(gt=0)] | UnsetType = UNSET
    ignore_eos: Flag = UNSET
    priority: int | UnsetType = UNSET


OPENAI = Dialect("openai", stream_usage=True, options=CompletionOptions, ends_with_done=True)
INFERNEO = Dialect("inferneo", options=InferneoCompletionOptions, ends_with_done=True)
GENERIC = Dialect("generic", options=CompletionOptions)
"""Whoever speaks OpenAI's format: sent what the caller wrote."""


class Completions(OpenAIChat):
    """`StreamFormat` of text completions, in one provider's dialect. Immutable; holds no key and no address."""

    __slots__ = ()
    path = "/completions"

    def __init__(self, dialect: Dialect) -> None:
        super().__init__(dialect)
        self.name = f"completions/{dialect.name}"

    def __repr__(self) -> str:
        return f"Completions({self.dialect.name!r})"

    def encode(self, arguments: Mapping[str, object], *, count_text: CountText = estimate_text) -> Encoded:
        """Write a call's arguments as a body. They are not changed; those that are None are not sent.

        Vocabulary numbers are counted exactly, texts by `count_text` with the margin. `max_tokens` caps the answer to
        each prompt, as often as the provider makes one (`n`, or `best_of`).

        Raises:
          InvalidCall: an argument is missing, out of its range, or cannot be written as JSON.
        """
        dialect = self.dialect
        check_model(arguments.get("model"), True)
        if arguments.get("prompt") is None:
            _refuse_missing(arguments)
        payload = checked(arguments, dialect.options, provider=dialect.name, closed=dialect.closed)
        input_tokens, prompts = _counted(payload["prompt"], count_text)
        if "suffix" in payload:
            input_tokens += with_margin(count_text(payload["suffix"]))
        choices = prompts * max(choices_of(payload), payload.get("best_of", 1))
        streaming = payload.get("stream") is True
        if streaming and dialect.stream_usage and "stream_options" not in payload:
            payload["stream_options"] = {"include_usage": True}
        cap = payload.get("max_tokens")
        output_cap = None if cap is None else cap * choices
        return Encoded(to_json(payload), input_tokens, output_cap, streaming, choices)

    def view(self, response: object) -> View:
        """The first choice of a decoded answer. Never raises, whatever was decoded."""
        body = mapping(response)
        choice = mapping(first_choice(body))
        text = choice.get("text")
        return View(
            text=text if isinstance(text, str) else None,
            finish_reason=text_or_none(choice.get("finish_reason")),
            provider_id=text_or_none(body.get("id")),
            model=text_or_none(body.get("model")),
        )

    def decode_stream(self, body: bytes | memoryview) -> object:
        """A recorded stream as the one answer that it makes up. Never raises."""
        return decode_stream(body, CompletionAssembler())

    def assembler(self) -> CompletionAssembler:
        """What makes one stream's chunks and its answer."""
        return CompletionAssembler()


class CompletionAssembler(ChatAssembler):
    """`StreamAssembler` of one stream: a chat's, of which each text is the content of a delta."""

    __slots__ = ()

    def _merge(self, body: Mapping[str, object], event: Event, metadata: RawEvent) -> list[StreamChunk]:
        choices = body.get("choices")
        if isinstance(choices, list):
            body = {**body, "choices": [_as_delta(choice) for choice in choices]}
        return super()._merge(body, event, metadata)

    def response(self) -> dict[str, object]:
        answer = super().response()
        choices = answer["choices"]
        texts = [_as_text(choice) for choice in choices] if isinstance(choices, list) else []
        return {**answer, "object": "text_completion", "choices": texts}


def _as_delta(choice: object) -> object:
    found = mapping(choice)
    rest = {name: value for name, value in found.items() if name not in ("text", "delta", "message")}
    return {**rest, "delta": {"content": found.get("text")}}


def _as_text(choice: object) -> dict[str, object]:
    found = mapping(choice)
    text = mapping(found.get("message")).get("content")
    rest = {name: value for name, value in found.items() if name != "message"}
    return {**rest, "text": text if isinstance(text, str) else ""}


def _refuse_missing(arguments: Mapping[str, object]) -> None:
    if "messages" in arguments:
        raise invalid("messages", 'a completion has a prompt; pass prompt="..." instead, or use the endpoint "chat"')
    raise invalid("prompt", "it is missing; pass a text, or a list of them")


def _counted(prompt: object, count_text: CountText) -> tuple[int, int]:
    """What the input will count as, and how many prompts it is.

    Raises:
      InvalidCall: texts and numbers are mixed, or it has no order.
    """
    if isinstance(prompt, str):
        return with_margin(count_text(prompt)), 1
    if not isinstance(prompt, (list, tuple)):
        raise invalid("prompt", "it has no order, so that nobody could tell which answer is whose; pass a list")
    if all(isinstance(one, int) for one in prompt):
        return len(prompt), 1
    if all(isinstance(one, str) for one in prompt):
        return with_margin(sum(map(count_text, prompt))), len(prompt)
    if any(isinstance(one, (str, int)) for one in prompt):
        raise invalid("prompt", "it mixes texts and numbers; pass texts, the numbers of one prompt, or lists of them")
    return sum(map(len, prompt)), len(prompt)
