"""Ollama's stream of JSON lines: the worker's view, the caller's, and that they do not depend on how it came.

The recorded streams are in `fixtures/ollama_native`; all else is written line by line here.
"""

# ruff: noqa: E501  # a table reads best with one case on a line

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from chat_answers import NOW_S, fixture
from hypothesis import given
from hypothesis import strategies as st

from engine.providers.ollama_native import OllamaChat
from engine.providers.wire import Reading, StreamChunk, StreamMonitor, ToolCall, Usage, View
from engine.sse import Event, LineReader, Named

OLLAMA = OllamaChat()
STREAMS = {name: fixture(f"ollama_native/{name}.ndjson") for name in ("stream", "stream_error")}
COUNTS = {"prompt_eval_count": 26, "eval_count": 2}


def lines(body: bytes) -> list[Event]:
    reader = LineReader(cap_bytes=1 << 20)
    return [*reader.feed(body), *reader.end()]


def line(done: bool = False, compact: bool = True, **message: Any) -> bytes:
    body = {"model": "m", "created_at": "t", "message": {"role": "assistant", **message}, "done": done}
    return json.dumps(body, separators=(",", ":") if compact else None).encode()


def last(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "message": {"content": ""}, "done": True, "done_reason": "stop", **COUNTS, **fields}).encode()  # fmt: skip


def heard(events: list[Event], block: int = 1_000) -> StreamMonitor:
    monitor = OLLAMA.monitor()
    for at in range(0, len(events), block):
        monitor.heard(events[at : at + block])
    return monitor


def reading(events: list[Event], status: int = 200) -> Reading:
    return heard(events).reading(status, {}, now_s=NOW_S)


def assembled(events: list[Event]) -> tuple[list[StreamChunk], dict[str, Any]]:
    assembler = OLLAMA.assembler()
    chunks = [chunk for one in events for chunk in assembler.feed(one)] + assembler.end()
    return chunks, assembler.response()


def kinds(chunks: list[StreamChunk]) -> list[str]:
    return [f"{chunk.type}:{chunk.content or chunk.tool_input or ''}" for chunk in chunks]


# --- the worker's view ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 2, 100])
def test_the_recorded_streams_for_the_worker(block: int) -> None:
    whole = heard(lines(STREAMS["stream"]), block)
    assert (whole.events, whole.usage, whole.error, whole.finished, whole.terminated) == (3, Usage(26, 2, 28), None, True, True)  # fmt: skip
    found = whole.reading(200, {}, now_s=NOW_S)
    assert (found.fault, found.advice.verdict, found.advice.charge) == (None, "done", "usage")
    failed = heard(lines(STREAMS["stream_error"]), block).reading(200, {}, now_s=NOW_S)
    assert failed.fault is not None
    assert (failed.fault.kind, failed.advice.verdict, failed.advice.charge) == ("ProviderUnavailable", "retry", "kept")
    assert failed.fault.message.endswith("an error was encountered while running the model")


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_stream_without_its_last_line_is_truncated(kept: int) -> None:
    found = reading(lines(STREAMS["stream"])[:kept])
    assert found.fault is not None
    assert (found.fault.kind, found.advice.verdict, found.advice.charge) == ("Truncated", "failed", "kept")


@pytest.mark.parametrize(
    "text", ['"done":true', '"done":false}', '"error"', '{"error":"x"}', "done", '"eval_count":5}']
)
@pytest.mark.parametrize("compact", [True, False])
def test_the_same_words_in_a_text_mean_nothing(text: str, compact: bool) -> None:
    monitor = heard([line(content=text, compact=compact), line(content="", thinking=text, compact=compact)])
    assert (monitor.events, monitor.finished, monitor.error, monitor.usage) == (2, False, None, None)
    assert kinds(assembled([line(content=text, compact=compact)])[0]) == [f"text:{text}"]


def test_a_damaged_line_makes_a_hole_in_the_answer_and_a_heartbeat_does_not() -> None:
    hole = reading([line(content="a"), b'{"model":"m","mess', last()])
    assert hole.fault is not None
    assert (hole.fault.kind, hole.usage, hole.advice.charge) == ("MalformedReply", Usage(26, 2, 28), "usage")
    assert reading([line(content="a"), b": ping", b"3", last()]).fault is None


def test_what_stands_behind_the_end_is_no_part_of_the_answer() -> None:
    events: list[Event] = [line(content="a"), last(), b'{"error":"late"}', line(content="late")]
    assert reading(events).fault is None
    assert (assembled(events)[1]["message"]["content"], kinds(assembled(events)[0])) == ("a", ["text:a", "result:"])


def test_the_first_error_stands_and_no_result_follows_it() -> None:
    events: list[Event] = [b'{"error":"first","done":false}', b'{"error":"second"}', last()]
    chunks, response = assembled(events)
    assert (kinds(chunks), response["error"]) == (["error:first", "error:second", "system:"], "first")
    found = reading(events)
    assert found.fault is not None
    assert found.fault.message.endswith("It says: first")


def test_the_last_counts_that_were_told_stand() -> None:
    early = json.dumps({"message": {"content": "a"}, "done": False, **COUNTS}).encode()
    assert heard([early, line(done=True, content="")]).usage == Usage(26, 2, 28)


# --- the caller's view ------------------------------------------------------------------------------------------------


def test_the_recorded_streams_for_the_caller() -> None:
    chunks, response = assembled(lines(STREAMS["stream"]))
    assert kinds(chunks) == ["text:Hel", "text:lo!", "result:"]
    assert OLLAMA.view(response) == View("Hello!", None, (), "stop", None, "llama3.2")
    end = lines(STREAMS["stream"])[-1]
    assert isinstance(end, bytes)
    assert chunks[-1].metadata == {"event": json.loads(end), "finish_reason": "stop", "usage": COUNTS}
    chunks, response = assembled(lines(STREAMS["stream_error"]))
    assert kinds(chunks) == ["text:Hel", "error:an error was encountered while running the model"]
    assert (response["error"], chunks[-1].is_error) == ("an error was encountered while running the model", True)
    assert OLLAMA.view(response).text == "Hel"


def test_the_whole_answer_has_the_shape_of_one_that_was_not_streamed() -> None:
    events: list[Event] = [line(content="", thinking="hm"), line(content="a"), line(content="b"), last(created_at="u", total_duration=5)]  # fmt: skip
    message = {"role": "assistant", "thinking": "hm", "content": "ab"}
    end = {"model": "m", "created_at": "u", "done": True, "done_reason": "stop", **COUNTS, "total_duration": 5}
    assert assembled(events)[1] == {**end, "message": message}


def test_the_answer_of_a_stream_that_was_cut_is_as_old_as_its_last_piece() -> None:
    response = assembled(lines(STREAMS["stream"])[:2])[1]
    assert (response["created_at"], response["done"]) == ("2026-08-04T19:22:45.2Z", False)


def test_the_last_line_may_hold_text_and_lack_the_counts() -> None:
    chunks, response = assembled([line(content="a"), line(done=True, content="b"), line(content="late")])
    assert (kinds(chunks), response["done"], OLLAMA.view(response).text) == (
        ["text:a", "text:b", "result:"],
        True,
        "ab",
    )
    assert chunks[-1].metadata["usage"] is None


@pytest.mark.parametrize("name", STREAMS)
def test_the_answer_reads_like_one_that_was_not_streamed(name: str) -> None:
    streamed = reading(lines(STREAMS[name]))
    response = assembled(lines(STREAMS[name]))[1]
    at_once = OLLAMA.read(200, {}, json.dumps(response).encode(), now_s=NOW_S)
    assert at_once == streamed
    assert OLLAMA.decode(STREAMS[name]) == OLLAMA.decode_stream(memoryview(STREAMS[name])) == response


def test_thinking_and_tools_come_as_they_are() -> None:
    calls = [
        {"function": {"name": "f", "arguments": {"a": 1}}},
        {"id": "x", "function": {"name": "g", "arguments": {}}},
    ]
    chunks, response = assembled(
        [
            line(content="", thinking="hm"),
            line(content="so", thinking="ha"),
            line(content="", tool_calls=calls),
            line(content="", tool_calls=calls[:1]),
            last(),
        ]
    )
    assert kinds(chunks) == ["thinking:hm", "thinking:ha", "text:so", 'tool_use:{"a":1}', "tool_use:{}", 'tool_use:{"a":1}', "result:"]  # fmt: skip
    tools = [(chunk.tool_name, chunk.tool_id, chunk.is_delta) for chunk in chunks if chunk.type == "tool_use"]
    assert tools == [("f", "call_0", False), ("g", "x", False), ("f", "call_2", False)]
    view = OLLAMA.view(response)
    assert view.tool_calls == (ToolCall("call_0", "f", '{"a":1}'), ToolCall("x", "g", "{}"), ToolCall("call_2", "f", '{"a":1}'))  # fmt: skip
    assert (view.reasoning, view.text, view.finish_reason) == ("hmha", "so", "tool_calls")
    assert chunks[-1].metadata["finish_reason"] == "tool_calls"


def test_nothing_a_line_held_is_missing_in_the_answer() -> None:
    odd = json.dumps(
        {"message": {"content": "b", "images": ["i"], "new": "x"}, "logprobs": [2], "done": False}
    ).encode()
    first = json.dumps({"message": {"role": "assistant", "content": "a"}, "logprobs": [1], "done": False, "extra": 1})
    response = assembled([first.encode(), odd, line(content="c"), last(message={"content": "d", "new": "y"})])[1]
    assert response["message"] == {"role": "assistant", "content": "abcd", "images": ["i"], "new": "xy"}
    assert (response["logprobs"], response["extra"]) == ([1, 2], 1)


def test_an_answer_that_was_given_does_not_change_when_more_comes() -> None:
    assembler = OLLAMA.assembler()
    one = json.dumps(
        {"message": {"content": "a", "tool_calls": [{"function": {"name": "f"}}]}, "logprobs": [1]}
    ).encode()
    assembler.feed(one)
    before = assembler.response()
    copy = json.dumps(before)
    assembler.feed(one)
    assert json.dumps(before) == copy


def test_what_is_no_json_is_shown_as_it_is_and_counted() -> None:
    assembler = OLLAMA.assembler()
    for raw in (b"ping \xff", Named(b"x", b"{")):
        (chunk,) = assembler.feed(raw)
        assert (chunk.type, str(chunk)) == ("system", "")
    assert assembler.unreadable == 2
    (chunk,) = assembler.feed(b"3")
    assert (chunk.type, assembler.unreadable, assembler.response()) == ("system", 2, {})


def test_a_named_event_is_read_like_a_line() -> None:
    events: list[Event] = [Named(b"x", line(content="a")), Named(b"y", last())]
    assert (heard(events).finished, kinds(assembled(events)[0])) == (True, ["text:a", "result:"])


# --- however it came, and anything at all -----------------------------------------------------------------------------


@given(st.sampled_from(list(STREAMS)), st.lists(st.integers(0, 700), max_size=6), st.sampled_from([b"\n", b"\r\n", b"\n\n"]))  # fmt: skip
def test_any_split_of_the_bytes_gives_the_same(name: str, cuts: list[int], end: bytes) -> None:
    body = STREAMS[name].replace(b"\n", end)
    reader, monitor, assembler = LineReader(cap_bytes=1 << 20), OLLAMA.monitor(), OLLAMA.assembler()
    chunks: list[StreamChunk] = []
    marks = sorted({0, len(body), *(min(cut, len(body)) for cut in cuts)})
    pieces = [body[at:to] for at, to in pairwise(marks)]
    for events in [*map(reader.feed, pieces), reader.end()]:
        monitor.heard(events)
        chunks += [chunk for event in events for chunk in assembler.feed(event)]
    expected, response = assembled(lines(STREAMS[name]))
    assert monitor.reading(200, {}, now_s=NOW_S) == reading(lines(STREAMS[name]))
    assert (kinds(chunks), assembler.response()) == (kinds(expected), response)


FIELDS = st.sampled_from(["message", "content", "thinking", "tool_calls", "function", "name", "arguments", "id", "role", "done", "done_reason", "error", "model", "eval_count", "logprobs", "created_at"])  # fmt: skip
SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("\ud83d"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5),
    max_leaves=8,
)
MESSAGES = st.dictionaries(FIELDS, SHAPES, max_size=4).map(lambda fields: {"message": fields, "done": False})
ANY = (SHAPES | MESSAGES).map(lambda shape: json.dumps(shape).encode()) | st.binary(max_size=30)
DEEP = st.integers(1, 2_000).map(lambda depth: b'{"message":{"x":' + b"[" * depth + b"]" * depth + b"}}")


@given(st.lists(ANY | DEEP | st.builds(Named, st.just(b"error"), ANY), max_size=6))
def test_a_stream_of_anything_never_raises(events: list[Event]) -> None:
    chunks, response = assembled([line(content="a"), *events, line(content="b"), last()])
    OLLAMA.view(response)
    for chunk in chunks:
        assert str(chunk).encode() is not None
        assert chunk.metadata.keys()
    for status in (200, 500):
        found = reading([line(content="a"), *events, last()], status)
        assert (found.fault is None) == (found.advice.verdict == "done")
    assert heard(events, 1).reading(200, {}, now_s=NOW_S) == reading(events)


@given(st.lists(st.builds(line, st.just(False), st.booleans(), content=st.text(max_size=3)), max_size=8))
def test_the_short_way_makes_the_same_chunks_and_the_same_answer(events: list[bytes]) -> None:
    longer = [one[:-1] + b',"strange":1}' for one in events]
    (short, answer), (long, strange) = assembled([*events, last()]), assembled([*longer, last()])
    strange.pop("strange", None)
    assert (kinds(short), answer) == (kinds(long), strange)
