"""aiXplain's runs: what is sent, and what each answer means: done, later, failed, refused, and in which words.

The bodies in `fixtures/aixplain_run` and the table of codes are what SDK 0.2.48 did against a recording server
(2026-11-20).
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from chat_answers import NOW_S, fixture

from engine.errors import InvalidCall
from engine.providers.aixplain import AIXPLAIN, POLLS, SUBMITTED, AixplainRun, path_of
from engine.providers.aixplain_answers import FAILED
from engine.providers.wire import Reading, Usage

PROMISE = "https://models.aixplain.com/api/v1/data/0f7c7a"


def read(body: bytes | object, status: int = 200, wire: AixplainRun = AIXPLAIN, **headers: str) -> Reading:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return wire.read(status, named, raw, now_s=NOW_S)


def recorded(name: str) -> bytes:
    return fixture(f"aixplain_run/{name}")


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_the_model_goes_into_the_path_and_the_arguments_are_the_body() -> None:
    arguments = {"model": "m-1", "data": "hello", "temperature": 0.5, "top_k": 3, "context": None}
    encoded = AIXPLAIN.encode(arguments)
    assert (encoded.method, encoded.path, encoded.streaming, encoded.output_cap) == ("POST", "m-1", False, None)
    assert json.loads(encoded.body) == {"data": "hello", "temperature": 0.5, "top_k": 3}
    assert arguments["model"] == "m-1"


def test_a_body_is_written_exactly_as_given() -> None:
    body = {"data": '{"a": 1}', "context": None, "model": "mine", "history": []}
    encoded = AIXPLAIN.written("/api/v2/execute/m", body)
    assert json.loads(encoded.body) == body
    assert encoded.path == "/api/v2/execute/m"


def test_a_stream_is_asked_for_beside_other_options() -> None:
    options = {"raw": True}
    encoded = AIXPLAIN.encode({"model": "m", "data": "x", "options": options, "stream": True})
    assert encoded.streaming
    assert json.loads(encoded.body) == {"data": "x", "options": {"raw": True, "stream": True}}
    assert options == {"raw": True}
    assert "options" not in json.loads(AIXPLAIN.encode({"model": "m", "data": "x", "stream": False}).body)


def test_what_may_be_produced_is_reserved_with_what_is_said() -> None:
    text = "word " * 200
    small = AIXPLAIN.encode({"model": "m", "data": "word"})
    large = AIXPLAIN.encode({"model": "m", "data": text, "max_tokens": 128})
    turns = [{"role": "user", "content": text}]
    longer = AIXPLAIN.encode({"model": "m", "data": text, "history": turns, "context": text})
    assert (large.output_cap, small.output_cap) == (128, None)
    assert large.input_tokens > 250 > small.input_tokens > 0
    assert longer.input_tokens >= 3 * large.input_tokens - 5
    counted = AIXPLAIN.encode({"model": "m", "data": "abc", "prompt": "de"}, count_text=len)
    assert counted.input_tokens == math.ceil(5 * 1.1)


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"data": "x"}, "model"),
        ({"model": "", "data": "x"}, "model"),
        ({"model": 3, "data": "x"}, "model"),
        ({"model": "/m", "data": "x"}, "model"),
        ({"model": "a/../b", "data": "x"}, "model"),
        ({"model": "a\nb", "data": "x"}, "model"),
        ({"model": "m", "data": object()}, "data"),
        ({"model": "m", "max_tokens": "many"}, "max_tokens"),
        ({"model": "m", "api_key": "secret-secret"}, "api_key"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(arguments: dict[str, Any], argument: str) -> None:
    with pytest.raises(InvalidCall) as caught:
        AIXPLAIN.encode(arguments)
    assert caught.value.argument == argument
    assert "secret-secret" not in str(caught.value)


def test_an_identifier_is_quoted_and_keeps_its_slashes() -> None:
    assert path_of("openai/gpt 4?#ä") == "openai/gpt%204%3F%23%C3%A4"


# --- the answer is there ----------------------------------------------------------------------------------------------


def test_a_recorded_success() -> None:
    reading = read(recorded("response.json"))
    assert (reading.advice.verdict, reading.advice.charge, reading.fault) == ("done", "usage", None)
    assert reading.usage == Usage(12, 3, 15)
    view = AIXPLAIN.view(AIXPLAIN.decode(recorded("response.json")))
    assert (view.text, view.finish_reason) == ("hi", "stop")


@pytest.mark.parametrize(
    ("usage", "found"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}, Usage(7, 2, 9)),
        ({"prompt_tokens": "7", "completion_tokens": "2"}, Usage(7, 2, 9)),
        ({"prompt_tokens": "NaN", "completion_tokens": "NaN", "total_tokens": "NaN"}, None),
        ({"prompt_tokens": None, "completion_tokens": 2, "total_tokens": None}, Usage(None, 2, None)),
        (None, None),
        ("many", None),
    ],
)
def test_usage_is_read_as_models_tell_it(usage: object, found: Usage | None) -> None:
    reading = read({"status": "SUCCESS", "data": "x", "usage": usage})
    assert reading.usage == found
    known = found is not None and found.input_tokens is not None
    assert (reading.advice.verdict, reading.advice.charge) == ("done", "usage" if known else "kept")


def test_a_usage_of_bare_nan_is_no_usage_and_no_failure() -> None:
    reading = read(b'{"status":"SUCCESS","data":"x","usage":{"prompt_tokens":NaN,"completion_tokens":null}}')
    assert (reading.advice.verdict, reading.usage) == ("done", None)


@pytest.mark.parametrize(
    ("data", "text"),
    [("hi", "hi"), ({"text": "a"}, "a"), ({"output": "b"}, "b"), ({"x": 1}, '{"x":1}'), (["a"], '["a"]'), (None, None)],
)
def test_the_text_of_a_result(data: object, text: str | None) -> None:
    assert AIXPLAIN.view({"status": "SUCCESS", "data": data}).text == text


def test_an_answer_in_openais_shape_is_one() -> None:
    answer = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
    assert read(answer).advice.verdict == "done"
    assert AIXPLAIN.view(answer).text == "hi"


# --- the answer comes later -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "address"),
    [
        (recorded("response_promise.json"), PROMISE),
        ({"status": "IN_PROGRESS", "data": PROMISE}, PROMISE),
        ({"data": PROMISE}, PROMISE),
        ({"data": PROMISE, "completed": False}, PROMISE),
        (recorded("response_poll_early.json"), ""),
        ({"completed": False}, ""),
        ({"completed": False, "status": "PENDING"}, ""),
        ({"completed": False, "status": "A_NEW_ONE"}, ""),
        ({"completed": False, "data": "half of it"}, ""),
    ],
)
def test_later_and_where(body: object, address: str) -> None:
    for status in (200, 201, 202):
        reading = read(body, status)
        assert (reading.advice.verdict, reading.poll) == ("later", address)
        assert reading.fault is not None
        assert reading.usage is None


def test_who_asks_for_himself_has_his_answer() -> None:
    assert (AIXPLAIN.polls, SUBMITTED.polls) == (POLLS, None)
    reading = read(recorded("response_promise.json"), 201, SUBMITTED)
    assert (reading.advice.verdict, reading.fault, reading.poll) == ("done", None, "")
    assert AIXPLAIN.name != SUBMITTED.name
    assert read({"completed": False}, 200, SUBMITTED).advice.verdict == "failed"


def test_a_poll_that_is_over() -> None:
    reading = read(recorded("response_poll_done.json"))
    assert (reading.advice.verdict, reading.usage) == ("done", Usage(7, 2, 9))
    assert read({"completed": True, "data": "x"}).advice.verdict == "done"
    assert read({"completed": True, "status": "SUCCESS", "supplierError": "quota"}).advice.verdict == "done"


# --- it failed --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (recorded("response_broken.json"), "The model broke."),
        (recorded("response_poll_supplier.json"), " - quota"),
        ({"completed": True, "error_message": "boom"}, "boom"),
        ({"status": "FAILED", "error": {"message": "inner"}}, "inner"),
        ({"status": "FAILED", "error_message": "x", "supplierError": "quota"}, "x - quota"),
        ({"status": "ABORTED"}, FAILED),
        ({"status": "SOMETHING", "data": "x"}, FAILED),
    ],
)
def test_a_failure_in_a_success_is_not_tried_again(body: object, says: str) -> None:
    reading = read(body)
    assert reading.fault is not None
    assert (reading.advice.verdict, reading.advice.charge) == ("failed", "kept")
    assert (reading.fault.kind, reading.fault.message) == ("ProviderUnavailable", says.strip())


@pytest.mark.parametrize(
    "body",
    [b"<html>502</html>", b"", b"[1]", b'"text"', {"status": "IN_PROGRESS"}, {}, {"data": "no address"}, b"null"],
)
def test_a_success_that_holds_no_answer(body: object) -> None:
    reading = read(body)
    assert reading.fault is not None
    assert (reading.advice.verdict, reading.fault.kind) == ("failed", "MalformedReply")
    assert reading.fault.message.startswith(FAILED)


SUBSCRIPTION = "Subscription-related error: Please ensure that your subscription is active and has not expired."
SUPPLIER = (
    "Supplier-related error: Please ensure that the selected supplier provides the asset you are trying to access."
)
VALIDATION = "Validation-related error: Please verify the request payload and ensure it is correct."
CODES = [
    (400, "Bad request: Please verify the request payload and ensure it is correct.", "Rejected"),
    (401, "Unauthorized API key: Please verify the spelling of the API key and its current validity.", "Rejected"),
    (402, "Payment required: Please ensure you have enough credits to run this asset.", "QuotaExhausted"),
    (403, "Forbidden access: Please verify the API key and its current validity.", "Rejected"),
    (404, "Resource not found: Please verify the spelling of the resource and its current availability.", "Rejected"),
    (429, "Rate limit exceeded: Please try again later.", "RateLimited"),
    (460, SUBSCRIPTION, "Rejected"),
    (465, SUBSCRIPTION, "Rejected"),
    (475, "Billing-related error: Please ensure you have enough credits to run this asset.", "QuotaExhausted"),
    (485, SUPPLIER, "Rejected"),
    (495, VALIDATION, "Rejected"),
    (498, VALIDATION, "Rejected"),
    (500, "Internal server error: Please try again later.", "ProviderUnavailable"),
    (503, "Service unavailable: Please try again later.", "ProviderUnavailable"),
    (504, "Gateway timeout: Please try again later.", "ProviderUnavailable"),
    (422, "Unspecified Client Error (Status 422)", "Rejected"),
    (501, "Unspecified Server Error (Status 501)", "Rejected"),
    (502, "Unspecified Server Error (Status 502)", "ProviderUnavailable"),
]


@pytest.mark.parametrize(("status", "sentence", "kind"), CODES)
def test_every_code_has_its_sentence(status: int, sentence: str, kind: str) -> None:
    reading = read({"error": "An unspecified error occurred."}, status)
    assert reading.fault is not None
    assert reading.fault.message == f"{sentence} Details: An unspecified error occurred."
    assert (reading.fault.kind, reading.fault.status) == (kind, status)
    assert reading.advice.verdict == ("retry" if kind in ("RateLimited", "ProviderUnavailable") else "failed")


@pytest.mark.parametrize(
    ("body", "details"),
    [
        (recorded("error_404.json"), '{"statusCode": 404, "message": "Not Found"}'),
        (b"<html>gone</html>", "<html>gone</html>"),
        (b"", "unspecified error"),
        ({"error": {"code": 7}}, '{"code":7}'),
    ],
)
def test_the_details_are_the_error_or_the_whole_body(body: object, details: str) -> None:
    reading = read(body, 404)
    assert reading.fault is not None
    assert reading.fault.message.endswith(f"availability. Details: {details}")


def test_the_wait_that_is_asked_for_is_kept() -> None:
    reading = read({"error": "slow"}, 429, retry_after="7")
    assert reading.fault is not None
    assert (reading.advice.hint_us, reading.fault.retry_after_us, reading.advice.barrier) == (
        7_000_000,
        7_000_000,
        True,
    )


def test_a_poll_is_refused_as_a_run_is_and_so_ends_it() -> None:
    for status in (401, 404):
        assert read({"error": "no"}, status).advice.verdict == "failed"


def test_whatever_is_decoded_has_a_view() -> None:
    for odd in (None, [], {"details": 3, "data": object()}, {"status": 5}, {"data": {"text": 4}}):
        assert msgspec.to_builtins(AIXPLAIN.view(odd), enc_hook=repr)
