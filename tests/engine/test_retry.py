"""What each answer means for the call, and every way a provider has of saying how long to wait.

The verdicts are a table of status and error; the hints a table of headers, bodies and sentences. Nothing a provider
writes may raise, and no wait may come out shorter than he said.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.retry import MAX_HINT_S, Advice, ErrorView, advise, duration_s, hint_of, instant_s

NOW_S = 1_790_000_000.0
DAY_US = 86_400_000_000


def hint(headers: dict[str, str], view: ErrorView | None = None, *, exhausted: bool = True) -> int | None:
    return hint_of(headers, view or ErrorView(), NOW_S, exhausted=exhausted)


def http_date(after_s: float) -> str:
    return (datetime.fromtimestamp(NOW_S, UTC) + timedelta(seconds=after_s)).strftime("%a, %d %b %Y %H:%M:%S GMT")


# --- verdicts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (200, None, Advice("done", "kept")),
        (201, None, Advice("done", "kept")),
        (302, ErrorView(), Advice("failed", "requests_kept", kind="Rejected")),
        (400, ErrorView(), Advice("failed", "requests_kept", kind="Rejected")),
        (401, ErrorView(), Advice("failed", "requests_kept", kind="Rejected")),
        (402, ErrorView(), Advice("failed", "requests_kept", kind="QuotaExhausted")),
        (404, ErrorView(), Advice("failed", "requests_kept", kind="Rejected")),
        (413, ErrorView(code="rate_limit_exceeded"), Advice("failed", "requests_kept", kind="Rejected")),
        (422, ErrorView(), Advice("failed", "requests_kept", kind="Rejected")),
        (429, ErrorView(), Advice("retry", "requests_kept", True, None, True, "RateLimited")),
        (429, ErrorView(code="slow_down"), Advice("retry", "requests_kept", True, None, True, "RateLimited")),
    ]
    + [
        (status, ErrorView(), Advice("retry", "requests_kept", kind="ProviderUnavailable"))
        for status in (408, 409, 425, 498)
    ]
    + [
        (status, ErrorView(), Advice("retry", "kept", kind="ProviderUnavailable"))
        for status in (500, 502, 503, 504, 520, 524, 529)
    ],
)
def test_verdict_of_a_status(status: int, error: ErrorView | None, expected: Advice) -> None:
    assert advise(status, {}, error, NOW_S) == expected


@pytest.mark.parametrize(
    "error",
    [
        ErrorView(code="insufficient_quota"),
        ErrorView(type="insufficient_quota", code="credit_balance_exhausted"),
        ErrorView(type="insufficient_quota"),
        ErrorView(code="organization_spend_limit_exceeded"),
        ErrorView(code="billing_hard_limit_reached"),
        ErrorView(code="RESOURCE_EXHAUSTED", quota_ids=("GenerateRequestsPerDayPerProjectPerModel-FreeTier",)),
    ],
)
def test_a_quota_that_is_used_up_is_never_waited_for(error: ErrorView) -> None:
    advice = advise(429, {"x-should-retry": "true"}, error, NOW_S)
    assert advice == Advice("failed", "requests_kept", kind="QuotaExhausted")


@pytest.mark.parametrize(
    "sentence",
    [
        "Request too large for gpt-4o",
        "tokens per minute (TPM): Limit 8000, Requested 13701, please reduce",
        "Limit 8000, Used 7000, Requested 8001. Please try again in 2s.",
    ],
)
def test_one_request_over_the_minutes_budget_is_never_tried_again(sentence: str) -> None:
    for told in ({}, {"x-should-retry": "true"}):
        advice = advise(429, told, ErrorView(message=sentence, code="rate_limit_exceeded"), NOW_S)
        assert (advice.verdict, advice.kind, advice.barrier) == ("failed", "Rejected", False)


def test_a_request_within_the_limit_is_only_too_early() -> None:
    advice = advise(429, {}, ErrorView(message="Limit 8000, Used 7000, Requested 8000. try again in 2s."), NOW_S)
    assert (advice.verdict, advice.hint_us) == ("retry", 2_000_000)


def test_x_should_retry_is_obeyed_both_ways() -> None:
    no = advise(429, {"x-should-retry": "false", "retry-after": "3"}, ErrorView(), NOW_S)
    assert no == Advice("failed", "requests_kept", True, 3_000_000, False, "RateLimited")
    assert advise(503, {"x-should-retry": " False"}, ErrorView(), NOW_S).verdict == "failed"
    assert advise(400, {"x-should-retry": "true"}, ErrorView(), NOW_S).verdict == "retry"
    assert advise(400, {"x-should-retry": "maybe"}, ErrorView(), NOW_S).verdict == "failed"


@pytest.mark.parametrize(
    ("error", "kind", "verdict"),
    [
        (ErrorView(status=502), "ProviderUnavailable", "retry"),
        (ErrorView(status=429), "RateLimited", "retry"),
        (ErrorView(status=400), "Rejected", "failed"),
        (ErrorView(code="rate_limit_exceeded"), "RateLimited", "retry"),
        (ErrorView(type="insufficient_quota"), "QuotaExhausted", "failed"),
        (ErrorView(type="invalid_request_error"), "Rejected", "failed"),
        (ErrorView(message="boom"), "ProviderUnavailable", "retry"),
        (ErrorView(status=200, message="boom"), "ProviderUnavailable", "retry"),
    ],
)
def test_an_error_inside_a_success_is_judged_by_the_body_and_charged_as_a_success(
    error: ErrorView, kind: str, verdict: str
) -> None:
    advice = advise(200, {}, error, NOW_S)
    assert (advice.kind, advice.verdict, advice.charge) == (kind, verdict, "kept")
    assert advise(200, {}, error, NOW_S, charge_usage=True).charge == "usage"


def test_only_a_success_is_charged_by_its_usage() -> None:
    assert advise(200, {}, None, NOW_S, charge_usage=True).charge == "usage"
    assert advise(503, {}, ErrorView(), NOW_S, charge_usage=True).charge == "kept"
    assert advise(400, {}, ErrorView(), NOW_S, charge_usage=True).charge == "requests_kept"


# --- hints --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected_us"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2_000_000),
        ({"retry-after": " 2.5 "}, 2_500_000),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "1m30s"}, 90_000_000),
        ({"retry-after": "999999"}, DAY_US),
        ({"retry-after": str(int(NOW_S) + 30)}, 30_000_000),
        ({"retry-after-ms": "1500"}, 1_500_000),
        ({"retry-after-ms": "12.5", "retry-after": "9"}, 12_500),
        ({"retry-after-ms": "0", "retry-after": "9"}, 9_000_000),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9_000_000),
        ({"retry-after": http_date(20)}, 20_000_000),
        ({"retry-after": http_date(-20)}, None),
        ({"retry-after": http_date(20), "date": http_date(15)}, 5_000_000),
        ({"retry-after": http_date(20), "date": "garbage"}, 20_000_000),
        ({"retry-after": "Mon, 99 Foo 2026 99:99:99 GMT"}, None),
        ({"retry-after": "Fri, 31 Feb 2026 10:00:00 GMT"}, None),
    ],
)
def test_hint_of_the_retry_after_headers(headers: dict[str, str], expected_us: int | None) -> None:
    assert hint(headers) == expected_us
    assert hint(headers, exhausted=False) == expected_us


@pytest.mark.parametrize(
    ("view", "expected_us"),
    [
        (ErrorView(retry_delay="26s", message="Please retry in 26.660853464s."), 26_000_000),
        (ErrorView(retry_delay="45.837906927s"), 45_837_907),
        (ErrorView(retry_delay="?", message="Please retry in 26.660853464s."), 26_660_854),
        (ErrorView(message="Please try again in 2s."), 2_000_000),
        (ErrorView(message="Please try again in 7m12.5s. Visit"), 432_500_000),
        (ErrorView(message="try again in 120ms."), 120_000),
        (ErrorView(message="Please RETRY after 37S"), 37_000_000),
        (ErrorView(message="try again in 20 seconds"), 20_000_000),
        (ErrorView(message="try again in 2 minutes"), 120_000_000),
        (ErrorView(message="try again in 0s"), None),
        (ErrorView(message="try again later"), None),
        (ErrorView(headers=(("retry-after", "4"),)), 4_000_000),
        (ErrorView(headers=(("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1790000040000"))), 40_000_000),
    ],
)
def test_hint_of_the_body(view: ErrorView, expected_us: int | None) -> None:
    assert hint({}, view) == expected_us


def test_the_longer_of_two_resets_counts() -> None:
    view = ErrorView(headers=(("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "40")))
    for own_s, longer_us in ((50, 50_000_000), (30, 40_000_000)):
        headers = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": f"{own_s}s"}
        assert hint(headers, view) == longer_us


def test_a_header_beats_the_body_and_the_body_beats_a_reset() -> None:
    reset = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}
    body = ErrorView(message="try again in 3s")
    assert hint({"retry-after": "2", **reset}, body) == 2_000_000
    assert hint(reset, body) == 3_000_000
    assert hint(reset) == 360_000_000


@pytest.mark.parametrize(
    ("headers", "expected_us"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "12ms"}, 12_000),
        ({"x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "6m0s"}, None),
        ({"x-ratelimit-reset-tokens": "6m0s"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "5",
                "x-ratelimit-reset-requests": "2m59.56s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "7.66s",
            },
            7_660_000,
        ),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "4s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "3s",
            },
            4_000_000,
        ),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1790000010"}, 10_000_000),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1790000010500"}, 10_500_000),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}, 30_000_000),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2026-09-21T14:13:25Z"}, 5_000_000),
        (
            {
                "x-ratelimit-limit-tokens": "-1",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "60",
            },
            None,
        ),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1780000000000"}, None),
    ],
)
def test_a_reset_counts_only_for_the_bucket_that_is_empty(headers: dict[str, str], expected_us: int | None) -> None:
    assert hint(headers) == expected_us
    assert hint(headers, exhausted=False) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360),
        ("12ms", 0.012),
        ("23h18m29.144s", 83909.144),
        ("1d2h", 93600),
        ("500us", 0.0005),
        ("5µs", 5e-06),
        ("", None),
        ("s", None),
        ("5", None),
        ("1m 2s", None),
        ("-3s", None),
        ("3s!", None),
        ("1e3s", None),
    ],
)
def test_go_durations(text: str, seconds: float | None) -> None:
    assert duration_s(text) == (None if seconds is None else pytest.approx(seconds, rel=1e-12))


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "1994-11-06T08:49:37Z",
        "1994-11-06T09:49:37+01:00",
    ],
)
def test_dates_in_every_current_spelling(text: str) -> None:
    assert instant_s(text) == 784_111_777


WEIRD = st.text(max_size=40) | st.sampled_from(
    [
        "0",
        "-1",
        "1e999",
        "9" * 40,
        "1.5",
        "5m",
        "Sun, 06 Nov 9999 08:49:37 GMT",
        "0001-01-01T00:00:00+23:59",
        "2026-01-01T00:00:00",
    ]
)
NAMES = st.sampled_from(
    [
        "retry-after",
        "retry-after-ms",
        "date",
        "x-should-retry",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
        "x-ratelimit-limit-tokens",
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
    ]
)
VIEWS = st.builds(
    ErrorView,
    message=WEIRD | st.builds("Please try again in {}".format, WEIRD),
    code=WEIRD,
    type=WEIRD,
    status=st.integers(),
    retry_delay=WEIRD,
    quota_ids=st.lists(WEIRD, max_size=2).map(tuple),
    headers=st.lists(st.tuples(NAMES, WEIRD), max_size=4).map(tuple),
)


@given(st.integers(-10, 1000), st.dictionaries(NAMES, WEIRD), st.none() | VIEWS, st.floats(0, 2e10), st.booleans())
def test_advice_is_given_on_anything(
    status: int, headers: dict[str, str], view: ErrorView | None, now_s: float, known: bool
) -> None:
    advice = advise(status, headers, view, now_s, charge_usage=known)
    assert advice.hint_us is None or 0 <= advice.hint_us <= MAX_HINT_S * 1_000_000
    assert (advice.verdict == "done") == (advice.kind == "")
    assert advice.barrier == (advice.kind == "RateLimited")
    assert advice.exempt == (advice.barrier and advice.verdict == "retry")
    if advice.kind == "QuotaExhausted":
        assert advice.verdict == "failed"


@given(st.decimals(min_value="0.000001", max_value=86_000, places=6))
def test_a_wait_is_never_shorter_than_the_provider_said(seconds: object) -> None:
    assert hint({"retry-after": f"{seconds:f}"}) == int(seconds * 1_000_000)  # type: ignore[operator, call-overload]
