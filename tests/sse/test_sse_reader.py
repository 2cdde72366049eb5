"""Server-sent events and JSON lines, at any split: each rule in a table, and both readers against naive ones.

The naive reader goes over all the bytes at once with a state machine, a byte at a time; the real one sees them in
pieces and never looks at a single byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.sse import Event, EventReader, LineReader, Named, TooLong

CAP = 1 << 20
FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures"


def read(*pieces: bytes, cap_bytes: int = CAP) -> list[Event]:
    reader = EventReader(cap_bytes=cap_bytes)
    return [event for piece in pieces for event in reader.feed(piece)] + reader.end()


def naive(body: bytes) -> list[Event]:
    """WHATWG's rules, letter by letter."""
    lines, line = [], bytearray()
    body = body[3:] if body.startswith(b"\xef\xbb\xbf") else body
    for at, byte in enumerate(body):
        if byte == 10 and at and body[at - 1] == 13:
            continue
        if byte in (10, 13):
            lines.append(bytes(line))
            line.clear()
        else:
            line.append(byte)
    events: list[Event] = []
    data = bytearray()
    name = b""
    for text in [*lines, bytes(line), b""]:
        if not text:
            if data[:-1]:
                events.append(bytes(data[:-1]) if name in (b"", b"message") else Named(name, bytes(data[:-1])))
            data.clear()
            name = b""
        elif not text.startswith(b":"):
            colon = text.find(b":")
            field, value = (text, b"") if colon < 0 else (text[:colon], text[colon + 1 :])
            value = value[1:] if value.startswith(b" ") else value
            if field == b"data":
                data += value + b"\n"
            elif field == b"event":
                name = value
    return events


WORDS = st.sampled_from([
    b"data: ", b"data:", b"data", b"event: ", b"event:", b"id: 7", b"retry: 10", b": note", b":", b"other: x", b" ",
    b"\n", b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b"\r\r", b"\n\ndata: ", b"data: x\n\n",
    b"data: x\n", b"data: x\r\n", b"data: x\r", b'data: {"a":1}\n\n',
    b"message", b"error", b"[DONE]", b"\xef\xbb\xbf", b"\xef\xbb", "ü☕".encode(), b"\xc2\x85", b"\x0b\x0c\x00",
])  # fmt: skip
STREAMS = st.lists(WORDS | st.binary(max_size=4), max_size=30).map(b"".join)


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    edges = sorted({0, len(body), *(place for place in places if place < len(body))})
    return [body[start:end] for start, end in pairwise(edges)]


@given(STREAMS, st.lists(st.integers(0, 60), max_size=12))
@example(b"data: x\r\n\r\ndata: y\r\n\r\n", list(range(24)))
@example(b"data: x\r\ndata: y\r\n\r\n", list(range(24)))
@example(b"\xef\xbb\xbfdata: x\n\n", [1, 2, 3])
@example(b"data: a\n\n\ndata: b\n\n", [10])
def test_any_split_gives_the_events_of_the_rules(body: bytes, places: list[int]) -> None:
    assert read(*cut(body, places)) == naive(body)


@given(STREAMS)
def test_byte_by_byte_gives_the_same_as_at_once(body: bytes) -> None:
    assert read(*(body[at : at + 1] for at in range(len(body)))) == read(body) == read(b"", body, b"")


@pytest.mark.parametrize(
    ("piece", "events"),
    [
        (b"event: delta\ndata: {}\n\n", [Named(b"delta", b"{}")]),
        (b"event: message\ndata: {}\n\n", [b"{}"]),
        (b"event: \ndata: {}\n\n", [b"{}"]),
        (b"event: ping\ndata: \n\n", []),
        (b"event: delta\nid: 1\n\n", []),
        (b"event: delta\ndata:{}\n\n", [Named(b"delta", b"{}")]),
    ],
)
def test_a_whole_event_with_a_name_by_itself(piece: bytes, events: list[Event]) -> None:
    reader = EventReader(cap_bytes=CAP)
    assert reader.feed(b"data: first\n\n") == [b"first"]
    assert reader.feed(piece) == events
    assert reader.end() == []


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a \n\n", [b" a "]),
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\r\n", [b"a", b"b", b"c"]),
        (b"data: a\ndata\ndata: b\n\n", [b"a\n\nb"]),
        (b": note\n\ndata: a\n: note\n\n", [b"a"]),
        (b":\n\n:\n:\n\n", []),
        (b"id: 1\nretry: 5\ndata: a\nwhat: ever\n\n", [b"a"]),
        (b"id: 1\n\nevent: ping\n\nretry: 5\n\n", []),
        (b"data:\n\ndata: \n\ndata\n\n", []),
        (b"data: \n\ndata: a\n\n", [b"a"]),
        (b"event: error\ndata: a\n\ndata: b\n\n", [Named(b"error", b"a"), b"b"]),
        (b"event: message\ndata: a\n\nevent:\ndata: b\n\n", [b"a", b"b"]),
        (b"event: x\nevent: y\ndata: a\n\n", [Named(b"y", b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b"Data: a\n\n data: b\n\n", []),
        (b"data: a", [b"a"]),
        (b"data: a\n\nevent: x\ndata: b\n", [b"a", Named(b"x", b"b")]),
        (b'{"error": "no stream at all"}', []),
        ('data: "\u2028 \u2029 \u0085 \x0b \x0c"\n\n'.encode(), ['"\u2028 \u2029 \u0085 \x0b \x0c"'.encode()]),
        (b"data: \xff\xfe\x00\n\n", [b"\xff\xfe\x00"]),
        (b"", []),
    ],
)
def test_each_rule(body: bytes, events: list[Event]) -> None:
    assert read(body) == events == naive(body)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("anthropic_messages/stream.sse", "message_start content_block_start ping content_block_delta"
         " content_block_delta content_block_stop message_delta message_stop"),
        ("anthropic_messages/stream_overloaded.sse", "message_start error"),
        ("openai_responses/stream_error_event.sse", "response.created error"),
        ("openai_responses/stream_failed.sse", "response.created response.failed"),
    ],
)  # fmt: skip
def test_recorded_streams_of_named_events(name: str, names: str) -> None:
    body = (FIXTURES / name).read_bytes()
    for step in (1, 100, len(body)):
        events = read(*(body[at : at + step] for at in range(0, len(body), step)))
        assert [event.name.decode() for event in events if isinstance(event, Named)] == names.split()
        assert all(json.loads(event.data)["type"] == event.name.decode() for event in events)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["openai_responses/stream.sse", "anthropic_messages/stream_tool_thinking.sse"])
def test_long_recorded_streams_read_as_the_rules_say(name: str) -> None:
    body = (FIXTURES / name).read_bytes()
    assert read(body) == naive(body) == read(body.replace(b"\n", b"\r\n"))


def test_an_event_is_there_as_soon_as_its_end_is() -> None:
    reader = EventReader(cap_bytes=CAP)
    assert reader.feed(b"data: a\r\n\r") == [b"a"]
    assert reader.feed(b"\ndata: b\n\nda") == [b"b"]
    assert reader.held_bytes == 2
    assert reader.feed(b"ta: c\n") == []
    assert reader.feed(b"\n") == [b"c"]
    assert (reader.held_bytes, reader.end()) == (0, [])


def test_comments_are_no_events_and_fill_no_memory() -> None:
    reader = EventReader(cap_bytes=100)
    for _ in range(1_000):
        assert reader.feed(b": keep-alive\n") == []
        assert reader.feed(b": keep-alive\n\n") == []
    assert reader.held_bytes == 0
    assert reader.feed(b"data: a\n\n") == [b"a"]


def test_events_cross_a_channel_as_they_are() -> None:
    events = read(b"data: a\n\nevent: error\ndata: b\n\n")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(events), type=list[bytes | Named]) == events


# --- the cap ----------------------------------------------------------------------------------------------------------

FITS = b"data: 0123456789"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b""])
@pytest.mark.parametrize("step", [1, 3, 7, 1_000])
@pytest.mark.parametrize("before", [b"", b"data: a\n\n", b"\n\n\n", b"data: a\n\n\n"])
def test_the_cap_is_on_one_event_however_it_arrives(end: bytes, step: int, before: bytes) -> None:
    def outcome(event: bytes) -> tuple[list[Event], bool]:
        body = before + event + end
        reader = EventReader(cap_bytes=len(FITS))
        found: list[Event] = []
        try:
            for at in range(0, len(body), step):
                found += reader.feed(body[at : at + step])
            found += reader.end()
        except TooLong:
            return found, True
        return found, False

    first: list[Event] = [b"a"] if b"a" in before else []
    assert outcome(FITS) == ([*first, FITS[6:]], False)
    assert outcome(FITS + b"x") == (first, True)
    assert outcome(FITS + b"\ndata: y") == (first, True)


def test_after_an_event_too_long_nothing_is_read() -> None:
    reader = EventReader(cap_bytes=10)
    assert reader.feed(b"data: a\n\ndata: 0123456789\n\ndata: b\n\n") == [b"a"]
    for _ in range(2):
        with pytest.raises(TooLong, match="larger than 10 bytes"):
            reader.feed(b"data: c\n\n")
    with pytest.raises(TooLong):
        reader.end()


def test_an_event_in_a_thousand_pieces_comes_out_whole() -> None:
    reader = EventReader(cap_bytes=CAP)
    assert [event for _ in range(1_000) for event in reader.feed(b"data: 0123456789")] == []
    assert reader.held_bytes == 16_000
    assert [len(event.data if isinstance(event, Named) else event) for event in reader.feed(b"\n\n")] == [15_994]


# --- lines of JSON ----------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([b"a", b"{}", b"\n", b"\n", b"\r\n", b" ", b"1", b"\xc2\x85"]), max_size=30),
       st.lists(st.integers(0, 40), max_size=10))  # fmt: skip
def test_lines_at_any_split(words: list[bytes], places: list[int]) -> None:
    body = b"".join(words)
    reader = LineReader(cap_bytes=CAP)
    events = [event for piece in cut(body, places) for event in reader.feed(piece)] + reader.end()
    assert events == [line.strip() for line in body.split(b"\n") if line.strip()]


@pytest.mark.parametrize(("name", "last"), [("stream.ndjson", "done"), ("stream_error.ndjson", "error")])
def test_recorded_lines(name: str, last: str) -> None:
    body = (FIXTURES / "ollama_native" / name).read_bytes()
    for step in (1, 100, len(body)):
        reader = LineReader(cap_bytes=CAP)
        pieces = [body[at : at + step] for at in range(0, len(body), step)]
        lines = [line for piece in pieces for line in reader.feed(piece)] + reader.end()
        assert [json.loads(line) for line in lines if isinstance(line, bytes)] == list(
            map(json.loads, body.splitlines())
        )
        assert json.loads(lines[-1])[last]  # type: ignore[arg-type]  # lines have no names


@pytest.mark.parametrize("step", [1, 2, 5, 100])
def test_lines_have_a_mark_and_a_cap_too(step: int) -> None:
    body = b"\xef\xbb\xbf1\n1\n12345\n123456\n7\n"
    reader = LineReader(cap_bytes=5)
    found: list[Event] = []
    with suppress(TooLong):
        for at in range(0, len(body), step):
            found += reader.feed(body[at : at + step])
    assert found == [b"1", b"1", b"12345"]
    with pytest.raises(TooLong):
        reader.end()
