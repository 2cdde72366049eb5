"""Reading embeddings: the vectors in the order of the inputs however they travelled, their cost, and every failure.

The bodies in `fixtures/` are from OpenAI's and NVIDIA's documentation and read by openai 3.52.0 (2026-11-20).
"""

# ruff: noqa: E501  # a table reads best with one case on a line

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from chat_answers import NOW_S, fixture
from hypothesis import example, given
from hypothesis import strategies as st

from engine.providers import embeddings
from engine.providers.embeddings import GENERIC, NVIDIA_NIM, OPENAI, Embeddings
from engine.providers.wire import Reading, Usage

OPENAI_EMBED, NIM, OTHER = Embeddings(OPENAI), Embeddings(NVIDIA_NIM), Embeddings(GENERIC)
USAGE = {"prompt_tokens": 5, "total_tokens": 5}


def read(body: bytes | object, status: int = 200, wire: Embeddings = OPENAI_EMBED) -> Reading:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return wire.read(status, {}, raw, now_s=NOW_S)


def vectors(*items: object) -> list[list[float]]:
    return [list(vector) for vector in OPENAI_EMBED.view({"data": list(items)}).embeddings]


def packed(numbers: Sequence[float]) -> str:
    """The numbers as OpenAI packs them: little-endian float32 in base64."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


@pytest.mark.parametrize(
    ("wire", "name", "numbers", "model", "count"),
    [
        (OPENAI_EMBED, "openai_embed/response", [0.0023, -0.0093, 0.0158], "text-embedding-3-small", 5),
        (OPENAI_EMBED, "openai_embed/response_base64", [0.0023, -0.0093, 0.0158], "text-embedding-3-small", 5),
        (NIM, "nvidia_nim_embed/response", [0.01, -0.02], "nvidia/nv-embedqa-e5-v5", 7),
        (OTHER, "openai_embed/response", [0.0023, -0.0093, 0.0158], "text-embedding-3-small", 5),
    ],
)
def test_the_recorded_answers(wire: Embeddings, name: str, numbers: list[float], model: str, count: int) -> None:
    body = fixture(f"{name}.json")
    found, view = read(body, wire=wire), wire.view(wire.decode(body))
    assert (found.usage, found.fault, found.advice.charge) == (Usage(count, 0, count), None, "usage")
    assert (list(view.embeddings[0]), len(view.embeddings)) == (pytest.approx(numbers, rel=1e-6), 1)
    assert (view.model, view.text) == (model, None)


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=8))
def test_packed_numbers_and_plain_ones_are_the_same_vector(numbers: list[float]) -> None:
    finite = [number for number in numbers if math.isfinite(number)]
    assert vectors({"embedding": packed(finite)}, {"embedding": finite}) == [finite, finite]


def test_a_host_of_the_other_byte_order_reads_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "_BIG_ENDIAN", not embeddings._BIG_ENDIAN)
    swapped = base64.b64encode(struct.pack(">2f", 0.5, -2.0)).decode()
    assert vectors({"embedding": swapped}) == [[0.5, -2.0]]


def test_the_vectors_stand_in_the_order_of_the_inputs() -> None:
    assert vectors(*({"index": index, "embedding": [index]} for index in (2, 0, 1))) == [[0], [1], [2]]
    assert vectors(*({"index": index, "embedding": [float(index)]} for index in range(12, -1, -1)))[10] == [10]


def test_vectors_without_an_index_stand_where_they_came() -> None:
    assert vectors(*({"index": index, "embedding": [index]} for index in (0, 1)), {"embedding": [2]}) == [[0], [1], [2]]
    assert vectors({"embedding": [0]}, {"index": None, "embedding": [1]}, {"index": "2", "embedding": [2]}) == [[0], [1], [2]]  # fmt: skip


@pytest.mark.parametrize(
    "odd",
    [
        None,
        {},
        "x",
        {"embedding": None},
        {"embedding": {"a": 1}},
        {"embedding": ["a"]},
        {"embedding": [None]},
        {"embedding": [10**400]},
        {"embedding": "!!!!"},
        {"embedding": "AA!AA!AA=="},
        {"embedding": "AAA="},
        {"embedding": "AAAA"},
        {"embedding": "é"},
    ],
)  # fmt: skip
def test_an_odd_item_is_empty_and_the_others_keep_their_places(odd: object) -> None:
    assert vectors({"embedding": [1]}, odd, {"embedding": [2]}) == [[1], [], [2]]
    found = read({"data": [{"index": 0, "embedding": [1]}, odd], "usage": USAGE})
    assert (found.fault, found.usage) == (None, Usage(5, 0, 5))


@pytest.mark.parametrize(
    ("usage", "expected", "charge"),
    [
        ({"prompt_tokens": 5, "total_tokens": 5}, Usage(5, 0, 5), "usage"),
        ({"prompt_tokens": 5}, Usage(5, 0, 5), "usage"),
        ({"total_tokens": 5}, Usage(5, 0, 5), "usage"),
        ({"prompt_tokens": "5", "total_tokens": 5.0}, Usage(5, 0, 5), "usage"),
        ({"prompt_tokens": 0, "total_tokens": 0}, Usage(0, 0, 0), "usage"),
        ({"prompt_tokens": 5, "total_tokens": 5, "completion_tokens": 0}, Usage(5, 0, 5), "usage"),
        ({"prompt_tokens": -1}, None, "kept"),
        ({}, None, "kept"),
        (None, None, "kept"),
        ("five", None, "kept"),
    ],
)
def test_all_of_the_usage_is_input(usage: object, expected: Usage | None, charge: str) -> None:
    found = read({"data": [], "usage": usage})
    assert (found.usage, found.fault, found.advice.charge) == (expected, None, charge)


@pytest.mark.parametrize(
    ("status", "body", "kind", "verdict", "sentence"),
    [
        (429, fixture("nvidia_nim_chat/error_429.json"), "RateLimited", "retry", "Too Many Requests"),
        (401, fixture("nvidia_nim_chat/error_401.json"), "Rejected", "failed", "Authentication failed"),
        (404, {"detail": "Not found for account"}, "Rejected", "failed", "Not found for account"),
        (422, fixture("nvidia_nim_chat/error_422.json"), "Rejected", "failed", "..."),
        (422, {"detail": [{"loc": ["body", "input_type"], "msg": "field required"}, {"msg": "too long"}]}, "Rejected", "failed", "field required; too long"),
        (402, {"detail": "Account is out of credits"}, "QuotaExhausted", "failed", "Account is out of credits"),
        (429, fixture("openai_chat/error_429_rate.json"), "RateLimited", "retry", "Rate limit"),
        (429, fixture("openai_chat/error_429_quota.json"), "QuotaExhausted", "failed", "quota"),
        (401, fixture("openai_chat/error_401.json"), "Rejected", "failed", "API key"),
        (503, fixture("openai_chat/error_503.json"), "ProviderUnavailable", "retry", ""),
        (404, fixture("ollama_compat/error_404.json"), "Rejected", "failed", "try pulling it first"),
        (500, b"", "ProviderUnavailable", "retry", "(an empty body)"),
        (502, b"<html>Bad Gateway", "ProviderUnavailable", "retry", "Bad Gateway"),
        (200, {"error": {"message": "broke", "type": "server_error"}}, "ProviderUnavailable", "retry", "broke"),
        (200, {"data": [], "usage": USAGE, "error": "broke"}, "ProviderUnavailable", "retry", "broke"),
        (200, {"object": "error", "message": "broke"}, "MalformedReply", "failed", "broke"),
        (200, {"data": "none", "usage": USAGE}, "MalformedReply", "failed", ""),
        (200, {"data": {}, "usage": USAGE}, "MalformedReply", "failed", ""),
        (200, b"", "MalformedReply", "failed", "(an empty body)"),
        (200, b"[]", "MalformedReply", "failed", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("wire", [OPENAI_EMBED, NIM])
def test_every_failure_is_of_its_class(
    wire: Embeddings, status: int, body: bytes | object, kind: str, verdict: str, sentence: str
) -> None:
    found = read(body, status, wire)
    assert found.fault is not None
    assert (found.fault.kind, found.fault.status, found.advice.verdict) == (kind, status, verdict)
    assert sentence in found.fault.message


# --- anything at all --------------------------------------------------------------------------------------------------

FIELDS = st.sampled_from(["data", "embedding", "index", "usage", "prompt_tokens", "total_tokens", "error", "model", "object"])  # fmt: skip
SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("AAAAAA=="),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5),
    max_leaves=8,
)
RECORDED = [fixture(f"{name}.json") for name in ("openai_embed/response", "openai_embed/response_base64", "nvidia_nim_embed/response")]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A recorded body, part of it replaced or gone."""
    body = draw(st.sampled_from(RECORDED))
    start = draw(st.integers(0, len(body)))
    gone = draw(st.integers(0, 30))
    return body[:start] + draw(st.binary(max_size=6)) + body[start + gone :]


@given(st.binary(max_size=40) | SHAPES.map(lambda shape: json.dumps(shape).encode()) | mutated(), st.sampled_from([200, 404, 422, 429, 500]))  # fmt: skip
@example(b'{"data":' + b"[" * 4_000, 200)
def test_reading_never_raises_and_an_answer_is_never_lost(body: bytes, status: int) -> None:
    found = OPENAI_EMBED.read(status, {}, memoryview(body), now_s=NOW_S)
    assert (found.fault is None) == (found.advice.verdict == "done")
    try:
        decoded = OPENAI_EMBED.decode(memoryview(body))
    except msgspec.DecodeError:
        return
    for vector in OPENAI_EMBED.view(decoded).embeddings:
        assert all(type(number) is float for number in vector)


@given(SHAPES, st.dictionaries(FIELDS, SHAPES, max_size=4))
def test_viewing_never_raises(shape: object, item: dict[str, Any]) -> None:
    OPENAI_EMBED.view(shape)
    assert len(OPENAI_EMBED.view({"data": [item]}).embeddings) == 1


@given(st.dictionaries(FIELDS, SHAPES, max_size=6))
def test_the_short_way_reads_what_the_long_way_reads(fields: dict[str, object]) -> None:
    body = {"data": [{"embedding": [1]}], "usage": USAGE, **fields}
    assert read(body) == super(Embeddings, OPENAI_EMBED).read(200, {}, json.dumps(body).encode(), now_s=NOW_S)
