"""OpenAI's chat completions: the manner of ``/v1/chat/completions``, and the refusals, errors and limit headers that
OpenAI's other endpoints share.

The shapes are those of the reference, the error guide and the rate-limit guide at platform.openai.com, read on
2026-11-20. The models of the o-series and of the gpt-5 family take ``max_completion_tokens`` alone, and sampling
parameters at their defaults alone.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engine.simulator.chat import ChatRequest, read_chat
from engine.simulator.chunks import Chunks, Wording
from engine.simulator.events import Events
from engine.simulator.failure import Failure, invalid
from engine.simulator.formats.manner import HeadersSeen, Manner, Moment
from engine.simulator.formats.words import Call, calls, reasoning_pieces
from engine.simulator.limits import LimitSet
from engine.simulator.reply import Headers, completion_body, limit_headers, retry_headers

REASONING_MODELS: Final = ("o1", "o3", "o4", "gpt-5")
_FIXED: Final[Mapping[str, object]] = {
    "temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0,
}  # fmt: skip
"""The parameters of sampling that reasoning models have at these values alone."""


def refused_by_reasoning(arguments: Mapping[str, object], model: str) -> Failure | None:
    """What a reasoning model refuses in a request; other models refuse nothing."""
    if not model.startswith(REASONING_MODELS):
        return None
    for name, only in _FIXED.items():
        value = arguments.get(name)
        if value is not None and value != only:
            text = f"'{name}' does not support {value} with this model. Only the default ({only}) value is supported."
            return invalid(f"Unsupported value: {text}", param=name, code="unsupported_value")
    return None


def type_of(failure: Failure) -> tuple[str, str | None]:
    """The type and the code of a failure, as OpenAI names them."""
    if failure.why == "limit" and failure.refusal is not None:
        return "requests" if failure.refusal.rule.dimension == "requests" else "tokens", "rate_limit_exceeded"
    if failure.status == 503:
        return "service_unavailable_error", "server_is_overloaded"
    if failure.why in ("concurrency", "injected"):
        return "requests", "rate_limit_exceeded"
    if failure.why == "server_error":
        return "server_error", None
    return "invalid_request_error", failure.code


def error_body(failure: Failure) -> dict[str, object]:
    """OpenAI's error object."""
    kind, code = type_of(failure)
    return {"error": {"message": failure.message, "type": kind, "param": failure.param, "code": code}}


def message_calls(made: list[Call]) -> list[dict[str, object]]:
    """Calls of functions as a message of the assistant holds them."""
    return [
        {"id": f"call_{call.identity}", "type": "function", "function": {"name": call.name, "arguments": call.text}}
        for call in made
    ]


class OpenAI(Manner):
    """What OpenAI's endpoints have in common."""

    id_header = b"x-request-id"

    def headers(self, limits: LimitSet, now: Moment) -> Headers:
        return limit_headers(limits, now.at_us)

    def error(self, failure: Failure, now: Moment) -> object:
        return error_body(failure)

    def error_headers(self, failure: Failure, now: Moment) -> Headers:
        if failure.never:
            return [(b"x-should-retry", b"false")]
        return [] if failure.wait_us is None else retry_headers(failure.wait_us)


class OpenAIChat(OpenAI):
    """``/v1/chat/completions``."""

    def read(self, body: bytes | bytearray, headers: HeadersSeen) -> ChatRequest | Failure:
        request = read_chat(body)
        if isinstance(request, Failure):
            return request
        if request.model.startswith(REASONING_MODELS):
            if request.arguments.get("max_tokens") is not None:
                text = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
                return invalid(f"Unsupported parameter: {text}", param="max_tokens", code="unsupported_parameter")
            return refused_by_reasoning(request.arguments, request.model) or request
        return request

    def whole(self, said: Wording) -> bytes:
        further: dict[str, object] = {}
        if said.shape.reasoning:
            further[said.shape.reasoning_field] = "".join(reasoning_pieces(said))
        if made := calls(said):
            further |= {"content": None, "tool_calls": message_calls(made)}
        return completion_body(said.done, said.fault, further)

    def events(self, said: Wording) -> Events:
        return Chunks(said)
