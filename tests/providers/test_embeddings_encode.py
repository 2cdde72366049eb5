"""Writing a call for embeddings: the inputs in all their forms, what each provider takes, and what it will count as.

The recorded requests are what openai 3.52.0 sent to either provider's path (2026-11-20).
"""

# ruff: noqa: E501  # a table reads best with one case on a line

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from chat_answers import fixture
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidCall
from engine.estimate import estimate_text, with_margin
from engine.providers.embeddings import GENERIC, NVIDIA_NIM, OPENAI, EmbedDialect, Embeddings

FORMATS = {dialect.name: Embeddings(dialect) for dialect in (OPENAI, NVIDIA_NIM, GENERIC)}
ONE: dict[str, Any] = {"model": "m", "input": "hello"}


def body_of(arguments: dict[str, Any], dialect: str = "openai") -> Any:
    return json.loads(FORMATS[dialect].encode(arguments).body)


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        ("openai", "openai_embed/recorded_request"),
        ("openai", "openai_embed/recorded_request_float"),
        ("nvidia_nim", "nvidia_nim_embed/recorded_request_openai_sdk"),
    ],
)
def test_the_requests_of_the_vendors_own_client_are_sent_as_it_sends_them(dialect: str, name: str) -> None:
    recorded = json.loads(fixture(f"{name}.json"))
    assert body_of(recorded["body"], dialect) == recorded["body"]
    assert recorded["path"] == "/v1" + FORMATS[dialect].path


@pytest.mark.parametrize(("dialect", "encoding"), [("openai", "base64"), ("nvidia_nim", "float"), ("generic", None)])
def test_how_the_vectors_travel_is_chosen_for_the_caller_where_that_is_safe(dialect: str, encoding: str | None) -> None:
    assert body_of(ONE, dialect) == ONE | ({"encoding_format": encoding} if encoding else {})
    assert body_of({**ONE, "encoding_format": None}, dialect) == body_of(ONE, dialect)
    for wish in ("float", "base64"):
        assert body_of({**ONE, "encoding_format": wish}, dialect)["encoding_format"] == wish


def test_the_name_tells_the_dialect() -> None:
    assert [wire.name for wire in FORMATS.values()] == ["embeddings/openai", "embeddings/nvidia_nim", "embeddings/generic"]  # fmt: skip
    assert Embeddings(EmbedDialect("mine")).name == "embeddings/mine"


@pytest.mark.parametrize("dialect", FORMATS)
@pytest.mark.parametrize("given", ["a", ["a"], ["a", "b"], ("a", "b")])
def test_texts_are_sent_as_they_are_to_everybody(dialect: str, given: Any) -> None:
    assert body_of({"model": "m", "input": given}, dialect)["input"] == (list(given) if given != "a" else "a")


@pytest.mark.parametrize("given", [[1], [1, 2, 3], [[1, 2], [3]], [(1, 2), [3]]])
def test_vocabulary_numbers_are_sent_where_they_are_taken(given: Any) -> None:
    for dialect in ("openai", "generic"):
        assert body_of({"model": "m", "input": given}, dialect)["input"] == json.loads(json.dumps(given))
    with pytest.raises(InvalidCall, match=r"^input\[0\]: .* Nothing was sent\.$"):
        FORMATS["nvidia_nim"].encode({"model": "m", "input": given})


def test_fields_that_nobody_documents_are_passed_on_and_null_is_not_sent() -> None:
    assert body_of({**ONE, "brand_new": 1, "user": None, "dimensions": None}, "generic") == {**ONE, "brand_new": 1}
    asked = {"input_type": "passage", "truncate": "END", "dimensions": 8, "user": "u"}
    assert body_of({**ONE, **asked}, "nvidia_nim") == {**ONE, **asked, "encoding_format": "float"}


@pytest.mark.parametrize(
    ("dialect", "argument", "arguments"),
    [
        ("openai", "model", {"model": None}),
        ("openai", "model", {"model": ""}),
        ("openai", "input", {"input": None}),
        ("openai", "input", {"input": ""}),
        ("openai", "input", {"input": []}),
        ("openai", "input", {"input": 3}),
        ("openai", "input", {"input": {"a", "b"}}),
        ("openai", "input[1]", {"input": ["a", ""]}),
        ("openai", "input[1]", {"input": [[1], []]}),
        ("openai", "input[1]", {"input": [1, True]}),
        ("openai", "input[0][1]", {"input": [[1, "a"]]}),
        ("openai", "input", {"input": ["a", 1]}),
        ("openai", "input", {"input": [[1], "a"]}),
        ("openai", "input", {"input": [1, [1]]}),
        ("openai", "input", {"input": ["a"] * 2_049}),
        ("openai", "input", {"input": [[1]] * 2_049}),
        ("openai", "input", {"input": "\ud800"}),
        ("openai", "dimensions", {"dimensions": 0}),
        ("openai", "encoding_format", {"encoding_format": "hex"}),
        ("openai", "user", {"user": 3}),
        ("openai", "stream", {"stream": True}),
        ("openai", "api_key", {"api_key": "secret"}),
        ("openai", "brand_new", {"brand_new": object()}),
        ("nvidia_nim", "input_type", {"input_type": "question"}),
        ("nvidia_nim", "truncate", {"truncate": "end"}),
        ("nvidia_nim", "input", {"input": []}),
        ("generic", "input[0]", {"input": [""]}),
    ],
)
def test_what_cannot_be_sent_is_named(dialect: str, argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidCall) as caught:
        FORMATS[dialect].encode({**ONE, **arguments})
    assert caught.value.argument == argument
    assert caught.value.message.startswith(f"{argument}: ")
    assert caught.value.message.endswith("Nothing was sent.")


@pytest.mark.parametrize(
    ("dialect", "given"),
    [
        ("openai", ["a"] * 2_048),
        ("openai", [[1]] * 2_048),
        ("openai", [1] * 8_000),
        ("generic", ["a"] * 5_000),
        ("nvidia_nim", ["a"] * 5_000),
    ],
)
def test_as_many_inputs_as_are_documented_fit_in_a_call(dialect: str, given: Any) -> None:
    assert len(body_of({"model": "m", "input": given}, dialect)["input"]) == len(given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("hello world", with_margin(estimate_text("hello world"))),
        (["hello", "world"], with_margin(2 * estimate_text("hello"))),
        ([1, 2, 3], 3),
        ([[1, 2], [3], [4] * 1_000], 1_003),
    ],
)
def test_numbers_are_counted_exactly_and_texts_with_a_margin(given: Any, expected: int) -> None:
    encoded = FORMATS["openai"].encode({"model": "m", "input": given})
    assert (encoded.input_tokens, encoded.output_cap, encoded.streaming) == (expected, 0, False)


def test_a_counter_of_the_users_own_counts_the_texts() -> None:
    wire = FORMATS["openai"]
    assert wire.encode({"model": "m", "input": ["a", "b"]}, count_text=lambda text: 100).input_tokens == with_margin(200)  # fmt: skip
    assert wire.encode({"model": "m", "input": [7, 8]}, count_text=lambda text: 100).input_tokens == 2


def test_the_callers_arguments_are_not_changed() -> None:
    arguments = {"model": "m", "input": ["a", "b"], "user": None}
    before = copy.deepcopy(arguments)
    FORMATS["openai"].encode(arguments)
    assert arguments == before


NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(FORMATS)), NONSENSE, st.dictionaries(st.sampled_from(["dimensions", "user", "truncate", "x"]), NONSENSE))  # fmt: skip
def test_any_arguments_are_written_or_refused(dialect: str, given: Any, others: dict[str, Any]) -> None:
    try:
        encoded = FORMATS[dialect].encode({**others, "model": "m", "input": given})
    except InvalidCall:
        return
    assert json.loads(encoded.body)["input"] == given
    assert encoded.input_tokens >= 1
