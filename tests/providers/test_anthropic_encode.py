"""Writing a Messages call: what is Anthropic's is sent as it is, what is OpenAI's is turned into it, and what the
version refuses is named before it is sent.

The recorded requests are what anthropic 2.11.0 sends (2026-11-20).
"""

# ruff: noqa: E501  # a table reads best with one case on a line

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from anthropic_answers import NEW, OLD, loaded
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidCall
from engine.estimate import PER_MEDIUM, PER_MESSAGE, estimate_text, estimate_tools, with_margin
from engine.providers.anthropic_arguments import DEFAULT_MAX_TOKENS
from engine.providers.anthropic_messages import AnthropicMessages

HI = {"role": "user", "content": "Hi"}
HELLO: dict[str, Any] = {"model": "claude", "max_tokens": 9, "messages": [HI]}
PNG = "data:image/png;base64,iVBORw0KGgo="
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}
USE = {"type": "tool_use", "id": "c1", "name": "look", "input": {"at": "sky"}}


def body_of(arguments: dict[str, Any], wire: AnthropicMessages = OLD) -> Any:
    return json.loads(wire.encode(arguments).body)


def sent(*messages: object, **more: object) -> Any:
    """The messages of the body that these messages become."""
    return body_of({**HELLO, "messages": list(messages), **more})["messages"]


def problem_of(arguments: Any, wire: AnthropicMessages = OLD) -> InvalidCall:
    with pytest.raises(InvalidCall) as caught:
        wire.encode(arguments)
    assert caught.value.message.startswith(caught.value.argument + ": ")
    assert caught.value.message.endswith("Nothing was sent.")
    assert len(caught.value.message) < 500
    return caught.value


# --- what is sent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["recorded_request.json", "recorded_request_stream.json"])
def test_the_requests_of_the_vendors_own_client_are_sent_as_it_sends_them(name: str) -> None:
    recorded = loaded(name)
    encoded = NEW.encode(recorded["body"])
    assert json.loads(encoded.body) == recorded["body"]
    assert (NEW.path, encoded.output_cap) == (recorded["path"], 256)
    assert encoded.streaming == ("stream" in name)
    assert NEW.headers.items() <= recorded["headers"].items()


def test_every_argument_of_the_older_version_is_sent_as_it_was_set() -> None:
    arguments = {
        **HELLO,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "stop_sequences": ["a"],
        "stream": False,
        "temperature": 0,
        "top_p": 1,
        "top_k": 3,
        "tools": [{"name": "t", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "thinking": {"type": "disabled"},
        "output_config": {"effort": "xhigh", "format": {"type": "json_schema", "schema": {}}},
        "metadata": {"user_id": "u"},
        "service_tier": "standard_only",
        "cache_control": {"type": "ephemeral"},
        "container": "c",
        "inference_geo": "eu",
        "speed": "fast",
    }
    before = copy.deepcopy(arguments)
    assert body_of(arguments) == arguments == before


def test_what_is_none_is_not_sent() -> None:
    assert body_of({**HELLO, "temperature": None, "stop": None, "system": None, "tools": None}) == HELLO


@pytest.mark.parametrize("cap", [{}, {"max_tokens": None}])
def test_without_a_cap_one_is_sent_that_is_not_the_callers(cap: dict[str, Any]) -> None:
    encoded = OLD.encode({"model": "claude", "messages": [HI], **cap})
    assert json.loads(encoded.body)["max_tokens"] == DEFAULT_MAX_TOKENS == 8192
    assert encoded.output_cap is None


@pytest.mark.parametrize("cap", [{"max_tokens": 7}, {"max_completion_tokens": 7}, {"max_tokens": 7, "max_completion_tokens": 7}])  # fmt: skip
def test_the_cap_is_sent_once_under_their_name(cap: dict[str, Any]) -> None:
    encoded = OLD.encode({"model": "claude", "messages": [HI], **cap})
    assert json.loads(encoded.body) == {"model": "claude", "messages": [HI], "max_tokens": 7}
    assert encoded.output_cap == 7


def test_a_cap_of_zero_warms_the_cache_and_is_the_callers() -> None:
    encoded = OLD.encode({**HELLO, "max_tokens": 0})
    assert (json.loads(encoded.body)["max_tokens"], encoded.output_cap) == (0, 0)


@pytest.mark.parametrize(("stop", "sequences"), [("x", ["x"]), (["x", "y"], ["x", "y"])])
def test_stop_is_sent_as_stop_sequences(stop: object, sequences: list[str]) -> None:
    assert body_of({**HELLO, "stop": stop}) == {**HELLO, "stop_sequences": sequences}


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "argument"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [3]}]}, "messages[0].content[0]"),
        ({"messages": [HI, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": "x"}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]}, "messages[0].tool_calls[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{**CALL, "id": ""}]}]}, "messages[0].tool_calls[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": '{"a'}}]}]}, "messages[0].tool_calls[0].function.arguments"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "[1]"}}]}]}, "messages[0].tool_calls[0].function.arguments"),
        ({"messages": [{"role": "assistant", "content": "x", "function_call": {"name": "f"}}]}, "messages[0].function_call"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]}, "messages[0].content[0].image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png,raw"}]}]}, "messages[0].content[0].image_url"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": 8}, "max_tokens"),
        ({"temperature": 1.1}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop": "a", "stop_sequences": ["a"]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0]"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1023}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.budget_tokens"),
        ({"n": 2}, "n"),
        ({"max_token": 2}, "max_token"),
        ({"api_key": "sk-ant-1234567890"}, "api_key"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_named(more: dict[str, Any], argument: str) -> None:
    assert problem_of({**HELLO, **more}).argument == argument


def test_a_budget_for_thinking_must_leave_room_for_an_answer() -> None:
    thinking = {"type": "enabled", "budget_tokens": 8192}
    assert (
        "8192, which is sent where none is set"
        in problem_of({**HELLO, "max_tokens": None, "thinking": thinking}).message
    )
    assert body_of({**HELLO, "max_tokens": 8193, "thinking": thinking})["thinking"] == thinking


def test_a_misspelt_argument_is_answered_with_the_one_that_was_meant() -> None:
    assert "did you mean stop_sequences?" in problem_of({**HELLO, "stop_sequence": ["x"]}).message


def test_a_message_quotes_nothing_of_the_callers() -> None:
    secret = "sk-ant-secret"
    for broken in ({"tool_choice": secret}, {"messages": [{"role": secret, "content": "x"}]}):
        assert secret not in problem_of({**HELLO, **broken}).message


# --- versions ---------------------------------------------------------------------------------------------------------


DOCUMENT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}
CITED = {"type": "text", "text": "t", "citations": [{"type": "char_location"}]}
STRICT = [
    ({"temperature": 1.0}, "temperature"),
    ({"temperature": 0}, "temperature"),
    ({"top_p": 1}, "top_p"),
    ({"top_k": 5}, "top_k"),
    ({"messages": [HI, {"role": "assistant", "content": [DOCUMENT]}]}, "messages[1].content[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, CITED]}]}, "messages[0].content[1]"),
]


@pytest.mark.parametrize(("more", "argument"), STRICT)
def test_what_the_newer_version_refuses_is_refused_before_it_is_sent(more: dict[str, Any], argument: str) -> None:
    problem = problem_of({**HELLO, **more}, NEW)
    assert problem.argument == argument
    assert "2026-10-21" in problem.message
    assert "2023-06-01" in problem.message  # what to do
    assert body_of({**HELLO, **more}) == {**HELLO, **more}


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": None},
        {"messages": [{"role": "user", "content": [DOCUMENT]}]},
        {"messages": [{"role": "user", "content": [{**CITED, "citations": []}]}]},
        {"messages": [HI, {"role": "assistant", "content": [CITED]}]},
    ],
)
def test_the_newer_version_takes_all_else(more: dict[str, Any]) -> None:
    assert NEW.encode({**HELLO, **more})


def test_a_caller_who_sends_his_own_version_gets_the_format_of_that_version() -> None:
    assert (OLD.name, OLD.version) == ("anthropic_messages/2023-06-01", "2023-06-01")
    newer = OLD.headed({"anthropic-version": "2026-10-21", "x": "y"})
    assert newer.name == "anthropic_messages/2026-10-21"
    assert newer.headers == {"anthropic-version": "2026-10-21"}
    for same in ({}, {"anthropic-version": "2023-06-01"}, {"anthropic-beta": "x"}):
        assert OLD.headed(same) is OLD


# --- conversations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told", "system"),
    [
        (None, ["be brief"], "be brief"),
        ("be kind", [], "be kind"),
        ("be kind", ["be brief", "be true"], "be kind\n\nbe brief\n\nbe true"),
        (None, [""], None),
        (None, [None], None),
        (None, [[{"type": "text", "text": "a"}]], [{"type": "text", "text": "a"}]),
        ("k", [["a"], "b"], [{"type": "text", "text": "k"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        ([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}], ["b"], [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_messages_go_into_the_one_system(role: str, given: object, told: list[object], system: object) -> None:
    messages = [{"role": role, "content": content} for content in told]
    for conversation in ([*messages, HI], [HI, *messages]):
        body = body_of({**HELLO, "system": given, "messages": conversation})
        assert body["messages"] == [HI]
        assert body.get("system") == system


def test_tool_calls_and_their_results_become_blocks_and_all_results_of_a_turn_one_message() -> None:
    second = {"id": "c2", "type": "function", "function": {"name": "wait", "arguments": ""}}
    assert sent(
        HI,
        {"role": "assistant", "content": "I look.", "tool_calls": [CALL, second], "refusal": None},
        {"role": "tool", "tool_call_id": "c1", "content": "blue"},
        {"role": "system", "content": "be brief"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "late"}], "is_error": True},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": None},
    ) == [
        HI,
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "I look."}, USE, {"type": "tool_use", "id": "c2", "name": "wait", "input": {}}],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "blue"},
                {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "late"}], "is_error": True},
            ],
        },
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": [USE]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1"}]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "given"),
    [("{}", {}), ("", {}), ("  ", {}), (None, {}), ({"a": 1}, {"a": 1}), ('{"a":"\\ud83d"}', {"a": "\ufffd"})],
)
def test_the_arguments_of_a_tool_call_are_sent_as_an_object(arguments: object, given: object) -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": arguments}}
    (turn,) = sent({"role": "assistant", "content": "", "tool_calls": [call]})
    assert turn["content"] == [{"type": "tool_use", "id": "c", "name": "f", "input": given}]


@pytest.mark.parametrize(
    ("part", "block"),
    [
        ("plain", {"type": "text", "text": "plain"}),
        ({"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}),
        ({"type": "image_url", "image_url": "DATA:Image/JPEG;x=y;BASE64,AA"}, {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AA"}}),
        ({"type": "image_url", "image_url": {"url": "https://x.example/a,b.png"}}, {"type": "image", "source": {"type": "url", "url": "https://x.example/a,b.png"}}),
        ({"type": "image_url", "image_url": {"url": PNG}, "cache_control": {"type": "ephemeral"}}, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}, "cache_control": {"type": "ephemeral"}}),
    ],
)  # fmt: skip
def test_parts_become_blocks_in_messages_and_in_results(part: object, block: object) -> None:
    assert sent({"role": "user", "content": [part]}) == [{"role": "user", "content": [block]}]
    (turn,) = sent({"role": "tool", "tool_call_id": "c", "content": [part]})
    assert turn["content"] == [{"type": "tool_result", "tool_use_id": "c", "content": [block]}]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "thinking", "thinking": "Need weather.", "signature": "EqQB..."},
        {"type": "redacted_thinking", "data": "xyz"},
        USE,
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        {"type": "text", "text": "a", "citations": None},
        {"type": "something_new", "field": [1, None]},
    ],
)
def test_their_own_blocks_go_back_untouched(block: dict[str, Any]) -> None:
    turn = {"role": "assistant", "content": [block]}
    assert sent(HI, turn) == [HI, turn]


def test_an_answer_can_be_sent_back_as_it_came() -> None:
    answer = loaded("response_tool_use_thinking.json")
    turn = {"role": "assistant", "content": answer["content"]}
    assert sent(HI, turn)[1] == turn


def test_fields_of_openais_messages_that_have_no_place_are_left_out() -> None:
    extra = {"name": "bob", "refusal": None, "annotations": [], "reasoning_content": "hm", "tool_calls": []}
    assert sent(HI, {"role": "assistant", "content": "yes", **extra}) == [HI, {"role": "assistant", "content": "yes"}]


SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}}


@pytest.mark.parametrize(
    ("tool", "theirs"),
    [
        ({"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}, {"name": "f", "description": "d", "input_schema": SCHEMA}),
        ({"type": "function", "function": {"name": "f", "parameters": None, "strict": True}}, {"name": "f", "input_schema": {"type": "object", "properties": {}}, "strict": True}),
        ({"type": "function", "name": "f", "parameters": SCHEMA}, {"name": "f", "input_schema": SCHEMA}),
        ({"name": "f", "input_schema": SCHEMA}, {"name": "f", "input_schema": SCHEMA}),
        ({"type": "web_search_20260101", "name": "web_search", "max_uses": 2}, {"type": "web_search_20260101", "name": "web_search", "max_uses": 2}),
    ],
)  # fmt: skip
def test_tools_in_either_spelling(tool: object, theirs: object) -> None:
    assert body_of({**HELLO, "tools": [tool]})["tools"] == [theirs]


@pytest.mark.parametrize(
    ("choice", "theirs"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
        ({"type": "function", "name": "f"}, {"type": "tool", "name": "f"}),
        ({"type": "tool", "name": "f", "disable_parallel_tool_use": True}, {"type": "tool", "name": "f", "disable_parallel_tool_use": True}),
    ],
)  # fmt: skip
def test_the_choice_of_a_tool_in_either_spelling(choice: object, theirs: object) -> None:
    assert body_of({**HELLO, "tool_choice": choice})["tool_choice"] == theirs


def test_the_callers_conversation_is_not_changed() -> None:
    arguments = {
        **HELLO,
        "messages": [
            {"role": "system", "content": ["s"]},
            {"role": "assistant", "content": [{"type": "text", "text": "x"}], "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": ["r"]},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "stop": ["x"],
    }
    before = copy.deepcopy(arguments)
    OLD.encode(arguments)
    assert arguments == before


# --- the estimate -----------------------------------------------------------------------------------------------------


TEXT = "The quick brown fox jumps over the lazy dog."
BIG = "A" * 100_000


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, 0),
        ({"system": TEXT}, estimate_text(TEXT)),
        ({"system": [{"type": "text", "text": TEXT}]}, estimate_text(TEXT)),
        ({"messages": [HI, {"role": "system", "content": TEXT}]}, estimate_text(TEXT)),
        ({"messages": [HI, {"role": "assistant", "content": [{"type": "text", "text": TEXT}]}]}, PER_MESSAGE + estimate_text(TEXT)),
        ({"messages": [HI, {"role": "assistant", "content": [{"type": "thinking", "thinking": TEXT, "signature": BIG}]}]}, PER_MESSAGE + estimate_text(TEXT)),
        ({"messages": [HI, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + BIG}}]}]}, PER_MESSAGE + PER_MEDIUM),
        ({"messages": [HI, {"role": "tool", "tool_call_id": "c", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + BIG}}]}]}, 2 * PER_MESSAGE + PER_MEDIUM),
        ({"messages": [HI, {"role": "user", "content": [{"type": "document", "source": {"type": "base64", "data": BIG}}]}]}, PER_MESSAGE + PER_MEDIUM),
        ({"messages": [HI, {"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": TEXT}}]}]}, PER_MESSAGE + estimate_text(TEXT)),
        ({"messages": [HI, {"role": "user", "content": [{"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": TEXT}]}}]}]}, PER_MESSAGE + estimate_text(TEXT)),
        ({"tools": [{"name": "f", "input_schema": SCHEMA}]}, estimate_tools([{"name": "f", "input_schema": SCHEMA}])),
        ({"metadata": {"user_id": BIG}, "stop": [BIG]}, 0),
    ],
)  # fmt: skip
def test_the_estimate_counts_what_the_model_reads(more: dict[str, Any], expected: int) -> None:
    hello = PER_MESSAGE + estimate_text("Hi")
    assert OLD.encode({**HELLO, **more}).input_tokens == with_margin(hello + expected)


def test_a_counter_of_the_callers_own_is_asked_for_every_text() -> None:
    heard: list[str] = []

    def counted(text: str) -> int:
        heard.append(text)
        return 1_000

    arguments = {**HELLO, "system": "s", "messages": [{"role": "user", "content": ["a", "b"]}]}
    assert OLD.encode(arguments, count_text=counted).input_tokens == with_margin(PER_MESSAGE + 3_000)
    assert sorted(heard) == ["a", "b", "s"]


# --- anything at all --------------------------------------------------------------------------------------------------


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9_000)
    | st.sampled_from(["", "user", "tool", "text", "image_url", PNG]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "type",
                    "text",
                    "image_url",
                    "tool_calls",
                    "tool_call_id",
                    "function",
                    "name",
                    "source",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system"])},
    optional={"content": VALUES, "tool_calls": VALUES, "tool_call_id": st.just("c"), "function_call": VALUES},
)
ARGUMENT = st.sampled_from(
    ["system", "tools", "tool_choice", "thinking", "stop", "max_tokens", "temperature", "stream"]
)


@given(st.lists(MESSAGE | VALUES, max_size=4), st.dictionaries(ARGUMENT, VALUES, max_size=3))
def test_whatever_is_given_is_sent_or_refused_in_one_sentence(messages: list[object], more: dict[str, Any]) -> None:
    for wire in (OLD, NEW):
        arguments = {"model": "m", "messages": messages, **more}
        try:
            body = json.loads(wire.encode(arguments).body)
        except InvalidCall:
            problem_of(arguments, wire)
            continue
        assert all(turn["role"] in ("user", "assistant") and turn["content"] is not None for turn in body["messages"])


def test_what_holds_itself_or_is_no_json_is_refused() -> None:
    circle: list[Any] = []
    circle.append({"type": "tool_result", "content": circle})
    for content in (circle, [{"type": "text", "text": object()}], [{"type": "text", "text": "\ud83d"}]):
        problem_of({**HELLO, "messages": [{"role": "user", "content": content}]})
