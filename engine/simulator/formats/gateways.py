"""Perplexity and OpenRouter: chat with sources, and chat through others, each with a stream of its own kind.

Sources, all as of 2026-11-20: docs.perplexity.ai and its SDK 0.46.1, openrouter.ai/docs and its SDK 1.3.84, public
reports of the errors of both.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from engine.simulator.chunks import DONE, Wording
from engine.simulator.events import Block, CrlfEvents, Event, Events, Script
from engine.simulator.failure import Failure
from engine.simulator.formats.dialect import Dialect
from engine.simulator.formats.manner import Moment, retry_after
from engine.simulator.formats.openai_chat import type_of
from engine.simulator.formats.pages import pages_for
from engine.simulator.formats.words import spoiled, text_pieces, usage
from engine.simulator.reply import Headers, encode, usage_of

_SEARCHED = 2
"""How many sources an answer of Perplexity's has."""


class Perplexity(Dialect):
    """Every chunk repeats the message so far and has a usage of its own; lines end with CR LF. It knows no tools and
    has no limit headers."""

    caps = ("max_tokens",)

    def identity(self, said: Wording) -> str:
        return said.done.identity

    def thoughts(self, said: Wording) -> list[str]:
        return []

    def usage(self, said: Wording, output: int | None = None) -> dict[str, object]:
        cost = said.done.cost if output is None else said.done.cost._replace(output_tokens=output)
        prices = {"input_tokens_cost": cost.input_tokens * 3e-06, "output_tokens_cost": cost.output_tokens * 1.5e-05}
        total = sum(prices.values()) + 0.006
        further = {"citation_tokens": 0, "num_search_queries": 1, "reasoning_tokens": 0, "search_context_size": "low"}
        return usage_of(cost) | further | {"cost": {**prices, "request_cost": 0.006, "total_cost": total}}

    def sources(self, said: Wording) -> dict[str, object]:
        """Where an answer is from."""
        pages = pages_for(said, said.done.model, _SEARCHED)
        results = [
            {
                "title": page.title,
                "url": page.url,
                "date": page.published[:10],
                "last_updated": page.published[:10],
                "snippet": page.text,
                "source": "web",
            }
            for page in pages
        ]
        return {"citations": [page.url for page in pages], "search_results": results}

    def answer(self, said: Wording) -> dict[str, object]:
        message = {"role": "assistant", "content": said.done.text}
        choice = {"index": 0, "finish_reason": "stop", "message": message, "delta": message | {"content": ""}}
        told = {"choices": [choice], "usage": usage(said, self.usage(said))}
        return self.envelope(said, "chat.completion") | told | self.sources(said)

    def script(self, said: Wording) -> Script:
        pieces = text_pieces(said)

        def chunk(piece: str, so_far: str, output: int, reason: str | None = None) -> dict[str, object]:
            delta = {"role": "assistant", "content": piece}
            choice = {"index": 0, "finish_reason": reason, "message": delta | {"content": so_far}, "delta": delta}
            told = {"choices": [choice], "usage": usage(said, self.usage(said, output))}
            return self.envelope(said, "chat.completion.chunk") | told

        def delta(piece: str, place: int) -> Event:
            made = chunk(piece, "".join(pieces[: place + 1]), min(place + 1, said.done.cost.output_tokens))
            return made if place else made | self.sources(said)

        last = chunk("", "".join(pieces), said.done.cost.output_tokens, "stop") | self.sources(said)
        tail: list[Event | bytes] = [last]
        if said.fault != "stream_no_done":
            tail.append(DONE.replace(b"\n", b"\r\n"))
        usage_at = None if said.fault == "null_usage" else 0
        return Script([], [Block(pieces, delta)], tail, lambda piece: chunk(piece, piece, 1), usage_at)

    def frame(self, said: Wording, event: Event) -> bytes:
        return b"data: %b\r\n\r\n" % encode(spoiled(said, event))

    def stream_error(self, said: Wording) -> bytes:
        # Named, or its SDK would take it for a chunk.
        return b"event: error\r\n" + super().stream_error(said).replace(b"\n", b"\r\n")

    def events(self, said: Wording) -> Events:
        return CrlfEvents(self.script(said), lambda _, event: self.frame(said, event), error=self.stream_error(said))

    def error(self, failure: Failure, now: Moment) -> object:
        status = self.status(failure)
        kind, message = type_of(failure)[0], failure.message
        if failure.why == "key":
            kind, message = "invalid_api_key", "Invalid API key provided."
        elif status == HTTPStatus.TOO_MANY_REQUESTS:
            kind = "request_rate_limit_exceeded"
            message = "Request rate limit exceeded, please try again later."
        return {"error": {"message": message, "type": kind, "code": status}}


class OpenRouter(Dialect):
    """It keeps a stream alive with comments, tells the usage in a last chunk that has a choice, and of its limits only
    when they are reached, in headers that its body repeats."""

    id_header = b"x-generation-id"
    reasoning_field = "reasoning"
    further = {"provider": "Simulated"}  # noqa: RUF012  # read alone
    preamble = b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n"

    def identity(self, said: Wording) -> str:
        return f"gen-{said.done.created_s}-{said.done.identity}"

    def reasoned(self, piece: str) -> dict[str, object]:
        detail = {"type": "reasoning.text", "text": piece, "format": "unknown", "index": 0}
        return {"reasoning": piece, "reasoning_details": [detail]}

    def usage(self, said: Wording) -> dict[str, object]:
        cost = said.done.cost
        parts = {
            "upstream_inference_cost": None,
            "upstream_inference_prompt_cost": cost.input_tokens * 3e-06,
            "upstream_inference_completions_cost": cost.output_tokens * 1.5e-05,
        }
        total = cost.input_tokens * 3e-06 + cost.output_tokens * 1.5e-05
        return super().usage(said) | {"cost": total, "is_byok": False, "cost_details": parts}

    def message(self, said: Wording) -> dict[str, object]:
        message = {"refusal": None} | super().message(said)
        if details := message.get("reasoning_details"):
            assert isinstance(details, list)
            message["reasoning_details"] = [detail | {"signature": "c2ltdWxhdGVk"} for detail in details]
        return message

    def choice(self, said: Wording, message: dict[str, object]) -> dict[str, object]:
        return super().choice(said, message) | {"native_finish_reason": self.reason(said)}

    def answer(self, said: Wording) -> dict[str, object]:
        return super().answer(said) | {"service_tier": "default", "system_fingerprint": "fp_simulated"}

    def chunk(self, said: Wording, delta: Mapping[str, object], reason: str | None = None) -> dict[str, object]:
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": "", **delta},
            "finish_reason": reason,
            "native_finish_reason": reason,
            "logprobs": None,
        }
        return self.envelope(said, "chat.completion.chunk") | {"choices": [choice]}

    def opening(self, said: Wording) -> list[Event]:
        return []  # every delta has the role

    def closing(self, said: Wording) -> tuple[list[Event], int | None]:
        last: list[Event] = [self.chunk(said, {}, self.reason(said))]
        if said.fault == "null_usage":
            return last, None
        return [*last, self.chunk(said, {}) | {"usage": self.usage(said)}], 1

    def stream_error(self, said: Wording) -> bytes:
        metadata = {"error_type": "provider_unavailable", "provider_code": "overloaded_error"}
        error = {"code": 502, "message": "Provider disconnected unexpectedly", "metadata": metadata}
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        chunk = self.envelope(said, "chat.completion.chunk") | {"error": error, "choices": [choice]}
        return b"data: %b\n\n%b" % (encode(chunk), DONE)

    def error_in_200(self, said: Wording, now: Moment) -> bytes:
        metadata = {"provider_name": "Simulated", "raw": "{}"}
        return encode({"error": {"code": 502, "message": "Upstream error", "metadata": metadata}})

    def status(self, failure: Failure) -> int:
        return 529 if failure.why == "unavailable" else failure.status

    def error(self, failure: Failure, now: Moment) -> object:
        message, metadata = failure.message, dict[str, object]({"provider_name": None})
        if failure.refusal is not None:
            metadata["headers"] = self._limit_words(failure, now)
            message = "Rate limit exceeded: " + failure.message
        elif failure.why in ("injected", "concurrency", "unavailable", "server_error"):
            message = "Provider returned error"
            metadata = {"raw": failure.message, "provider_name": "Simulated"}
        error = {"message": message, "code": self.status(failure), "metadata": metadata}
        return {"error": error, "user_id": "user_simulated"}

    def error_headers(self, failure: Failure, now: Moment) -> Headers:
        if failure.refusal is None:
            return retry_after(failure)
        words = self._limit_words(failure, now)
        return [(name.lower().encode(), value.encode()) for name, value in words.items()]

    @staticmethod
    def _limit_words(failure: Failure, now: Moment) -> dict[str, str]:
        """The headers of a limit that was reached; the reset is a time of the calendar in milliseconds."""
        refusal = failure.refusal
        assert refusal is not None
        words = {"X-RateLimit-Limit": str(refusal.rule.limit), "X-RateLimit-Remaining": str(max(0, refusal.remaining))}
        if failure.wait_us is not None:
            words["X-RateLimit-Reset"] = str(-(-(now.unix_us + failure.wait_us) // 1_000))
        return words
