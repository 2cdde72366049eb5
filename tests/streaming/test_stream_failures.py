"""What can go wrong with a stream: cut, ended early, an error inside, garbage; and what is tried again and what never.

The line is the first event that a reader may have read: before it a stream fails, and is tried again, like any call.
"""

from __future__ import annotations

import gzip
import zlib

import pytest
from stream_bodies import ASK, COMMENT, DONE, END, FINISH, USED, a_model, answer, delta, error_event, read, sse, text
from virtual_streams import BREAK, FOREVER, JSON, Bug, Head, Step, StreamProvider, in_virtual_time, streaming_engine

from engine import InternalError, OutcomeUnknown, Truncated
from engine.call import Usage

HELLO = [text("Hello"), END]
RETRIED = {"on_unknown": "retry", "timeout_s": 30}
REFUSED = (("content-type", "application/json"),)

# --- ends without a terminator ---------------------------------------------------------------------------------------

CUTS: dict[str, list[Step]] = {
    "ended": [text("a"), text("b")],
    "ended within an event": [text("a"), text("b"), b'data: {"choices": [{"ind'],
    "broke off": [text("a"), text("b"), BREAK],
    "broke off within an event": [text("a"), text("b"), b'data: {"choices": [{"ind', BREAK],
    "broke off within an event that came with others": [text("a") + text("b") + b"data: {", BREAK],
    "ended after the finish": [text("a"), text("b"), FINISH],
    "ended after the usage": [text("a"), text("b"), FINISH, USED],
    "ended in gzip": [
        Head(200, (("content-type", "text/event-stream"), ("content-encoding", "gzip"))),
        gzip.compress(text("a") + text("b")),
    ],
}


@pytest.mark.parametrize("retried", [False, True])
@pytest.mark.parametrize("name", CUTS)
@in_virtual_time
async def test_a_stream_without_its_end_is_truncated_and_what_came_is_readable(name: str, retried: bool) -> None:
    provider = StreamProvider(CUTS[name], HELLO)
    async with streaming_engine(provider) as engine:
        model = a_model(limit_tokens=1000, limit_requests=9, **(RETRIED if retried else {}))
        stream = model.stream(**ASK)
        got = await read(stream)
        assert [said for kind, said, *_ in got.chunks if kind == "text"] == ["a", "b"]
        assert (got.error, got.status, got.text) == ("Truncated", "failed", "ab")
        assert got.response["choices"][0]["message"]["content"] == "ab"
        assert len(provider.attempts) == stream.call.attempts == 1, "tried again after something had been handed over"
        assert isinstance(stream.call.error, Truncated)
        assert got.usage == (Usage(3, 4, 7) if name == "ended after the usage" else None)
        # What it cost is not known for sure, so all of it stays reserved.
        assert engine.statistics().scheduler.schedule.reservations_settled == 1


@pytest.mark.parametrize("sure", [True, False])
@in_virtual_time
async def test_where_no_terminator_is_promised_a_finish_is_an_end(sure: bool) -> None:
    async with streaming_engine(StreamProvider([text("a"), FINISH, USED])):
        model = a_model() if sure else a_model(provider="mine", base_url="http://mine.example/v1", model="m")
        got = await read(model.stream(**ASK))
        assert (got.error, got.text) == ("Truncated" if sure else "", "a")


# --- an error inside -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("name", ["", "error"])
@in_virtual_time
async def test_an_error_after_some_chunks_is_a_chunk_and_then_raised(name: str, together: bool) -> None:
    failed = (b"event: error\n" if name else b"") + error_event()
    parts = [text("a"), failed, DONE]
    provider = StreamProvider([b"".join(parts)] if together else parts, HELLO)
    async with streaming_engine(provider):
        stream = a_model(**RETRIED).stream(**ASK)
        got = await read(stream)
        assert [chunk[:2] for chunk in got.chunks] == [("text", "a"), ("error", "overloaded")]
        assert [chunk[5] for chunk in got.chunks] == [False, True]
        assert (got.error, got.status, got.text) == ("ProviderUnavailable", "failed", "a")
        assert "overloaded" in str(stream.call.error)
        assert len(provider.attempts) == 1


@in_virtual_time
async def test_an_error_inside_a_call_nobody_reads_is_tried_again() -> None:
    provider = StreamProvider([text("a"), error_event()], HELLO)
    async with streaming_engine(provider):
        call = await a_model().invoke(**ASK, stream=True)
        assert (call.status, call.text, call.attempts) == ("completed", "Hello", 2)


# --- before the first event ------------------------------------------------------------------------------------------

EARLY: dict[str, list[Step]] = {
    "429": [Head(429, (("retry-after", "2"), *REFUSED)), b'{"error": {"message": "slow down"}}'],
    "500": [Head(500, REFUSED), b'{"error": {"message": "oh"}}'],
    "500 that calls itself a stream": [Head(500), b'{"error": {"message": "oh"}}'],
    "an error first": [error_event(), DONE],
    "an error first, after a comment": [COMMENT, 1.0, error_event(), DONE],
    "an error first, in a burst": [error_event() + text("x") + DONE],
    "an error first, then more": [error_event(), text("x"), DONE],
}
UNKNOWN: dict[str, list[Step]] = {
    "broke off at once": [BREAK],
    "broke off after the head": [Head(), BREAK],
    "broke off after a comment": [COMMENT, BREAK],
    "broke off in the first event": [b'data: {"choi', BREAK],
    "ended at once": [Head()],
    "ended after a comment": [COMMENT],
    "stalled": [Head(), FOREVER],
    "stalled with comments": [Head(), *[COMMENT, 10.0] * 10],
}


@pytest.mark.parametrize("name", EARLY)
@in_virtual_time
async def test_what_fails_before_the_first_event_is_tried_again_as_usual(name: str) -> None:
    provider = StreamProvider(EARLY[name], HELLO)
    async with streaming_engine(provider):
        stream = a_model().stream(**ASK)
        got = await read(stream)
        assert [chunk[:2] for chunk in got.chunks] == [("text", "Hello"), ("system", None), ("result", None)]
        assert (got.error, got.status, got.text) == ("", "completed", "Hello")
        assert stream.call.attempts == len(provider.attempts) == 2
        if name == "429":
            assert provider.attempts[1] - provider.attempts[0] >= 2


@pytest.mark.parametrize("retried", [False, True])
@pytest.mark.parametrize("name", UNKNOWN)
@in_virtual_time
async def test_what_breaks_before_the_first_event_is_tried_again_if_the_caller_says_so(
    name: str, retried: bool
) -> None:
    provider = StreamProvider(UNKNOWN[name], HELLO)
    async with streaming_engine(provider):
        stream = a_model(timeout_s=30, on_unknown="retry" if retried else "fail").stream(**ASK)
        got = await read(stream)
        if retried:
            assert (got.error, got.text, stream.call.attempts) == ("", "Hello", 2)
        else:
            # Never a text: none came.
            assert got.error == ("Truncated" if name.startswith("ended") else "OutcomeUnknown")
            assert (got.chunks, got.text, stream.call.attempts) == ([], None, 1)


@in_virtual_time
async def test_an_error_first_every_time_is_raised_without_a_chunk() -> None:
    provider = StreamProvider([error_event("down again")])
    async with streaming_engine(provider):
        stream = a_model().stream(**ASK)
        got = await read(stream)
        assert (got.chunks, got.error, stream.call.attempts) == ([], "ProviderUnavailable", 4)
        assert "down again" in str(stream.call.error)


# --- what is no stream -----------------------------------------------------------------------------------------------

HTML = Head(200, (("content-type", "text/html"),))
NO_STREAM: dict[str, tuple[list[Step], str]] = {
    "a page": ([HTML, b"<html>Sign in</html>"], "MalformedReply"),
    "a page that calls itself a stream": ([Head(), b"<html>Sign in</html>"], "Truncated"),
    "garbage": ([Head(), bytes(range(256)) * 10], "Truncated"),
    "JSON that is no answer": ([JSON, b'{"hello": 1}'], "MalformedReply"),
    "JSON without its name that is no answer": ([Head(), b' {"hello": 1}'], "MalformedReply"),
    "JSON with half its body": ([JSON, answer()[:40], BREAK], "OutcomeUnknown"),
    "JSON without its name, with half its body": ([Head(), answer()[:40], BREAK], "OutcomeUnknown"),
    "JSON with an error": ([JSON, b'{"error": {"message": "no", "code": "invalid"}}'], "Rejected"),
    "an event larger than is allowed": ([Head(), *[b"data: " + b"x" * 1_000_000] * 17], "OutcomeUnknown"),
    "a coding nobody asked for": (
        [Head(200, (("content-type", "text/event-stream"), ("content-encoding", "br"))), b"abc"],
        "OutcomeUnknown",
    ),
}


@pytest.mark.parametrize("name", NO_STREAM)
@in_virtual_time
async def test_what_is_no_stream_is_an_error_with_a_name(name: str) -> None:
    script, error = NO_STREAM[name]
    provider = StreamProvider(script)
    async with streaming_engine(provider):
        got = await read(a_model().stream(**ASK))
        assert (got.error, got.status) == (error, "failed")
        assert all(kind == "system" for kind, *_ in got.chunks)
        assert got.text is None
        assert len(provider.attempts) == 1


@in_virtual_time
async def test_an_event_that_is_no_json_is_passed_by() -> None:
    async with streaming_engine(StreamProvider([text("a"), b"data: \xff\xfe nonsense\n\n", text("b"), END])):
        got = await read(a_model().stream(**ASK))
        assert [chunk[0] for chunk in got.chunks] == ["text", "system", "text", "system", "result"]
        assert (got.error, got.text) == ("", "ab")


@in_virtual_time
async def test_a_last_event_that_lacks_its_blank_line_counts() -> None:
    async with streaming_engine(StreamProvider([text("a"), FINISH, USED, DONE.rstrip()])):
        got = await read(a_model().stream(**ASK))
        assert (got.error, got.text, got.usage) == ("", "a", Usage(3, 4, 7))


CODED = {
    "gzip": gzip.compress(text("Hello") + END),
    "deflate": zlib.compress(text("Hello") + END),
    "identity": text("Hello") + END,
}


@pytest.mark.parametrize("coding", CODED)
@in_virtual_time
async def test_a_compressed_stream_is_read_as_it_comes(coding: str) -> None:
    head = Head(200, (("content-type", "text/event-stream"), ("content-encoding", coding)))
    body = CODED[coding]
    async with streaming_engine(StreamProvider([head, *[body[at : at + 1] for at in range(len(body))]])):
        stream = a_model().stream(**ASK)
        got = await read(stream)
        assert (got.error, got.text, got.usage) == ("", "Hello", Usage(3, 4, 7))
        collected = await a_model().invoke(**ASK, stream=True)
        assert (collected.text, collected.response) == (got.text, got.response)


@in_virtual_time
async def test_damage_in_the_middle_of_a_compressed_stream_leaves_what_came() -> None:
    head = Head(200, (("content-type", "text/event-stream"), ("content-encoding", "gzip")))
    flat = zlib.compressobj(wbits=31)
    begun = flat.compress(text("a")) + flat.flush(zlib.Z_SYNC_FLUSH)
    async with streaming_engine(StreamProvider([head, begun, b"\xff" * 50])):
        got = await read(a_model().stream(**ASK))
        assert (got.error, got.text) == ("Truncated", "a")


# --- the transport and the engine fail ------------------------------------------------------------------------------


@in_virtual_time
async def test_a_bug_of_the_transport_ends_the_stream_as_unknown() -> None:
    async with streaming_engine(StreamProvider([text("a"), Bug()], HELLO)):
        stream = a_model(on_unknown="retry").stream(**ASK)
        got = await read(stream)
        assert (got.error, got.text) == ("OutcomeUnknown", "a")
        assert isinstance(stream.call.error, OutcomeUnknown)
        assert stream.call.error.reason == "crashed"
        assert (await read(a_model().stream(**ASK))).text == "Hello"


@in_virtual_time
async def test_a_scheduler_that_fails_wakes_the_reader() -> None:
    provider = StreamProvider([text("a"), FOREVER])
    with pytest.raises(InternalError):  # noqa: PT012  # it is the engine's block that raises
        async with streaming_engine(provider) as engine:
            stream = a_model().stream(**ASK)
            assert str(await stream.__anext__()) == "a"
            engine._scheduler.mailbox.post(b"\xc1")
            await read(stream)
    assert stream.call.status == "failed"
    assert not engine._streams
    assert (provider.open, provider.busy) == (0, 0)


@in_virtual_time
async def test_several_choices_are_all_in_the_answer() -> None:
    body = [sse(delta(place, content=word)) for place, word in ((0, "a"), (1, "x"), (0, "b"), (1, "y"))]
    ends = [sse(delta(0, "stop")), sse(delta(1, "length")), DONE]
    async with streaming_engine(StreamProvider([*body, *ends])):
        stream = a_model().stream(**ASK, n=2)
        assert [str(chunk) async for chunk in stream if chunk.type == "text"] == ["a", "b"]
        choices = stream.call.response["choices"]
        assert [choice["message"]["content"] for choice in choices] == ["ab", "xy"]
