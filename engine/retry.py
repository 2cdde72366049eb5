"""What an answer means for the call: is it done, has it failed, is another attempt worth while, and after what wait.

`advise` turns a status, the headers and what could be read of the error into an `Advice`, which is all the scheduler
ever learns of a provider's answer. The rules are the union of what the providers document and what their SDKs do
(read 2026-11-20); where they differ, the one that spends less wins.

Pure: no trio, no I/O, and no clock: the time for HTTP dates is passed in. Never raises, whatever a provider sends.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import msgspec

from actors.messages import Charge, Refused

MAX_HINT_S = 86_400.0
"""A hint longer than a day is cut to a day: it is a mistake, an attack, or worth asking again tomorrow."""

Kind = Literal["", "RateLimited", "QuotaExhausted", "Rejected", "ProviderUnavailable", "MalformedReply"]


class ErrorView(msgspec.Struct, frozen=True):
    """What could be read of an error in a body, whatever its shape.

    `status` is an HTTP status the body names (0: none), `code` the machine-readable word, `type` its family.
    `retry_delay` is a duration as the provider writes it (``"26s"``), `quota_ids` the names of the quotas that were
    violated, `headers` (lower case) those that the body repeats.
    """

    message: str = ""
    code: str = ""
    type: str = ""
    status: int = 0
    retry_delay: str = ""
    quota_ids: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


class Advice(msgspec.Struct, frozen=True):
    """What to do after an answer: the fields of `actors.messages.Outcome`, and the class of error it was.

    `hint_us` is the provider's wish for a wait, or None. `barrier`: nothing else of this lane should be sent before
    it. `exempt`: another attempt does not draw on the retry budget. `kind` names the error's class, empty when done.
    `refused` says of what there were too many, as far as the provider does.
    """

    verdict: Literal["done", "later", "failed", "retry"]
    charge: Charge
    barrier: bool = False
    hint_us: int | None = None
    exempt: bool = False
    kind: Kind = ""
    refused: Refused = ""


# Spellings of "the account is out of credit or over its spending limit" (help.openai.com 6614457, 2026; OpenAI error
# guide; the error models of anthropic 2.11.0; exa.ai/docs/admin/error-codes; 2026-11-20). Decided on the code first,
# then on the type; never on the sentence, which Gemini shares with plain throttling.
EXHAUSTED = frozenset({
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
    "billing_not_active",
    "insufficient_credits",
    "insufficient_balance",
    "billing_error",
    "enforced_spend_limit_reached",
    "contract_spend_limit_reached",
    "linked_organization_spend_limit_reached",
    "no_more_credits",
    "api_key_budget_exceeded",
})  # fmt: skip
_EXHAUSTED_STATUS = frozenset({402, 432, 433})  # payment required; 432 and 433 are Tavily's plan limits
# Failures of Firecrawl's with status 500, or inside a 200, that are the page's or the request's and will not pass
# (ERROR_CODE_CLASSES of firecrawl-py 4.53.2; its server's source; 2026-11-20).
_PERMANENT = frozenset({
    "scrape_dns_resolution_error",
    "scrape_ssl_error",
    "scrape_unsupported_file_error",
    "scrape_actions_not_supported",
    "scrape_branding_not_supported",
    "scrape_pdf_insufficient_time_error",
    "scrape_pdf_ocr_required",
    "scrape_zdr_violation_error",
})  # fmt: skip
_TRANSIENT_STATUS = frozenset({408, 409, 425, 498})  # 409: a lock at OpenAI; 498: Groq's flexible tier is full
_NEVER_SERVED = frozenset({501, 505})  # the server cannot do what is asked, and says so
_RATE_WORDS = ("rate_limit", "slow_down", "too_many_requests", "resource_exhausted")
_REJECT_WORDS = (
    "invalid", "not_found", "authentication", "permission", "context_length", "content_policy", "too_large",
)  # fmt: skip
_TOO_LARGE = re.compile(r"request too large", re.IGNORECASE)
_ASKED = re.compile(r"Limit:? (\d{1,15})\b.{0,80}?Requested:? (\d{1,15})\b")


def advise(
    status: int, headers: Mapping[str, str], error: ErrorView | None, now_s: float, *, charge_usage: bool = False
) -> Advice:
    """What to do after an answer with this status, these headers (lower-case names) and this error, if any.

    A success with an error in its body is judged by what the body says, but charged like a success: something was
    generated. `charge_usage`: the body reports both sides of its usage. `now_s` is Unix time, for dates in headers.
    """
    success = 200 <= status <= 299
    if success and error is None:
        return Advice("done", "usage" if charge_usage else "kept")
    view = error or ErrorView()
    judged = _status_in_body(view) if success else status
    kind = _kind(judged, view)
    charge: Charge = "requests_kept" if 300 <= status <= 499 else "kept"
    if success and charge_usage:
        charge = "usage"
    retry = kind in ("RateLimited", "ProviderUnavailable")
    told = headers.get("x-should-retry", "").strip().lower()
    if told == "false":
        retry = False
    elif told == "true" and kind == "Rejected" and not _never_works(judged, view):
        retry = True
    limited = kind == "RateLimited"
    hint_us = hint_of(headers, view, now_s, exhausted=limited)
    refused = _refused(view) if limited else ""
    return Advice("retry" if retry else "failed", charge, limited, hint_us, limited and retry, kind, refused)


def _kind(status: int, view: ErrorView) -> Kind:
    """The class of an error with this status."""
    per_day = any("perday" in name.lower() for name in view.quota_ids)
    refused = 400 <= status <= 499
    if status in _EXHAUSTED_STATUS or (refused and (per_day or {view.code.lower(), view.type.lower()} & EXHAUSTED)):
        return "QuotaExhausted"
    if _never_works(status, view):
        return "Rejected"
    if status == 429:
        return "RateLimited"
    if (status >= 500 and status not in _NEVER_SERVED) or status in _TRANSIENT_STATUS:
        return "ProviderUnavailable"
    return "Rejected" if status >= 300 else "MalformedReply"


def _refused(view: ErrorView) -> Refused:
    """What there were too many of: by OpenAI's ``type``, or by the names of the quotas that Gemini calls violated."""
    names = " ".join(view.quota_ids).lower()
    of_requests = view.type == "requests" or "requests" in names
    of_tokens = view.type == "tokens" or "tokens" in names
    if of_requests == of_tokens:
        return ""
    return "requests" if of_requests else "tokens"


def _never_works(status: int, view: ErrorView) -> bool:
    """Whether this one request is larger than the limit of a whole minute (or than the server takes at all), or asks
    for what is not there."""
    if status == 413 or view.code.lower() in _PERMANENT:
        return True
    if status != 429:
        return False
    asked = _ASKED.search(view.message)
    return bool(_TOO_LARGE.search(view.message)) or (asked is not None and int(asked[2]) > int(asked[1]))


def _status_in_body(view: ErrorView) -> int:
    """The status a success would have had, from the error it holds. Without a clue: the provider's own failure."""
    if 400 <= view.status <= 599:
        return view.status
    words = f"{view.code} {view.type}".lower()
    if any(word in words for word in _RATE_WORDS) or any(word in words for word in EXHAUSTED):
        return 429
    return 400 if any(word in words for word in _REJECT_WORDS) else 500


# --- how long to wait -------------------------------------------------------------------------------------------------


def hint_of(headers: Mapping[str, str], view: ErrorView, now_s: float, *, exhausted: bool) -> int | None:
    """The wait a provider wishes for, in microseconds, rounded up; None where it says nothing usable.

    In this order: retry-after-ms, retry-after, a delay in the body, one in its sentence, and, with `exhausted` only,
    the reset header of a bucket that is empty. That one comes last because it tells when the bucket is full again.
    A Retry-After of zero means at once. Negative and unreadable values say nothing, nor does an instant that is past.
    """
    repeated = dict(view.headers)
    present_s = instant_s(headers.get("date", ""))
    if present_s is None:
        present_s = now_s
    for source in (headers, repeated):
        hint_s = _number(source.get("retry-after-ms", ""))
        if hint_s is not None and hint_s > 0:
            return _microseconds(hint_s / 1000)
        hint_s = wait_s(source.get("retry-after", ""), present_s)
        if hint_s is not None:
            return _microseconds(hint_s)
    for hint_s in (duration_s(view.retry_delay), _in_sentence_s(view.message)):
        if hint_s is not None and hint_s > 0:
            return _microseconds(hint_s)
    waits = [_reset_s(source, present_s) for source in (headers, repeated)] if exhausted else []
    known = [wait for wait in waits if wait is not None]
    return _microseconds(max(known)) if known else None


_ASPECTS = ("remaining", "limit", "reset")
_BUCKETS = (
    *(
        tuple(f"x-ratelimit-{aspect}{bucket}" for aspect in _ASPECTS)
        for bucket in ("", "-requests", "-tokens", "-project-tokens", "-tokens_usage_based", "-input-images")
    ),
    *(
        tuple(f"anthropic-ratelimit-{bucket}-{aspect}" for aspect in _ASPECTS)
        for bucket in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
)
"""What each bucket's headers are called (Anthropic puts the aspect last): what is left, its size, when it is full."""


def _reset_s(headers: Mapping[str, str], present_s: float) -> float | None:
    """The longest wait among the buckets these headers call empty."""
    waits = []
    for name_of_remaining, name_of_limit, name_of_reset in _BUCKETS:
        remaining = _number(headers.get(name_of_remaining, ""))
        limit = headers.get(name_of_limit, "").strip()
        # Azure writes 0 or -1 where it does not know, so an empty bucket without a size says nothing.
        if remaining != 0 or limit.startswith("-") or _number(limit) == 0:
            continue
        wait = wait_s(headers.get(name_of_reset, ""), present_s)
        if wait is not None:
            waits.append(wait)
    return max(waits) if waits else None


def wait_s(text: str, present_s: float) -> float | None:
    """A wait as a header tells it, in seconds from `present_s`: seconds, a Go duration, an epoch in seconds or
    milliseconds, or a date."""
    number = _number(text)
    if number == 0:
        return 0.0
    if number is None:
        number = duration_s(text)
    if number is None:
        moment = instant_s(text)
        number = None if moment is None else moment - present_s
    elif number > 1e11:
        number = number / 1000 - present_s
    elif number > 1e9:
        number -= present_s
    return number if number is not None and number > 0 else None


def _microseconds(seconds: float) -> int:
    """Rounded up, so that a wait of ours never ends before theirs, but not for the last digit of a float."""
    return math.ceil(round(min(seconds, MAX_HINT_S) * 1e6, 3))


_NUMBER = re.compile(r"\s*(\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})\s*", re.ASCII)


def _number(text: str) -> float | None:
    """A plain decimal number. `float` would also take ``nan``, ``inf``, ``1_000`` and other scripts' digits."""
    found = _NUMBER.fullmatch(text)
    return float(found[1]) if found else None


_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_STEP = r"(\d{1,12}(?:\.\d{1,12})?)(ns|us|µs|μs|ms|s|m|h|d)"
_STEPS = re.compile(_STEP, re.ASCII)
_DURATION = re.compile(rf"\s*(?:{_STEP}){{1,8}}\s*", re.ASCII)


def duration_s(text: str) -> float | None:
    """A duration as Go and protobuf write it (``"6m0s"``, ``"12ms"``, ``"45.837906927s"``), in seconds."""
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(amount) * _UNIT_S[unit] for amount, unit in _STEPS.findall(text))


_SENTENCE = re.compile(
    rf"\b(?:retry|try again)\s+(?:in|after)\s+(?:((?:{_STEP}){{1,8}})|(\d{{1,9}}(?:\.\d{{1,9}})?)\s*(sec|min|hour))",
    re.ASCII | re.IGNORECASE,
)


def _in_sentence_s(message: str) -> float | None:
    """``Please retry in 26.66s``, ``try again in 7m12s``, ``retry after 5 minutes``: for people, but often all there
    is (Gemini without RetryInfo, OpenAI and Groq beside their headers)."""
    found = _SENTENCE.search(message)
    if found is None:
        return None
    if found[1]:
        return duration_s(found[1].lower())
    return float(found[4]) * {"sec": 1.0, "min": 60.0, "hour": 3600.0}[found[5].lower()]


_DATE = re.compile(r"(\d{1,2})[ -]([A-Za-z]{3})[ -](\d{4}|\d{2}) (\d{2}):(\d{2}):(\d{2})", re.ASCII)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def instant_s(text: str) -> float | None:
    """A date as HTTP or RFC 3339 writes it, as Unix time; None where it is neither.

    HTTP dates are in GMT whatever they claim (RFC 9110, 5.6.7).
    """
    try:
        found = _DATE.search(text)
        if found is None:
            moment = datetime.fromisoformat(text.strip()) if "T" in text else None
            return None if moment is None or moment.tzinfo is None else moment.timestamp()
        day, month, year, hour, minute, second = found.groups()
        full_year = int(year) + (2000 if len(year) == 2 else 0)
        moment = datetime(
            full_year, _MONTHS.index(month.lower()) + 1, int(day), int(hour), int(minute), min(int(second), 59),
            tzinfo=UTC,
        )  # fmt: skip
        return moment.timestamp()
    except (ValueError, OverflowError):
        return None
