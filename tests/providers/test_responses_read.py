"""Reading an answer of the Responses endpoint: every recorded body, every kind of end, and whose fault a failure is.

The verdict takes a short way through ordinary answers; that it is the same as the long way is tested here too.
"""

# ruff: noqa: E501  # a table reads best with one case on a line

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from responses_answers import USAGE, WIRE, fixture, message, read, response, says

from engine.errors import error_of
from engine.providers.json_format import JsonFormat
from engine.providers.wire import Citation, ToolCall, Usage, View
from engine.retry import Advice

COST = Usage(36, 87, 123, 0, 64)
DONE = Advice("done", "usage")
MODEL = "gpt-5-2025-08-07"


def view(*output: object, **fields: Any) -> View:
    return WIRE.view(response(*output, **fields))


# --- the recorded bodies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "usage", "seen"),
    [
        ("response.json", COST, View("Hello!", "Greeting.", (), "stop", "resp_1", MODEL)),
        ("response_function_call.json", COST, View(None, None, (ToolCall("call_1", "get_weather", '{"city":"Paris"}'),), "tool_calls", "resp_1", MODEL)),
        ("response_incomplete.json", COST, View(None, "Greeting.", (), "length", "resp_1", MODEL)),
    ],
)  # fmt: skip
def test_the_recorded_answers(name: str, usage: Usage, seen: View) -> None:
    reading = read(fixture(name), headers={"x-request-id": "req_9", "set-cookie": "secret"})
    assert (reading.usage, reading.fault, reading.advice, reading.free_tokens) == (usage, None, DONE, 0)
    assert reading.headers == (("x-request-id", "req_9"),)
    assert WIRE.view(WIRE.decode(fixture(name))) == seen


def test_a_failure_in_a_success_is_one_and_tried_again() -> None:
    reading = read(fixture("response_failed_http200.json"), headers={"x-request-id": "req_9", "retry-after": "3"})
    assert reading.fault is not None
    error: Any = error_of(reading.fault)
    assert (type(error).__name__, error.status, error.code, error.request_id) == ("RateLimited", 200, "rate_limit_exceeded", "req_9")  # fmt: skip
    assert "Rate limit reached" in str(error)
    assert reading.advice == Advice("retry", "kept", True, 3_000_000, True, "RateLimited")
    assert WIRE.view(json.loads(fixture("response_failed_http200.json"))).finish_reason == "error"


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "verdict"),
    [
        ("rate_limit_exceeded", "RateLimited", "retry"),
        ("slow_down", "RateLimited", "retry"),
        ("server_error", "ProviderUnavailable", "retry"),
        ("server_is_overloaded", "ProviderUnavailable", "retry"),
        ("vector_store_timeout", "ProviderUnavailable", "retry"),
        ("a_word_of_tomorrow", "ProviderUnavailable", "retry"),
        ("insufficient_quota", "QuotaExhausted", "failed"),
        ("credit_balance_exhausted", "QuotaExhausted", "failed"),
        ("context_length_exceeded", "Rejected", "failed"),
        ("invalid_prompt", "Rejected", "failed"),
        ("image_too_large", "Rejected", "failed"),
        ("empty_image_file", "Rejected", "failed"),
        ("unsupported_image_media_type", "Rejected", "failed"),
        ("bio_policy", "Rejected", "failed"),
        (None, "ProviderUnavailable", "retry"),
        (7, "ProviderUnavailable", "retry"),
    ],
)
def test_the_code_of_a_failed_response_says_whose_fault_it_is(code: object, kind: str, verdict: str) -> None:
    reading = read(response(status="failed", error={"code": code, "message": "it broke"}, usage=USAGE))
    assert reading.fault is not None
    assert (reading.fault.kind, reading.advice.verdict, reading.advice.charge) == (kind, verdict, "usage")
    assert "it broke" in reading.fault.message


@pytest.mark.parametrize(
    ("status", "kind", "verdict", "says"),
    [
        ("failed", "ProviderUnavailable", "retry", "the response failed"),
        ("cancelled", "Rejected", "failed", "the response was cancelled"),
    ],
)
def test_a_response_that_gives_no_reason_is_a_failure_still(status: str, kind: str, verdict: str, says: str) -> None:
    reading = read(response(status=status, error=None, usage=None))
    assert reading.fault is not None
    assert (reading.fault.kind, reading.advice.verdict, reading.fault.code) == (kind, verdict, status)
    assert says in reading.fault.message
    assert view(status=status).finish_reason == "error"


@pytest.mark.parametrize(
    ("status", "error", "kind", "verdict"),
    [
        (400, {"code": "unsupported_parameter", "message": "m", "type": "invalid_request_error"}, "Rejected", "failed"),
        (401, {"code": "invalid_api_key", "message": "m"}, "Rejected", "failed"),
        (429, {"code": "rate_limit_exceeded", "message": "m", "type": "tokens"}, "RateLimited", "retry"),
        (429, {"code": "insufficient_quota", "message": "m"}, "QuotaExhausted", "failed"),
        (429, {"code": "rate_limit_exceeded", "message": "Request too large for m"}, "Rejected", "failed"),
        (500, {"code": "invalid_image", "message": "m"}, "ProviderUnavailable", "retry"),
        (503, {"code": "server_is_overloaded", "message": "m"}, "ProviderUnavailable", "retry"),
    ],
)
def test_an_error_by_its_status(status: int, error: dict[str, object], kind: str, verdict: str) -> None:
    reading = read({"error": error}, status)
    assert reading.fault is not None
    assert (reading.usage, reading.fault.kind, reading.advice.verdict) == (None, kind, verdict)
    assert reading.fault.code == error["code"]


@pytest.mark.parametrize(
    "body", [b"", b"<html>busy</html>", b"[]", b"{}", b"null", b'{"output": "text"}', b'"resp_1"', b"{"]
)
def test_a_success_that_is_no_answer_is_kept_and_not_paid_for_twice(body: bytes) -> None:
    reading = read(body)
    assert reading.fault is not None
    assert (reading.fault.kind, reading.advice.verdict, reading.advice.charge) == ("MalformedReply", "failed", "kept")


# --- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "usage"),
    [
        (USAGE, Usage(36, 87, 123, 30, 64)),
        ({**USAGE, "input_tokens_details": None, "output_tokens_details": {}}, Usage(36, 87, 123, None, None)),
        ({**USAGE, "input_tokens": "36", "output_tokens": 87.0}, Usage(36, 87, 123, 30, 64)),
        ({"input_tokens": 36, "output_tokens": 87}, Usage(36, 87, 123)),
        ({"input_tokens": 36, "total_tokens": 123}, Usage(36, 87, 123)),
        ({"output_tokens": 87, "total_tokens": 123}, Usage(36, 87, 123)),
        ({"input_tokens": 36, "output_tokens": None}, Usage(36)),
        ({"input_tokens": 36, "total_tokens": 3}, Usage(36, None, 3)),
        ({"total_tokens": 123}, Usage(None, None, 123)),
        ({"input_tokens": -1, "output_tokens": True}, None),
        (None, None),
        ([1], None),
    ],
)
def test_a_usage_in_any_state_costs_no_answer(given: object, usage: Usage | None) -> None:
    reading = read(response(message(says("a")), usage=given))
    known = usage is not None and usage.input_tokens is not None and usage.output_tokens is not None
    assert (reading.usage, reading.fault) == (usage, None)
    assert reading.advice == Advice("done", "usage" if known else "kept")


@pytest.mark.parametrize(
    "body",
    [
        response(message(says("a")), usage=USAGE),
        response(message(says("a")), usage=USAGE, error=None),
        response(message(says('"error" status "failed"')), usage=USAGE),
        response(message(says("a")), usage=USAGE, status="incomplete", incomplete_details={"reason": "content_filter"}),
        response(message(says("a")), usage={**USAGE, "cost": 1, "input_tokens_details": {"cached_tokens": None}}),
        response(usage=USAGE, error={"message": "m", "code": "server_error"}),
        response(usage=USAGE, status="failed"),
        response(usage=USAGE, status="queued"),
    ],
)
def test_the_short_way_says_what_the_long_way_says(body: dict[str, object]) -> None:
    raw = json.dumps(body).encode()
    headers = {"x-request-id": "r"}
    assert WIRE.read(200, headers, raw, now_s=0) == JsonFormat.read(WIRE, 200, headers, raw, now_s=0)


# --- the view ---------------------------------------------------------------------------------------------------------


def test_the_text_is_that_of_all_messages_wherever_they_stand() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "text": "not this", "content": [says("nor this")]}
    seen = view({"type": "reasoning", "summary": []}, message(says("Hel"), says("lo")), search, message(says(", you")))
    assert (seen.text, seen.reasoning, seen.finish_reason) == ("Hello, you", None, "stop")
    assert view(message(says(""))).text == ""
    assert (view().text, view(message()).text, view(search).text) == (None, None, None)
    assert view(message(content="as one text")).text == "as one text"


def test_thoughts_are_paragraphs() -> None:
    summary = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}]}  # fmt: skip
    whole = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Three."}]}
    assert view(summary, message(says("a")), whole).reasoning == "One.\n\nTwo.\n\nThree."


def test_a_tool_call_is_known_by_its_call_id() -> None:
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"}
    seen = view(
        message(says("Let me see.")),
        call,
        {**call, "call_id": None, "arguments": ""},
        {**call, "id": "", "call_id": "", "arguments": {"a": 1}},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "g", "input": "SELECT 1"},
        {"type": "function_call", "call_id": "nameless"},
        {"type": "mcp_call", "id": "mcp_1", "name": "h", "arguments": "{}"},
    )
    assert seen.tool_calls == (
        ToolCall("call_1", "f", "{}"),
        ToolCall("fc_1", "f", "{}"),
        ToolCall("call_3", "f", '{"a":1}'),
        ToolCall("call_2", "g", "SELECT 1"),
    )
    assert (seen.text, seen.finish_reason) == ("Let me see.", "tool_calls")


def test_citations_are_the_addresses_that_texts_name() -> None:
    notes = [
        {"type": "url_citation", "url": "https://a.example/1", "title": "A", "start_index": 0, "end_index": 3},
        {"type": "file_citation", "file_id": "f", "filename": "x.pdf", "index": 1},
        {"type": "url_citation", "url": "https://b.example/2", "title": None},
        {"type": "url_citation", "title": "no address"},
        "nonsense",
    ]
    seen = view(message(says("a", annotations=notes)), message(says("b", annotations=None)))
    assert seen.citations == (Citation("https://a.example/1", "A"), Citation("https://b.example/2"))


@pytest.mark.parametrize(
    ("fields", "finish"),
    [
        ({"status": "completed"}, "stop"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"status": "incomplete", "incomplete_details": {"reason": "steered"}}, "steered"),
        ({"status": "incomplete", "incomplete_details": None}, "incomplete"),
        ({"status": "queued", "background": True}, "pause"),
        ({"status": "in_progress", "background": True}, "pause"),
        ({"status": "in_progress", "background": False}, None),
        ({"status": "failed"}, "error"),
        ({"status": "completed", "error": {"code": "server_error"}}, "error"),
        ({"status": "brand_new"}, "brand_new"),
        ({"status": None}, None),
    ],
)
def test_why_it_ended(fields: dict[str, Any], finish: str | None) -> None:
    assert view(**fields).finish_reason == finish


def test_a_refusal_is_no_text_and_its_words_stay_in_the_answer() -> None:
    body = response(message({"type": "refusal", "refusal": "I will not."}))
    seen = WIRE.view(body)
    assert (seen.text, seen.finish_reason) == (None, "content_filter")
    assert read(body).fault is None


def test_a_queued_answer_is_done_and_its_cost_not_known_yet() -> None:
    reading = read(response(status="queued", background=True, usage=None))
    assert (reading.usage, reading.fault, reading.advice) == (None, None, Advice("done", "kept"))


@pytest.mark.parametrize(
    "found", [None, 3, "text", [], [{}], {}, {"output": 3}, {"output": [None, 3, {"type": []}]}, {"status": {}}]
)
def test_any_decoded_thing_has_a_view(found: object) -> None:
    assert isinstance(WIRE.view(found), View)


def test_a_body_is_decoded_leniently_and_raises_only_the_one_error() -> None:
    assert WIRE.decode(b'\xef\xbb\xbf{"a": "\\ud83d"}') == {"a": "\ufffd"}
    with pytest.raises(msgspec.DecodeError):
        WIRE.decode(b"<html>")
