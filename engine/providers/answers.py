"""Errors and headers of an answer, read as all OpenAI-like providers write them, and as nobody should.

`error_in` finds the error in a decoded body of any shape: OpenAI's object, a bare string, Gemini's array around it,
FastAPI's ``detail``, the ``title`` of RFC 7807. `fault_for` writes the sentence the caller will read. Only what the
provider answered goes into either: no request header is in reach here.

Pure: no trio, no httpx, no I/O. Never raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from actors.messages import Fault
from engine.errors import one_line
from engine.providers.wire import count, mapping
from engine.retry import Advice, ErrorView

SENTENCE_CHARS = 2_000
"""How much of a provider's own sentence a message keeps."""

_BODY_CHARS = 200
_KEPT = ("x-ratelimit-", "retry-after", "anthropic-ratelimit-")
_KEPT_NAMES = frozenset({"date", "x-request-id", "request-id", "x-generation-id", "nvcf-reqid", "cf-ray"})
_REQUEST_IDS = ("x-request-id", "request-id", "x-generation-id", "nvcf-reqid")
_MOST_HEADERS = 40
_HEADER_CHARS = 256

_WORDING = {
    "RateLimited": "too many requests for now",
    "QuotaExhausted": "the account's credit or quota is used up; waiting minutes does not help, see its billing page",
    "Rejected": "it refuses this request and would refuse it again unchanged",
    "ProviderUnavailable": "it failed or is overloaded; the request is not at fault",
    "MalformedReply": "a success whose body is not an answer; it may have been billed, and its bytes are kept",
}


def kept_headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The headers worth keeping: request identifiers, limits, waits, the date. Never a cookie.

    `headers` have lower-case names. Every answer passes here, and a provider's answers have the same names, so those
    are looked at once; nor is what is plain looked at twice.
    """
    names, shown = _kept_names(tuple(headers))
    values = [headers[name] for name in names]
    text = "".join(values)
    too_long = len(text) > _HEADER_CHARS and max(map(len, values)) > _HEADER_CHARS
    if too_long or not (text.isascii() and text.isprintable()):
        values = [one_line(value, _HEADER_CHARS) for value in values]
    return tuple(zip(shown, values, strict=True))


@lru_cache(maxsize=64)
def _kept_names(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those of these names that are worth keeping, and how they are shown."""
    kept = tuple(name for name in names if name in _KEPT_NAMES or name.startswith(_KEPT))[:_MOST_HEADERS]
    return kept, tuple(one_line(name, _HEADER_CHARS) for name in kept)


def request_id_of(headers: Mapping[str, str], payload: object) -> str:
    """What the provider's support will ask for, or ``""``."""
    for name in _REQUEST_IDS:
        if headers.get(name):
            return one_line(headers[name], _HEADER_CHARS)
    body = mapping(payload)
    for found in (mapping(body.get("x_groq")).get("id"), body.get("request_id"), body.get("requestId")):
        if isinstance(found, str) and found:
            return one_line(found, _HEADER_CHARS)
    return ""


def error_in(payload: object, *, failed: bool) -> ErrorView | None:
    """The error a decoded body holds, or None.

    `failed`: the status already says that it is one, so any sentence in the body will do. Otherwise only an `error`
    that is not empty counts: an answer may well have a `message` or a `detail`.
    """
    if isinstance(payload, list) and payload:
        payload = payload[0]
    body = mapping(payload)
    error = body.get("error") or mapping(body.get("x_groq")).get("error")
    if isinstance(error, list) and error:
        error = error[0]
    if isinstance(error, dict):
        return _view_of(error, body)
    if error:
        return _view_of_text(_words(error), body)
    if not failed:
        return None
    if isinstance(payload, str):
        return ErrorView(message=payload)
    return _view_of(body, body) if body else None


def with_text(error: ErrorView, body: bytes | memoryview) -> ErrorView:
    """The error with the beginning of the body as its sentence: for a body that has none, or is not JSON."""
    start = bytes(body[: 4 * _BODY_CHARS]).decode("utf-8", "replace")
    return msgspec.structs.replace(error, message=one_line(start, _BODY_CHARS) or "(an empty body)")


def fault_for(advice: Advice, status: int, error: ErrorView, request_id: str) -> Fault:
    """The error a caller will meet: whose fault it is, what to do, and the provider's own sentence."""
    code = one_line(error.code or error.type, 100)
    sentence = one_line(error.message, SENTENCE_CHARS)
    message = f"the provider answered {status}{f' ({code})' if code else ''}: {_WORDING[advice.kind]}"
    if 300 <= status <= 399:
        message += "; redirects are not followed, so check base_url"
    if sentence:
        message += f". It says: {sentence}"
    return Fault(
        kind=advice.kind,
        message=message,
        status=max(status, 0),
        code=code,
        request_id=request_id,
        retry_after_us=advice.hint_us,
    )


def _view_of_text(sentence: str, body: Mapping[str, object]) -> ErrorView:
    """An error written as a bare text. Exa's word for it is its ``tag``; Firecrawl's ``details`` say which field."""
    details = _words(body.get("details"))
    return ErrorView(
        message=f"{sentence} ({details})" if details else sentence,
        code=_word(body.get("code")) or _word(body.get("tag")),
        type=_word(body.get("type")),
        retry_delay=_delay(body),
    )


def _view_of(error: Mapping[str, object], body: Mapping[str, object]) -> ErrorView:
    """An error written as an object. `body` is what it was found in (Gemini and OpenRouter say more beside it)."""
    sentence = error.get("message") or error.get("detail") or error.get("title") or error.get("error") or ""
    metadata = mapping(error.get("metadata"))
    if isinstance(metadata.get("raw"), str):
        sentence = f"{_words(sentence)} ({metadata['raw']})"
    code = error.get("code") or mapping(error.get("details")).get("error_code")  # the latter is Anthropic's
    numeric = count(code) or count(error.get("status")) or count(body.get("status")) or 0
    word = _word(code) if count(code) is None else ""
    details = error.get("details")
    delay, quota_ids = _google_details(details)
    repeated = tuple(
        (name.lower(), str(value))
        for name, value in mapping(metadata.get("headers")).items()
        if isinstance(value, (str, int, float))
    )
    return ErrorView(
        message=_words(sentence),
        code=word or _word(mapping(details).get("error_code")) or _word(error.get("status")),  # the second: Anthropic's
        type=_word(error.get("type")),
        status=numeric,
        retry_delay=delay or _delay(error),
        quota_ids=quota_ids,
        headers=repeated,
    )


def _delay(found: Mapping[str, object]) -> str:
    """Tavily's wait, a number of seconds, as the duration that it is."""
    seconds = found.get("retry_after_seconds")
    return f"{seconds}s" if isinstance(seconds, (int, float, str)) else ""


def _google_details(details: object) -> tuple[str, tuple[str, ...]]:
    """Google's RetryInfo and QuotaFailure (google.rpc error details)."""
    delay = ""
    quota_ids: list[str] = []
    for detail in details if isinstance(details, list) else ():
        kind = mapping(detail).get("@type")
        if not isinstance(kind, str):
            continue
        if kind.endswith("google.rpc.RetryInfo"):
            delay = _word(mapping(detail).get("retryDelay")) or delay
        elif kind.endswith("google.rpc.QuotaFailure"):
            violations = mapping(detail).get("violations")
            named = violations if isinstance(violations, list) else ()
            quota_ids.extend(_word(mapping(violation).get("quotaId")) for violation in named)
    return delay, tuple(quota_ids)


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _words(value: object, depth: int = 3) -> str:
    """A sentence from whatever stands where one should: validation lists of FastAPI, nested objects."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and depth:
        found = (_words(value.get(name), depth - 1) for name in ("message", "error", "msg", "detail"))
        return next((words for words in found if words), "")
    if isinstance(value, list) and depth:
        return "; ".join(_words(item, depth - 1) for item in value[:5])
    return str(value) if isinstance(value, (int, float)) else ""
