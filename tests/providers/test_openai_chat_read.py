"""Reading an answer: real ones of every provider, and all the ways in which one can be nonsense.

Whatever comes, `read` and `view` answer: they never raise, and an answer that was paid for is never lost over one odd
field. (Errors have a file of their own.)
"""

# ruff: noqa: E501  # a table reads best with one case on a line

from __future__ import annotations

import json

import msgspec
import pytest
from chat_answers import FORMATS, GENERIC, NOW_S, fixture, message, read
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import error_of
from engine.providers import openai_chat
from engine.providers.wire import Citation, ToolCall, Usage, View

# --- answers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "name", "usage"),
    [
        ("openai", "openai_chat/response.json", Usage(19, 10, 29, 0, 0)),
        ("openai", "openai_chat/response_tool_calls.json", Usage(19, 10, 29, 0, 0)),
        ("openai", "openai_chat/response_reasoning_truncated.json", Usage(19, 64, 83, 0, 64)),
        ("groq", "groq_chat/response.json", Usage(18, 6, 24, 0, 2)),
        ("deepseek", "deepseek_chat/response.json", Usage(16, 30, 46, 0, 20)),
        ("deepseek", "deepseek_chat/response_leading_blank_lines.txt", Usage(16, 30, 46, 0, 20)),
        ("perplexity", "perplexity_chat/response.json", Usage(8, 40, 48, None, 0)),
        ("openrouter", "openrouter_chat/response.json", Usage(10, 4, 14, 0, 2)),
        ("nvidia_nim", "nvidia_nim_chat/response.json", Usage(12, 3, 15, None, None)),
        ("gemini", "gemini_chat/response.json", Usage(7, 113, 120, None, None)),
        ("ollama", "ollama_compat/response.json", Usage(26, 10, 36, None, None)),
    ],
)
def test_the_usage_of_every_provider(provider: str, name: str, usage: Usage) -> None:
    reading = read(fixture(name), wire=FORMATS[provider])
    assert reading.usage == usage
    assert (reading.fault, reading.advice.verdict, reading.advice.charge) == (None, "done", "usage")


@pytest.mark.parametrize(
    ("provider", "name", "view"),
    [
        (
            "openai",
            "openai_chat/response_tool_calls.json",
            View(
                tool_calls=(ToolCall("call_1", "get_weather", '{"city":"Paris"}'),),
                finish_reason="tool_calls",
                provider_id="chatcmpl-Abc123",
                model="gpt-4o-2024-08-06",
            ),
        ),
        (
            "openai",
            "openai_chat/response_reasoning_truncated.json",
            View(text="", finish_reason="length", provider_id="chatcmpl-Abc123", model="gpt-5-2025-08-07"),
        ),
        ("groq", "groq_chat/response.json", View("Hello!", "Greet.", (), "stop", "chatcmpl-Abc123", "openai/gpt-oss-120b")),
        (
            "deepseek",
            "deepseek_chat/response_leading_blank_lines.txt",
            View("9.8 is greater.", "Compare decimals...", (), "stop", "chatcmpl-Abc123", "deepseek-v4-pro"),
        ),
        (
            "perplexity",
            "perplexity_chat/response.json",
            View("Answer [1]", None, (), "stop", "chatcmpl-Abc123", "sonar-pro", (Citation("https://example.com/a", "A", "..."),)),
        ),
        (
            "openrouter",
            "openrouter_chat/response.json",
            View("Hello!", "Greet.", (), "stop", "gen-1790000000-abc", "anthropic/claude-sonnet-5"),
        ),
        (
            "nvidia_nim",
            "nvidia_nim_chat/response.json",
            View("Hello!", None, (), "stop", "chatcmpl-Abc123", "meta/llama-3.1-70b-instruct"),
        ),
        ("gemini", "gemini_chat/response.json", View("Hello!", None, (), "stop", "abc-DEF_1", "gemini-2.5-flash")),
        ("ollama", "ollama_compat/response.json", View("Hello!", "...", (), "stop", "chatcmpl-123", "llama3.2")),
    ],
)  # fmt: skip
def test_the_view_of_every_provider(provider: str, name: str, view: View) -> None:
    wire = FORMATS[provider]
    assert wire.view(wire.decode(fixture(name))) == view


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (message(content="x"), "x"),
        (message(content=""), ""),
        (message(content=None), None),
        (
            message(content=["a", {"type": "text", "text": "b"}, {"type": "thinking", "text": "z"}, {"text": "c"}]),
            "abc",
        ),
        (message(content=[{"type": "image_url"}, 3, None]), ""),
        (message(content=5), None),
        ({"choices": []}, None),
        ({"choices": None}, None),
        ({"choices": {"0": 1}}, None),
        ([1, 2], None),
        ("text", None),
        (None, None),
    ],
)
def test_the_text_of_an_answer_in_any_shape(response: object, text: str | None) -> None:
    assert GENERIC.view(response).text == text


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([], ()),
        (None, ()),
        ("x", ()),
        ([{"function": {"name": "f", "arguments": ""}}], (ToolCall("call_0", "f", "{}"),)),
        ([{"id": None, "function": {"name": "f"}}], (ToolCall("call_0", "f", "{}"),)),
        ([{"id": "a", "function": {"name": "f", "arguments": {"x": 1}}}], (ToolCall("a", "f", '{"x":1}'),)),
        ([{"id": "a", "function": {"name": "f", "arguments": "{not json"}}], (ToolCall("a", "f", "{not json"),)),
        ([{"id": "a", "type": "custom", "custom": {"name": "g", "input": "raw"}}], (ToolCall("a", "g", "raw"),)),
        ([3, {"function": None}, {"function": {"name": "f", "arguments": "{}"}}], (ToolCall("call_2", "f", "{}"),)),
        ([{"function": {"name": "f", "arguments": object()}}], (ToolCall("call_0", "f", "{}"),)),
    ],
)
def test_tool_calls_in_any_shape(calls: object, expected: tuple[ToolCall, ...]) -> None:
    assert GENERIC.view(message(tool_calls=calls)).tool_calls == expected


def test_older_and_odd_words_for_the_end_are_told_in_the_common_ones() -> None:
    older = {
        "choices": [{"message": {"function_call": {"name": "f", "arguments": "{}"}}, "finish_reason": "function_call"}]
    }
    assert GENERIC.view(older).finish_reason == "tool_calls"
    assert GENERIC.view(older).tool_calls == (ToolCall("call_0", "f", "{}"),)
    short = {"choices": [{"message": {"content": "x"}, "finish_reason": "insufficient_system_resource"}]}
    assert GENERIC.view(short).finish_reason == "error"
    assert GENERIC.view({"choices": [{"finish_reason": "brand_new"}]}).finish_reason == "brand_new"
    assert GENERIC.view({"choices": [{"finish_reason": 7}]}).finish_reason is None


@pytest.mark.parametrize(
    ("given_usage", "usage"),
    [
        (None, None),
        ([], None),
        ("x", None),
        ({}, None),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        ({"prompt_tokens": "3", "completion_tokens": 4.0}, Usage(3, 4, 7)),
        ({"prompt_tokens": 3, "total_tokens": 10}, Usage(3, 7, 10)),
        ({"completion_tokens": 3, "total_tokens": 10}, Usage(7, 3, 10)),
        ({"prompt_tokens": True, "completion_tokens": 3}, Usage(None, 3, None)),
        ({"prompt_tokens": -1, "completion_tokens": 3}, Usage(None, 3, None)),
        ({"prompt_tokens": 30, "total_tokens": 10}, Usage(30, None, 10)),
        ({"total_tokens": 10}, Usage(None, None, 10)),
        ({"input_tokens": 1, "output_tokens": 2}, Usage(1, 2, 3)),
        ({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 120}, Usage(7, 2, 120)),
        (
            {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 8, "prompt_tokens_details": None},
            Usage(9, 1, 10, 8),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 5, "reasoning_tokens": 2, "completion_tokens_details": "odd"},
            Usage(9, 5, 14, None, 2),
        ),
    ],
)
def test_odd_usage_never_costs_an_answer_and_is_charged_only_when_both_sides_are_known(
    given_usage: object, usage: Usage | None
) -> None:
    reading = read({"choices": [{}], "usage": given_usage})
    assert (reading.usage, reading.fault, reading.advice.verdict) == (usage, None, "done")
    complete = usage is not None and usage.input_tokens is not None and usage.output_tokens is not None
    assert reading.advice.charge == ("usage" if complete else "kept")


def test_an_answer_without_choices_is_one_if_it_says_what_it_cost() -> None:
    reading = read({"choices": None, "usage": {"prompt_tokens": 5, "completion_tokens": 0}})
    assert (reading.fault, reading.advice.verdict, reading.usage) == (None, "done", Usage(5, 0, 5))


def test_geminis_hidden_output_is_counted_for_gemini_alone() -> None:
    body = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 120}}
    assert read(body, wire=FORMATS["gemini"]).usage == Usage(7, 113, 120)
    body["usage"]["total_tokens"] = 8  # type: ignore[call-overload]  # the dict above
    assert read(body, wire=FORMATS["gemini"]).usage == Usage(7, 2, 8)


def test_an_answer_with_half_an_emoji_or_a_byte_order_mark_is_an_answer() -> None:
    body = b'\xef\xbb\xbf{"choices": [{"message": {"content": "\\ud83d"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
    reading = read(body)
    assert (reading.fault, reading.advice.charge) == (None, "usage")
    assert GENERIC.view(GENERIC.decode(body)).text == "�"


def test_the_word_error_in_a_text_or_null_as_error_is_no_error() -> None:
    for extra in ({"error": None}, {"error": ""}, {"error": {}}, {"message": "fine"}):
        assert read({**message(content='say "error": "error"'), **extra}).fault is None
    assert read({"choices": [{"message": {"error": "x"}, "error": None}]}).fault is None


# --- anything at all ----------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [
        "error",
        "choices",
        "usage",
        "message",
        "code",
        "type",
        "detail",
        "details",
        "metadata",
        "headers",
        "raw",
        "status",
        "x_groq",
        "id",
        "title",
        "prompt_tokens",
        "total_tokens",
        "completion_tokens_details",
        "@type",
        "violations",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "content",
        "text",
        "finish_reason",
        "retryDelay",
        "quotaId",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.sampled_from(
    ["google.rpc.RetryInfo", "google.rpc.QuotaFailure", "26s", "error", "PerDay"]
)  # fmt: skip
SHAPES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5))
BODIES = st.binary(max_size=100) | SHAPES.map(lambda shape: json.dumps(shape).encode("utf-8", "surrogatepass"))


@given(
    st.integers(-1, 1000),
    st.dictionaries(st.sampled_from(["retry-after", "x-request-id", "date"]) | st.text(), st.text(st.characters())),
    BODIES,
    st.sampled_from(sorted(FORMATS)),
)
def test_reading_never_raises_and_always_fits_on_a_channel(
    status: int, headers: dict[str, str], body: bytes, provider: str
) -> None:
    reading = FORMATS[provider].read(status, headers, memoryview(body), now_s=NOW_S)
    assert (reading.fault is None) == (reading.advice.verdict == "done")
    assert msgspec.msgpack.encode(reading)
    if reading.advice.charge == "usage":
        assert reading.usage is not None
        assert reading.usage.input_tokens is not None
        assert reading.usage.output_tokens is not None
    if reading.fault is not None:
        assert reading.fault.kind == reading.advice.kind
        assert type(error_of(reading.fault)).__name__ == reading.fault.kind


@given(SHAPES)
def test_viewing_never_raises(shape: object) -> None:
    for response in (shape, {"choices": [shape]}, message(content=shape, tool_calls=shape, function_call=shape)):
        view = GENERIC.view(response)
        assert view.text is None or isinstance(view.text, str)


@pytest.mark.parametrize("depth", [50, 400, 5_000])
def test_a_deeply_nested_error_is_read_or_refused_like_any_other(depth: int) -> None:
    body = b'{"error": {"message": ' + b"[" * depth + b"]" * depth + b"}}"
    for status in (200, 400, 500):
        assert read(body, status).fault is not None


PLAIN = {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, "choices": [{}]}
ODD = [
    {},
    {"error": {"message": "no", "code": "rate_limit_exceeded"}},
    {"error": None},
    {"x_groq": {"error": "no"}},
    {"choices": []},
    {"choices": None},
    {"choices": {}},
    {"usage": None},
    *(
        {"usage": {**PLAIN["usage"], **more}}
        for more in (
            {"prompt_tokens": "3"},
            {"prompt_tokens": 3.0},
            {"prompt_tokens": -3},
            {"prompt_tokens": True},
            {"prompt_tokens": 10**13, "total_tokens": 10**13 + 4},
            {"total_tokens": 9},
            {"total_tokens": None},
            {"input_tokens": 5},
            {"prompt_tokens_details": {"cached_tokens": 2}},
            {"prompt_tokens_details": {"cached_tokens": None}},
            {"prompt_tokens_details": []},
            {"input_tokens_details": {"cached_tokens": 1}},
            {"completion_tokens_details": {"reasoning_tokens": 2}},
            {"output_tokens_details": {"reasoning_tokens": 2}},
            {"prompt_cache_hit_tokens": 2},
            {"reasoning_tokens": 2},
        )
    ),
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("dialect", FORMATS)
def test_the_short_way_to_the_usage_finds_what_the_long_one_finds(
    odd: dict[str, object], escaped: bool, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({**PLAIN, **odd}).encode()
    if escaped:
        body = body.replace(b'"error"', b'"\\u0065rror"')
    short = FORMATS[dialect].read(200, {}, body, now_s=NOW_S)
    monkeypatch.setattr(openai_chat, "_plain_usage", lambda body: None)
    assert FORMATS[dialect].read(200, {}, body, now_s=NOW_S) == short
