"""Streams of the Responses endpoint, from both sides: the worker's verdict, and the caller's chunks and whole answer.

The last event's response is the answer; a stream that was cut leaves what its fragments make up. However the bytes
were cut, and whether or not events are named, the chunks and the answer are the same.
"""

# ruff: noqa: E501  # a table reads best with one case on a line

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from responses_answers import (
    STREAMS,
    USAGE,
    WIRE,
    assembled,
    delta,
    event,
    events_of,
    fixture,
    judged,
    message,
    read,
    response,
    says,
    unnamed,
)

from engine.providers.wire import StreamChunk, ToolCall, Usage, View
from engine.retry import Advice
from engine.sse import Event, EventReader, Named

MODEL = "gpt-5-2025-08-07"
DONE: Event = b"[DONE]"
CREATED = event("created", response={"id": "resp_1", "object": "response", "status": "in_progress", "background": False, "model": "m", "output": [], "usage": None})  # fmt: skip
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f"}


def added(item: dict[str, object], at: int = 0) -> Named:
    return event("output_item.added", output_index=at, item=item)


def done(item: dict[str, object], at: int = 0) -> Named:
    return event("output_item.done", output_index=at, item=item)


def completed(*output: object, **fields: object) -> Named:
    return event("completed", response=response(*output, usage=USAGE, **fields))  # type: ignore[arg-type]  # fields of a response


def shown(chunks: list[StreamChunk]) -> list[str]:
    """Every chunk but the empty system ones, in a word."""
    return [
        f"{chunk.type}:{chunk.content if chunk.tool_input is None else chunk.tool_input}"
        for chunk in chunks
        if chunk.type != "system" or chunk.content
    ]


# --- the recorded streams ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "chunks", "seen", "fault"),
    [
        ("stream.sse", ["text:Hel", "text:lo!", "result:None"], View("Hello!", "Greeting.", (), "stop", "resp_1", MODEL), None),
        ("stream_error_event.sse", ["error:boom"], View(None, None, (), "error", "resp_1", MODEL), "ProviderUnavailable"),
        ("stream_failed.sse", ["error:Rate limit reached"], View(None, None, (), "error", "resp_1", MODEL), "RateLimited"),
    ],
)  # fmt: skip
def test_the_recorded_streams(name: str, chunks: list[str], seen: View, fault: str | None) -> None:
    events = events_of(fixture(name))
    found, answer = assembled(events)
    assert (shown(found), WIRE.view(answer)) == (chunks, seen)
    assert len(found) == len(events)
    reading = judged(events)
    assert (reading.fault and reading.fault.kind) == fault
    assert WIRE.decode(fixture(name)) == WIRE.decode_stream(memoryview(fixture(name))) == answer


def test_the_last_event_holds_the_answer_and_the_cost() -> None:
    events = events_of(fixture("stream.sse"))
    last = events[-1]
    assert isinstance(last, Named)
    chunks, answer = assembled(events)
    assert answer == json.loads(last.data)["response"]
    result = chunks[-1].metadata
    assert (result["event"], result["finish_reason"], result["usage"]) == (
        json.loads(last.data),
        "stop",
        answer["usage"],
    )
    assert judged(events).usage == Usage(36, 87, 123, 0, 64)
    assert judged(events).advice == Advice("done", "usage")


@pytest.mark.parametrize("name", STREAMS)
def test_the_answer_reads_like_one_that_was_not_streamed(name: str) -> None:
    events = events_of(fixture(f"{name}.sse"))
    streamed, at_once = judged(events), read(assembled(events)[1])
    assert (at_once.usage, at_once.advice) == (streamed.usage, streamed.advice)
    assert (at_once.fault and at_once.fault.kind) == (streamed.fault and streamed.fault.kind)


@pytest.mark.parametrize("name", STREAMS)
def test_events_without_names_are_known_by_their_type(name: str) -> None:
    events = events_of(fixture(f"{name}.sse"))
    chunks, answer = assembled(events)
    without, same = assembled(unnamed(events))
    assert (shown(without), same) == (shown(chunks), answer)
    assert judged(unnamed(events)) == judged(events)


LONG = [
    CREATED,
    added({"type": "reasoning", "id": "item_0", "summary": []}),
    delta("reasoning_summary_text", "Think ☕."),
    delta("output_text", "Grüße ", 1),
    delta("output_text", "😀\u2028!", 1),
    added({**CALL, "arguments": ""}, 2),
    delta("function_call_arguments", '{"a":', 2),
    delta("function_call_arguments", '"é"}', 2),
]
LONG_BYTES = b"".join(b"event: " + e.name + b"\r\ndata: " + e.data + b"\r\n\r\n" for e in LONG)


@given(st.lists(st.integers(0, len(LONG_BYTES)), max_size=12))
def test_however_the_bytes_were_cut_it_is_the_same_stream(cuts: list[int]) -> None:
    reader = EventReader(cap_bytes=1 << 20)
    events: list[Event] = []
    places = sorted({0, len(LONG_BYTES), *cuts})
    monitor = WIRE.monitor()
    for start, end in itertools.pairwise(places):
        block = reader.feed(LONG_BYTES[start:end])
        monitor.heard(block)
        events += block
    chunks, answer = assembled(events)
    assert (shown(chunks), answer) == (shown(assembled([*LONG])[0]), assembled([*LONG])[1])
    assert (monitor.events, monitor.reading(200, {}, now_s=0)) == (len(LONG), judged([*LONG]))


# --- chunks -----------------------------------------------------------------------------------------------------------


def test_tool_calls_come_in_fragments_with_their_name_and_id() -> None:
    second = {**CALL, "id": "fc_2", "call_id": "call_2", "name": "g"}
    events: list[Event] = [
        added({**CALL, "arguments": ""}),
        delta("function_call_arguments", '{"ci'),
        delta("function_call_arguments", 'ty":1}'),
        event("function_call_arguments.done", output_index=0, arguments='{"city":1}'),
        done({**CALL, "arguments": '{"city":1}'}),
        added({**second, "arguments": ""}, 1),
        done({**second, "arguments": "{}"}, 1),
        added({"type": "custom_tool_call", "call_id": "call_3", "name": "h", "input": ""}, 2),
        delta("custom_tool_call_input", "SELECT", 2),
    ]
    chunks, answer = assembled(events)
    tools = [(c.tool_name, c.tool_id, c.tool_input, c.is_delta, str(c)) for c in chunks if c.type == "tool_use"]
    assert tools == [
        ("f", "call_1", "", True, ""),
        ("f", "call_1", '{"ci', True, ""),
        ("f", "call_1", 'ty":1}', True, ""),
        ("g", "call_2", "", True, ""),
        ("g", "call_2", "{}", True, ""),
        ("h", "call_3", "", True, ""),
        ("h", "call_3", "SELECT", True, ""),
    ]
    assert WIRE.view(answer).tool_calls == (
        ToolCall("call_1", "f", '{"city":1}'),
        ToolCall("call_2", "g", "{}"),
        ToolCall("call_3", "h", "SELECT"),
    )


def test_thoughts_come_as_the_answer_will_hold_them() -> None:
    events: list[Event] = [
        delta("reasoning_summary_text", "One"),
        delta("reasoning_summary_text", "."),
        delta("reasoning_summary_text", "Two.", 0, 1),
        delta("reasoning_text", "Three.", 1),
    ]
    chunks, answer = assembled(events)
    assert "".join(c.content or "" for c in chunks if c.type == "thinking") == "One.\n\nTwo.\n\nThree."
    assert WIRE.view(answer).reasoning == "One.\n\nTwo.\n\nThree."
    assert "".join(map(str, chunks)) == ""


def test_a_refusal_is_shown_but_is_no_text() -> None:
    chunks, answer = assembled([delta("refusal", "I will"), delta("refusal", " not.")])
    assert (shown(chunks), "".join(map(str, chunks))) == (["system:I will", "system: not."], "")
    assert answer["output"][0]["content"] == [{"type": "refusal", "refusal": "I will not."}]


@pytest.mark.parametrize(
    "events",
    [
        [event("output_text.done", output_index=0, content_index=0, text="Hi!")],
        [event("content_part.added", output_index=0, content_index=0, part=says("Hi!"))],
        [event("content_part.done", output_index=0, content_index=0, part=says("Hi!"))],
        [done(message(says("Hi!"), id="msg_1"))],
        [added(message(id="msg_1")), done(message(says("Hi!"), id="msg_1"))],
        [added(message(says("Hi!"), id="msg_1")), done(message(says("Hi!"), id="msg_1"))],
        [CREATED],
        [],
    ],
)
def test_a_text_that_comes_only_whole_is_one_chunk(events: list[Event]) -> None:
    last = completed(message(says("Hi!"), id="msg_1"))
    chunks, answer = assembled([*events, event("ping"), last])
    assert (shown(chunks), WIRE.view(answer).text) == (["text:Hi!", "result:None"], "Hi!")


def test_a_text_said_again_is_not_shown_again() -> None:
    events: list[Event] = [
        delta("output_text", "Hi", 3),
        delta("output_text", "!", 3),
        event("output_text.done", output_index=3, content_index=0, text="Hi!"),
        event("content_part.done", output_index=3, content_index=0, part=says("Hi!")),
        done(message(says("Hi!")), 3),
        completed(message(says("Hi!"), id="another_id")),
    ]
    assert shown(assembled(events)[0]) == ["text:Hi", "text:!", "result:None"]


def test_unknown_events_are_system_chunks_and_change_nothing() -> None:
    odd: list[Event] = [
        event("brand_new.delta", delta="x", output_index=0),
        event("web_search_call.searching", output_index=0, item_id="ws_1"),
        event("output_item.added", output_index=0, item=None),
        event("output_text.delta", output_index=0, delta=None),
        event("content_part.added", output_index=0, part={"type": "brand_new"}),
        Named(b"ping", b"{}"),
        b"{}",
        b"[1]",
        b"not JSON",
    ]
    chunks, answer = assembled([*odd, delta("output_text", "a"), completed(message(says("a")))])
    assert [chunk.type for chunk in chunks] == ["system"] * len(odd) + ["text", "result"]
    assert answer == response(message(says("a")), usage=USAGE)
    assert chunks[5].metadata == {"event": {}, "name": "ping"}


# --- ends -------------------------------------------------------------------------------------------------------------


def cut() -> list[Event]:
    return [CREATED, added(message(id="item_0", status="in_progress")), delta("output_text", "Hel"), delta("output_text", "lo")]  # fmt: skip


def test_a_stream_without_its_last_event_was_cut_and_what_came_is_the_answer() -> None:
    reading = judged(cut())
    assert reading.fault is not None
    assert (reading.fault.kind, reading.advice, reading.usage) == ("Truncated", Advice("failed", "kept"), None)
    chunks, answer = assembled(cut())
    assert shown(chunks) == ["text:Hel", "text:lo"]
    assert WIRE.view(answer) == View("Hello", None, (), None, "resp_1", "m")
    assert answer["output"] == [{"type": "message", "role": "assistant", "id": "item_0", "status": "in_progress", "content": [{"type": "output_text", "text": "Hello"}]}]  # fmt: skip


def test_nothing_of_a_cut_stream_is_lost() -> None:
    events: list[Event] = [
        added({"type": "web_search_call", "id": "ws_1", "query": "q"}),
        event("content_part.added", output_index=1, content_index=0, part=says("", annotations=[], extra=1)),
        delta("output_text", "a", 1, logprobs=[{"token": "a"}]),
        delta("output_text", "b", 1, logprobs=[{"token": "b"}]),
        delta("output_text", "c", 1, 1),
        event(
            "output_text.annotation.added",
            output_index=1,
            content_index=0,
            annotation={"type": "url_citation", "url": "u"},
        ),
        done({"type": "image_generation_call", "id": "ig", "result": "AAAA"}, 2),
        added({**CALL, "arguments": ""}, 3),
        delta("function_call_arguments", '{"a', 3),
    ]
    _, answer = assembled(events)
    search, text, image, call = answer["output"]
    assert (search["query"], image["result"], call["arguments"], call["name"]) == ("q", "AAAA", '{"a', "f")
    assert text["content"] == [
        {"type": "output_text", "annotations": [{"type": "url_citation", "url": "u"}], "extra": 1, "logprobs": [{"token": "a"}, {"token": "b"}], "text": "ab"},
        {"type": "output_text", "text": "c"},
    ]  # fmt: skip
    assert WIRE.view(answer).text == "abc"


@pytest.mark.parametrize(
    ("last", "finish", "fault"),
    [
        (completed(message(says("Hello"))), "stop", None),
        (event("incomplete", response=response(status="incomplete", incomplete_details={"reason": "max_output_tokens"}, usage=USAGE)), "length", None),
        (event("incomplete", response=response(status="incomplete", incomplete_details={"reason": "content_filter"}, usage=USAGE)), "content_filter", None),
        (event("failed", response=response(status="failed", error={"code": "server_error", "message": "m"}, usage=USAGE)), "error", "ProviderUnavailable"),
        (event("failed", response=response(status="failed", error={"code": "invalid_prompt", "message": "m"}, usage=USAGE)), "error", "Rejected"),
        (event("failed", response=None, usage=USAGE), "error", "ProviderUnavailable"),
        (event("cancelled", response=response(status="cancelled")), "error", "Rejected"),
        (event("error", code="rate_limit_exceeded", message="m", param=None), "error", "RateLimited"),
        (event("error", code=None, message=None), "error", "ProviderUnavailable"),
        (event("error", error={"type": "invalid_request_error", "message": "m"}), "error", "Rejected"),
        (Named(b"error", b"overloaded"), "error", "ProviderUnavailable"),
        (json.dumps({"error": {"code": "insufficient_quota", "message": "m"}}).encode(), "error", "QuotaExhausted"),
        (event("completed"), "completed", None),
    ],
)  # fmt: skip
def test_every_end(last: Event, finish: str, fault: str | None) -> None:
    events = [*cut(), last]
    monitor = WIRE.monitor()
    monitor.heard(events)
    reading = monitor.reading(200, {}, now_s=0)
    assert (monitor.finished, monitor.terminated) == (True, True)
    assert (reading.fault and reading.fault.kind) == fault
    chunks, answer = assembled([*events, delta("output_text", "behind the end"), DONE])
    assert chunks[-1].type == ("result" if fault is None else "error")
    assert chunks[-1].is_error == (fault is not None)
    assert WIRE.view(answer).finish_reason == ("stop" if finish == "completed" else finish)
    assert WIRE.view(answer).text == "Hello"
    assert (read(answer).fault is None) == (fault is None)


@pytest.mark.parametrize("mark", [b"[DONE]", b" [DONE] ", Named(b"done", b"[DONE]")])
def test_a_done_mark_is_taken_for_an_end_and_ignored_behind_one(mark: Event) -> None:
    reading = judged([*cut(), mark])
    assert (reading.fault, reading.advice) == (None, Advice("done", "kept"))
    chunks, _ = assembled([*cut(), mark])
    assert chunks[-1].type == "result"
    whole = [*cut(), completed(message(says("Hello")))]
    assert judged([*whole, mark]).advice == judged(whole).advice
    assert shown(assembled([*whole, mark])[0]) == shown(assembled(whole)[0])
    assert shown(assembled([mark])[0]) == []


def test_the_text_of_an_answer_may_name_the_end_or_an_error() -> None:
    words = 'the "error" or "response.completed"'
    for events in ([delta("output_text", words)], unnamed([delta("output_text", words)])):
        reading = judged(events)
        assert reading.fault is not None
        assert reading.fault.kind == "Truncated"
        assert str(assembled(events)[0][0]) == words


def test_a_damaged_last_event_is_no_end() -> None:
    broken = Named(b"response.completed", completed(message(says("Hello"))).data[:-9])
    reading = judged([*cut(), broken])
    assert reading.fault is not None
    assert reading.fault.kind == "Truncated"
    assembler = WIRE.assembler()
    for one in [*cut(), broken]:
        assembler.feed(one)
    assert (assembler.unreadable, WIRE.view(assembler.response()).text) == (1, "Hello")
    healed = judged([*cut(), broken, DONE])
    assert healed.fault is not None
    assert healed.fault.kind == "MalformedReply"


def test_a_last_event_without_an_output_leaves_the_one_that_was_streamed() -> None:
    last = event("completed", response={"id": "resp_1", "status": "completed", "output": [], "usage": USAGE})
    seen = WIRE.view(assembled([*cut(), last])[1])
    assert (seen.text, seen.finish_reason) == ("Hello", "stop")


def test_half_an_emoji_damages_one_chunk_and_not_the_answer() -> None:
    halves: list[Event] = [
        Named(b"response.output_text.delta", b'{"item_id":"i","output_index":0,"delta":"a\\ud83d"}'),
        Named(b"response.output_text.delta", b'{"item_id":"i","output_index":0,"delta":"\\ude00b"}'),
    ]
    chunks, answer = assembled([*halves, completed(message(says("a😀b")))])
    assert "".join(map(str, chunks)).encode() == "a\ufffd\ufffdb".encode()
    assert WIRE.view(answer).text == "a😀b"


def test_a_stream_that_is_in_error_before_it_began_has_no_text() -> None:
    reading = judged([event("error", code="server_error", message="m")], 200)
    assert (reading.advice.verdict, reading.advice.kind) == ("retry", "ProviderUnavailable")
    assert judged([]).advice == Advice("failed", "kept")
    assert (WIRE.monitor().events, WIRE.assembler().end(), WIRE.assembler().response()) == (0, [], {"object": "response", "output": []})  # fmt: skip
