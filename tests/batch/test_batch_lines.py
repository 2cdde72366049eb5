"""What a line means, and what is wrong with one: tables over `read_request`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batch.lines import LINE, RawLine, Request, read_request
from engine.errors import InvalidCall

MESSAGES = [{"role": "user", "content": "hello"}]
BODY = {"model": "m", "messages": MESSAGES}


def read(line: object, **defaults: Any) -> Request:
    data = line if isinstance(line, bytes) else json.dumps(line).encode()
    return read_request(RawLine(7, data), defaults)


GOOD: list[tuple[dict[str, Any], dict[str, Any]]] = [
    # the line, and what its request is to hold
    ({"prompt": "hello"}, {"arguments": {"messages": MESSAGES}, "model": None, "id": "line-7", "custom_id": None}),
    ({"messages": MESSAGES}, {"arguments": {"messages": MESSAGES}, "endpoint": "chat/completions"}),
    ({"messages": MESSAGES, "prompt": None}, {"arguments": {"messages": MESSAGES}}),
    (
        {"prompt": "hello", "model": "m", "max_tokens": 5, "stop": None},
        {"model": "m", "arguments": {"messages": MESSAGES, "max_tokens": 5, "stop": None}},
    ),
    (
        {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": BODY},
        {"custom_id": "a", "id": "line-7", "model": "m", "arguments": {"messages": MESSAGES}},
    ),
    ({"body": BODY}, {"model": "m", "endpoint": "chat/completions"}),
    ({"body": {**BODY, "metadata": {"a": "b"}}}, {"arguments": {"messages": MESSAGES, "metadata": {"a": "b"}}}),
    ({"body": BODY, "url": "/v1/embeddings"}, {"endpoint": "embeddings"}),
    ({"body": BODY, "url": "/chat/completions", "method": "post"}, {"endpoint": "chat/completions"}),
    ({"prompt": "hello", "id": 5}, {"id": 5, "custom_id": 5}),
    ({"prompt": "hello", "custom_id": "a"}, {"id": "line-7", "custom_id": "a"}),
    ({"prompt": "hello", "custom_id": "a", "id": "b"}, {"id": "b", "custom_id": "a"}),
    ({"prompt": "hello", "custom_id": None, "id": "b"}, {"id": "b", "custom_id": "b"}),
]


@pytest.mark.parametrize(("line", "wanted"), GOOD, ids=lambda value: json.dumps(value)[:60])
def test_what_a_line_means(line: dict[str, Any], wanted: dict[str, Any]) -> None:
    request = read(line)
    assert request.problem is None
    assert {name: getattr(request, name) for name in wanted} == wanted


@pytest.mark.parametrize("line", [{"prompt": "hello"}, {"messages": MESSAGES}, {"body": BODY}], ids=list)
def test_what_is_for_the_engine_reaches_no_provider(line: dict[str, Any]) -> None:
    """And the line's own word goes before that of the whole batch."""
    own = {"flow": "a", "priority": 3, "metadata": {"x": 1}, "timeout_s": 5.0, "on_unknown": None}
    request = read({**line, **own}, timeout_s=9.0, on_unknown="retry", deadline_s=8.0)
    assert request.problem is None
    assert request.arguments == {"messages": MESSAGES}
    options = request.options
    assert (options.flow, options.priority, options.metadata) == ("a", 3, {"x": 1})
    assert (options.timeout_s, options.on_unknown, options.deadline_s) == (5.0, "retry", 8.0)


BAD: list[tuple[object, list[str]]] = [
    (b"{", ["not valid JSON"]),
    (b"{'prompt': 1}", ["not valid JSON"]),
    (b'{"prompt": "a"} {"prompt": "b"}', ["not valid JSON", "trailing"]),
    (b'{"prompt": NaN}', ["not valid JSON"]),
    (b'{"prompt": "\xff"}', ["UTF-8"]),
    (b"\xff\xfe{\x00}\x00", ["not valid JSON"]),
    (b"[" * 100_000 + b"]" * 100_000, ["not valid JSON"]),
    ([], ["a list", "JSON object"]),
    ("hello", ["a text", "JSON object"]),
    (None, ["null", "JSON object"]),
    (5, ["a number", "JSON object"]),
    ({}, ['"body"', '"messages"', '"prompt"']),
    ({"messages": None}, ['"messages"']),
    ({"prompt": "a", "messages": MESSAGES}, ["both"]),
    ({"prompt": ["a"]}, ["a list as its prompt"]),
    ({"body": [BODY]}, ["a list as its body"]),
    ({"body": None}, ["null as its body"]),
    ({"body": BODY, "max_tokens": 5}, ["'max_tokens' beside its body"]),
    ({"body": BODY, "method": "GET"}, ["POST"]),
    ({"body": BODY, "url": "https://api.openai.com/v1/chat/completions"}, ["a path like"]),
    ({"body": BODY, "url": 5}, ["a path like"]),
    ({"prompt": "a", "custom_id": ["b"]}, ["a list as its custom_id"]),
    ({"prompt": "a", "id": True}, ["true or false as its id"]),
]


@pytest.mark.parametrize(("line", "words"), BAD, ids=[repr(line)[:50] for line, _ in BAD])
def test_what_is_wrong_with_a_line_is_said(line: object, words: list[str]) -> None:
    """As the fault of the line, in one sentence, with what it means: nothing was sent."""
    problem = read(line).problem
    assert problem is not None
    assert problem.argument == LINE
    assert [word for word in [*words, "Nothing was sent."] if word not in problem.message] == []


@pytest.mark.parametrize("line", [b"{", b"hello", b'"hello"', b"[1]", b'{"prompt": "\xff"}', b"null"])
def test_what_a_line_should_be_is_shown_where_it_is_nothing_of_the_kind(line: bytes) -> None:
    """And what is shown would do."""
    problem = read(line).problem
    assert problem is not None
    shown = problem.message[problem.message.rindex("like {") + len("like ") : problem.message.rindex("}") + 1]
    assert read(shown.encode()).problem is None


@pytest.mark.parametrize(
    ("more", "argument"),
    [
        ({"model": 5}, "model"),
        ({"model": " "}, "model"),
        ({"priority": "high"}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 1 << 40}, "priority"),
        ({"flow": 5}, "flow"),
        ({"flow": "x" * 201}, "flow"),
        ({"metadata": []}, "metadata"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"deadline_s": -1}, "deadline_s"),
        ({"on_unknown": "maybe"}, "on_unknown"),
    ],
)
def test_a_wrong_value_is_named(more: dict[str, Any], argument: str) -> None:
    request = read({"prompt": "a", "custom_id": "c", **more})
    assert request.problem is not None
    assert (request.problem.argument, request.custom_id) == (argument, "c")


def test_a_line_that_is_too_long_is_not_there_to_be_read() -> None:
    problem = read_request(RawLine(1, None), {}, max_bytes=64).problem
    assert problem is not None
    assert "longer than 64 bytes" in problem.message


VALUES = st.sampled_from([None, True, 0, -3, 1.5, "", "x", "/v1/chat/completions", [], ["a"], MESSAGES, {}, BODY])
KEYS = ["custom_id", "id", "method", "url", "body", "model", "messages", "prompt", "flow", "priority", "metadata"]


@given(
    st.binary(max_size=30) | st.dictionaries(st.sampled_from(KEYS), VALUES).map(lambda line: json.dumps(line).encode())
)
def test_reading_never_raises_and_always_names(data: bytes) -> None:
    """Whatever stands in the line: a request that can be matched to it, with arguments or with a problem."""
    request = read(data)
    assert request.number == 7
    assert isinstance(request.id, str | int)
    assert isinstance(request.problem, InvalidCall) or "messages" in request.arguments or b"body" in data
