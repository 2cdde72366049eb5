"""No byte sequence from a provider makes any reader of the catalogue raise, or loses an answer that was paid for.

First the formats themselves, asked everything that is asked of them; then whole engines over real sockets, where a
server on loopback sends the same bodies: nothing reaches the caller but an error of the provider's or of the wire, and
the bytes of a success are kept. The formats' own tests say what is read in what.
"""

from __future__ import annotations

import array
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple

import msgspec
import pytest
import trio
from damaged_answers import BODIES, STREAMS, cut, events_of, grown_body, grown_headers, text_of, with_odd_fields
from hypothesis import given, note, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import engine.errors
from actors.messages import encode
from engine import ProviderError, TransportError, iModel, open_engine
from engine.providers.catalogue import COMPATIBLE, PROVIDERS
from engine.providers.json_format import is_known
from engine.providers.wire import Reading, StreamChunk, Usage, View, WireFormat
from engine.sse import Event, EventReader, LineReader

FORMATS: dict[str, Any] = {
    f"{provider.name or 'any other'} {row.name}": row.format
    for provider in (*PROVIDERS, COMPATIBLE)
    for row in provider.endpoints
}
STREAMING = {name: wire for name, wire in FORMATS.items() if hasattr(wire, "monitor")}
SEEDS = st.integers(0, 2**64)
STATUSES = (200, 201, 204, 301, 400, 401, 402, 403, 404, 408, 413, 422, 429, 432, 498, 500, 502, 503, 529, 599)


@contextmanager
def named(reader: str) -> Iterator[None]:
    """Say which reader it was."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"reader: {reader}")
        raise


def assert_plain(value: Any) -> None:
    """Every text in it can be written as UTF-8, every number as itself: it is of the types it is declared with."""
    plain = msgspec.to_builtins(value)
    assert msgspec.convert(plain, type(value)) is not None
    msgspec.json.encode(plain)


def assert_view(view: object) -> None:
    assert isinstance(view, View)
    vectors = [list(vector) for vector in view.embeddings]
    assert all(isinstance(number, float) for vector in vectors for number in vector)
    assert_plain(msgspec.structs.replace(view, embeddings=()))


def assert_usage(usage: object) -> None:
    assert usage is None or isinstance(usage, Usage)
    if usage is not None:
        assert_plain(usage)
        assert all(part is None or 0 <= part <= 10**13 for part in msgspec.structs.astuple(usage))


def assert_reading(reading: object, status: int) -> None:
    """It says what to do, and can be sent on to the schedule and to the caller."""
    assert isinstance(reading, Reading)
    advice, fault = reading.advice, reading.fault
    assert (fault is None) == (advice.verdict == "done")
    assert fault is not None or 200 <= status <= 299
    assert advice.charge != "usage" or is_known(reading.usage)
    assert advice.hint_us is None or 0 <= advice.hint_us < 2**63
    assert 0 <= reading.free_tokens <= 10**12
    assert_usage(reading.usage)
    msgspec.msgpack.encode((advice, reading.headers))
    if fault is not None:
        encode(fault)
        assert issubclass(getattr(engine.errors, fault.kind), ProviderError)
        assert "\n" not in fault.message
        engine.errors.error_of(fault, call_id=1).__repr__().encode()


def look_at_answer(wire: WireFormat, status: int, headers: dict[str, str], body: bytes, now_s: float) -> None:
    reading = wire.read(status, headers, memoryview(body), now_s=now_s)
    assert_reading(reading, status)
    try:
        decoded = wire.decode(memoryview(body))
    except msgspec.DecodeError:
        assert reading.fault is not None
        decoded = None
    assert_view(wire.view(decoded))


def look_at_stream(wire: Any, status: int, headers: dict[str, str], events: list[Event], seed: int) -> None:
    monitor, assembler, chance = wire.monitor(), wire.assembler(), Random(seed)
    left = list(events)
    while left:
        many = chance.randint(1, len(left))
        monitor.heard(left[:many])
        del left[:many]
    assert monitor.events == len(events)
    chunks = [chunk for event in events for chunk in assembler.feed(event)] + assembler.end()
    assert assembler.end() == []
    for chunk in chunks:
        assert isinstance(chunk, StreamChunk)
        assert_plain(msgspec.structs.replace(chunk, metadata={}, tool_input=None, tool_output=None))
        assert isinstance(dict(chunk.metadata), dict)
        str(chunk).encode()
    assert_reading(monitor.reading(status, headers, now_s=0.0), status)
    assert isinstance(assembler.response(), dict)
    assert 0 <= assembler.unreadable <= len(events)
    assert_view(wire.view(assembler.response()))


def split(kind: type[EventReader | LineReader], pieces: list[bytes]) -> list[Event]:
    reader = kind(cap_bytes=1 << 24)
    return [event for piece in pieces for event in reader.feed(piece)] + reader.end()


@given(SEEDS, st.sampled_from(STATUSES), st.sampled_from([0.0, 1.8e9]))
@settings(max_examples=250, deadline=None)
def test_no_answer_makes_any_reader_raise(seed: int, status: int, now_s: float) -> None:
    body, headers = grown_body(seed), grown_headers(seed)
    note(f"{status} {headers} {body[:2_000]!r}")
    for name, wire in FORMATS.items():
        with named(name):
            look_at_answer(wire, status, headers, body, now_s)


@given(SEEDS, st.sampled_from([200, 201]))
@settings(max_examples=250, deadline=None)
def test_no_stream_makes_any_reader_raise_however_it_is_cut(seed: int, status: int) -> None:
    body, headers = grown_body(seed), grown_headers(seed)
    note(f"{headers} {body[:2_000]!r}")
    for kind in (EventReader, LineReader):
        events = split(kind, [body])
        assert split(kind, cut(seed, body)) == events
        for name, wire in STREAMING.items():
            with named(f"{name}, its events by {kind.__name__}"):
                look_at_stream(wire, status, headers, events, seed)
    for name, wire in STREAMING.items():
        with named(f"{name}, recorded"):
            decoded = wire.decode_stream(memoryview(body))
            assert isinstance(decoded, dict)
            assert_view(wire.view(decoded))


@given(st.binary(max_size=300), st.integers(200, 599))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_read(body: bytes, status: int) -> None:
    for wire in FORMATS.values():
        look_at_answer(wire, status, {}, body, 0.0)
    for wire in STREAMING.values():
        look_at_stream(wire, 200, {}, split(EventReader, [body]), 0)
        assert_view(wire.view(wire.decode_stream(body)))


def test_whatever_was_decoded_has_a_view() -> None:
    """Also what no JSON can hold."""
    for wire in FORMATS.values():
        for found in (None, object(), b"x", {1: 2}, {"choices": object()}, array.array("d"), {"data": [{"embedding": object()}]}):
            assert_view(wire.view(found))
