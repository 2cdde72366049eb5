"""Reading an error: whose fault it is, whether another attempt is worth while, and what the caller is told.

Real error bodies of every provider, bodies of every other shape seen, errors inside a success, and successes that are
no answers. Nothing of a request's headers, no escape and no flood of text may get into a message.
"""

# ruff: noqa: E501  # a table reads best with one case on a line

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_answers import FORMATS, fixture, message, read

from actors.messages import decode, encode
from engine.errors import error_of
from engine.providers.wire import Usage


@pytest.mark.parametrize(
    ("provider", "status", "name", "kind", "verdict", "hint_us", "code", "says"),
    [
        ("openai", 400, "openai_chat/error_400_context_length.json", "Rejected", "failed", None, "context_length_exceeded", "maximum context"),
        ("openai", 400, "openai_chat/error_400_max_tokens.json", "Rejected", "failed", None, "unsupported_parameter", "max_completion"),
        ("openai", 400, "openai_chat/error_400_temperature.json", "Rejected", "failed", None, "unsupported_value", "temperature"),
        ("openai", 401, "openai_chat/error_401.json", "Rejected", "failed", None, "invalid_api_key", "Incorrect API key"),
        ("openai", 429, "openai_chat/error_429_rate.json", "RateLimited", "retry", 2_000_000, "rate_limit_exceeded", "Limit 30000"),
        ("openai", 429, "openai_chat/error_429_slow_down.json", "RateLimited", "retry", None, "slow_down", "Slow down"),
        ("openai", 429, "openai_chat/error_429_quota.json", "QuotaExhausted", "failed", None, "insufficient_quota", "billing"),
        ("openai", 429, "openai_chat/error_429_credit.json", "QuotaExhausted", "failed", None, "credit_balance_exhausted", "prepaid"),
        ("openai", 503, "openai_chat/error_503.json", "ProviderUnavailable", "retry", None, None, "overloaded"),
        ("groq", 413, "groq_chat/error_413_tpm.json", "Rejected", "failed", None, "rate_limit_exceeded", "Requested 13701"),
        ("groq", 429, "groq_chat/error_413_tpm.json", "Rejected", "failed", None, "rate_limit_exceeded", "Requested 13701"),
        ("groq", 429, "groq_chat/error_429.json", "RateLimited", "retry", 3_500_000, "rate_limit_exceeded", "Used 11500"),
        ("groq", 498, "groq_chat/error_498.json", "ProviderUnavailable", "retry", None, "capacity_exceeded", "Flex"),
        ("deepseek", 402, "deepseek_chat/error_402.json", "QuotaExhausted", "failed", None, "invalid_request_error", "Insufficient Balance"),
        ("deepseek", 429, "deepseek_chat/error_429.json", "RateLimited", "retry", None, "rate_limit_exceeded", "Concurrency"),
        ("perplexity", 401, "perplexity_chat/error_401.json", "Rejected", "failed", None, "invalid_api_key", "Invalid API key"),
        ("perplexity", 429, "perplexity_chat/error_429.json", "RateLimited", "retry", None, "request_rate_limit_exceeded", "later"),
        ("openrouter", 402, "openrouter_chat/error_402.json", "QuotaExhausted", "failed", None, None, "can only afford"),
        ("openrouter", 429, "openrouter_chat/error_429.json", "RateLimited", "retry", None, None, "free-models-per-day"),
        ("openrouter", 429, "openrouter_chat/error_429_upstream.json", "RateLimited", "retry", None, None, "rate-limited upstream"),
        ("openrouter", 200, "openrouter_chat/response_error_in_200.json", "ProviderUnavailable", "retry", None, None, "Upstream error"),
        ("nvidia_nim", 401, "nvidia_nim_chat/error_401.json", "Rejected", "failed", None, None, "Authentication failed"),
        ("nvidia_nim", 422, "nvidia_nim_chat/error_422.json", "Rejected", "failed", None, "invalid_request_error", "..."),
        ("nvidia_nim", 429, "nvidia_nim_chat/error_429.json", "RateLimited", "retry", None, None, "Too Many Requests"),
        ("gemini", 400, "gemini_chat/error_400_api_key.json", "Rejected", "failed", None, "INVALID_ARGUMENT", "not valid"),
        ("gemini", 400, "gemini_chat/error_400_unknown_field.json", "Rejected", "failed", None, "INVALID_ARGUMENT", "Unknown name"),
        ("gemini", 429, "gemini_chat/error_429_array.json", "RateLimited", "retry", 26_000_000, "RESOURCE_EXHAUSTED", "quota"),
        ("gemini", 429, "gemini_chat/error_429_object.json", "RateLimited", "retry", 26_000_000, "RESOURCE_EXHAUSTED", "quota"),
        ("gemini", 429, "gemini_chat/error_429_per_day.json", "QuotaExhausted", "failed", 26_000_000, "RESOURCE_EXHAUSTED", "quota"),
        ("ollama", 404, "ollama_compat/error_404.json", "Rejected", "failed", None, "not_found_error", "try pulling it"),
    ],
)  # fmt: skip
def test_the_errors_of_every_provider(
    provider: str, status: int, name: str, kind: str, verdict: str, hint_us: int | None, code: str | None, says: str
) -> None:
    reading = read(fixture(name), status, {"x-request-id": "req_9"}, FORMATS[provider])
    assert reading.fault is not None
    assert (reading.fault.kind, reading.advice.verdict, reading.advice.hint_us) == (kind, verdict, hint_us)
    error: Any = error_of(reading.fault)
    assert (error.status, error.request_id) == (status, "req_9")
    assert error.retry_after_s == (None if hint_us is None else hint_us / 1e6)
    assert says in error.message
    assert code is None or error.code == code


def test_openrouters_reset_in_the_body_is_read_by_the_clock_of_the_answer() -> None:
    late = {"date": "Tue, 28 Apr 2026 23:59:00 GMT"}
    reading = read(fixture("openrouter_chat/error_429.json"), 429, late, FORMATS["openrouter"])
    assert reading.advice.hint_us == 60_000_000


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"error": "model not found"}, "model not found"),
        ({"error": {"message": None, "code": 3}}, '{"error": {"message": null, "code": 3}}'),
        ({"error": [{"message": "in a list"}]}, "in a list"),
        ({"error": {"error": {"message": "twice"}}}, "twice"),
        ({"error": 7}, "7"),
        ({"detail": "no such function"}, "no such function"),
        ({"detail": [{"msg": "field required", "loc": ["body"]}]}, "field required"),
        ({"title": "Too Many"}, "Too Many"),
        ({"message": "plain", "object": "error"}, "plain"),
        ([{"error": {"message": "in an array"}}], "in an array"),
        ([], "[]"),
        ("just a text", "just a text"),
        (b"<html>\n<h1>502</h1>  cloudflare</html>", "<html> <h1>502</h1> cloudflare</html>"),
        (b"\xff\xfe bytes", "bytes"),
        (b"", "(an empty body)"),
        (None, "null"),
    ],
)
def test_an_error_body_of_any_shape_gives_its_sentence(body: object, says: str) -> None:
    for status in (400, 429, 500):
        fault = read(body, status).fault
        assert fault is not None
        assert fault.message.endswith(says)
        assert fault.status == status


def test_a_huge_body_leaves_a_small_message_and_escapes_do_not_reach_a_terminal() -> None:
    for body in (b"<html>" + b"x" * 5_000_000, {"error": {"message": "y" * 5_000_000, "code": "z" * 9999}}):
        fault = read(body, 500).fault
        assert fault is not None
        assert len(fault.message) < 2_500
    fault = read({"error": {"message": "a\x1b[31mred\nline\u2028two\ud83d", "code": "\x00"}}, 400).fault
    assert fault is not None
    assert fault.message.endswith("It says: a [31mred line two�")
    assert decode.decode(encode(fault)) == fault


def test_a_provider_that_quotes_the_request_does_not_put_the_key_into_the_message() -> None:
    fault = read(
        {"error": {"message": "Incorrect key sk-proj-abc123def456. Authorization: Bearer tok123456789"}}, 401
    ).fault
    assert fault is not None
    assert "abc123def456" not in fault.message
    assert "tok123456789" not in fault.message


def test_a_redirect_says_to_check_the_address() -> None:
    fault = read(b"", 307, {"location": "https://elsewhere.example"}).fault
    assert fault is not None
    assert fault.kind == "Rejected"
    assert "base_url" in fault.message


@pytest.mark.parametrize(
    ("body", "kind", "verdict"),
    [
        ({"error": {"code": 429, "message": "m"}, "choices": []}, "RateLimited", "retry"),
        ({"error": {"code": 400, "message": "m"}}, "Rejected", "failed"),
        ({"error": "stream failed"}, "ProviderUnavailable", "retry"),
        ({"error": {"type": "insufficient_quota"}}, "QuotaExhausted", "failed"),
        ({"x_groq": {"error": "over capacity"}}, "ProviderUnavailable", "retry"),
        ({"choices": [{"error": {"code": 502, "message": "m"}, "finish_reason": "error"}]}, "ProviderUnavailable", "retry"),
        ([{"error": {"code": 503, "message": "m"}}], "ProviderUnavailable", "retry"),
    ],
)  # fmt: skip
def test_an_error_inside_a_success_is_an_error(body: object, kind: str, verdict: str) -> None:
    reading = read(body)
    assert reading.fault is not None
    assert (reading.fault.kind, reading.advice.verdict, reading.advice.charge) == (kind, verdict, "kept")


def test_an_error_inside_a_success_with_usage_is_charged_by_it() -> None:
    body = {"error": {"code": 502}, "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 6}}
    reading = read(body)
    assert (reading.usage, reading.advice.charge) == (Usage(5, 6, 11), "usage")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "(an empty body)"),
        (b"  \n", "(an empty body)"),
        (b"<html>hello</html>", "<html>hello</html>"),
        (b'{"choices": [{"message"', '{"choices": [{"message"'),
        (b"null", "null"),
        (b"[]", "[]"),
        (b"3", "3"),
        (b"{}", "{}"),
        (b'{"choices": "x"}', '{"choices": "x"}'),
        (b'{"detail": "queued"}', "queued"),
        (b"[" * 100_000, "["),
    ],
)
def test_a_success_that_is_no_answer_is_kept_charged_and_not_repeated(body: bytes, says: str) -> None:
    reading = read(body, 200, {"retry-after": "5", "x-should-retry": "true", "x-request-id": "r1"})
    assert reading.fault is not None
    assert (reading.fault.kind, reading.fault.status, reading.fault.request_id) == ("MalformedReply", 200, "r1")
    assert says in reading.fault.message
    assert (reading.advice.verdict, reading.advice.charge, reading.advice.barrier) == ("failed", "kept", False)


# --- headers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"x-request-id": "a", "x-generation-id": "b"}, {}, "a"),
        ({"x-generation-id": "b"}, {}, "b"),
        ({"request-id": "c"}, {}, "c"),
        ({}, {"x_groq": {"id": "req_g"}}, "req_g"),
        ({}, {"request_id": "d"}, "d"),
        ({"x-request-id": ""}, {"x_groq": {"id": 7}}, ""),
    ],
)
def test_the_request_id_of_every_provider(headers: dict[str, str], body: dict[str, object], expected: str) -> None:
    fault = read({**body, "error": {"message": "m"}}, 500, headers).fault
    assert fault is not None
    assert fault.request_id == expected


def test_only_harmless_headers_are_kept_and_none_is_long() -> None:
    headers = {
        "date": "d", "x-request-id": "r", "retry-after": "1", "retry-after-ms": "2", "x-ratelimit-limit-tokens": "9" * 999,
        "set-cookie": "secret", "authorization": "secret", "cookie": "secret", "server": "x", "x-api-key": "secret",
    }  # fmt: skip
    kept = dict(read(message(content="x"), headers=headers).headers)
    assert kept.keys() == {"date", "x-request-id", "retry-after", "retry-after-ms", "x-ratelimit-limit-tokens"}
    assert max(map(len, kept.values())) <= 256
    many = {f"x-ratelimit-{number}": "1" for number in range(500)}
    assert len(read(message(content="x"), headers=many).headers) <= 40


@pytest.mark.parametrize("folder", ["openai_chat", "groq_chat"])
def test_the_limit_headers_of_a_success_are_kept_and_change_nothing(folder: str) -> None:
    headers = json.loads(fixture(f"{folder}/ratelimit_headers.json"))
    reading = read(fixture(f"{folder}/response.json"), headers=headers)
    assert reading.fault is None
    assert dict(reading.headers).items() >= {n: v for n, v in headers.items() if "ratelimit" in n}.items()
