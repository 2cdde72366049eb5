"""Writing a call to Ollama's own chat path: its own arguments as they are, OpenAI's where its server reads them.

The recorded request is what ollama-python 0.6.3 sent (2026-11-20).
"""

# ruff: noqa: E501  # a table reads best with one case on a line

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from chat_answers import fixture
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidCall
from engine.estimate import PER_MEDIUM, estimate_chat, with_margin
from engine.providers.ollama_native import OllamaChat

OLLAMA = OllamaChat()
HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PNG = base64.b64encode(b"\x89PNG").decode()
URL = f"data:image/png;base64,{PNG}"


def body_of(**arguments: Any) -> Any:
    return json.loads(OLLAMA.encode({**HELLO, **arguments}).body)


def message_of(*messages: dict[str, Any]) -> Any:
    return body_of(messages=list(messages))["messages"][-1]


def problem_of(**arguments: Any) -> InvalidCall:
    with pytest.raises(InvalidCall) as caught:
        OLLAMA.encode({**HELLO, **arguments})
    assert caught.value.message.startswith(caught.value.argument + ": ")
    assert caught.value.message.endswith("Nothing was sent.")
    return caught.value


def test_the_request_of_the_vendors_own_client_is_sent_as_it_sends_it() -> None:
    recorded = json.loads(fixture("ollama_native/recorded_request.json"))
    assert body_of(**recorded["body"]) == recorded["body"]
    assert recorded["path"] == OLLAMA.path


def test_the_same_request_may_be_written_in_openais_words() -> None:
    recorded = json.loads(fixture("ollama_native/recorded_request.json"))["body"]
    told = {name: value for name, value in recorded.items() if name not in ("options", "stream", "think")}
    assert body_of(**told, temperature=0.2, max_tokens=64, num_ctx=8192, reasoning_effort="none") == recorded


@pytest.mark.parametrize(("given_as", "streaming"), [({}, False), ({"stream": None}, False), ({"stream": False}, False), ({"stream": True}, True)])  # fmt: skip
def test_whether_to_stream_is_always_said(given_as: dict[str, Any], streaming: bool) -> None:
    assert body_of(**given_as)["stream"] is streaming
    assert OLLAMA.encode({**HELLO, **given_as}).streaming is streaming


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ({"temperature": 0.5, "top_p": 1, "top_k": 3, "seed": 0}, {"options": {"temperature": 0.5, "top_p": 1, "top_k": 3, "seed": 0}}),
        ({"max_tokens": 5}, {"options": {"num_predict": 5}}),
        ({"max_completion_tokens": 5}, {"options": {"num_predict": 5}}),
        ({"max_tokens": 5, "options": {"num_predict": 5}}, {"options": {"num_predict": 5}}),
        ({"stop": "x"}, {"options": {"stop": ["x"]}}),
        ({"options": {"stop": "x"}, "stop": ["x"]}, {"options": {"stop": ["x"]}}),
        ({"options": {"mirostat": 1, "num_ctx": None}, "min_p": 0.1}, {"options": {"mirostat": 1, "min_p": 0.1}}),
        ({"options": {}}, {"options": {}}),
        ({"response_format": {"type": "json_object"}}, {"format": "json"}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}}, {"format": {"type": "object"}}),
        ({"response_format": {"type": "text"}}, {}),
        ({"format": {"type": "object"}}, {"format": {"type": "object"}}),
        ({"reasoning_effort": "high"}, {"think": "high"}),
        ({"reasoning_effort": "high", "think": True}, {"think": True}),
        ({"think": False, "keep_alive": "5m"}, {"think": False, "keep_alive": "5m"}),
        ({"keep_alive": 0, "brand_new": {"x": 1}, "user": "u", "n": 1}, {"keep_alive": 0, "brand_new": {"x": 1}, "user": "u", "n": 1}),
        ({"tools": None, "temperature": None, "options": None}, {}),
        ({"tools": []}, {"tools": []}),
    ],
)  # fmt: skip
def test_every_argument_is_sent_where_the_server_reads_it(arguments: dict[str, Any], sent: dict[str, Any]) -> None:
    assert body_of(**arguments) == {**HELLO, "stream": False, **sent}


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ({"role": "developer", "content": "x"}, {"role": "system", "content": "x"}),
        ({"role": "user", "content": ["a", {"type": "text", "text": "b"}]}, {"role": "user", "content": "a\nb"}),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": URL}}, {"type": "text", "text": "b"}]}, {"role": "user", "content": "b", "images": [PNG]}),
        ({"role": "user", "content": [{"type": "input_image", "image_url": URL}], "images": ["QQ=="]}, {"role": "user", "content": "", "images": ["QQ==", PNG]}),
        ({"role": "user", "content": "x", "images": [b"\x89PNG"]}, {"role": "user", "content": "x", "images": [PNG]}),
        ({"role": "assistant", "content": "x", "reasoning": "r", "refusal": None}, {"role": "assistant", "content": "x", "thinking": "r"}),
        ({"role": "assistant", "content": "x", "reasoning_content": "r", "thinking": "t"}, {"role": "assistant", "content": "x", "thinking": "t"}),
        ({"role": "tool", "name": "f", "content": "x"}, {"role": "tool", "tool_name": "f", "content": "x"}),
        ({"role": "user", "name": "me", "content": "x"}, {"role": "user", "name": "me", "content": "x"}),
    ],
)  # fmt: skip
def test_every_message_is_sent_in_ollamas_terms(message: dict[str, Any], sent: dict[str, Any]) -> None:
    assert message_of(message) == sent


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [('{"city": "Paris"}', {"city": "Paris"}), ({"city": 1}, {"city": 1}), ("", {}), (" ", {}), (None, {})],
)
def test_the_arguments_of_a_tool_call_are_sent_as_an_object(arguments: object, sent: object) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    found = message_of({"role": "assistant", "content": None, "tool_calls": [call]})
    assert found["content"] == ""
    assert found["tool_calls"] == [{"id": "c", "type": "function", "function": {"name": "f", "arguments": sent}}]


def test_a_tools_answer_names_the_tool_that_its_call_was_for() -> None:
    calls = [{"id": name, "function": {"name": tool, "arguments": "{}"}} for name, tool in (("c1", "f"), ("c2", "g"))]
    before = {"role": "assistant", "content": "", "tool_calls": calls}
    answer = message_of(before, {"role": "tool", "tool_call_id": "c2", "content": "5"})
    assert answer == {"role": "tool", "tool_call_id": "c2", "tool_name": "g", "content": "5"}
    assert "tool_name" not in message_of(before, {"role": "tool", "tool_call_id": "c3", "content": "5"})


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("model", {"model": ""}),
        ("model", {"model": None}),
        ("messages", {"messages": None}),
        ("messages", {"messages": "hi"}),
        ("messages[0].role", {"messages": [{"content": "x"}]}),
        ("messages[0].content", {"messages": [{"role": "user", "content": 3}]}),
        ('messages[1]["content"][0]', {"messages": [{"role": "user"}, {"role": "user", "content": [{"type": "input_audio"}]}]}),
        ('messages[0]["content"][1]', {"messages": [{"role": "user", "content": ["a", {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]}),
        ('messages[0]["content"][0]', {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        ('messages[0]["content"][0]', {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png,raw"}]}]}),
        ("messages[0].tool_calls[0].function.arguments", {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{oops"}}]}]}),
        ("messages[0].tool_calls[0].function.arguments", {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}]}),
        ("messages[0].tool_calls[0].function.name", {"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}),
        ("temperature", {"temperature": -1}),
        ("options.temperature", {"options": {"temperature": "hot"}}),
        ("options", {"options": [1]}),
        ("top_p", {"top_p": 1.5}),
        ("n", {"n": 2}),
        ("max_tokens", {"max_tokens": 0}),
        ("num_predict", {"num_predict": -3}),
        ("temperature", {"temperature": 1, "options": {"temperature": 0.5}}),
        ("max_completion_tokens", {"max_tokens": 5, "max_completion_tokens": 6}),
        ("response_format", {"response_format": {"type": "xml"}}),
        ("response_format", {"response_format": {"type": "json_schema"}}),
        ("response_format", {"response_format": {"type": "json_object"}, "format": {"type": "object"}}),
        ("stream", {"stream": "yes"}),
        ("api_key", {"api_key": "secret"}),
        ("brand_new", {"brand_new": {1, object()}}),
        ("messages[0]", {"messages": [{"role": "user", "content": "\ud800"}]}),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_named(argument: str, arguments: dict[str, Any]) -> None:
    assert problem_of(**arguments).argument == argument


@pytest.mark.parametrize(
    ("arguments", "cap"),
    [({}, None), ({"max_tokens": 7, "n": 1}, 7), ({"options": {"num_predict": 9}}, 9), ({"num_predict": 0}, 0)]
    + [({"num_predict": endless}, None) for endless in (-1, -2)],
)
def test_the_cap_on_the_output_is_told_the_engine(arguments: dict[str, Any], cap: int | None) -> None:
    assert OLLAMA.encode({**HELLO, **arguments}).output_cap == cap


def test_the_estimate_counts_what_the_model_reads() -> None:
    assert OLLAMA.encode(HELLO).input_tokens == estimate_chat(HELLO)
    steered = {"format": {"type": "object"}, "options": {"num_ctx": 5}, "keep_alive": "5m"}
    assert OLLAMA.encode({**HELLO, **steered}).input_tokens == estimate_chat(HELLO)
    tools = {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}
    assert OLLAMA.encode({**HELLO, **tools}).input_tokens == estimate_chat({**HELLO, **tools})
    assert OLLAMA.encode(HELLO, count_text=lambda text: 100).input_tokens == with_margin(104)


@pytest.mark.parametrize("message", [{"content": "", "images": ["A" * 90_000]}, {"content": [{"type": "image_url", "image_url": URL + "A" * 90_000}]}])  # fmt: skip
def test_an_image_is_counted_as_one_whatever_its_size(message: dict[str, Any]) -> None:
    found = OLLAMA.encode({"model": "m", "messages": [{"role": "user", **message}]}).input_tokens
    assert found == with_margin(PER_MEDIUM) + estimate_chat({"messages": [{"role": "user", "content": ""}]})


def test_the_callers_arguments_are_not_changed() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    parts = ["a", {"type": "image_url", "image_url": {"url": URL}}]
    arguments = {
        **HELLO,
        "messages": [
            {"role": "user", "content": parts, "images": [PNG]},
            {"role": "assistant", "tool_calls": [call], "x": None},
        ],
        "options": {"stop": "x", "seed": None},
        "temperature": 1,
        "response_format": {"type": "json_object"},
    }
    before = copy.deepcopy(arguments)
    OLLAMA.encode(arguments)
    assert arguments == before


NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["role", "content", "tool_calls", "function", "name", "arguments", "type", "image_url", "url", "id", "images", "tool_call_id", "text"]) | st.text(max_size=3),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["model", "messages", "options", "tools", "stop", "response_format", "format", "max_tokens", "think", "x"]), NONSENSE), st.lists(NONSENSE, max_size=3))  # fmt: skip
def test_any_arguments_are_written_or_refused(arguments: dict[str, Any], messages: list[Any]) -> None:
    tools = [{**message, "role": "tool"} for message in messages if isinstance(message, dict)]
    for tried in (arguments, {**HELLO, **arguments}, {**arguments, "model": "m", "messages": tools}):
        try:
            encoded = OLLAMA.encode(tried)
        except InvalidCall:
            continue
        assert json.loads(encoded.body)["stream"] is encoded.streaming
        assert encoded.input_tokens >= 0
