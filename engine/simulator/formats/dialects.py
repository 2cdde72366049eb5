"""Groq, DeepSeek, NVIDIA NIM, Gemini and Ollama's compatible path: what each says otherwise than OpenAI.

Sources, all as of 2026-11-20: console.groq.com/docs, api-docs.deepseek.com, docs.nvidia.com/nim and public reports of
the hosted endpoints, ai.google.dev/gemini-api/docs/openai and public reports of its errors, docs.ollama.com.

Pure: no trio, no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from engine.simulator.chunks import ERROR, Wording
from engine.simulator.config import ProviderLimit
from engine.simulator.events import Event
from engine.simulator.failure import Failure, invalid
from engine.simulator.formats.dialect import Dialect
from engine.simulator.formats.manner import Moment, retry_after
from engine.simulator.formats.openai_chat import type_of
from engine.simulator.formats.words import names, reasoning_tokens, usage
from engine.simulator.limits import LimitSet
from engine.simulator.reply import Headers, encode, tell_standing, usage_of

DAY_S: Final = 86_400.0


class Groq(Dialect):
    """Its headers tell of a day's requests and a minute's tokens, and never of a minute's requests; its streams hide
    the usage, and a failure, in ``x_groq``."""

    id_header = b"x-request-id"
    reasoning_field = "reasoning"
    further = {"system_fingerprint": "fp_simulated"}  # noqa: RUF012  # read alone

    def refused(self, arguments: Mapping[str, object]) -> Failure | None:
        for name in ("logprobs", "top_logprobs", "logit_bias"):
            if arguments.get(name) is not None:
                return invalid(f"property '{name}' is unsupported", param=name)
        if arguments.get("n") not in (None, 1):
            return invalid("'n' : number must be at most 1", param="n")
        messages = arguments["messages"]
        assert isinstance(messages, list)
        for place, message in enumerate(messages):
            if "name" in message:
                return invalid(f"'messages.{place}' : property 'name' is unsupported", param="messages")
        return None

    def headers(self, limits: LimitSet, now: Moment) -> Headers:
        def of_a_day(rule: ProviderLimit) -> bool:
            return rule.dimension == "requests" and rule.period_s >= DAY_S

        def of_a_minute(rule: ProviderLimit) -> bool:
            return rule.dimension != "requests" and rule.period_s < DAY_S

        headers: Headers = []
        tell_standing(headers, b"requests", limits.where(now.at_us, of_a_day))
        tell_standing(headers, b"tokens", limits.where(now.at_us, of_a_minute))
        return headers

    def status(self, failure: Failure) -> int:
        return 413 if failure.never else failure.status

    def error(self, failure: Failure, now: Moment) -> object:
        kind, code = type_of(failure)
        error = {"message": failure.message, "type": kind}
        return {"error": error | ({"code": code} if code else {})}

    def error_headers(self, failure: Failure, now: Moment) -> Headers:
        return [] if failure.never else retry_after(failure)

    def usage(self, said: Wording) -> dict[str, object]:
        times = {"queue_time": 0.05, "prompt_time": 0.0009, "completion_time": 0.012, "total_time": 0.0129}
        return super().usage(said) | times

    def answer(self, said: Wording) -> dict[str, object]:
        return super().answer(said) | {"service_tier": "on_demand", "x_groq": self._mark(said)}

    def opening(self, said: Wording) -> list[Event]:
        return [event | {"x_groq": self._mark(said)} for event in map(dict, super().opening(said))]

    def closing(self, said: Wording) -> tuple[list[Event], int | None]:
        mark = self._mark(said) | {"usage": usage(said, self.usage(said))}
        last: list[Event] = [self.chunk(said, {}, self.reason(said)) | {"x_groq": mark}]
        return last, None if said.fault == "null_usage" else 0

    def stream_error(self, said: Wording) -> bytes:
        mark = self._mark(said) | {"error": "over capacity"}
        return self.frame(said, self.chunk(said, {}) | {"x_groq": mark})

    @staticmethod
    def _mark(said: Wording) -> dict[str, object]:
        return {"id": f"req_{said.done.identity}"}


class DeepSeek(Dialect):
    """It says nothing of its limits. While a request waits, it sends blank lines before an answer and comments before
    a stream; here, always."""

    caps = ("max_tokens",)
    further = {"system_fingerprint": "fp_simulated"}  # noqa: RUF012  # read alone
    nothing = {"content": "", "reasoning_content": None}  # noqa: RUF012  # read alone
    preamble = b": keep-alive\n\n: keep-alive\n\n"

    def usage(self, said: Wording) -> dict[str, object]:
        missed = {"prompt_cache_hit_tokens": 0, "prompt_cache_miss_tokens": said.done.cost.input_tokens}
        return super().usage(said) | missed

    def whole(self, said: Wording) -> bytes:
        return b"\n\n\n\n\n" + super().whole(said)

    def opening(self, said: Wording) -> list[Event]:
        return [self.chunk(said, {"role": "assistant", "content": None, "reasoning_content": ""})]

    def reasoned(self, piece: str) -> dict[str, object]:
        return {"content": None, "reasoning_content": piece}

    def delta(self, said: Wording, piece: str) -> dict[str, object]:
        return {"content": piece, "reasoning_content": None}


class Nim(Dialect):
    """NVIDIA's hosted models: the shapes of vLLM, no limit headers, and errors with a title in place of an error."""

    def message(self, said: Wording) -> dict[str, object]:
        return {"reasoning_content": None, "tool_calls": []} | super().message(said)

    def choice(self, said: Wording, message: dict[str, object]) -> dict[str, object]:
        return super().choice(said, message) | {"stop_reason": None}

    def usage(self, said: Wording) -> dict[str, object]:
        return usage_of(said.done.cost) | {"prompt_tokens_details": None}

    def status(self, failure: Failure) -> int:
        return nim_status(failure)

    def error(self, failure: Failure, now: Moment) -> object:
        return nim_error(failure)

    def stream_error(self, said: Wording) -> bytes:
        return ERROR  # vLLM's: what has a title alone is a chunk without choices to OpenAI's SDK, which breaks at it


def nim_status(failure: Failure) -> int:
    """A wrong request is 422 here."""
    return 422 if failure.why == "invalid" else failure.status


def nim_error(failure: Failure) -> object:
    """An error of NVIDIA's: a title, or a list of what is wrong, written as text."""
    if failure.why == "invalid":
        detail = f"[{{'type':'value_error','loc':('body','{failure.param or ''}'),'msg':'{failure.message}'}}]"
        return {"object": "error", "message": failure.message, "detail": detail, "type": "invalid_request_error"}
    if failure.why == "not_found":
        return {"detail": "Not Found"}
    title = {"status": failure.status, "title": HTTPStatus(failure.status).phrase}
    if failure.status == HTTPStatus.TOO_MANY_REQUESTS:
        return title
    return title | {"detail": "Authentication failed" if failure.why == "key" else failure.message}


_GEMINI_KNOWS: Final = names("""
    model messages temperature top_p n stop max_tokens max_completion_tokens presence_penalty response_format tools
    tool_choice parallel_tool_calls stream stream_options reasoning_effort extra_body user logprobs top_logprobs
""")
_GOOGLE: Final = "type.googleapis.com/google.rpc."


class Gemini(Dialect):
    """Unknown and null fields are errors; an error is a list of one; when to come back stands in its body alone."""

    def refused(self, arguments: Mapping[str, object]) -> Failure | None:
        for name, value in arguments.items():
            if name not in _GEMINI_KNOWS:
                text = f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
                return invalid(text, param=name, code="unknown")
            if value is None:
                return invalid(f"Invalid value at '{name}': null is not allowed.", param=name, code="unknown")
        return None

    def identity(self, said: Wording) -> str:
        return said.done.identity

    def thoughts(self, said: Wording) -> list[str]:
        return []  # they are counted, not told

    def choice(self, said: Wording, message: dict[str, object]) -> dict[str, object]:
        return {"index": 0, "message": message, "finish_reason": self.reason(said)}

    def usage(self, said: Wording) -> dict[str, object]:
        """The tokens of thoughts are in the total and nowhere else."""
        whole = usage_of(said.done.cost)
        return whole | {"completion_tokens": said.done.cost.output_tokens - reasoning_tokens(said)}

    def chunk(self, said: Wording, delta: Mapping[str, object], reason: str | None = None) -> dict[str, object]:
        choice = {"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": reason}
        return self.envelope(said, "chat.completion.chunk") | {"choices": [choice]}

    def opening(self, said: Wording) -> list[Event]:
        return []  # every delta has the role

    def closing(self, said: Wording) -> tuple[list[Event], int | None]:
        last = self.chunk(said, {"content": ""}, self.reason(said))
        if said.fault == "null_usage":
            return [last], None
        return [last | {"usage": self.usage(said)}], 0

    def status(self, failure: Failure) -> int:
        return gemini_status(failure)

    def error(self, failure: Failure, now: Moment) -> object:
        return [gemini_error(failure)]

    def stream_error(self, said: Wording) -> bytes:
        return b"data: %b\n\n" % encode(GEMINI_OVERLOADED)


GEMINI_OVERLOADED: Final[Event] = {
    "error": {"code": 503, "message": "The model is overloaded. Please try again later.", "status": "UNAVAILABLE"}
}
"""What comes in an event's place when a stream of Gemini's fails."""


def gemini_status(failure: Failure) -> int:
    """The status of a failure: a wrong key is 400 there."""
    return 400 if failure.why == "key" else failure.status


def gemini_error(failure: Failure) -> dict[str, object]:
    """An error of Google's."""
    name, message, details = _gemini_words(failure)
    return {"error": {"code": gemini_status(failure), "message": message, "status": name, "details": details}}


def _gemini_words(failure: Failure) -> tuple[str, str, list[dict[str, object]]]:
    """The status, the message and the details of an error of Google's."""
    if failure.why == "key":
        reason: dict[str, object] = {
            "@type": _GOOGLE + "ErrorInfo",
            "reason": "API_KEY_INVALID",
            "domain": "googleapis.com",
        }
        return "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", [reason]
    if failure.status == HTTPStatus.TOO_MANY_REQUESTS:
        return _gemini_quota(failure)
    if failure.why == "server_error":
        return "INTERNAL", "An internal error has occurred. Please retry.", []
    if failure.why in ("unavailable", "concurrency"):
        return "UNAVAILABLE", "The model is overloaded. Please try again later.", []
    if failure.why == "not_found":
        return "NOT_FOUND", failure.message, []
    violations: list[object] = [{"description": failure.message}]
    return "INVALID_ARGUMENT", failure.message, [{"@type": _GOOGLE + "BadRequest", "fieldViolations": violations}]


def _gemini_quota(failure: Failure) -> tuple[str, str, list[dict[str, object]]]:
    """Of a limit: what it is of, and, if somebody knows, when to come back."""
    refusal = failure.refusal
    requests = refusal is None or refusal.rule.dimension == "requests"
    period = "Day" if refusal is not None and refusal.rule.period_s >= DAY_S else "Minute"
    what, metric = ("Requests", "requests") if requests else ("InputTokens", "input_token_count")
    violation = {
        "quotaMetric": f"generativelanguage.googleapis.com/generate_content_free_tier_{metric}",
        "quotaId": f"Generate{what}Per{period}PerProjectPerModel-FreeTier",
        "quotaDimensions": {"model": failure.model, "location": "global"},
        "quotaValue": str(refusal.rule.limit if refusal is not None else 0),
    }
    message = "You exceeded your current quota, please check your plan and billing details."
    details: list[dict[str, object]] = [
        {"@type": _GOOGLE + "QuotaFailure", "violations": [violation]},
        {"@type": _GOOGLE + "Help", "links": []},
    ]
    if failure.wait_us is not None:
        wait = f"{failure.wait_us // 1_000_000}.{failure.wait_us % 1_000_000:06d}".rstrip("0").rstrip(".") + "s"
        message += f" Please retry in {wait}."
        details.append({"@type": _GOOGLE + "RetryInfo", "retryDelay": wait})
    return "RESOURCE_EXHAUSTED", message, details


class OllamaCompat(Dialect):
    """Ollama's path for clients of OpenAI: no limits but its queue, no cap but ``max_tokens``."""

    caps = ("max_tokens",)
    reasoning_field = "reasoning"
    further = {"system_fingerprint": "fp_ollama"}  # noqa: RUF012  # read alone

    def choice(self, said: Wording, message: dict[str, object]) -> dict[str, object]:
        return {"index": 0, "message": message, "finish_reason": self.reason(said)}

    def usage(self, said: Wording) -> dict[str, object]:
        return usage_of(said.done.cost)

    def error(self, failure: Failure, now: Moment) -> object:
        return ollama_error(failure)


def ollama_error(failure: Failure) -> object:
    """An error of Ollama's compatible paths."""
    kinds = {"server_error": "api_error", "unavailable": "api_error", "not_found": "not_found_error"}
    kind = kinds.get(failure.why, "invalid_request_error")
    return {"error": {"message": failure.message, "type": kind, "param": None, "code": None}}
