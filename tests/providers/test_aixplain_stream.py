"""aiXplain's streams in every manner in which models send them: the chunks, the end, the usage, errors, a cut.

The wires are those that both of its SDK's streamers were run on (0.2.34, 0.2.48; 2026-11-20); where the older one loses
text or the newer one leaks comments, what the document promises holds.
"""

from __future__ import annotations

import pytest
from chat_answers import fixture

from engine.providers.aixplain import AIXPLAIN
from engine.providers.wire import StreamChunk, Usage
from engine.sse import Event, EventReader


def events_of(wire: bytes) -> list[Event]:
    reader = EventReader(cap_bytes=1 << 20)
    return [*reader.feed(wire), *reader.end()]


def chunks_of(wire: bytes) -> list[StreamChunk]:
    assembler = AIXPLAIN.assembler()
    return [chunk for event in events_of(wire) for chunk in assembler.feed(event)] + assembler.end()


def texts_of(wire: bytes) -> list[str]:
    return [str(chunk) for chunk in chunks_of(wire) if chunk.type == "text"]


def verdict_of(wire: bytes) -> tuple[str, str]:
    """How the worker judges the stream, and the kind of what is wrong with it."""
    monitor = AIXPLAIN.monitor()
    monitor.heard(events_of(wire))
    reading = monitor.reading(200, {}, now_s=0.0)
    return reading.advice.verdict, reading.fault.kind if reading.fault else ""


DONE = b"data: [DONE]\n\n"
WIRES: list[tuple[str, bytes, list[str]]] = [
    ("envelopes", b'data: {"data":"Hel"}\n\ndata: {"data":"lo"}\n\n' + DONE, ["Hel", "lo"]),
    ("the end in an envelope", b'data: {"data":"Hel"}\n\ndata: {"data":"[DONE]"}\n\n', ["Hel"]),
    ("no space after the colon", b'data:{"data":"Hel"}\n\ndata:[DONE]\n\n', ["Hel"]),
    ("a text inside", b'data: {"data":{"text":"!"}}\n\n' + DONE, ["!"]),
    ("an output inside", b'data: {"data":{"output":"?"}}\n\n' + DONE, ["?"]),
    ("plain words", b"data: plain words\n\n" + DONE, ["plain words"]),
    ("a JSON text", b'data: "quoted"\n\n' + DONE, ["quoted"]),
    ("OpenAI's", b'data: {"choices":[{"delta":{"content":"zz"}}]}\n\n' + DONE, ["zz"]),
    ("a finish reason", b'data: {"choices":[{"delta":{"content":"z"},"finish_reason":"stop"}]}\n\n', ["z"]),
    ("a status", b'data: {"data":"x","status":"SUCCESS"}\n\n', ["x"]),
    ("another status", b'data: {"data":"x","status":"COMPLETED"}\n\n', ["x"]),
    ("split in one event", b'data: {"data":\ndata: "joined"}\n\n' + DONE, ["joined"]),
    ("split over events", b'data: {"data":\n\ndata: "joined"}\n\n' + DONE, ["joined"]),
    ("split inside a word", b'data: {"data":"jo\n\ndata: ined"}\n\n' + DONE, ["joined"]),
    ("an object that is split", b'data: {"data":\n\ndata: {"text":"!"}\n\ndata: }\n\n' + DONE, ["!"]),
    ("two in one event", b'data: {"data":"a"}\ndata: {"data":"b"}\n\n' + DONE, ["a", "b"]),
    ("all but text", b': ping\n\nevent: message\nid: 3\nretry: 10\ndata: {"data":"x"}\n\n\n\n' + DONE, ["x"]),
    ("nothing in it", b'data: {"data":""}\n\ndata: {"data":null}\n\n' + DONE, []),
]


@pytest.mark.parametrize(("name", "wire", "texts"), WIRES, ids=[row[0] for row in WIRES])
def test_every_manner_gives_its_text_and_ends_well(name: str, wire: bytes, texts: list[str]) -> None:
    assert texts_of(wire) == texts
    assert verdict_of(wire) == ("done", "")
    assert chunks_of(wire)[-1].type == "result"
    answer = AIXPLAIN.decode_stream(wire)
    assert AIXPLAIN.view(answer).text == ("".join(texts) or None)
    assert isinstance(answer, dict)
    assert answer["status"] == "SUCCESS"


FAILURES: list[tuple[str, bytes, list[str], str]] = [
    ("an error", b'data: {"data":"Hel"}\n\ndata: {"error":{"message":"boom"}}\n\n', ["Hel"], "boom"),
    ("an error as text", b'data: {"error":"boom"}\n\n' + DONE, [], "boom"),
    ("a status", b'data: {"status":"FAILED","errorMessage":"bad"}\n\n', [], "bad"),
    ("a status with a message", b'data: {"status":"ERROR","message":"bad"}\n\n', [], "bad"),
    ("a finish reason", b'data: {"choices":[{"delta":{},"finish_reason":"error"}]}\n\n', [], "Model Run: An error"),
    ("an event", b'event: error\ndata: {"message":"bad"}\n\n', [], "bad"),
]


@pytest.mark.parametrize(("name", "wire", "texts", "says"), FAILURES, ids=[row[0] for row in FAILURES])
def test_an_error_in_the_stream_is_one_and_is_not_tried_again(
    name: str, wire: bytes, texts: list[str], says: str
) -> None:
    assert texts_of(wire) == texts
    errors = [chunk for chunk in chunks_of(wire) if chunk.type == "error"]
    assert [(chunk.content or "").startswith(says) for chunk in errors] == [True]
    verdict, kind = verdict_of(wire)
    assert verdict == "failed"
    assert kind in ("ProviderUnavailable", "Rejected")
    assert not any(chunk.type == "result" for chunk in chunks_of(wire))


def test_a_stream_without_its_end_is_cut() -> None:
    wire = b'data: {"data":"Hel"}\n\n'
    assert texts_of(wire) == ["Hel"]
    assert verdict_of(wire) == ("failed", "Truncated")
    assert AIXPLAIN.view(AIXPLAIN.decode_stream(wire)).text == "Hel"
    assert chunks_of(wire)[-1].type == "text"


@pytest.mark.parametrize(
    "wire",
    [
        b'data: {"data":"a"}\n\ndata: {"data":"b\n\n' + DONE,
        b'data: {"data":"a"}\n\ndata: {"broken\n\ndata: {"data":"b"}\n\n' + DONE,
        b'data: {"data":"a","status":"SUCCESS"}\n\ndata: {"half\n\n',
    ],
)
def test_json_that_never_ends_is_a_hole(wire: bytes) -> None:
    assert texts_of(wire)[0] == "a"
    assert verdict_of(wire) == ("failed", "MalformedReply")
    assembler = AIXPLAIN.assembler()
    for event in events_of(wire):
        assembler.feed(event)
    assembler.end()
    assert assembler.unreadable == 1


def test_the_usage_may_follow_the_end() -> None:
    monitor = AIXPLAIN.monitor()
    wire = fixture("aixplain_run/stream_openai.sse")
    monitor.heard(events_of(wire))
    assert (monitor.finished, monitor.terminated, monitor.events) == (True, False, 2)
    assert monitor.usage == Usage(3, 1, 4)
    assert monitor.reading(200, {}, now_s=0.0).advice.charge == "usage"
    last = chunks_of(wire)[-1]
    assert (last.type, last.metadata["finish_reason"]) == ("result", "stop")


def test_the_recorded_stream_of_many_manners() -> None:
    wire = fixture("aixplain_run/stream.sse")
    assert texts_of(wire) == ["Hel", "lo", "plain words", " joined"]
    answer = AIXPLAIN.decode_stream(wire)
    assert isinstance(answer, dict)
    assert (answer["usedCredits"], answer["completed"]) == (0.1, True)
    assert AIXPLAIN.read(200, {}, wire, now_s=0.0).usage == Usage(3, 4, 7)


def test_reasoning_and_tool_calls_of_openais_shape_are_told() -> None:
    wire = (
        b'data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}\n\n'
        b'data: {"choices":[{"delta":{"tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"}}]}}]}\n\n'
        b'data: {"choices":[{"delta":{},"finish_reason":"tool_calls"}]}\n\n' + DONE
    )
    assert [chunk.type for chunk in chunks_of(wire)][:2] == ["thinking", "tool_use"]
    view = AIXPLAIN.view(AIXPLAIN.decode_stream(wire))
    assert (view.reasoning, view.tool_calls[0].name, view.finish_reason) == ("hm", "f", "tool_calls")


def test_nothing_behind_the_end_is_heard() -> None:
    wire = b'data: {"data":"a"}\n\n' + DONE + b'data: {"error":"late"}\n\ndata: {"data":"b"}\n\n'
    assert texts_of(wire) == ["a"]
    assert verdict_of(wire) == ("done", "")
