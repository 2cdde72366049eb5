"""Reading an answer of Ollama's own chat path: usage, error, view; whatever came, and however it came.

The bodies in `fixtures/ollama_native` are from docs.ollama.com and ollama-python 0.6.3 (2026-11-20).
"""

# ruff: noqa: E501  # a table reads best with one case on a line

from __future__ import annotations

import json

import msgspec
import pytest
from chat_answers import NOW_S, fixture
from hypothesis import example, given
from hypothesis import strategies as st

from engine.providers.ollama_native import OllamaChat
from engine.providers.wire import Reading, ToolCall, Usage, View

OLLAMA = OllamaChat()
STREAM = fixture("ollama_native/stream.ndjson")
DONE = {"message": {"role": "assistant", "content": "x"}, "done": True}


def read(body: bytes | object, status: int = 200, headers: dict[str, str] | None = None) -> Reading:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return OLLAMA.read(status, headers or {}, raw, now_s=NOW_S)


@pytest.mark.parametrize(
    ("name", "usage", "view"),
    [
        ("response", Usage(26, 282, 308), View("Hello!", "...", (), "stop", None, "llama3.2")),
        ("response_tool_calls", Usage(169, 15, 184), View("", None, (ToolCall("call_0", "get_weather", '{"city":"Paris"}'),), "tool_calls", None, "llama3.2")),
    ],
)  # fmt: skip
def test_the_recorded_answers(name: str, usage: Usage, view: View) -> None:
    body = fixture(f"ollama_native/{name}.json")
    found = read(body)
    assert (found.usage, found.fault, found.advice.verdict, found.advice.charge) == (usage, None, "done", "usage")
    assert OLLAMA.view(OLLAMA.decode(body)) == view


@pytest.mark.parametrize(
    ("counts", "usage", "charge"),
    [
        ({"prompt_eval_count": 3, "eval_count": 4}, Usage(3, 4, 7), "usage"),
        ({"prompt_eval_count": "3", "eval_count": 4.0}, Usage(3, 4, 7), "usage"),
        ({"prompt_eval_count": 3}, Usage(3, 0, 3), "usage"),
        ({"prompt_eval_count": 3, "eval_count": None}, Usage(3, 0, 3), "usage"),
        ({"prompt_eval_count": 3, "done": None}, Usage(3, None, None), "kept"),
        ({"eval_count": 4}, Usage(None, 4, None), "kept"),
        ({"prompt_eval_count": 3, "eval_count": "many"}, Usage(3, None, None), "kept"),
        ({"prompt_eval_count": -1, "eval_count": True}, None, "kept"),
        ({}, None, "kept"),
    ],
)
def test_the_usage_from_whatever_counts_there_are(counts: object, usage: Usage | None, charge: str) -> None:
    assert isinstance(counts, dict)
    body = {name: value for name, value in {**DONE, **counts}.items() if name != "done" or value}
    found = read(body)
    assert (found.usage, found.fault, found.advice.charge) == (usage, None, charge)


@pytest.mark.parametrize(
    ("status", "body", "kind", "verdict"),
    [
        (404, fixture("ollama_native/error_404.json"), "Rejected", "failed"),
        (400, {"error": "json: cannot unmarshal string into Go struct field"}, "Rejected", "failed"),
        (401, {"error": "unauthorized"}, "Rejected", "failed"),
        (429, {"error": "you have reached your hourly usage limit"}, "RateLimited", "retry"),
        (500, {"error": "model runner has unexpectedly stopped"}, "ProviderUnavailable", "retry"),
        (502, {"error": "upstream"}, "ProviderUnavailable", "retry"),
        (503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, "ProviderUnavailable", "retry"),
        (503, b"", "ProviderUnavailable", "retry"),
        (200, {"error": "an error was encountered while running the model"}, "ProviderUnavailable", "retry"),
        (200, {"error": "late", **DONE, "prompt_eval_count": 3, "eval_count": 4}, "ProviderUnavailable", "retry"),
        (200, b"<html>", "MalformedReply", "failed"),
        (200, {}, "MalformedReply", "failed"),
        (200, [], "MalformedReply", "failed"),
        (200, {"message": "no object", "prompt_eval_count": 3, "eval_count": 4}, "MalformedReply", "failed"),
        (200, {"message": {"content": "x"}, "done": False}, "Truncated", "failed"),
        (200, {"message": {"content": "x"}, "done": False, "prompt_eval_count": 3, "eval_count": 4}, "Truncated", "failed"),
    ],
)  # fmt: skip
def test_every_failure_is_of_its_class(status: int, body: bytes | object, kind: str, verdict: str) -> None:
    found = read(body, status)
    assert found.fault is not None
    assert (found.fault.kind, found.fault.status, found.advice.verdict) == (kind, status, verdict)


def test_the_servers_own_sentence_reaches_the_caller() -> None:
    fault = read(fixture("ollama_native/error_404.json"), 404).fault
    assert fault is not None
    assert fault.message.endswith("It says: model 'nope' not found")


def test_the_wait_and_the_identifiers_are_kept() -> None:
    found = read({"error": "busy"}, 503, {"retry-after": "3", "x-request-id": "r1", "set-cookie": "no"})
    assert (found.advice.hint_us, found.headers) == (3_000_000, (("retry-after", "3"), ("x-request-id", "r1")))
    assert found.fault is not None
    assert found.fault.request_id == "r1"


@pytest.mark.parametrize(
    ("done_reason", "called", "finish"),
    [
        ("stop", False, "stop"),
        ("length", False, "length"),
        ("stop", True, "tool_calls"),
        (None, True, "tool_calls"),
        ("length", True, "length"),
        ("load", False, "pause"),
        ("unload", False, "pause"),
        ("brand_new", False, "brand_new"),
        (None, False, None),
        (3, False, None),
    ],
)
def test_why_the_answer_ended(done_reason: object, called: bool, finish: str | None) -> None:
    message = {"tool_calls": [{"function": {"name": "f"}}]} if called else {}
    assert OLLAMA.view({"message": message, "done": True, "done_reason": done_reason}).finish_reason == finish


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([{"id": "c9", "function": {"name": "f", "arguments": {"a": [1, "é"]}}}], (ToolCall("c9", "f", '{"a":[1,"é"]}'),)),
        ([{"function": {"name": "f"}}, {"function": {"name": "f"}}], (ToolCall("call_0", "f", "{}"), ToolCall("call_1", "f", "{}"))),
        ([{"id": "", "function": {"name": "f", "arguments": '{"a":1}'}}], (ToolCall("call_0", "f", '{"a":1}'),)),
        ([{"function": {"name": "f", "arguments": " "}}], (ToolCall("call_0", "f", "{}"),)),
        ([None, {"function": {"name": 3}}, {"function": {"name": "f"}}], (ToolCall("call_2", "f", "{}"),)),
        ("none", ()),
        ([], ()),
    ],
)  # fmt: skip
def test_tool_calls_have_an_id_and_their_arguments_as_text(calls: object, expected: tuple[ToolCall, ...]) -> None:
    assert OLLAMA.view({"message": {"content": "", "tool_calls": calls}}).tool_calls == expected


def test_a_model_that_was_only_loaded_is_an_answer_without_text() -> None:
    found = read({"message": {"role": "assistant", "content": ""}, "done_reason": "load", "done": True})
    assert (found.fault, found.usage, found.advice.charge) == (None, None, "kept")


@pytest.mark.parametrize("body", [STREAM, STREAM.rstrip(), STREAM.replace(b"\n", b"\r\n\r\n")])
def test_a_stream_that_nobody_called_one_is_read_all_the_same(body: bytes) -> None:
    found = read(body)
    assert (found.usage, found.fault, found.advice.verdict) == (Usage(26, 2, 28), None, "done")
    assert OLLAMA.view(OLLAMA.decode(body)).text == "Hello!"
    cut = read(body[: body.index(b'"done":true')])
    assert cut.fault is not None
    assert cut.fault.kind == "Truncated"


@pytest.mark.parametrize("body", [b"", b"<html>\n</html>", b'{"a":\n1', b"\xff", b"[" * 5_000])
def test_what_is_neither_an_answer_nor_a_stream_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        OLLAMA.decode(body)


# --- anything at all --------------------------------------------------------------------------------------------------

FIELDS = st.sampled_from(["message", "content", "thinking", "tool_calls", "function", "name", "arguments", "id", "done", "done_reason", "error", "model", "prompt_eval_count", "eval_count"])  # fmt: skip
SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("\ud83d"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5),
    max_leaves=8,
)
RECORDED = [fixture(f"ollama_native/{name}") for name in ("response.json", "response_tool_calls.json", "error_404.json", "stream.ndjson", "stream_error.ndjson")]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A recorded body, part of it replaced or gone."""
    body = draw(st.sampled_from(RECORDED))
    start = draw(st.integers(0, len(body)))
    gone = draw(st.integers(0, 30))
    return body[:start] + draw(st.binary(max_size=6)) + body[start + gone :]


@given(st.binary(max_size=40) | SHAPES.map(lambda shape: json.dumps(shape).encode()) | mutated(), st.sampled_from([200, 201, 301, 404, 429, 503]))  # fmt: skip
@example(b'{"message":' + b"[" * 4_000, 200)
@example(b'{"message":{"tool_calls":[{"function":{"name":"\\ud83d"}}]}}', 200)
def test_reading_never_raises_and_an_answer_is_never_lost(body: bytes, status: int) -> None:
    found = OLLAMA.read(status, {}, memoryview(body), now_s=NOW_S)
    assert (found.fault is None) == (found.advice.verdict == "done")
    OLLAMA.decode_stream(memoryview(body))
    try:
        decoded = OLLAMA.decode(memoryview(body))
    except msgspec.DecodeError:
        assert found.fault is not None
        return
    msgspec.json.encode(OLLAMA.view(decoded))


@given(SHAPES)
def test_viewing_never_raises(shape: object) -> None:
    OLLAMA.view(shape)


@given(st.dictionaries(FIELDS, SHAPES, max_size=6))
def test_the_short_way_reads_what_the_long_way_reads(fields: dict[str, object]) -> None:
    body = {**DONE, "prompt_eval_count": 3, "eval_count": 4, **fields}
    short = read(body)
    long = super(OllamaChat, OLLAMA).read(200, {}, json.dumps(body).encode(), now_s=NOW_S)
    if long.fault is None or long.fault.kind != "MalformedReply":
        assert short == long
