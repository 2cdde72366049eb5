"""No byte sequence makes the Responses format raise, and no odd field loses an answer that was paid for."""

from __future__ import annotations

import contextlib
import json
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from responses_answers import BODIES, STREAMS, USAGE, WIRE, events_of, fixture, message, read, response, says

from engine.providers.wire import View
from engine.sse import Event, EventReader, Named

KINDS = (
    "response.created", "response.completed", "response.incomplete", "response.failed", "response.cancelled", "error",
    "response.output_item.added", "response.output_item.done", "response.content_part.added",
    "response.content_part.done", "response.output_text.delta", "response.output_text.done", "response.refusal.delta",
    "response.reasoning_summary_text.delta", "response.reasoning_summary_part.added", "response.reasoning_text.delta",
    "response.function_call_arguments.delta", "response.function_call_arguments.done",
    "response.custom_tool_call_input.delta", "response.output_text.annotation.added", "response.queued", "ping",
)  # fmt: skip
WORDS = (
    "type", "response", "item", "part", "delta", "text", "output", "content", "summary", "error", "code", "message",
    "status", "usage", "input_tokens", "output_tokens", "total_tokens", "annotations", "output_index", "content_index",
    "summary_index", "item_id", "id", "call_id", "name", "arguments", "input", "incomplete_details", "reason", "url",
    "refusal", "logprobs", "annotation", "background", "input_tokens_details", "output_tokens_details",
)  # fmt: skip
VALUES = (
    *KINDS, "message", "reasoning", "function_call", "custom_tool_call", "output_text", "refusal", "summary_text",
    "reasoning_text", "url_citation", "completed", "failed", "in_progress", "max_output_tokens", "rate_limit_exceeded",
)  # fmt: skip

SEEDS = st.integers(0, 2**48)
"""Grown from a seed, because drawing such trees piece by piece takes a hundred times as long."""


def leaf(chance: Random) -> object:
    plain = (None, True, False, 0, 1, 2, -1, 3.0, 0.5, 10**30, float("nan"), "", "3", "a", "\ud83d", {}, [])
    return chance.choice(VALUES) if chance.random() < 0.4 else chance.choice(plain)


def tree(chance: Random, depth: int = 4) -> object:
    roll = chance.random()
    if depth == 0 or roll < 0.4:
        return leaf(chance)
    if roll < 0.6:
        return [tree(chance, depth - 1) for _ in range(chance.randint(0, 3))]
    return twig(chance, depth - 1)


def twig(chance: Random, depth: int = 3) -> dict[str, object]:
    return {chance.choice(WORDS): tree(chance, depth) for _ in range(chance.randint(0, 6))}


def grown_event(chance: Random) -> Event:
    kind = chance.choice(KINDS)
    roll = chance.random()
    if roll < 0.7:
        data = json.dumps({"type": kind, **twig(chance, 4)}).encode()
    elif roll < 0.9:
        data = json.dumps(tree(chance)).encode()
    else:
        data = chance.choice([b"[DONE]", b"{", b'{"error"', b"\xff\xfe", b'"error"', chance.randbytes(9)])
    return Named(kind.encode(), data) if chance.random() < 0.6 else data


@st.composite
def mutated(draw: st.DrawFn, names: tuple[str, ...]) -> bytes:
    """A recorded body with a few of its bytes changed, taken out, or a value swapped for another."""
    body = bytearray(fixture(draw(st.sampled_from(names))))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = start + draw(st.integers(0, 12))
        body[start:end] = draw(
            st.one_of(st.binary(max_size=6), st.sampled_from([b"null", b'"', b"{}", b"[]", b"-1", b"}"]))
        )
    return bytes(body)


def look_at_stream(found: list[Event]) -> None:
    """Everything that is asked of a stream; that both sides agree whether it is over, and about its error."""
    monitor, assembler = WIRE.monitor(), WIRE.assembler()
    monitor.heard(found)
    chunks = [chunk for one in found for chunk in assembler.feed(one)] + assembler.end()
    reading = monitor.reading(200, {}, now_s=0)
    answer = assembler.response()
    assert isinstance(WIRE.view(answer), View)
    assert all(isinstance(str(chunk), str) and len(chunk.metadata) >= 1 for chunk in chunks)
    assert assembler.end() == []
    ends = [chunk.type for chunk in chunks if chunk.type in ("result", "error")]
    assert len(ends) <= 1
    assert (ends == ["error"]) == (monitor.error is not None)
    assert monitor.finished or not ends
    assert monitor.usage is None or monitor.finished
    if reading.fault is None and answer.get("status") not in ("failed", "cancelled"):
        assert read(json.dumps(answer).encode()).fault is None


@given(st.binary(max_size=200), st.integers(100, 599))
def test_any_bytes_are_read(body: bytes, status: int) -> None:
    reading = read(body, status)
    assert reading.fault is not None or reading.advice.verdict == "done"
    with contextlib.suppress(msgspec.DecodeError):
        assert isinstance(WIRE.view(WIRE.decode(body)), View)
    assert isinstance(WIRE.decode_stream(body), dict)


@given(SEEDS)
@settings(max_examples=500, deadline=None)
def test_any_json_is_read(seed: int) -> None:
    found = tree(Random(seed), 6)
    read(json.dumps(found).encode())
    assert isinstance(WIRE.view(found), View)


@given(mutated(tuple(f"{name}.json" for name in BODIES)), st.sampled_from([200, 400, 429, 500]))
def test_damaged_answers_are_read(body: bytes, status: int) -> None:
    read(body, status)
    with contextlib.suppress(msgspec.DecodeError):
        assert isinstance(WIRE.view(WIRE.decode(body)), View)


@given(SEEDS)
@settings(max_examples=500, deadline=None)
def test_no_odd_field_costs_an_answer(seed: int) -> None:
    odd = {name: value for name, value in twig(Random(seed)).items() if name not in ("output", "status", "error")}
    body = {**response(message(says("paid for")), usage=USAGE), **odd}
    assert read(body).fault is None
    assert WIRE.view(body).text == "paid for"


@given(SEEDS)
@settings(max_examples=1000, deadline=None)
def test_any_events_are_a_stream(seed: int) -> None:
    chance = Random(seed)
    look_at_stream([grown_event(chance) for _ in range(chance.randint(0, 12))])


@given(mutated(tuple(f"{name}.sse" for name in STREAMS)))
def test_damaged_streams_are_streams(body: bytes) -> None:
    reader = EventReader(cap_bytes=1 << 20)
    look_at_stream(reader.feed(body) + reader.end())
    assert isinstance(WIRE.decode_stream(body), dict)


@given(st.permutations(events_of(fixture("stream.sse"))))
def test_events_in_any_order_are_a_stream(found: list[Event]) -> None:
    look_at_stream(found)
