"""Writing a call: what the user set is sent as he set it, nothing else is, and what cannot be sent is named.

The bodies in `fixtures/` named request are what the vendors' own clients send (recorded 2026-11-20).
"""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidCall
from engine.estimate import estimate_chat
from engine.providers.chat_dialects import DIALECTS
from engine.providers.openai_chat import Dialect, OpenAIChat

FIXTURES = Path(__file__).parent / "fixtures"
FORMATS = {dialect.name: OpenAIChat(dialect) for dialect in DIALECTS.values() if dialect.name != "generic"}
GENERIC = OpenAIChat(Dialect("generic"))
HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def body_of(arguments: dict[str, Any], wire: OpenAIChat = GENERIC) -> Any:
    return json.loads(wire.encode(arguments).body)


def problem_of(arguments: Any, wire: OpenAIChat = GENERIC) -> InvalidCall:
    with pytest.raises(InvalidCall) as caught:
        wire.encode(arguments)
    assert caught.value.message.startswith(caught.value.argument + ": ")
    assert caught.value.message.endswith("Nothing was sent.")
    assert len(caught.value.message) < 500
    return caught.value


@pytest.mark.parametrize(
    ("provider", "folder", "name"),
    [("openai", "openai_chat", "request"), ("openai", "openai_chat", "request_tools"), ("groq", "groq_chat", "request")]
    + [(name, f"{name}_chat", "request") for name in FORMATS if name not in ("openai", "groq", "ollama", "inferneo")]
    + [("ollama", "ollama_compat", "request")],
)
def test_the_requests_of_the_vendors_own_clients_are_sent_as_they_send_them(
    provider: str, folder: str, name: str
) -> None:
    recorded = json.loads((FIXTURES / folder / f"{name}.json").read_text())
    assert body_of(recorded, FORMATS[provider]) == recorded


@pytest.mark.parametrize("provider", FORMATS)
@pytest.mark.parametrize("given_as", ["max_tokens", "max_completion_tokens"])
def test_the_cap_is_sent_once_under_the_name_the_provider_takes(provider: str, given_as: str) -> None:
    new = provider in ("openai", "groq", "openrouter")
    sent = body_of({**HELLO, given_as: 64}, FORMATS[provider])
    assert sent == {**HELLO, ("max_completion_tokens" if new else "max_tokens"): 64}
    both = body_of({**HELLO, "max_tokens": 64, "max_completion_tokens": 64}, FORMATS[provider])
    assert both == sent


def test_an_unknown_provider_is_sent_the_cap_under_the_name_the_caller_used() -> None:
    assert body_of({**HELLO, "max_tokens": 5}) == {**HELLO, "max_tokens": 5}
    assert body_of({**HELLO, "max_completion_tokens": 5}) == {**HELLO, "max_completion_tokens": 5}
    both = body_of({**HELLO, "max_tokens": 5, "max_completion_tokens": 5})
    assert both == {**HELLO, "max_completion_tokens": 5}


def test_two_different_caps_are_a_contradiction() -> None:
    assert problem_of({**HELLO, "max_tokens": 5, "max_completion_tokens": 6}).argument == "max_tokens"


def test_null_is_not_sent_and_a_messages_content_may_be_null() -> None:
    call = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    dumped = {"role": "assistant", "content": None, "refusal": None, "function_call": None, "tool_calls": call}
    sent = body_of({**HELLO, "messages": [dumped], "temperature": None, "stop": None, "max_tokens": None})
    assert sent == {"model": "m", "messages": [{"role": "assistant", "content": None, "tool_calls": call}]}


def test_the_estimate_the_cap_and_the_streaming_come_with_the_body() -> None:
    plain = GENERIC.encode({**HELLO, "max_tokens": 10, "n": 3})
    assert (plain.input_tokens, plain.output_cap, plain.streaming) == (estimate_chat(HELLO), 30, False)
    assert GENERIC.encode(HELLO).output_cap is None
    assert GENERIC.encode({**HELLO, "stream": False}).streaming is False
    assert GENERIC.encode({**HELLO, "stream": True}).streaming is True


@pytest.mark.parametrize("provider", FORMATS)
def test_a_streams_usage_is_asked_for_where_it_must_be_and_the_callers_wish_stands(provider: str) -> None:
    asks = provider in ("openai", "deepseek", "nvidia_nim", "ollama")
    wanted = {"stream_options": {"include_usage": True}} if asks else {}
    assert body_of({**HELLO, "stream": True}, FORMATS[provider]) == {**HELLO, "stream": True, **wanted}
    own = {**HELLO, "stream": True, "stream_options": {"include_usage": False}}
    assert body_of(own, FORMATS[provider]) == own
    assert body_of({**HELLO, "stream": False}, FORMATS[provider]) == {**HELLO, "stream": False}


def test_unknown_arguments_are_passed_on() -> None:
    extra = {"provider": {"sort": "price"}, "extra_body": {"google": {}}, "top_k": 40, "reasoning_effort": "low"}
    assert body_of({**HELLO, **extra}) == {**HELLO, **extra}


def test_groq_is_not_sent_what_it_refuses() -> None:
    for name, value in (("logprobs", False), ("top_logprobs", 1), ("logit_bias", {}), ("n", 2)):
        assert problem_of({**HELLO, name: value}, FORMATS["groq"]).argument == name
    assert body_of({**HELLO, "n": 1}, FORMATS["groq"])["n"] == 1


@pytest.mark.parametrize(
    ("argument", "good", "bad"),
    [
        ("temperature", [0, 2, 0.5], [-0.1, 2.1, True, "1", float("nan"), float("inf"), 10**400]),
        ("top_p", [0, 1], [1.01, -1]),
        ("presence_penalty", [-2, 2], [2.5]),
        ("frequency_penalty", [-2, 2], [-2.5]),
        ("n", [1, 5], [0, -1, 1.0, True]),
        ("max_tokens", [1], [0, -5, 1.5, "10", True]),
        ("max_completion_tokens", [1], [0]),
        ("top_logprobs", [0, 20], [21, -1]),
        ("seed", [0, -7, 2**63 - 1], [1.5, 2**63]),
        ("stop", ["x", ["x", "y"]], [3]),
        ("stream", [True, False], [1, "yes"]),
        ("logprobs", [True], [1]),
        ("logit_bias", [{"50256": -100}, {50256: 100}], [{"1": 101}, {"1": "x"}, [1]]),
        ("response_format", [{"type": "json_object"}], ["json"]),
        ("tools", [[{"type": "function"}]], [{"type": "function"}]),
        ("tool_choice", ["auto", {"type": "function"}], [1]),
        ("parallel_tool_calls", [False], ["no"]),
        ("stream_options", [{}], [True]),
        ("user", ["u"], [7]),
        ("model", ["m"], ["", "  ", 3, b"m"]),
    ],
)
def test_ranges_and_types_are_checked_before_anything_is_sent(
    argument: str, good: list[object], bad: list[object]
) -> None:
    for value in good:
        assert argument in body_of({**HELLO, argument: value})
    for value in bad:
        assert problem_of({**HELLO, argument: value}).argument in (argument, f"{argument}[...]")


@pytest.mark.parametrize(
    ("messages", "argument", "says"),
    [
        (None, "messages", "missing"),
        ([], "messages", "empty"),
        ((), "messages", "empty"),
        ("hi", "messages", "a str"),
        ({"role": "user"}, "messages", "a dict"),
        (["hi"], "messages[0]", "a str"),
        ([{"role": "user"}, {"content": "x"}], "messages[1]", "role"),
        ([{"role": ""}], "messages[0]", "role"),
        ([{"role": "user", "content": 5}], 'messages[0]["content"]', "a int"),
        ([{"role": "user", "content": {"text": "x"}}], 'messages[0]["content"]', "dict"),
    ],
)
def test_messages_are_a_list_of_dicts_with_a_role(messages: object, argument: str, says: str) -> None:
    error = problem_of({"model": "m", "messages": messages})
    assert error.argument == argument
    assert says in error.message


def test_a_missing_model_and_a_plain_prompt_say_what_to_pass() -> None:
    assert problem_of({"messages": HELLO["messages"]}).argument == "model"
    error = problem_of({"model": "m", "prompt": "hello"})
    assert error.argument == "prompt"
    assert "messages=[" in error.message


@pytest.mark.parametrize("name", ["api_key", "Authorization", "extra_headers", "headers"])
def test_a_key_never_gets_into_a_body_or_a_message(name: str) -> None:
    error = problem_of({**HELLO, name: "hunter22"})
    assert error.argument == name
    assert "hunter22" not in repr(error)


def itself() -> list[object]:
    inner: list[object] = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "object"),
        (itself(), "nested"),
        ("\ud83d", "surrogate"),
        ({(1, 2): 3}, "dict"),
        (lambda: 0, "function"),
    ],
)
def test_what_json_cannot_hold_is_named(value: object, says: str) -> None:
    error = problem_of({**HELLO, "odd": value})
    assert error.argument == "odd"
    assert says in error.message
    messages = [*HELLO["messages"], {"role": "user", "content": [{"type": "text", "text": value}]}]
    assert problem_of({**HELLO, "messages": messages}).argument == "messages[1]"


def test_everything_msgspec_can_write_is_accepted() -> None:
    odd = {"when": datetime(2026, 1, 1, tzinfo=UTC), "price": Decimal("1.5"), "set": {1}, "bytes": b"ab", 5: "x"}
    assert body_of({**HELLO, "odd": odd})["odd"] == {
        "when": "2026-01-01T00:00:00Z",
        "price": "1.5",
        "set": [1],
        "bytes": "YWI=",
        "5": "x",
    }
    assert body_of({**HELLO, "messages": tuple(HELLO["messages"])}) == HELLO


def test_an_argument_without_a_textual_name_is_refused() -> None:
    assert problem_of({**HELLO, 5: "x"}).argument == "5"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.text(min_size=1), "content": st.none() | st.text() | st.lists(JSON, max_size=2)},
        optional={"name": JSON, "refusal": st.none(), "tool_calls": JSON},
    ),
    min_size=1,
    max_size=3,
)
CHECKED = ("temperature", "max_tokens", "stream", "stop", "seed", "logit_bias", "tools", "max_completion_tokens")


def as_sent(message: dict[str, Any]) -> dict[str, Any]:
    """A message without its nulls, which are deeper only in the calls of tools."""
    kept = {name: value for name, value in message.items() if value is not None or name == "content"}
    if isinstance(kept.get("tool_calls"), list):
        kept["tool_calls"] = without_nulls(kept["tool_calls"], 3)
    return kept


def without_nulls(value: Any, depth: int) -> Any:
    if depth and isinstance(value, dict):
        return {name: without_nulls(inner, depth - 1) for name, inner in value.items() if inner is not None}
    return [without_nulls(inner, depth - 1) for inner in value] if depth and isinstance(value, list) else value


@given(MESSAGES, st.dictionaries(st.sampled_from(CHECKED) | st.text(), JSON, max_size=4), st.sampled_from([*FORMATS]))
def test_any_call_is_sent_as_given_or_refused_and_never_changed(
    messages: list[dict[str, Any]], extra: dict[str, Any], provider: str
) -> None:
    arguments = {**extra, "model": "m", "messages": messages}
    before = copy.deepcopy(arguments)
    try:
        encoded = FORMATS[provider].encode(arguments)
    except InvalidCall:
        encoded = None
    assert arguments == before
    if encoded is None:
        return
    sent = json.loads(encoded.body)
    caps = {"max_tokens", "max_completion_tokens"}
    assert len(caps & sent.keys()) <= 1
    unset = {name for name, value in arguments.items() if value is None}
    assert not unset & (sent.keys() - caps)
    for name in arguments.keys() - caps - unset - {"messages"}:
        assert sent[name] == arguments[name]
    for told, message in zip(sent["messages"], messages, strict=True):
        assert told == as_sent(message)
