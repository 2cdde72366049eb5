"""Streams of the Messages API: for the worker the end, the cost and the error; for the caller the chunks and the answer.

The same however the bytes were cut, and whatever stands in an event: nothing raises, and no text is lost.
"""

# ruff: noqa: E501  # a table reads best with one case on a line

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from anthropic_answers import (
    END,
    FOLDER,
    OLD,
    START,
    STREAMS,
    assembled,
    begin,
    delta,
    ending,
    event,
    events_of,
    fixture,
    heard,
    loaded,
    stop,
    text,
    verdict,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.providers.wire import StreamChunk, ToolCall, Usage
from engine.sse import Event, EventReader, Named

BEGIN = begin(type="text", text="")
USAGE = {"input_tokens": 5, "output_tokens": 3}
HELLO: list[Event] = [START, BEGIN, text("Hel"), text("lo!"), stop(), ending(**USAGE), END]
TOOL = begin(type="tool_use", id="t1", name="look", input={})


def kinds(chunks: list[StreamChunk]) -> list[str]:
    return [chunk.type for chunk in chunks if chunk.type != "system"]


def tool_input(*pieces: str) -> list[Event]:
    return [START, TOOL, *(delta("input_json_delta", partial_json=piece) for piece in pieces), stop(), END]


# --- the recorded streams ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "usage", "kind", "charge"),
    [
        ("stream.sse", Usage(12, 6, 18, 0, 0), "", "usage"),
        ("stream_tool_thinking.sse", Usage(12, 40, 52, 0, 9), "", "usage"),
        ("stream_overloaded.sse", Usage(12, None, None, 0, 0), "ProviderUnavailable", "kept"),
    ],
)
def test_the_recorded_streams_as_the_worker_hears_them(name: str, usage: Usage, kind: str, charge: str) -> None:
    events = events_of(fixture(name))
    for block in (1, 2, 3, 100):
        monitor = heard(events, block)
        assert (monitor.usage, monitor.events) == (usage, len(events))
        assert (monitor.finished, monitor.terminated) == (not kind, not kind)
        found = monitor.reading(200, {}, now_s=0)
        assert (found.fault.kind if found.fault else "", found.advice.charge) == (kind, charge)
        assert found.advice.verdict == ("retry" if kind else "done")


def test_the_recorded_stream_as_the_caller_reads_it() -> None:
    chunks, answer = assembled(events_of(fixture("stream.sse")))
    assert "".join(map(str, chunks)) == "Hello!"
    assert kinds(chunks) == ["text", "text", "result"]
    assert answer == loaded("response.json")
    assert chunks[-1].metadata == {
        "event": {"type": "message_stop"},
        "name": "message_stop",
        "finish_reason": "stop",
        "usage": loaded("response.json")["usage"],
    }


def test_the_recorded_stream_with_thoughts_and_a_tool_call() -> None:
    chunks, answer = assembled(events_of(fixture("stream_tool_thinking.sse")))
    assert kinds(chunks) == ["thinking", "tool_use", "tool_use", "tool_use", "result"]
    tools = [chunk for chunk in chunks if chunk.type == "tool_use"]
    assert {(chunk.tool_name, chunk.tool_id, chunk.is_delta) for chunk in tools} == {("get_weather", "toolu_1", True)}
    assert json.loads("".join(chunk.tool_input for chunk in tools)) == {"city": "Paris"}
    whole = loaded("response_tool_use_thinking.json")
    assert answer["content"] == [whole["content"][0], whole["content"][2]]
    view = OLD.view(answer)
    assert (view.reasoning, view.finish_reason) == ("Need weather.", "tool_calls")
    assert view.tool_calls == (ToolCall("toolu_1", "get_weather", '{"city":"Paris"}'),)


def test_an_error_inside_the_stream() -> None:
    chunks, answer = assembled(events_of(fixture("stream_overloaded.sse")))
    assert kinds(chunks) == ["error"]
    assert (chunks[-1].content, chunks[-1].is_error) == ("Overloaded", True)
    assert answer["error"] == {"type": "overloaded_error", "message": "Overloaded"}
    assert OLD.view(answer).finish_reason == "error"
    fault = verdict(events_of(fixture("stream_overloaded.sse"))).fault
    assert fault is not None
    assert (fault.code, fault.request_id) == ("overloaded_error", "req_1")


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_body_is_decoded_as_the_answer_it_makes_up(name: str) -> None:
    body = fixture(name)
    expected = assembled(events_of(body))[1]
    assert OLD.decode(body) == OLD.decode(memoryview(body)) == OLD.decode_stream(body) == expected


@pytest.mark.parametrize("name", STREAMS)
@given(cuts=st.lists(st.integers(0, 2_000), max_size=12), ends=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_however_the_bytes_are_cut_the_answer_is_the_same(name: str, cuts: list[int], ends: bytes) -> None:
    whole = fixture(name)
    body = whole.replace(b"\n", ends)
    reader = EventReader(cap_bytes=1 << 16)
    monitor, assembler = OLD.monitor(), OLD.assembler()
    places = sorted({0, *(cut for cut in cuts if cut < len(body)), len(body)})
    blocks = [reader.feed(body[start:stop]) for start, stop in itertools.pairwise(places)]
    chunks = []
    for block in [*blocks, reader.end()]:
        monitor.heard(block)
        chunks += [chunk for one in block for chunk in assembler.feed(one)]
    assert assembler.response() == assembled(events_of(whole))[1]
    assert kinds(chunks + assembler.end()) == kinds(assembled(events_of(whole))[0])
    assert (monitor.usage, monitor.finished) == (heard(events_of(whole)).usage, heard(events_of(whole)).finished)


@pytest.mark.parametrize("name", ["stream.sse", "stream_tool_thinking.sse"])
def test_a_stream_without_its_end_is_truncated_and_stays_charged(name: str) -> None:
    events = events_of(fixture(name))
    for kept in range(len(events)):
        reading = verdict(events[:kept])
        assert reading.fault is not None
        assert (reading.fault.kind, reading.fault.sent) == ("Truncated", True)
        assert (reading.advice.verdict, reading.advice.charge) == ("failed", "kept")
        assert "result" not in kinds(assembled(events[:kept])[0])
    assert verdict(events).fault is None


# --- the worker's side ------------------------------------------------------------------------------------------------


def test_the_counts_of_a_later_event_replace_those_before() -> None:
    start = event(
        "message_start", message={"usage": {"input_tokens": 5, "cache_read_input_tokens": 90, "output_tokens": 1}}
    )
    events = [start, ending(output_tokens=7), ending(output_tokens=9, cache_read_input_tokens=None), END]
    reading = verdict(events)
    assert reading.usage == Usage(95, 9, 104, 90)
    assert (reading.free_tokens, reading.advice.charge) == (90, "usage")
    assert verdict([start, ending(input_tokens=6, output_tokens=7), END]).usage == Usage(96, 7, 103, 90)


def test_what_the_first_event_says_of_the_output_is_no_count_of_it() -> None:
    start = event("message_start", message={"usage": {"input_tokens": 5, "output_tokens": 1}})
    reading = verdict([start, text("a long answer"), Named(b"error", b'{"error":{"type":"api_error","message":"m"}}')])
    assert (reading.usage, reading.advice.charge) == (Usage(5), "kept")


@pytest.mark.parametrize(
    ("last", "kind", "verdict_"),
    [
        (event("error", error={"type": "overloaded_error", "message": "m"}), "ProviderUnavailable", "retry"),
        (event("error", error={"type": "api_error", "message": "m"}), "ProviderUnavailable", "retry"),
        (event("error", error={"type": "rate_limit_error", "message": "m"}), "RateLimited", "retry"),
        (event("error", error={"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}), "QuotaExhausted", "failed"),
        (event("error", error={"type": "invalid_request_error", "message": "m"}), "Rejected", "failed"),
        (Named(b"error", b"upstream gone"), "ProviderUnavailable", "retry"),
        (Named(b"error", b'{"type":"overloaded_error"}'), "ProviderUnavailable", "retry"),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"m"}}', "ProviderUnavailable", "retry"),
        (b'{"error":"gateway lost it"}', "ProviderUnavailable", "retry"),
        (event("content_block_stop", index=0, error={"type": "overloaded_error"}), "ProviderUnavailable", "retry"),
    ],
)  # fmt: skip
def test_an_error_event_however_it_is_written(last: Event, kind: str, verdict_: str) -> None:
    for events in ([last], [*HELLO[:3], last], [*HELLO[:3], last, END]):
        reading = verdict(events)
        assert reading.fault is not None
        assert (reading.fault.kind, reading.advice.verdict, reading.advice.charge) == (kind, verdict_, "kept")
        chunks, answer = assembled(events)
        assert kinds(chunks)[-1] == "error"
        assert "error" in answer


@pytest.mark.parametrize(
    "words", ['"error"', '{"type": "error"}', "event: error", "message_stop", '{"type":"message_stop"}']
)
def test_the_same_words_in_a_text_mean_nothing(words: str) -> None:
    events = [START, BEGIN, text(words)]
    assert (heard(events).finished, heard(events).error) == (False, None)
    assert str(assembled(events)[0][-1]) == words


def test_a_damaged_event_is_a_hole_and_a_damaged_ping_is_none() -> None:
    hole = verdict([*HELLO[:3], Named(b"content_block_delta", b'{"type":"content_bl'), *HELLO[3:]])
    assert hole.fault is not None
    assert (hole.fault.kind, hole.advice.charge, hole.usage) == ("MalformedReply", "usage", Usage(5, 3, 8))
    for noise in (Named(b"ping", b"{"), Named(b"ping", b"x"), b"heartbeat"):
        assert verdict([*HELLO[:3], noise, *HELLO[3:]]).fault is None


def test_what_stands_behind_the_end_is_no_part_of_it() -> None:
    events = [*HELLO, ending(output_tokens=99), Named(b"error", b"{}"), text("more")]
    assert verdict(events).usage == Usage(5, 3, 8)
    assert verdict(events).fault is None
    assert assembled(events) == assembled(HELLO)


def test_a_refused_stream_is_an_error_of_its_status() -> None:
    assert heard([]).reading(529, {}, now_s=0).advice.kind == "ProviderUnavailable"


def test_events_whose_names_were_lost_on_the_way_are_read_by_their_type() -> None:
    bare: list[Event] = [one.data for one in HELLO if isinstance(one, Named)]
    assert verdict(bare).usage == Usage(5, 3, 8)
    assert assembled(bare)[1] == assembled(HELLO)[1]
    assert kinds(assembled(bare)[0]) == kinds(assembled(HELLO)[0])


# --- the caller's side ------------------------------------------------------------------------------------------------


def test_pings_make_no_chunk_and_what_is_not_known_is_told_as_it_is() -> None:
    known = len(assembled(HELLO)[0])
    odd = [event("content_block_glow", index=0, heat=3), b"not json", b"[1]", b'{"type":"new"}']
    chunks, answer = assembled([*HELLO[:3], event("ping"), b'{"type":"ping"}', *odd, *HELLO[3:]])
    assert len(chunks) == known + len(odd)
    assert [chunk.metadata["event"] for chunk in chunks if chunk.type == "system"][2] == {
        "type": "content_block_glow",
        "index": 0,
        "heat": 3,
    }
    assert answer == assembled(HELLO)[1]


def test_how_many_events_were_unreadable() -> None:
    assembler = OLD.assembler()
    for one in (START, BEGIN, b"not json", Named(b"content_block_delta", b'{"cut'), text("x")):
        assembler.feed(one)
    assert assembler.unreadable == 2


@pytest.mark.parametrize(
    ("pieces", "given"),
    [
        ((), {}),
        (("",), {}),
        (("", " "), {}),
        (("{}",), {}),
        (('{"a"', ': "b', '"}'), {"a": "b"}),
    ],
)
def test_the_input_of_a_tool_is_joined_and_nothing_at_all_is_an_empty_object(
    pieces: tuple[str, ...], given: object
) -> None:
    chunks, answer = assembled(tool_input(*pieces))
    tools = [chunk for chunk in chunks if chunk.type == "tool_use"]
    assert json.loads("".join(chunk.tool_input for chunk in tools)) == given
    assert answer["content"] == [{"type": "tool_use", "id": "t1", "name": "look", "input": given}]


def test_an_input_that_is_cut_is_kept_as_the_text_it_is() -> None:
    answer = assembled([START, TOOL, delta("input_json_delta", partial_json='{"a": "b'), ending("max_tokens"), END])[1]
    assert OLD.view(answer).tool_calls == (ToolCall("t1", "look", '{"a": "b'),)
    listed = assembled(tool_input("[1, 2]"))[1]
    assert OLD.view(listed).tool_calls == (ToolCall("t1", "look", "[1, 2]"),)


def test_an_input_that_came_whole_with_the_beginning_is_told_at_the_stop() -> None:
    chunks, answer = assembled([START, begin(type="tool_use", id="t", name="f", input={"a": 1}), stop(), END])
    assert "".join(chunk.tool_input for chunk in chunks if chunk.type == "tool_use") == '{"a":1}'
    assert OLD.view(answer).tool_calls == (ToolCall("t", "f", '{"a":1}'),)


def test_a_tool_that_the_provider_runs_is_no_tool_use_chunk() -> None:
    search = begin(type="server_tool_use", id="s", name="web_search", input={})
    piece = delta("input_json_delta", partial_json='{"query":"q"}')
    found = begin(1, type="web_search_tool_result", tool_use_id="s", content=[{"url": "https://x", "title": "X"}])
    chunks, answer = assembled([START, search, piece, stop(), found, stop(1), END])
    assert kinds(chunks) == ["result"]
    assert answer["content"][0]["input"] == {"query": "q"}  # type: ignore[index]  # content is a list
    assert [result.url for result in OLD.view(answer).results] == ["https://x"]


def test_two_tools_at_once_are_told_apart_by_their_index() -> None:
    events = [START, TOOL, begin(1, type="tool_use", id="t2", name="wait", input={})]
    events += [
        delta("input_json_delta", index, partial_json=piece)
        for index, piece in ((0, '{"a"'), (1, '{"b"'), (0, ":1}"), (1, ":2}"))
    ]
    calls = OLD.view(assembled([*events, END])[1]).tool_calls
    assert calls == (ToolCall("t1", "look", '{"a":1}'), ToolCall("t2", "wait", '{"b":2}'))


def test_signatures_citations_and_what_may_be_added_are_kept() -> None:
    events = [
        START,
        begin(type="thinking", thinking="", signature=""),
        delta("thinking_delta", thinking="a"),
        delta("thinking_delta", thinking="b"),
        delta("signature_delta", signature="S=="),
        begin(1, type="text", text="", citations=None),
        delta("text_delta", 1, text="x"),
        delta("citations_delta", 1, citation={"url": "https://x", "cited_text": "q"}),
        delta("citations_delta", 1, citation={"url": "https://y"}),
        delta("glow_delta", 1, glow="war"),
        delta("glow_delta", 1, glow="m"),
        delta("text_delta", 1, text="y", heat=3),
        event(
            "message_delta",
            delta={"stop_reason": "end_turn", "container": {"id": "c"}},
            usage=USAGE,
            context_management={},
        ),
        END,
    ]
    chunks, answer = assembled(events)
    assert "".join(map(str, chunks)) == "xy"
    assert answer["content"] == [
        {"type": "thinking", "thinking": "ab", "signature": "S=="},
        {
            "type": "text",
            "text": "xy",
            "citations": [{"url": "https://x", "cited_text": "q"}, {"url": "https://y"}],
            "glow": "warm",
            "heat": 3,
        },
    ]
    assert (answer["container"], answer["context_management"]) == ({"id": "c"}, {})
    assert [found.url for found in OLD.view(answer).citations] == ["https://x", "https://y"]


def test_a_text_that_begins_with_something_loses_none_of_it() -> None:
    chunks, answer = assembled([START, begin(type="text", text="He"), text("llo"), END])
    assert "".join(map(str, chunks)) == OLD.view(answer).text == "Hello"


def test_an_answer_that_came_whole_with_the_first_event_is_read_from_there() -> None:
    start = event("message_start", message=loaded("response_tool_use_thinking.json"))
    chunks, answer = assembled([start, stop(2), END])
    assert kinds(chunks) == ["thinking", "text", "tool_use", "tool_use", "result"]
    assert answer == loaded("response_tool_use_thinking.json")


def test_a_piece_that_is_not_what_its_block_is_for_is_in_the_answer_alone() -> None:
    chunks, answer = assembled([START, BEGIN, delta("thinking_delta", thinking="hm"), text("a"), END])
    assert kinds(chunks) == ["text", "result"]
    assert answer["content"] == [{"type": "text", "thinking": "hm", "text": "a"}]


def test_a_delta_whose_beginning_never_came_is_not_lost() -> None:
    chunks, answer = assembled([text("a"), delta("thinking_delta", 1, thinking="b"), text("c"), END])
    assert "".join(map(str, chunks)) == OLD.view(answer).text == "ac"
    assert OLD.view(answer).reasoning == "b"


def test_half_a_character_waits_for_its_other_half() -> None:
    halves = [
        Named(
            b"content_block_delta",
            b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s"}}' % half,
        )
        for half in (b"a\\ud83d", b"\\ude00b")
    ]
    chunks, answer = assembled([START, BEGIN, *halves, END])
    assert [str(chunk) for chunk in chunks if chunk.type == "text"] == ["a", "\U0001f600b"]
    assert OLD.view(answer).text == "a\U0001f600b"
    chunks, answer = assembled([START, BEGIN, halves[0], END])
    assert "".join(map(str, chunks)) == OLD.view(answer).text == "a\ufffd"
    assert kinds(chunks)[-1] == "result"


def test_the_answer_can_be_asked_for_at_any_time() -> None:
    assembler = OLD.assembler()
    assert assembler.response()["content"] == []
    for one in HELLO[:3]:
        assembler.feed(one)
    assert OLD.view(assembler.response()).text == "Hel"
    for one in HELLO[3:]:
        assembler.feed(one)
    assert OLD.view(assembler.response()).text == "Hello!"
    assert assembler.end() == []


# --- anything at all --------------------------------------------------------------------------------------------------


KINDS = st.sampled_from(
    ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "ping", "error", "odd"]
)  # fmt: skip
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.sampled_from(["text", "thinking", "text_delta", "input_json_delta", "tool_use", "{"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "text", "index", "partial_json", "input", "usage", "error", "citations", "citation", "id", "name", "thinking"]),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip
FIELDS = st.dictionaries(
    st.sampled_from(["index", "delta", "content_block", "message", "usage", "error"]), ODD, max_size=4
)
RECORDED = [one for path in sorted(FOLDER.glob("*.sse")) for one in events_of(path.read_bytes())]


@st.composite
def scratched(draw: st.DrawFn) -> Event:
    """A recorded event, cut or with a byte of it replaced."""
    one = draw(st.sampled_from(RECORDED))
    assert isinstance(one, Named)
    at = draw(st.integers(0, len(one.data) - 1))
    rest = draw(st.binary(max_size=2))
    data = one.data[:at] + rest + draw(st.sampled_from([b"", one.data[at + 1 :]]))
    return Named(one.name, data or b"x")


ANY_EVENT = (
    st.builds(lambda kind, fields: event(kind, **fields), KINDS, FIELDS)
    | st.sampled_from(RECORDED)
    | scratched()
    | st.binary(min_size=1, max_size=20)
    | ODD.map(lambda odd: json.dumps(odd).encode())
)


@settings(max_examples=200)
@given(st.lists(ANY_EVENT, max_size=10))
def test_no_event_raises_anything_and_no_text_is_lost(events: list[Event]) -> None:
    chunks, answer = assembled(events)
    view = OLD.view(answer)
    shown: dict[str, Any] = {
        kind: "".join(chunk.content or "" for chunk in chunks if chunk.type == kind) for kind in ("text", "thinking")
    }
    assert sorted(shown["thinking"]) == sorted(view.reasoning or "")
    assert sorted(shown["text"]) == sorted(view.text or "")
    json.dumps(answer)
    monitor = heard(events, 3)
    assert monitor.events == len(events)
    reading = monitor.reading(200, {}, now_s=0)
    assert (reading.fault is None) == (reading.advice.verdict == "done")
    assert monitor.finished == any(chunk.type == "result" for chunk in chunks) or monitor.error is not None


@given(st.binary(max_size=100))
def test_no_body_of_a_stream_raises_anything(body: bytes) -> None:
    for raw in (body, b"event: x\ndata: " + body, fixture("stream.sse")[: 7 * len(body)] + body):
        OLD.view(OLD.decode_stream(raw))
