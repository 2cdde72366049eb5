"""What every recorded failure means for the schedule: its class, another attempt or not, a barrier, a wait, a charge.

Each file with an error in `fixtures/` has a row here, and each way in which providers say "no more", "never" and
"later" has one of its own. The class does not depend on the format that reads the body.
"""

# ruff: noqa: E501  # a table reads best with one case on a line

from __future__ import annotations

import json
import re
from typing import Literal, NamedTuple

import msgspec
import pytest
from chat_answers import FIXTURES, GENERIC, NOW_S, fixture

from actors.messages import Charge
from engine.errors import error_of
from engine.providers.aixplain import AIXPLAIN
from engine.providers.answers import error_in
from engine.providers.exa import ExaSearch
from engine.providers.firecrawl import FirecrawlMap, FirecrawlScrape
from engine.providers.tavily import TavilyExtract, TavilySearch
from engine.providers.wire import Reading, WireFormat, mapping
from engine.retry import Advice, advise
from engine.sse import EventReader, LineReader, Named

SEARCHING: dict[str, WireFormat] = {
    wire.name: wire for wire in (ExaSearch(), TavilySearch(), TavilyExtract(), FirecrawlScrape(), FirecrawlMap())
}
OWN = {**SEARCHING, AIXPLAIN.name: AIXPLAIN}
"""Who is read by a format of his own; aiXplain's statuses from 460 on mean nothing to anybody else."""


class Case(NamedTuple):
    """A recorded failure and what it means. With `wait_s` the provider asked for a wait."""

    file: str
    status: int
    kind: Literal["RateLimited", "QuotaExhausted", "Rejected", "ProviderUnavailable"]
    again: bool
    wait_s: float | None
    charge: Charge
    headers: dict[str, str] = {}  # noqa: RUF012  # never changed


LIMITED = "RateLimited"
SPENT = "QuotaExhausted"
REFUSED = "Rejected"
DOWN = "ProviderUnavailable"

GROQ = json.loads(fixture("groq_chat/ratelimit_headers.json"))
OPENAI = json.loads(fixture("openai_chat/ratelimit_headers.json"))
ANTHROPIC = json.loads(fixture("anthropic_messages/ratelimit_headers.json"))
ANTHROPIC_EMPTY = {
    **ANTHROPIC, "anthropic-ratelimit-input-tokens-remaining": "0", "date": "Thu, 21 Aug 2025 12:40:29 GMT",
}  # fmt: skip

CASES = [
    Case("aixplain_run/error_404.json", 404, REFUSED, False, None, "requests_kept"),
    Case("aixplain_run/error_475.json", 475, SPENT, False, None, "requests_kept"),
    Case("anthropic_messages/error_400.json", 400, REFUSED, False, None, "requests_kept"),
    Case("anthropic_messages/error_401.json", 401, REFUSED, False, None, "requests_kept"),
    Case("anthropic_messages/error_413.json", 413, REFUSED, False, None, "requests_kept"),
    Case("anthropic_messages/error_429.json", 429, LIMITED, True, None, "requests_kept"),
    Case("anthropic_messages/error_429.json", 429, LIMITED, True, None, "requests_kept", ANTHROPIC),
    Case("anthropic_messages/error_429.json", 429, LIMITED, True, 30.0, "requests_kept", ANTHROPIC_EMPTY),
    Case("anthropic_messages/error_429.json", 429, LIMITED, True, 7.0, "requests_kept", {**ANTHROPIC_EMPTY, "retry-after": "7"}),
    Case("anthropic_messages/error_429_ramp.json", 429, LIMITED, True, 12.0, "requests_kept", {"retry-after": "12"}),
    Case("anthropic_messages/error_429_spend_limit.json", 429, SPENT, False, None, "requests_kept"),
    Case("anthropic_messages/error_500.json", 500, DOWN, True, None, "kept"),
    Case("anthropic_messages/error_529.json", 529, DOWN, True, None, "kept"),
    Case("anthropic_messages/stream_overloaded.sse", 200, DOWN, True, None, "kept"),
    Case("deepseek_chat/error_402.json", 402, SPENT, False, None, "requests_kept"),
    Case("deepseek_chat/error_429.json", 429, LIMITED, True, None, "requests_kept"),
    Case("exa_search/error_402.json", 402, SPENT, False, None, "requests_kept"),
    Case("exa_search/error_429.json", 429, LIMITED, True, None, "requests_kept"),
    Case("exa_search/error_429.json", 429, LIMITED, True, 1.0, "requests_kept", {"retry-after": "1"}),
    Case("firecrawl_scrape/error_402.json", 402, SPENT, False, None, "requests_kept"),
    Case("firecrawl_scrape/error_408.json", 408, DOWN, True, None, "requests_kept"),
    Case("firecrawl_scrape/error_408.json", 200, DOWN, True, None, "kept"),
    Case("firecrawl_scrape/error_429.json", 429, LIMITED, True, 37.0, "requests_kept"),
    Case("firecrawl_scrape/error_429.json", 429, LIMITED, True, 41.0, "requests_kept", {"retry-after": "41"}),
    Case("firecrawl_scrape/error_500_dns.json", 500, REFUSED, False, None, "kept"),
    Case("firecrawl_scrape/error_500_dns.json", 200, REFUSED, False, None, "kept"),
    Case("gemini_chat/error_400_api_key.json", 400, REFUSED, False, None, "requests_kept"),
    Case("gemini_chat/error_400_unknown_field.json", 400, REFUSED, False, None, "requests_kept"),
    Case("gemini_chat/error_429_array.json", 429, LIMITED, True, 26.0, "requests_kept"),
    Case("gemini_chat/error_429_object.json", 429, LIMITED, True, 26.0, "requests_kept"),
    Case("gemini_chat/error_429_per_day.json", 429, SPENT, False, 26.0, "requests_kept"),
    Case("groq_chat/error_413_tpm.json", 413, REFUSED, False, None, "requests_kept"),
    Case("groq_chat/error_413_tpm.json", 429, REFUSED, False, None, "requests_kept"),
    Case("groq_chat/error_429.json", 429, LIMITED, True, 3.5, "requests_kept"),
    Case("groq_chat/error_429.json", 429, LIMITED, True, 2.0, "requests_kept", GROQ),
    Case("groq_chat/error_498.json", 498, DOWN, True, None, "requests_kept"),
    Case("groq_chat/stream_error.sse", 200, DOWN, True, None, "kept"),
    Case("inferneo_chat/error_400.json", 400, REFUSED, False, None, "requests_kept"),
    Case("inferneo_chat/error_404.json", 404, REFUSED, False, None, "requests_kept"),
    Case("inferneo_chat/error_422.json", 422, REFUSED, False, None, "requests_kept"),
    Case("inferneo_chat/error_429_documented.json", 429, LIMITED, True, None, "requests_kept"),
    Case("inferneo_chat/error_501.json", 501, REFUSED, False, None, "kept"),
    Case("inferneo_completions/error_400.json", 400, REFUSED, False, None, "requests_kept"),
    Case("nvidia_nim_chat/error_401.json", 401, REFUSED, False, None, "requests_kept"),
    Case("nvidia_nim_chat/error_422.json", 422, REFUSED, False, None, "requests_kept"),
    Case("nvidia_nim_chat/error_429.json", 429, LIMITED, True, None, "requests_kept"),
    Case("ollama_compat/error_404.json", 404, REFUSED, False, None, "requests_kept"),
    Case("ollama_native/error_404.json", 404, REFUSED, False, None, "requests_kept"),
    Case("ollama_native/stream_error.ndjson", 200, DOWN, True, None, "kept"),
    Case("openai_chat/error_400_context_length.json", 400, REFUSED, False, None, "requests_kept"),
    Case("openai_chat/error_400_max_tokens.json", 400, REFUSED, False, None, "requests_kept"),
    Case("openai_chat/error_400_temperature.json", 400, REFUSED, False, None, "requests_kept"),
    Case("openai_chat/error_401.json", 401, REFUSED, False, None, "requests_kept"),
    Case("openai_chat/error_429_credit.json", 429, SPENT, False, None, "requests_kept"),
    Case("openai_chat/error_429_quota.json", 429, SPENT, False, None, "requests_kept"),
    Case("openai_chat/error_429_rate.json", 429, LIMITED, True, 2.0, "requests_kept"),
    Case("openai_chat/error_429_rate.json", 429, LIMITED, True, 2.0, "requests_kept", OPENAI),
    Case("openai_chat/error_429_slow_down.json", 429, LIMITED, True, None, "requests_kept"),
    Case("openai_chat/error_429_slow_down.json", 429, LIMITED, True, 360.0, "requests_kept", {**OPENAI, "x-ratelimit-remaining-tokens": "0"}),
    Case("openai_chat/error_503.json", 503, DOWN, True, None, "kept"),
    Case("openai_chat/error_503.json", 503, DOWN, True, 1.5, "kept", {"retry-after-ms": "1500", "retry-after": "2"}),
    Case("openai_chat/stream_error_in_200.sse", 200, DOWN, True, None, "kept"),
    Case("openai_responses/response_failed_http200.json", 200, LIMITED, True, None, "kept"),
    Case("openai_responses/stream_error_event.sse", 200, DOWN, True, None, "kept"),
    Case("openai_responses/stream_failed.sse", 200, LIMITED, True, None, "kept"),
    Case("openrouter_chat/error_402.json", 402, SPENT, False, None, "requests_kept"),
    Case("openrouter_chat/error_429.json", 429, LIMITED, True, None, "requests_kept"),  # the reset is past
    Case("openrouter_chat/error_429.json", 429, LIMITED, True, 60.0, "requests_kept", {"date": "Tue, 28 Apr 2026 23:59:00 GMT"}),
    Case("openrouter_chat/error_429_upstream.json", 429, LIMITED, True, None, "requests_kept"),
    Case("openrouter_chat/response_error_in_200.json", 200, DOWN, True, None, "kept"),
    Case("openrouter_chat/stream_error_in_200.sse", 200, DOWN, True, None, "kept"),
    Case("perplexity_chat/error_401.json", 401, REFUSED, False, None, "requests_kept"),
    Case("perplexity_chat/error_429.json", 429, LIMITED, True, None, "requests_kept"),
    Case("tavily_search/error_400.json", 400, REFUSED, False, None, "requests_kept"),
    Case("tavily_search/error_401.json", 401, REFUSED, False, None, "requests_kept"),
    Case("tavily_search/error_429.json", 429, LIMITED, True, None, "requests_kept"),
    Case("tavily_search/error_429_keyless.json", 429, LIMITED, True, 3600.0, "requests_kept"),
    Case("tavily_search/error_432.json", 432, SPENT, False, None, "requests_kept"),
    Case("tavily_search/error_433.json", 433, SPENT, False, None, "requests_kept"),
]  # fmt: skip


def reading_of(case: Case, wire: WireFormat | None = None) -> Reading:
    wire = wire or OWN.get(case.file.partition("/")[0], GENERIC)
    return wire.read(case.status, case.headers, fixture(case.file), now_s=NOW_S)


def advice_of_a_stream(name: str) -> Advice:
    """What the last event of a stream that broke off means, which is where its error stands."""
    reader = LineReader(cap_bytes=1 << 20) if name.endswith(".ndjson") else EventReader(cap_bytes=1 << 20)
    events = [*reader.feed(fixture(name)), *reader.end()]
    written = [event.data if isinstance(event, Named) else event for event in events]
    told = mapping(json.loads(next(data for data in reversed(written) if data != b"[DONE]")))
    return advise(200, {}, error_in(told.get("response", told), failed=True), NOW_S)


def test_every_recorded_failure_has_a_row() -> None:
    files = {str(path.relative_to(FIXTURES)) for path in FIXTURES.glob("*/*")}
    assert {case.file for case in CASES} == {name for name in files if re.search("error|failed|overloaded", name)}


def without_dimension(advice: Advice) -> Advice:
    """The advice without what there were too many of, which has a table of its own."""
    return msgspec.structs.replace(advice, refused="")


@pytest.mark.parametrize(
    ("file", "refused"),
    [
        ("openai_chat/error_429_rate.json", "tokens"),
        ("groq_chat/error_429.json", "tokens"),
        ("gemini_chat/error_429_array.json", "requests"),
        ("gemini_chat/error_429_object.json", "requests"),
        ("openai_chat/error_429_slow_down.json", ""),
        ("nvidia_nim_chat/error_429.json", ""),
    ],
)
def test_what_there_were_too_many_of(file: str, refused: str) -> None:
    assert GENERIC.read(429, {}, fixture(file), now_s=NOW_S).advice.refused == refused


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}-{case.status}")
def test_what_a_recorded_failure_means(case: Case) -> None:
    if case.file.endswith(".json"):
        reading = reading_of(case)
        advice = reading.advice
        error = error_of(reading.fault) if reading.fault else None
        assert type(error).__name__ == case.kind
        assert getattr(error, "retry_after_s", None) == case.wait_s
    else:
        advice = advice_of_a_stream(case.file)
    limited = case.kind == LIMITED
    wait_us = None if case.wait_s is None else round(case.wait_s * 1e6)
    assert without_dimension(advice) == Advice(
        "retry" if case.again else "failed", case.charge, limited, wait_us, limited and case.again, case.kind
    )


@pytest.mark.parametrize("wire", [GENERIC, *SEARCHING.values()], ids=lambda wire: wire.name)
def test_the_class_does_not_depend_on_the_format(wire: WireFormat) -> None:
    for case in CASES:
        of_firecrawls_own = case.status == 200 and case.file.startswith("firecrawl")
        if case.file.endswith(".json") and not of_firecrawls_own and not case.file.startswith("aixplain"):
            assert reading_of(case, wire).advice == reading_of(case).advice


# --- never --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 403, 429])
@pytest.mark.parametrize(
    "error",
    [
        {"code": "insufficient_quota"},
        {"type": "insufficient_quota", "code": None},
        {"type": "insufficient_quota", "code": "rate_limit_exceeded"},
        {"code": "credit_balance_exhausted"},
        {"code": "organization_spend_limit_exceeded"},
        {"code": "project_spend_limit_exceeded"},
        {"code": "organization_usage_limit_exceeded"},
        {"code": "billing_hard_limit_reached"},
        {"code": "billing_not_active"},
        {"type": "billing_error"},
        {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}},
        {"type": "rate_limit_error", "details": {"error_code": "contract_spend_limit_reached"}},
        {"type": "billing_error", "details": {"error_code": "linked_organization_spend_limit_reached"}},
        {"status": "RESOURCE_EXHAUSTED", "details": [{"@type": "x/google.rpc.QuotaFailure", "violations": [{"quotaId": "TokensPerDayPerProject"}]}]},
    ],
)  # fmt: skip
def test_a_quota_that_is_used_up_is_never_waited_for(status: int, error: dict[str, object]) -> None:
    for body in ({"error": error}, [{"error": error}]):
        raw = json.dumps(body).encode()
        reading = GENERIC.read(status, {"retry-after": "3", "x-should-retry": "true"}, raw, now_s=NOW_S)
        assert (reading.advice.kind, reading.advice.verdict, reading.advice.barrier) == (SPENT, "failed", False)


@pytest.mark.parametrize("status", [402, 432, 433])
def test_a_status_for_payment_needs_no_body(status: int) -> None:
    assert GENERIC.read(status, {"retry-after": "3"}, b"", now_s=NOW_S).advice.kind == SPENT


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (429, "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 40000."),
        (429, "Limit 8000, Used 0, Requested 13701, please reduce your message size"),
        (413, "Request too large for model"),
        (413, ""),
    ],
)  # fmt: skip
def test_one_request_over_the_minutes_budget_never_fits(status: int, sentence: str) -> None:
    raw = json.dumps({"error": {"message": sentence, "type": "tokens", "code": "rate_limit_exceeded"}}).encode()
    for told in ({}, {"retry-after": "5"}, {"x-should-retry": "true"}):
        advice = GENERIC.read(status, told, raw, now_s=NOW_S).advice
        assert (advice.kind, advice.verdict, advice.barrier) == (REFUSED, "failed", False)


# --- again --------------------------------------------------------------------------------------------------------------

CLOUDFLARE = b"<!DOCTYPE html>\n<html><head><title>api.example | 520: Web server is returning an unknown error</title></head></html>"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 521, 522, 523, 524, 529])
@pytest.mark.parametrize("body", [CLOUDFLARE, b"", b"upstream connect error", b"\xff\x00"])
def test_a_failure_of_theirs_is_tried_again_whatever_its_body(status: int, body: bytes) -> None:
    for wire in (GENERIC, *SEARCHING.values()):
        reading = wire.read(status, {}, body, now_s=NOW_S)
        assert reading.advice == Advice("retry", "kept", kind=DOWN)
        assert reading.fault is not None
        assert (reading.fault.status, len(reading.fault.message) < 500) == (status, True)


@pytest.mark.parametrize("status", [408, 409, 425, 498])
def test_a_refusal_that_passes_is_tried_again_without_a_barrier(status: int) -> None:
    assert GENERIC.read(status, {}, b"", now_s=NOW_S).advice == Advice("retry", "requests_kept", kind=DOWN)


def test_x_should_retry_is_obeyed_but_does_not_open_a_barrier() -> None:
    no = {"x-should-retry": "false", "retry-after": "3"}
    limited = GENERIC.read(429, no, fixture("openai_chat/error_429_rate.json"), now_s=NOW_S).advice
    assert without_dimension(limited) == Advice("failed", "requests_kept", True, 3_000_000, False, LIMITED)
    assert GENERIC.read(503, no, fixture("openai_chat/error_503.json"), now_s=NOW_S).advice.verdict == "failed"
    yes = {"x-should-retry": "true"}
    assert GENERIC.read(404, yes, fixture("ollama_compat/error_404.json"), now_s=NOW_S).advice.verdict == "retry"


# --- later --------------------------------------------------------------------------------------------------------------

DATE = "Fri, 20 Nov 2026 20:00:00 GMT"
RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "45.837906927s"}
EMPTY = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}


@pytest.mark.parametrize(
    ("headers", "error", "wait_us"),
    [
        ({"retry-after": "2"}, {}, 2_000_000),
        ({"retry-after": "1.25"}, {}, 1_250_000),
        ({"retry-after": "0"}, {}, 0),
        ({"retry-after": "-1"}, {}, None),
        ({"retry-after": "soon"}, {}, None),
        ({"retry-after": "999999"}, {}, 86_400_000_000),
        ({"retry-after": "Fri, 20 Nov 2026 20:00:37 GMT"}, {}, 37_000_000),
        ({"retry-after": "Friday, 20-Nov-26 20:00:37 GMT"}, {}, 37_000_000),
        ({"retry-after": "Fri, 20 Nov 2026 19:59:00 GMT"}, {}, None),
        ({"retry-after-ms": "350.5", "retry-after": "1"}, {}, 350_500),
        ({**EMPTY, "x-ratelimit-reset-requests": "6m0s"}, {}, 360_000_000),
        ({**EMPTY, "x-ratelimit-reset-requests": "12ms"}, {}, 12_000),
        ({**EMPTY, "x-ratelimit-reset-requests": "2m59.56s"}, {}, 179_560_000),
        ({**EMPTY, "x-ratelimit-reset-requests": "2026-11-20T20:00:10Z"}, {}, 10_000_000),
        ({**EMPTY, "x-ratelimit-reset-requests": "1795204810000"}, {}, 10_000_000),
        ({"x-ratelimit-remaining-project-tokens": "0", "x-ratelimit-reset-project-tokens": "3s"}, {}, 3_000_000),
        ({**EMPTY, "x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"}, {}, None),
        ({"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "2026-11-20T20:00:10Z"}, {}, 10_000_000),
        ({"anthropic-ratelimit-output-tokens-remaining": "0", "anthropic-ratelimit-output-tokens-reset": "2026-11-20T20:00:10+00:00"}, {}, 10_000_000),
        ({}, {"details": [RETRY_INFO]}, 45_837_907),
        ({"retry-after": "3"}, {"details": [RETRY_INFO]}, 3_000_000),
        ({}, {"message": "Please retry in 26.660853464s."}, 26_660_854),
        ({}, {"message": "please retry after 37s, resets at Fri Nov 20 2026"}, 37_000_000),
        ({}, {"message": "Please try again in 7m12s."}, 432_000_000),
        ({}, {"message": "try again in 250ms"}, 250_000),
        ({}, {"retry_after_seconds": 3600}, 3_600_000_000),
        ({}, {"retry_after_seconds": 0.5}, 500_000),
        ({}, {"retry_after_seconds": "12"}, 12_000_000),
        ({}, {"metadata": {"headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1795204860000"}}}, 60_000_000),
        ({}, {"metadata": {"headers": {"Retry-After": 9}}}, 9_000_000),
    ],
)  # fmt: skip
def test_how_long_a_provider_wants_us_to_wait(
    headers: dict[str, str], error: dict[str, object], wait_us: int | None
) -> None:
    raw = json.dumps({"error": {"code": "rate_limit_exceeded", **error}}).encode()
    reading = GENERIC.read(429, {"date": DATE, **headers}, raw, now_s=NOW_S)
    assert reading.advice == Advice("retry", "requests_kept", True, wait_us, True, LIMITED)


@pytest.mark.parametrize("bucket", ["requests", "tokens", "input-tokens", "output-tokens"])
def test_anthropics_buckets_are_told_apart(bucket: str) -> None:
    names = [f"anthropic-ratelimit-{name}" for name in ("requests", "tokens", "input-tokens", "output-tokens")]
    headers = {f"{name}-remaining": "5" for name in names} | {f"{name}-reset": "2026-11-20T21:00:00Z" for name in names}
    headers |= {"date": DATE, f"anthropic-ratelimit-{bucket}-remaining": "0"}
    headers |= {f"anthropic-ratelimit-{bucket}-reset": "2026-11-20T20:00:08Z"}
    assert GENERIC.read(429, headers, b"", now_s=NOW_S).advice.hint_us == 8_000_000
