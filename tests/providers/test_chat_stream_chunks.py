"""The caller's view of a stream: its chunks in order, and the answer they make up, which loses nothing.

The answer of every recorded stream is compared with the answer that was not streamed in the shape `view` reads; half
characters, fragments and odd shapes in tables; and anything at all, which must never raise.
"""

# ruff: noqa: E501  # a table reads best with one case on a line

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise

import pytest
from chat_answers import FORMATS, GENERIC, fixture, read
from chat_streams import DONE, OPENAI, STREAMS, USAGE, assembled, delta, event, events_of, recorded, text
from hypothesis import example, given
from hypothesis import strategies as st

from engine.providers.wire import Citation, StreamChunk, ToolCall, View
from engine.sse import Event, EventReader, Named


def kinds(chunks: list[StreamChunk]) -> list[tuple[str, object]]:
    return [(chunk.type, chunk.content if chunk.tool_input is None else chunk.tool_input) for chunk in chunks]


@pytest.mark.parametrize(
    ("name", "chunks", "view"),
    [
        ("openai_chat/stream.sse", ["system", "text:Hel", "text:lo ☕", "system", "result"], View("Hello ☕", None, (), "stop", "chatcmpl-Abc123", "gpt-4o-2024-08-06")),
        ("openai_chat/stream_error_in_200.sse", ["text:Hel", "error:The server had an error while processing your request. Sorry about that!"], View("Hel", None, (), None, "chatcmpl-Abc123", "gpt-4o-2024-08-06")),
        ("gemini_chat/stream.sse", ["text:Hel", "text:lo!", "result"], View("Hello!", None, (), "stop", "abc-DEF_1", "gemini-2.5-flash")),
        ("groq_chat/stream.sse", ["system", "thinking:Greet.", "text:Hello!", "result"], View("Hello!", "Greet.", (), "stop", "chatcmpl-1", "openai/gpt-oss-120b")),
        ("groq_chat/stream_error.sse", ["text:He", "error:over capacity"], View("He", None, (), None, "chatcmpl-1", "openai/gpt-oss-120b")),
        ("deepseek_chat/stream.sse", ["system", "thinking:Compare", "text:9.8", "system", "result"], View("9.8", "Compare", (), "stop", "9b1", "deepseek-v4-pro")),
        ("perplexity_chat/stream.sse", ["text:Ans", "text:wer [1]", "result"], View("Answer [1]", None, (), "stop", "u1", "sonar-pro", (Citation("https://example.com/a", "A", "..."),))),
        ("openrouter_chat/stream.sse", ["thinking:Gre", "text:Hello!", "system", "result"], View("Hello!", "Gre", (), "stop", "gen-1790000000-abc", "anthropic/claude-sonnet-5")),
        ("openrouter_chat/stream_error_in_200.sse", ["text:Hel", "error:Provider disconnected unexpectedly"], View("Hel", None, (), "error", "gen-1790000000-abc", "anthropic/claude-sonnet-5")),
    ],
)  # fmt: skip
def test_the_recorded_streams(name: str, chunks: list[str], view: View) -> None:
    found, response = assembled(recorded(name))
    assert [chunk.type + (f":{chunk.content}" if chunk.content else "") for chunk in found] == chunks
    assert GENERIC.view(response) == view
    assert "".join(map(str, found)) == view.text
    assert GENERIC.decode(fixture(name)) == GENERIC.decode_stream(memoryview(fixture(name))) == response


def test_tool_calls_come_in_fragments_and_whole_in_the_answer() -> None:
    chunks, response = assembled(recorded("openai_chat/stream_tool_calls.sse"))
    tools = [(c.tool_name, c.tool_id, c.tool_input, c.is_delta, str(c)) for c in chunks if c.type == "tool_use"]
    assert tools == [
        ("get_weather", "call_1", "", True, ""),
        ("get_weather", "call_1", '{"ci', True, ""),
        ("get_weather", "call_1", 'ty":"Paris"}', True, ""),
        ("get_time", "call_2", "{}", True, ""),
    ]
    calls = (ToolCall("call_1", "get_weather", '{"city":"Paris"}'), ToolCall("call_2", "get_time", "{}"))
    assert (GENERIC.view(response).tool_calls, GENERIC.view(response).finish_reason) == (calls, "tool_calls")


@pytest.mark.parametrize(("provider", "name"), STREAMS)
def test_the_answer_reads_like_one_that_was_not_streamed(provider: str, name: str) -> None:
    wire, events = FORMATS[provider], recorded(name)
    monitor = wire.monitor()
    monitor.heard(events)
    streamed = monitor.reading(200, {}, now_s=0)
    at_once = read(json.dumps(assembled(events)[1]).encode(), wire=wire)
    assert (at_once.usage, at_once.advice.verdict) == (streamed.usage, streamed.advice.verdict)
    assert (at_once.fault and at_once.fault.kind) == (streamed.fault and streamed.fault.kind)


def test_nothing_an_event_held_is_missing_in_the_answer() -> None:
    citations = assembled(recorded("perplexity_chat/stream.sse"))[1]
    assert (citations["citations"], citations["usage"]["cost"]["total_cost"]) == (["https://example.com/a"], 0.00662)  # type: ignore[index]
    groq = assembled(recorded("groq_chat/stream.sse"))[1]
    assert groq["x_groq"]["id"] == "req_01"  # type: ignore[index]
    assert groq["usage"]["queue_time"] == 0.05  # type: ignore[index]
    router = assembled(recorded("openrouter_chat/stream.sse"))[1]
    details = router["choices"][0]["message"]["reasoning_details"]  # type: ignore[index]
    assert (router["provider"], [part["text"] for part in details]) == ("Anthropic", ["Gre"])
    late = assembled([text("a"), text("b"), event(delta(content="c", annotations=[1]), brand_new={"x": 1}), text("d"),
                      event({**delta(content="e", annotations=[2]), "logprobs": {"content": [5]}}),
                      event({**delta(content="f"), "logprobs": {"content": [6]}, "extra": "y"})])[1]  # fmt: skip
    choice = late["choices"][0]  # type: ignore[index]
    assert (late["brand_new"], choice["message"]["annotations"], choice["message"]["content"]) == (
        {"x": 1},
        [1, 2],
        "abcdef",
    )
    assert (choice["logprobs"], choice["extra"]) == ({"content": [5, 6]}, "y")


def test_the_result_comes_once_with_the_end_and_its_usage() -> None:
    finish, cost = event(delta(finish="stop")), event(usage=USAGE)
    for events in (
        [text("a"), finish, cost, DONE],
        [text("a"), finish, cost],
        [text("a"), finish, cost, b" [DONE] ", DONE],
    ):
        chunks, _ = assembled(events)
        assert [chunk.type for chunk in chunks if chunk.type == "result"] == ["result"]
        assert chunks[-1].metadata == {"event": json.loads(finish), "finish_reason": "stop", "usage": USAGE}
    for without in ([text("a")], [], [text("a"), finish, b'{"error": "x"}', DONE]):
        assert [chunk for chunk in assembled(list(without))[0] if chunk.type == "result"] == []
    assembler = GENERIC.assembler()
    assembler.feed(finish)
    assert ([chunk.type for chunk in assembler.end()], assembler.end()) == (["result"], [])


def test_a_chunk_holds_the_event_it_came_from() -> None:
    raw = event(delta(content="a"), extra=[1])
    (chunk,) = GENERIC.assembler().feed(raw)
    assert (dict(chunk.metadata), len(chunk.metadata), str(chunk)) == ({"event": json.loads(raw)}, 1, "a")
    assert repr(chunk.metadata) == repr({"event": json.loads(raw)})
    (named,) = GENERIC.assembler().feed(Named(b"ping", b"not \xff JSON"))
    assert named.metadata == {"event": "not � JSON", "name": "ping"}
    assert StreamChunk("text", metadata={"mine": 1}).metadata["mine"] == 1


def test_further_choices_are_system_chunks_and_whole_in_the_answer() -> None:
    both = event(delta(0, content="A"), delta(1, content="1"))
    events = [
        event(delta(1, content="0")),
        both,
        event(delta(1, content="2", finish="length")),
        text("B"),
        event(delta(0, finish="stop")),
        DONE,
    ]
    chunks, response = assembled(events)
    assert kinds(chunks) == [("system", None), ("text", "A"), ("system", None), ("text", "B"), ("result", None)]
    found = [(c["index"], c["message"]["content"], c["finish_reason"]) for c in response["choices"]]  # type: ignore[attr-defined]
    assert found == [(0, "AB", "stop"), (1, "012", "length")]


# --- half characters --------------------------------------------------------------------------------------------------


def half(content: str, **fields: object) -> bytes:
    """An event as servers that escape everything write it: halves of characters stay halves."""
    return json.dumps({"choices": [delta(content=content)], **fields}, ensure_ascii=True).encode()


@pytest.mark.parametrize(
    ("contents", "shown"),
    [
        (["a\ud83d", "\ude00b"], ["a", "😀b"]),
        (["a", "\ud83d", "\ude00"], ["a", "", "😀"]),
        (["\ud83d", "plain"], ["", "�plain"]),
        (["\ud83d", "", "\ude00"], ["", "", "😀"]),
        (["a\ud83d"], ["a", "�"]),
        (["\ude00x"], ["�x"]),
        (["x", "\ud83d\ud83d", "\ude00"], ["x", "�", "😀"]),
        (["\ud83d\ude00\ud83d", "\ude00"], ["😀", "😀"]),
    ],
)
def test_halves_of_a_character_find_each_other_over_two_deltas(contents: list[str], shown: list[str]) -> None:
    chunks, response = assembled([text(""), *map(half, contents), event(delta(finish="stop"))])
    texts = [chunk.content for chunk in chunks if chunk.type == "text"]
    assert [found for found in texts if found] == [part for part in shown if part]
    assert GENERIC.view(response).text == "".join(shown)
    assert json.dumps(response, ensure_ascii=False).encode()
    before_the_end = GENERIC.assembler()
    for content in contents:
        before_the_end.feed(half(content))
    assert GENERIC.view(before_the_end.response()).text == "".join(shown)


def test_halves_in_thoughts_tool_calls_and_names() -> None:
    def tool(arguments: str) -> bytes:
        calls = [{"index": 0, "id": "i\ud83d", "function": {"name": "n\ud83d", "arguments": arguments}}]
        return json.dumps({"choices": [delta(tool_calls=calls)], "odd": "\udc00"}).encode()

    events = [json.dumps({"choices": [delta(reasoning=part)]}).encode() for part in ("\ud83d", "\ude00")]
    chunks, response = assembled([*events, tool('"\ud83d'), tool('\ude00"')])
    assert kinds(chunks)[1:] == [("thinking", "😀"), ("tool_use", '"'), ("tool_use", '😀"')]
    assert (response["odd"], GENERIC.view(response).reasoning) == ("�", "😀")
    assert GENERIC.view(response).tool_calls == (ToolCall("i�", "n�", '"😀"'),)
    for chunk in chunks:
        assert f"{chunk.tool_name}{chunk.tool_id}{chunk.tool_input}{chunk.metadata}".encode()


TEXTS = st.text(st.sampled_from('aé中😀\ud83d\ude00"\\\u2028\n'), max_size=4)


@given(st.lists(TEXTS, max_size=12), st.booleans())
@example(["\ud83d", "a", "\ude00"], True)
def test_the_text_of_the_chunks_is_the_text_of_the_answer(contents: list[str], escaped: bool) -> None:
    def written(content: str) -> bytes:
        raw = json.dumps({"choices": [delta(content=content)]}, ensure_ascii=escaped)
        return raw.encode("utf-8", "replace" if not escaped else "strict")

    chunks, response = assembled([text("start"), *map(written, contents)])
    joined = "start" + "".join(
        contents if escaped else [json.loads(written(one))["choices"][0]["delta"]["content"] for one in contents]
    )
    whole = joined.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert "".join(map(str, chunks)) == GENERIC.view(response).text == whole


@given(st.lists(TEXTS, max_size=6), st.lists(st.integers(0, 400), max_size=8), st.sampled_from(["\n", "\r", "\r\n"]))
def test_any_split_of_the_bytes_gives_the_same_text(contents: list[str], places: list[int], line_end: str) -> None:
    body = b"".join(b"data: " + half(content) + b"\n\n" for content in contents).replace(b"\n", line_end.encode())
    reader, assembler = EventReader(cap_bytes=1 << 20), OPENAI.assembler()
    edges = sorted({0, len(body), *(place for place in places if place < len(body))})
    chunks = []
    for start, end in pairwise(edges):
        chunks += [chunk for one in reader.feed(body[start:end]) for chunk in assembler.feed(one)]
    chunks += assembler.end()
    assert assembler.response() == OPENAI.decode_stream(body)
    assert "".join(map(str, chunks)) == (GENERIC.view(assembler.response()).text or "")


# --- fragments and odd shapes -----------------------------------------------------------------------------------------


def tools(*fragments: object) -> bytes:
    return event(delta(tool_calls=list(fragments)))


def part(
    arguments: object, index: object = None, identity: str | None = None, name: str | None = None
) -> dict[str, object]:
    fragment: dict[str, object] = {"function": {"arguments": arguments, **({"name": name} if name else {})}}
    return {**fragment, **({} if index is None else {"index": index}), **({"id": identity} if identity else {})}


@pytest.mark.parametrize(
    ("events", "calls"),
    [
        ([tools(part("{", 0, "a", "f")), tools(part("}", 0))], [("a", "f", "{}")]),
        ([tools(part("{", 1, "b", "g"), part("[", 0, "a", "f")), tools(part("]", 0), part("}", 1))], [("b", "g", "{}"), ("a", "f", "[]")]),
        ([tools(part("{", 0, "a", "f")), tools(part("}", 0, "a", "f"))], [("a", "f", "{}")]),
        ([tools(part("{}", None, "a", "f")), tools(part("{}", None, "b", "f"))], [("a", "f", "{}"), ("b", "f", "{}")]),
        ([tools(part("{", None, "a", "f")), tools(part("}", None, "a"))], [("a", "f", "{}")]),
        ([tools(part("{}", None, None, "f")), tools(part("[]", None, None, "g"))], [("call_0", "f", "{}"), ("call_1", "g", "[]")]),
        ([tools(part("{", None, None, "f")), tools(part("}"))], [("call_0", "f", "{}")]),
        ([tools(part("{", None, "a", "f"), part("[", None, "b", "g")), tools(part("}"), part("]"))], [("a", "f", "{}"), ("b", "g", "[]")]),
        ([tools(part("{}", 0, "a", "f")), tools(part("[]", 0, "b", "g"))], [("a", "f", "{}"), ("b", "g", "[]")]),
        ([tools(part("", 0, "a", "get_")), tools(part("{}", 0, None, "time"))], [("a", "get_time", "{}")]),
        ([tools(part({"x": 1}, 0, "a", "f"))], [("a", "f", '{"x": 1}')]),
        ([tools(part(None, 0, "a", "f"))], [("a", "f", "{}")]),
        ([tools({"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}), tools({"index": 0, "custom": {"input": "y"}})], [("a", "f", "xy")]),
        ([tools(3, None, part("{}", 0, "a", "f")), event(delta(tool_calls=7)), event(delta(tool_calls=[]))], [("a", "f", "{}")]),
        ([event(delta(function_call={"name": "f", "arguments": "{"})), event(delta(function_call={"arguments": "}"}))], [("call_0", "f", "{}")]),
    ],
)  # fmt: skip
def test_fragments_of_tool_calls_find_their_call(events: list[Event], calls: list[tuple[str, str, str]]) -> None:
    chunks, response = assembled(events)
    found = GENERIC.view(response).tool_calls
    assert [(call.id, call.name, call.arguments) for call in found] == calls
    pieces: dict[object, str] = {}
    for chunk in chunks:
        if chunk.type == "tool_use":
            pieces[chunk.tool_id or chunk.tool_name] = (
                pieces.get(chunk.tool_id or chunk.tool_name, "") + chunk.tool_input
            )
    assert sorted(text or "{}" for text in pieces.values()) == sorted(arguments for _, _, arguments in calls)


def test_the_other_fields_of_a_tool_call_are_kept() -> None:
    signed = {**part("{}", 0, "a", "f"), "type": "function", "extra_content": {"google": {"thought_signature": "s"}}}
    (call,) = assembled([tools(signed), tools(part("", 0))])[1]["choices"][0]["message"]["tool_calls"]  # type: ignore[index]
    assert call == {
        "id": "a",
        "type": "function",
        "extra_content": {"google": {"thought_signature": "s"}},
        "function": {"name": "f", "arguments": "{}"},
    }


@pytest.mark.parametrize(
    ("events", "chunks", "content"),
    [
        ([event({"index": 0, "message": {"content": "whole"}, "finish_reason": "stop"})], [("text", "whole"), ("result", None)], "whole"),
        ([text("a"), event({"index": 0, "message": {"content": "ab"}, "delta": {"content": "b"}})], [("text", "a"), ("text", "b")], "ab"),
        ([text("a"), event({"index": 0, "message": {"content": "a"}})], [("text", "a"), ("system", None)], "a"),
        ([event(delta(None, content="a")), event(delta(None, content="b"))], [("text", "a"), ("text", "b")], "ab"),
        ([event(delta(content=[{"type": "text", "text": "a"}, {"type": "thinking"}])), text("b")], [("text", "a"), ("text", "b")], "ab"),
        ([text("a"), event(delta(content=["b"])), text("c"), text("d")], [("text", "a"), ("text", "b"), ("text", "c"), ("text", "d")], "abcd"),
        ([text("a"), event(delta(content="b", reasoning="t"))], [("text", "a"), ("thinking", "t"), ("text", "b")], "ab"),
        ([text("a"), event(delta(content="b", tool_calls=[part("{}", 0, "i", "f")]))], [("text", "a"), ("text", "b"), ("tool_use", "{}")], "ab"),
        ([text(""), text("")], [("system", None), ("system", None)], ""),
        ([event(delta(content=None, refusal="no"))], [("system", None)], None),
        ([b"garbage", b"3", b"[]", b"\xff"], [("system", None)] * 4, None),
        ([Named(b"ping", b'{"a": 1}'), Named(b"chunk", text("a")), text("b")], [("system", None), ("text", "a"), ("text", "b")], "ab"),
        ([text("a"), Named(b"error", b'{"message": "boom"}')], [("text", "a"), ("error", "boom")], "a"),
        ([text("a"), Named(b"error", b"broken \xff")], [("text", "a"), ("error", "broken �")], "a"),
        ([event(delta(content="a"), error={"message": "boom"})], [("text", "a"), ("error", "boom")], "a"),
    ],
)  # fmt: skip
def test_odd_events(events: list[Event], chunks: list[tuple[str, object]], content: str | None) -> None:
    found, response = assembled(events)
    assert (kinds(found), GENERIC.view(response).text) == (chunks, content)
    if found[-1].type == "error":
        assert found[-1].is_error
        assert read(json.dumps(response).encode()).fault


def test_events_that_cannot_be_read_are_counted() -> None:
    assembler = GENERIC.assembler()
    for one in (text("a"), b"garbage", b'{"choices": [', b"\xff", Named(b"ping", b""), DONE, b" [DONE]"):
        assembler.feed(one)
    assert assembler.unreadable == 4


@pytest.mark.parametrize(
    "start",
    [b"data: ", b"data:", b"\xef\xbb\xbfdata: ", b"\r\n\n: hello\n\ndata: ", b"event: x\ndata: ", b"id: 1\ndata:"],
)
def test_a_recorded_stream_is_decoded_like_a_body(start: bytes) -> None:
    assert GENERIC.view(GENERIC.decode(memoryview(start + text("a") + b"\n\n"))).text == "a"


def test_a_body_that_is_no_stream_makes_an_empty_answer() -> None:
    for body in (b"", b"{}", b'{"choices": []}', b"\xff" * 10):
        assert GENERIC.decode_stream(body) == {"object": "chat.completion", "choices": []}
    assert GENERIC.decode(b'{"choices": 1}') == {"choices": 1}


# --- plain events take a short way; the answer must not tell ----------------------------------------------------------

PLAIN = st.builds(delta, st.sampled_from([0, 0, 0, 1, None]), content=st.sampled_from(["a", "b", "", None]))
THOUGHT = st.builds(delta, reasoning=st.sampled_from(["t", "", None]), content=st.sampled_from([None, "", "c"]))
TWICE = st.builds(delta, reasoning=st.sampled_from(["t", None]), reasoning_content=st.sampled_from(["t", None]))
CALLED = st.builds(
    delta, tool_calls=st.lists(st.builds(part, st.sampled_from(["{", "}"]), st.sampled_from([0, 1, None])), max_size=2)
)
ODD = st.sampled_from(
    [delta(content=["p"]), delta(content="x", extra=1), delta(finish="stop"), {"index": 0, "message": {"content": "m"}}]
)
MIXED = st.lists(st.builds(event, PLAIN | THOUGHT | TWICE | CALLED | ODD), max_size=12)


@given(MIXED)
def test_the_short_way_makes_the_same_chunks_and_the_same_answer(events: list[bytes]) -> None:
    def without(strange: Callable[[dict[str, object]], None]) -> tuple[list[tuple[object, ...]], object]:
        """The same events with a field that no plain event has, so that none can take the short way."""
        longer = []
        for one in events:
            body = json.loads(one)
            strange(body)
            longer.append(json.dumps(body).encode())
        chunks, response = assembled(longer)
        response.pop("strange", None)
        return [(c.type, c.content, c.tool_input, c.is_delta) for c in chunks], response

    short, long = without(lambda body: None), without(lambda body: body.update(strange=1))
    assert short == long


# --- anything at all --------------------------------------------------------------------------------------------------

NAMES = st.sampled_from([
    "choices", "delta", "message", "content", "tool_calls", "function", "custom", "name", "arguments", "id", "index",
    "finish_reason", "logprobs", "usage", "x_groq", "error", "role", "reasoning", "reasoning_details", "function_call",
    "object", "type", "refusal", "text", "audio",
])  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.sampled_from(["error", "", "\ud83d", 0])
)
SHAPES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
DELTAS = st.dictionaries(NAMES, SHAPES, max_size=4).map(lambda fields: {"choices": [{"index": 0, "delta": fields}]})
CALLS = st.lists(st.dictionaries(NAMES, SHAPES, max_size=4), max_size=3).map(
    lambda calls: {"choices": [{"delta": {"tool_calls": calls}}]}
)
ANY = (SHAPES | DELTAS | CALLS).map(lambda shape: json.dumps(shape).encode()) | st.binary(max_size=30)
DEEP = st.integers(1, 4_000).map(lambda depth: b'{"choices":[{"delta":{"x":' + b"[" * depth + b"]" * depth + b"}}]}")


@given(st.lists(ANY | DEEP | st.builds(Named, st.sampled_from([b"error", b"ping", b"\xff"]), ANY), max_size=6))
def test_reading_a_stream_never_raises(events: list[Event]) -> None:
    chunks, response = assembled([text("a"), *events, text("b"), DONE])
    assert isinstance(response, dict)
    GENERIC.view(response)
    for chunk in chunks:
        assert str(chunk).encode() is not None
        assert chunk.metadata.keys()
    body = b"".join(b"data: " + one + b"\n\n" for one in events if isinstance(one, bytes))
    assert isinstance(GENERIC.decode_stream(body), dict)
    assert isinstance(GENERIC.decode_stream(body[: len(body) // 2]), dict)
    assert len(events_of(body)) <= body.count(b"\n\n") + 1


def test_what_stands_behind_the_terminator_is_no_part_of_the_answer() -> None:
    assembler = FORMATS["openai"].assembler()
    late = b'{"choices":[{"index":0,"delta":{"content":"late"}}]}'
    for found in (late.replace(b"late", b"in time"), b'{"choices":[{"index":0,"finish_reason":"stop"}]}', b"[DONE]"):
        assembler.feed(found)
    assert assembler.feed(late) == []
    assert assembler.response()["choices"][0]["message"]["content"] == "in time"
