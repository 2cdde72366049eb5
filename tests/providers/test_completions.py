"""Writing and reading text completions: prompts in all their forms, what a call reserves, answers, usage, errors.

The answers are those that the server of omkar-droid/inferneo (3492952) was recorded to give, and OpenAI's as documented
(platform.openai.com/docs/api-reference/completions, 2026-11-20).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import iModel
from engine.errors import InvalidCall
from engine.estimate import estimate_text, with_margin
from engine.providers.completions import GENERIC, INFERNEO, OPENAI, Completions
from engine.providers.lookup import find
from engine.providers.wire import Usage

FORMATS = {dialect.name: Completions(dialect) for dialect in (OPENAI, INFERNEO, GENERIC)}
ONE: dict[str, Any] = {"model": "m", "prompt": "hello world"}
ANSWER: dict[str, Any] = {
    "id": "cmpl-7ab2",
    "object": "text_completion",
    "created": 1795205707,
    "model": "any-name",
    "choices": [{"index": 0, "text": " w0 w1 w2", "finish_reason": "length"}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
}


def body_of(arguments: dict[str, Any], dialect: str = "generic") -> Any:
    return json.loads(FORMATS[dialect].encode(arguments).body)


@pytest.mark.parametrize("dialect", FORMATS)
@pytest.mark.parametrize("prompt", ["a", ["a", "b"], ("a", "b"), [1, 2], [[1, 2], [3]], ""])
def test_prompts_are_sent_as_they_are(dialect: str, prompt: Any) -> None:
    sent = body_of({**ONE, "prompt": prompt, "max_tokens": None}, dialect)
    assert sent == {"model": "m", "prompt": list(prompt) if isinstance(prompt, tuple) else prompt}


def test_max_tokens_keeps_its_name_and_what_is_not_documented_is_passed_on() -> None:
    given = {**ONE, "max_tokens": 7, "top_k": 5, "min_p": 0.1, "ignore_eos": True, "brand_new": 1}
    assert all(body_of(given, dialect) == given for dialect in FORMATS)


@pytest.mark.parametrize(
    ("arguments", "prompts", "output_cap", "choices"),
    [
        ({"prompt": "hello world"}, ["hello world"], None, 1),
        ({"prompt": "hello world", "max_tokens": 20}, ["hello world"], 20, 1),
        ({"prompt": ["one", "two"], "max_tokens": 20}, ["one", "two"], 40, 2),
        ({"prompt": "one", "max_tokens": 20, "n": 3}, ["one"], 60, 3),
        ({"prompt": "one", "max_tokens": 20, "n": 2, "best_of": 5}, ["one"], 100, 5),
        ({"prompt": "one", "max_tokens": 0}, ["one"], 0, 1),
    ],
)
def test_what_a_call_reserves(arguments: dict[str, Any], prompts: list[str], output_cap: int, choices: int) -> None:
    encoded = FORMATS["openai"].encode({"model": "m", **arguments})
    assert encoded.input_tokens == with_margin(sum(map(estimate_text, prompts)))
    assert (encoded.output_cap, encoded.choices, encoded.streaming) == (output_cap, choices, False)


def test_numbers_are_counted_exactly_and_a_suffix_counts() -> None:
    wire = FORMATS["openai"]
    assert wire.encode({"model": "m", "prompt": [7, 8, 9]}).input_tokens == 3
    assert wire.encode({"model": "m", "prompt": [[7, 8], [9]], "max_tokens": 5}).output_cap == 10
    assert wire.encode({**ONE, "suffix": "the end"}).input_tokens > wire.encode(ONE).input_tokens


@pytest.mark.parametrize(("dialect", "asked"), [("openai", True), ("inferneo", False), ("generic", False)])
def test_a_streams_usage_is_asked_for_where_that_is_understood(dialect: str, asked: bool) -> None:
    given = {**ONE, "stream": True}
    assert body_of(given, dialect) == given | ({"stream_options": {"include_usage": True}} if asked else {})
    assert FORMATS[dialect].encode(given).streaming


@pytest.mark.parametrize(
    ("arguments", "argument", "says"),
    [
        ({"model": "m"}, "prompt", "it is missing"),
        ({"model": "m", "messages": []}, "messages", "a completion has a prompt"),
        ({"prompt": "a"}, "model", "with something in it"),
        ({**ONE, "prompt": []}, "prompt", "length"),
        ({**ONE, "prompt": 3}, "prompt", "int"),
        ({**ONE, "prompt": ["a", 1]}, "prompt", "mixes texts and numbers"),
        ({**ONE, "temperature": 2.5}, "temperature", "2.0"),
        ({**ONE, "top_p": -0.1}, "top_p", "0.0"),
        ({**ONE, "presence_penalty": 3}, "presence_penalty", "2.0"),
        ({**ONE, "max_tokens": -1}, "max_tokens", "0"),
        ({**ONE, "stream": "yes"}, "stream", "bool"),
        ({**ONE, "api_key": "k"}, "api_key", "never sent"),
    ],
)
@pytest.mark.parametrize("dialect", FORMATS)
def test_what_cannot_be_sent_is_refused_by_name(
    dialect: str, arguments: dict[str, Any], argument: str, says: str
) -> None:
    with pytest.raises(InvalidCall, match=says) as caught:
        FORMATS[dialect].encode(arguments)
    assert caught.value.argument.startswith(argument)
    assert str(caught.value).endswith("Nothing was sent.")


@pytest.mark.parametrize("dialect", FORMATS)
def test_an_answer(dialect: str) -> None:
    wire, body = FORMATS[dialect], json.dumps(ANSWER).encode()
    reading = wire.read(200, {}, body, now_s=0.0)
    assert (reading.usage, reading.fault, reading.advice.charge) == (Usage(2, 3, 5), None, "usage")
    view = wire.view(wire.decode(body))
    assert (view.text, view.finish_reason, view.provider_id, view.model) == (
        " w0 w1 w2", "length", "cmpl-7ab2", "any-name",
    )  # fmt: skip


def test_an_answer_without_usage_stays_charged() -> None:
    body = json.dumps({**ANSWER, "usage": None}).encode()
    reading = FORMATS["inferneo"].read(200, {}, body, now_s=0.0)
    assert (reading.usage, reading.fault, reading.advice.charge) == (None, None, "kept")


@pytest.mark.parametrize(
    ("status", "body", "kind", "sentence"),
    [
        (400, b'{"detail":"prompt is 60 tokens; max_model_len is 50"}', "Rejected", "max_model_len is 50"),
        (422, b'{"detail":[{"type":"t","loc":["body","top_p"],"msg":"too large"}]}', "Rejected", "too large"),
        (501, b'{"detail":"no images"}', "Rejected", "no images"),
        (500, b"Internal Server Error", "ProviderUnavailable", "Internal Server Error"),
        (429, b'{"error":{"message":"slow down","code":"rate_limit_exceeded"}}', "RateLimited", "slow down"),
        (200, b'{"error":{"message":"broken"}}', "ProviderUnavailable", "broken"),
        (200, b"hello", "MalformedReply", "hello"),
    ],
)
def test_an_error(status: int, body: bytes, kind: str, sentence: str) -> None:
    fault = FORMATS["inferneo"].read(status, {}, body, now_s=0.0).fault
    assert fault is not None
    assert fault.kind == kind
    assert sentence in fault.message


FIELDS = st.sampled_from(["choices", "text", "index", "usage", "error"])
LEAVES = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(FIELDS, inner)))
def test_no_answer_makes_it_raise(answer: object) -> None:
    wire, body = FORMATS["generic"], json.dumps(answer).encode()
    wire.read(200, {}, body, now_s=0.0)
    wire.view(answer)
    wire.decode_stream(b"data: " + body + b"\n\n")


@pytest.mark.parametrize(
    ("provider", "base_url", "url"),
    [
        ("inferneo", None, "http://localhost:8000/v1/completions"),
        ("inferneo", "http://h:1", "http://h:1/v1/completions"),
        ("inferneo", "http://h:1/", "http://h:1/v1/completions"),
        ("inferneo", "http://h:1/v1", "http://h:1/v1/completions"),
        ("inferneo", "http://h:1/proxy/v1/", "http://h:1/proxy/v1/completions"),
        ("openai", None, "https://api.openai.com/v1/completions"),
        ("mine", "http://h:1/v1", "http://h:1/v1/completions"),
    ],
)
def test_where_completions_go(provider: str, base_url: str | None, url: str) -> None:
    model = iModel(provider=provider, endpoint="completions", base_url=base_url, model="m", api_key="k")
    assert model.endpoint.config.full_url == url
    assert isinstance(model.format, Completions)


def test_chat_of_inferneo_passes_its_own_arguments_on_and_omits_what_is_unset() -> None:
    wire = find("inferneo", "chat", compatible=False)[1].format
    own = {"top_k": -1, "min_p": 0.1, "repetition_penalty": 1.1, "ignore_eos": True, "priority": 5, "seed": 1}
    chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    assert json.loads(wire.encode({**chat, **own, "temperature": None}).body) == {**chat, **own}
    with pytest.raises(InvalidCall, match="repetition_penalty"):
        wire.encode({**chat, "repetition_penalty": 0})
