"""Writing a call to the Responses endpoint: the body the SDK sends too, what is refused in one line, what it counts as."""

# ruff: noqa: E501  # a table reads best with one case on a line

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from responses_answers import WIRE, fixture

from engine.errors import InvalidCall
from engine.estimate import PER_MEDIUM, PER_TOOL

ASKED: dict[str, Any] = {"model": "gpt-5", "input": "Hi"}
PICTURE = {"type": "input_image", "file_id": "f"}
TOOL = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}


def body_of(**arguments: object) -> dict[str, Any]:
    found = json.loads(WIRE.encode({**ASKED, **arguments}).body)
    assert isinstance(found, dict)
    return found


def counted(**arguments: object) -> int:
    return WIRE.encode({**ASKED, **arguments}, count_text=len).input_tokens


@pytest.mark.parametrize(
    ("name", "arguments", "streaming"),
    [
        ("recorded_request.json", {"model": "gpt-5", "input": "Hi", "instructions": "Be brief.", "max_output_tokens": 256, "reasoning": {"effort": "low"}, "store": False, "temperature": None}, False),
        ("recorded_request_stream.json", {"model": "gpt-5", "input": [{"role": "user", "content": "Hi"}], "stream": True}, True),
    ],
)  # fmt: skip
def test_the_body_is_the_one_the_sdk_sends(name: str, arguments: dict[str, object], streaming: bool) -> None:
    before = copy.deepcopy(arguments)
    encoded = WIRE.encode(arguments)
    recorded = json.loads(fixture(name))
    assert json.loads(encoded.body) == recorded["body"]
    assert recorded["path"] == "/v1" + WIRE.path
    assert (encoded.streaming, encoded.output_cap) == (streaming, arguments.get("max_output_tokens"))
    assert arguments == before


def test_every_documented_argument_is_sent_as_it_is() -> None:
    arguments: dict[str, object] = {
        "model": "m", "input": [{"type": "function_call_output", "call_id": "call_1", "output": "7"}],
        "instructions": "i", "previous_response_id": "resp_0", "conversation": {"id": "conv_1"},
        "prompt": {"id": "pmpt_1"}, "max_output_tokens": 1, "max_tool_calls": 1,
        "reasoning": {"effort": "xhigh", "summary": "auto"}, "tools": [TOOL, {"type": "web_search"}],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}, "verbosity": "low"},
        "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": False, "temperature": 2,
        "top_p": 0, "top_logprobs": 20, "truncation": "auto", "context_management": [{"type": "compaction"}],
        "include": ["reasoning.encrypted_content"], "store": False, "background": True, "stream": True,
        "stream_options": {"include_obfuscation": False}, "service_tier": "flex", "prompt_cache_key": "k",
        "prompt_cache_retention": "24h", "safety_identifier": "s", "user": "u", "metadata": {"a": "b"},
    }  # fmt: skip
    assert set(arguments) == set(WIRE.options.__struct_fields__)
    assert json.loads(WIRE.encode(arguments).body) == arguments


def test_what_openai_added_yesterday_is_passed_on() -> None:
    assert body_of(brand_new={"a": 1})["brand_new"] == {"a": 1}
    assert body_of(reasoning={"effort": "gigantic", "mode": "x"})["reasoning"] == {"effort": "gigantic", "mode": "x"}


@pytest.mark.parametrize("goes_on", ["prompt", "previous_response_id", "conversation"])
def test_input_may_be_missing_where_the_conversation_goes_on_by_itself(goes_on: str) -> None:
    value = {"id": "pmpt_1"} if goes_on == "prompt" else "resp_0"
    assert json.loads(WIRE.encode({"model": "m", goes_on: value}).body) == {"model": "m", goes_on: value}
    assert json.loads(WIRE.encode({"prompt": {"id": "p"}}).body) == {"prompt": {"id": "p"}}


@pytest.mark.parametrize(
    ("arguments", "argument", "says"),
    [
        ({"messages": [{"role": "user", "content": "Hi"}]}, "messages", "pass input=[...] instead"),
        ({"max_tokens": 5}, "max_tokens", "pass max_output_tokens instead"),
        ({"max_completion_tokens": 5}, "max_completion_tokens", "pass max_output_tokens instead"),
        ({"response_format": {"type": "text"}}, "response_format", 'pass text={"format": ...} instead'),
        ({"reasoning_effort": "low"}, "reasoning_effort", 'pass reasoning={"effort": ...} instead'),
        ({"verbosity": "low"}, "verbosity", 'pass text={"verbosity": ...} instead'),
        ({"functions": []}, "functions", "pass tools=[...] instead"),
        ({"function_call": "auto"}, "function_call", "pass tool_choice instead"),
        ({"prompt": "Hi"}, "prompt", "pass a text as input='...'"),
        ({"model": None}, "model", "missing"),
        ({"model": ""}, "model", "length >= 1"),
        ({"input": None}, "input", "missing"),
        ({"input": 5}, "input", "got `int`"),
        ({"input": ["Hi"]}, "input[0]", "got `str`"),
        ({"instructions": ["i"]}, "instructions", "got `array`"),
        ({"previous_response_id": ""}, "previous_response_id", "length >= 1"),
        ({"conversation": 1}, "conversation", "got `int`"),
        ({"max_output_tokens": 0}, "max_output_tokens", ">= 1"),
        ({"max_output_tokens": True}, "max_output_tokens", "got `bool`"),
        ({"max_output_tokens": 1.5}, "max_output_tokens", "got `float`"),
        ({"max_tool_calls": 0}, "max_tool_calls", ">= 1"),
        ({"temperature": 2.01}, "temperature", "<= 2.0"),
        ({"temperature": -0.1}, "temperature", ">= 0.0"),
        ({"temperature": float("nan")}, "temperature", ">= 0.0"),
        ({"top_p": 1.01}, "top_p", "<= 1.0"),
        ({"top_p": "1"}, "top_p", "got `str`"),
        ({"top_logprobs": 21}, "top_logprobs", "<= 20"),
        ({"top_logprobs": -1}, "top_logprobs", ">= 0"),
        ({"truncation": "none"}, "truncation", "'none'"),
        ({"include": "all"}, "include", "got `str`"),
        ({"store": "no"}, "store", "got `str`"),
        ({"background": 1}, "background", "got `int`"),
        ({"stream": "yes"}, "stream", "got `str`"),
        ({"stream_options": True}, "stream_options", "got `bool`"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls", "got `int`"),
        ({"reasoning": "low"}, "reasoning", "got `str`"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort", "got `int`"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata", "<= 16"),
        ({"metadata": {"k" * 65: "v"}}, "metadata", "<= 64"),
        ({"metadata": {"k": "v" * 513}}, "metadata[...]", "<= 512"),
        ({"text": {"format": {"name": "n"}}}, "text.format.type", "missing"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name", "add it"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", "add it"),
        ({"text": {"format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}}}, "text.format.name", "take it out of json_schema"),
        ({"tools": {"f": TOOL}}, "tools", "got `object`"),
        ({"tools": [TOOL, {"type": "function", "function": {"name": "f"}}]}, "tools[1]", "written as for chat"),
        ({"tools": [{"type": "function"}]}, "tools[0]", 'no "name"'),
        ({"tools": [{"name": "f"}]}, "tools[0]", 'no "type"'),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice", "written as for chat"),
        ({"tool_choice": 1}, "tool_choice", "got `int`"),
        ({"api_key": "sk-1"}, "api_key", "never sent in its body"),
        ({"extra_headers": {}}, "extra_headers", "never sent in its body"),
        ({"brand_new": object()}, "brand_new", "cannot be written as JSON"),
    ],
)  # fmt: skip
def test_an_argument_that_cannot_be_right_is_refused_in_one_line(
    arguments: dict[str, object], argument: str, says: str
) -> None:
    with pytest.raises(InvalidCall) as refused:
        WIRE.encode({**ASKED, **arguments})
    text = str(refused.value)
    assert refused.value.argument == argument
    assert says in text
    assert (text.startswith(argument), text.endswith("Nothing was sent."), "\n" in text) == (True, True, False)


def test_arguments_that_are_none_are_as_if_not_given() -> None:
    assert body_of(messages=None, max_tokens=None, tools=None, text=None) == ASKED
    assert json.loads(WIRE.encode({"model": "m", "input": "a", "stream": False}).body)["stream"] is False


# --- what it counts as: `count_text` is `len`, a message costs 4, and a tenth comes on top ------------------------------


@pytest.mark.parametrize(
    ("arguments", "total"),
    [
        ({"input": "x" * 96}, 96 + 4),
        ({"input": "x" * 96, "instructions": "y" * 96}, 200),
        ({"input": [{"role": "user", "content": "x" * 96}] * 2}, 200),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "x" * 96}]}]}, 100),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:" + "A" * 99_999}]}]}, 4 + PER_MEDIUM),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "A" * 99_999}]}]}, 4 + PER_MEDIUM),
        ({"input": [{"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f" * 6, "arguments": "x" * 90}]}, 100),
        ({"input": [{"type": "function_call_output", "call_id": "call_1", "output": "x" * 96}]}, 100),
        ({"input": [{"type": "function_call_output", "call_id": "call_1", "output": [PICTURE]}]}, 4 + PER_MEDIUM),
        ({"input": [{"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": "A" * 99_999}}]}, 4 + PER_MEDIUM),
        ({"input": [{"type": "image_generation_call", "id": "ig_1", "result": "A" * 99_999}]}, 4 + PER_MEDIUM),
        ({"input": [{"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "x" * 96}]}]}, 100),
        ({"input": [{"role": "user", "content": [PICTURE, {"type": "input_text", "text": "x" * 96}]}]}, PER_MEDIUM + 100),
        ({"input": "x" * 96, "metadata": {"k": "v" * 500}, "include": ["a" * 99], "conversation": {"id": "c"}}, 100),
        ({"input": "x" * 96, "tools": [{"type": "t" * 285}]}, 100 + 100 + PER_TOOL),
    ],
)  # fmt: skip
def test_the_estimate_counts_what_the_model_reads(arguments: dict[str, object], total: int) -> None:
    assert counted(**arguments) == -(-11 * total // 10)


def test_the_form_asked_for_counts_like_a_tool() -> None:
    schema = {"format": {"type": "json_schema", "name": "n", "schema": {"description": "x" * 900}}}
    assert counted(text=schema) > counted() + 300
