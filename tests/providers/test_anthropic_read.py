"""Reading an answer of the Messages API: what is in it, what it cost, and what each of its errors means for the call."""

# ruff: noqa: E501  # a table reads best with one case on a line

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest
from anthropic_answers import NOW_S, OLD, fixture, loaded, message, read
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import error_of
from engine.providers.wire import Citation, Found, ToolCall, Usage

# --- what is in an answer ---------------------------------------------------------------------------------------------


def test_an_answer() -> None:
    view = OLD.view(OLD.decode(fixture("response.json")))
    assert (view.text, view.finish_reason, view.reasoning, view.tool_calls) == ("Hello!", "stop", None, ())
    assert (view.provider_id, view.model) == ("msg_01XFDUDYJgAACzvnptvVoYEL", "claude-opus-5-5")


def test_an_answer_with_thoughts_and_a_tool_call() -> None:
    view = OLD.view(OLD.decode(fixture("response_tool_use_thinking.json")))
    assert (view.text, view.reasoning, view.finish_reason) == ("Let me check.", "Need weather.", "tool_calls")
    assert view.tool_calls == (ToolCall("toolu_1", "get_weather", '{"city":"Paris"}'),)


def test_a_refusal_has_no_text() -> None:
    view = OLD.view(OLD.decode(fixture("response_refusal.json")))
    assert (view.text, view.finish_reason) == (None, "content_filter")


@pytest.mark.parametrize(
    ("name", "reasoning"), [("response.json", 0), ("response_refusal.json", 0), ("response_tool_use_thinking.json", 3)]
)
def test_every_recorded_answer_is_done_and_charged_by_its_usage(name: str, reasoning: int) -> None:
    reading = read(fixture(name), 200, loaded("ratelimit_headers.json"))
    assert reading.usage == Usage(12, 6, 18, 0, reasoning)
    assert (reading.fault, reading.advice.verdict, reading.advice.charge) == (None, "done", "usage")
    kept = dict(reading.headers)
    assert kept["anthropic-ratelimit-input-tokens-remaining"] == "80000"
    assert kept["request-id"] == "req_011CSLsW7mFqvHHnzrKdKjAE"
    assert "anthropic-organization-id" not in kept


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause"),
        ("something_new", "something_new"),
        (None, None),
        (7, None),
    ],
)
def test_why_it_ended_in_the_common_words(reason: object, word: str | None) -> None:
    assert OLD.view(message(stop_reason=reason)).finish_reason == word


@pytest.mark.parametrize(
    ("blocks", "text", "reasoning"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab", None),
        ([{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "a"}, {"type": "thinking", "thinking": "y"}], "a", "xy"),
        ([{"type": "redacted_thinking", "data": "x"}], None, None),
        ([{"type": "text", "text": ""}], "", None),
        ([{"type": "text", "text": None}, "loose", None, {"type": "new", "text": "no"}], "", None),
        ([], None, None),
    ],
)  # fmt: skip
def test_text_and_reasoning_are_those_of_all_their_blocks(
    blocks: list[object], text: str | None, reasoning: str | None
) -> None:
    view = OLD.view(message(*blocks))
    assert (view.text, view.reasoning) == (text, reasoning)


@pytest.mark.parametrize(
    ("block", "calls"),
    [
        ({"id": "t", "name": "f", "input": {"a": [1]}}, (ToolCall("t", "f", '{"a":[1]}'),)),
        ({"id": "t", "name": "f", "input": {}}, (ToolCall("t", "f", "{}"),)),
        ({"id": "t", "name": "f"}, (ToolCall("t", "f", "{}"),)),
        ({"id": "t", "name": "f", "input": '{"cut'}, (ToolCall("t", "f", '{"cut'),)),
        ({"id": "t", "name": "f", "input": {"a": 10**30}}, (ToolCall("t", "f", '{"a":1000000000000000000000000000000}'),)),
        ({"id": None, "name": "f", "input": {}}, (ToolCall("call_0", "f", "{}"),)),
        ({"id": "t", "name": None, "input": {}}, ()),
    ],
)  # fmt: skip
def test_the_input_of_a_tool_call_is_json_text(block: dict[str, Any], calls: tuple[ToolCall, ...]) -> None:
    assert OLD.view(message({"type": "tool_use", **block})).tool_calls == calls


def test_a_tool_that_the_provider_runs_itself_is_no_call() -> None:
    assert OLD.view(message({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})).tool_calls == ()


def test_citations_and_what_a_search_found() -> None:
    cited = {
        "type": "text",
        "text": "a",
        "citations": [
            {"type": "web_search_result_location", "url": "https://x", "title": "X", "cited_text": "q"},
            {"type": "search_result_location", "source": "https://y", "title": None, "cited_text": "r"},
            {"type": "char_location", "document_title": "D", "document_index": 0, "cited_text": "s"},
            None,
        ],
    }
    search = {
        "type": "web_search_tool_result",
        "content": [{"type": "web_search_result", "url": "https://x", "title": "X", "page_age": "1 day"}, 3, {}],
    }
    failed = {"type": "web_search_tool_result", "content": {"error_code": "max_uses_exceeded"}}
    view = OLD.view(message(search, failed, cited))
    assert view.citations[:3] == (
        Citation("https://x", "X", "q"),
        Citation("https://y", None, "r"),
        Citation("", "D", "s"),
    )
    assert view.results == (Found("https://x", "X", published="1 day"),)


# --- what it cost -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "expected", "free"),
    [
        ({"input_tokens": 5, "output_tokens": 2}, Usage(5, 2, 7), 0),
        ({"input_tokens": 5, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 100, "output_tokens": 2}, Usage(115, 2, 117, 100), 100),
        ({"input_tokens": 5, "cache_creation_input_tokens": None, "cache_read_input_tokens": None, "output_tokens": 2}, Usage(5, 2, 7), 0),
        ({"input_tokens": 5, "cache_creation_input_tokens": None, "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}, "output_tokens": 2}, Usage(12, 2, 14), 0),
        ({"input_tokens": 5, "cache_creation_input_tokens": 7, "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}, "output_tokens": 2}, Usage(12, 2, 14), 0),
        ({"input_tokens": "5", "output_tokens": 2.0, "output_tokens_details": {"thinking_tokens": 1}}, Usage(5, 2, 7, None, 1), 0),
        ({"input_tokens": 5, "output_tokens": 2, "output_tokens_details": None, "server_tool_use": {"web_search_requests": 1}}, Usage(5, 2, 7), 0),
        ({"input_tokens": None, "cache_read_input_tokens": 4, "output_tokens": 2}, Usage(None, 2, None, 4), 4),
        ({"input_tokens": 5, "output_tokens": -1}, Usage(5), 0),
        ({"input_tokens": None, "output_tokens": "?"}, None, 0),
        (None, None, 0),
        ([], None, 0),
    ],
)  # fmt: skip
def test_the_input_is_all_of_it_and_what_the_cache_gave_is_free_of_the_limit(
    usage: object, expected: Usage | None, free: int
) -> None:
    reading = read(message(usage=usage))
    assert (reading.usage, reading.free_tokens, reading.fault) == (expected, free, None)
    whole = expected is not None and expected.total_tokens is not None
    assert reading.advice.charge == ("usage" if whole else "kept")


# --- errors -----------------------------------------------------------------------------------------------------------


def error(kind: str, words: str = "m", code: str | None = None) -> dict[str, object]:
    details = {} if code is None else {"details": {"error_code": code}}
    return {"type": "error", "error": {"type": kind, "message": words, **details}, "request_id": "req_b"}


@pytest.mark.parametrize(
    ("status", "body", "kind", "verdict", "code"),
    [
        (400, "error_400.json", "Rejected", "failed", "invalid_request_error"),
        (401, "error_401.json", "Rejected", "failed", "authentication_error"),
        (402, error("billing_error"), "QuotaExhausted", "failed", "billing_error"),
        (402, error("billing_error", code="linked_organization_spend_limit_reached"), "QuotaExhausted", "failed", "linked_organization_spend_limit_reached"),
        (403, error("permission_error"), "Rejected", "failed", "permission_error"),
        (404, error("not_found_error"), "Rejected", "failed", "not_found_error"),
        (409, error("conflict_error"), "ProviderUnavailable", "retry", "conflict_error"),
        (413, "error_413.json", "Rejected", "failed", "request_too_large"),
        (413, b"<html><title>413 Payload Too Large</title>cloudflare</html>", "Rejected", "failed", None),
        (429, "error_429.json", "RateLimited", "retry", "rate_limit_error"),
        (429, "error_429_ramp.json", "RateLimited", "retry", "ramp_limit_exceeded"),
        (429, "error_429_spend_limit.json", "QuotaExhausted", "failed", "enforced_spend_limit_reached"),
        (429, error("rate_limit_error", code="contract_spend_limit_reached"), "QuotaExhausted", "failed", "contract_spend_limit_reached"),
        (429, error("rate_limit_error", code="linked_organization_spend_limit_reached"), "QuotaExhausted", "failed", "linked_organization_spend_limit_reached"),
        (500, "error_500.json", "ProviderUnavailable", "retry", "api_error"),
        (502, b"", "ProviderUnavailable", "retry", None),
        (504, error("timeout_error"), "ProviderUnavailable", "retry", "timeout_error"),
        (529, "error_529.json", "ProviderUnavailable", "retry", "overloaded_error"),
        (520, b"<html>520</html>", "ProviderUnavailable", "retry", None),
    ],
)  # fmt: skip
def test_every_error_and_what_becomes_of_the_call(
    status: int, body: Any, kind: str, verdict: str, code: str | None
) -> None:
    reading = read(fixture(body) if isinstance(body, str) else body, status, {"request-id": "req_h"})
    assert reading.fault is not None
    assert (reading.fault.kind, reading.advice.kind, reading.advice.verdict) == (kind, kind, verdict)
    assert reading.advice.barrier == (kind == "RateLimited")  # an overload of theirs says nothing about our limits
    found: Any = error_of(reading.fault)
    assert (found.status, found.code, found.request_id) == (status, code, "req_h")


def test_the_id_of_the_request_stands_in_the_body_too() -> None:
    fault = read(fixture("error_529.json"), 529).fault
    assert fault is not None
    assert fault.request_id == "req_011CSHoEeqs5C35K2UUqR7Fy"
    assert "Overloaded" in fault.message


@pytest.mark.parametrize(
    ("headers", "hint_us"),
    [
        ({"retry-after": "7"}, 7_000_000),
        ({"retry-after": "7", "retry-after-ms": "250"}, 250_000),
        ({"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-reset": "2026-11-20T12:00:09Z", "date": "Fri, 20 Nov 2026 12:00:00 GMT"}, 9_000_000),
        ({"anthropic-ratelimit-output-tokens-remaining": "0", "anthropic-ratelimit-output-tokens-limit": "50", "anthropic-ratelimit-output-tokens-reset": "2026-11-20T12:00:09Z", "date": "Fri, 20 Nov 2026 12:00:00 GMT", "retry-after": "2"}, 2_000_000),
        ({"anthropic-ratelimit-output-tokens-remaining": "0", "anthropic-ratelimit-output-tokens-limit": "50", "anthropic-ratelimit-output-tokens-reset": "2026-11-20T12:00:09Z", "date": "Fri, 20 Nov 2026 12:00:00 GMT"}, 9_000_000),
        ({"anthropic-ratelimit-requests-remaining": "1", "anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-reset": "2026-11-20T12:00:09Z"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_how_long_to_wait_after_a_429(headers: dict[str, str], hint_us: int | None) -> None:
    for name in ("error_429.json", "error_429_ramp.json"):
        advice = read(fixture(name), 429, headers).advice
        assert (advice.hint_us, advice.charge) == (hint_us, "requests_kept")


@pytest.mark.parametrize(
    ("body", "kind", "verdict"),
    [
        (error("overloaded_error"), "ProviderUnavailable", "retry"),
        (error("rate_limit_error"), "RateLimited", "retry"),
        (error("rate_limit_error", code="enforced_spend_limit_reached"), "QuotaExhausted", "failed"),
        (error("billing_error"), "QuotaExhausted", "failed"),
        (error("invalid_request_error"), "Rejected", "failed"),
        (error("request_too_large"), "Rejected", "failed"),
        ({"type": "error", "message": "m"}, "ProviderUnavailable", "retry"),
        ({"type": "completion"}, "MalformedReply", "failed"),
        (b"<html>hello</html>", "MalformedReply", "failed"),
        (b"", "MalformedReply", "failed"),
        ([], "MalformedReply", "failed"),
    ],
)
def test_a_success_that_is_none(body: object, kind: str, verdict: str) -> None:
    reading = read(body)
    assert reading.fault is not None
    assert (reading.fault.kind, reading.advice.verdict, reading.advice.charge) == (kind, verdict, "kept")


def test_a_key_that_they_quote_does_not_get_into_the_message() -> None:
    fault = read(error("authentication_error", "invalid x-api-key sk-ant-api03-abcdef123456"), 401).fault
    assert fault is not None
    assert "abcdef123456" not in fault.message


# --- anything at all --------------------------------------------------------------------------------------------------


ANSWERS = [loaded(name) for name in ("response.json", "response_tool_use_thinking.json", "error_429_ramp.json")]
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(["text", "error"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
STATUSES = st.sampled_from([200, 201, 400, 413, 429, 500, 529, 99, 999])


@st.composite
def mutated(draw: st.DrawFn) -> object:
    """A recorded answer with a few of its values replaced by something odd."""
    answer: Any = copy.deepcopy(draw(st.sampled_from(ANSWERS)))
    for _ in range(draw(st.integers(1, 3))):
        place = answer
        while True:
            names = list(range(len(place))) if isinstance(place, list) else list(place)
            if not names:
                break
            name = draw(st.sampled_from(names))
            if isinstance(place[name], (dict, list)) and draw(st.booleans()):
                place = place[name]
                continue
            place[name] = draw(ODD)
            break
    return answer


def check_reading(body: bytes, status: int) -> None:
    reading = OLD.read(status, {}, body, now_s=NOW_S)
    assert (reading.fault is None) == (reading.advice.verdict == "done")
    if reading.advice.charge == "usage":
        assert reading.usage is not None
        assert None not in (reading.usage.input_tokens, reading.usage.output_tokens)
    try:
        decoded = OLD.decode(body)
    except msgspec.DecodeError:
        return
    view = OLD.view(decoded)
    assert isinstance(view.text, str | None)
    assert all(isinstance(call.arguments, str) for call in view.tool_calls)


@given(ODD | mutated(), STATUSES)
def test_no_json_raises_anything(body: object, status: int) -> None:
    check_reading(json.dumps(body).encode(), status)
    OLD.view(body)


@given(st.binary(max_size=200) | st.binary(max_size=20).map(lambda raw: b"data: " + raw), STATUSES)
def test_no_bytes_raise_anything(body: bytes, status: int) -> None:
    check_reading(body, status)


@given(st.sampled_from(["response.json", "response_tool_use_thinking.json"]), st.data())
def test_a_cut_or_scratched_answer_is_read_or_called_malformed(name: str, data: st.DataObject) -> None:
    body = bytearray(fixture(name))
    at = data.draw(st.integers(0, len(body) - 1))
    if data.draw(st.booleans()):
        del body[at:]
    else:
        body[at] = data.draw(st.integers(0, 255))
    check_reading(bytes(body), 200)
