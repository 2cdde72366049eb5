"""The bounds on a stream's time, in virtual time: on its first event, on every silence, on all of it.

Each test states to the second when the attempt ends, and what the error calls the bound that ended it.
"""

from __future__ import annotations

import pytest
import trio
from stream_bodies import ASK, COMMENT, DONE, END, FINISH, USED, Read, a_model, answer, read, text
from virtual_streams import FOREVER, JSON, Head, Step, StreamProvider, in_virtual_time, streaming_engine

from engine import DeadlineExceeded, OutcomeUnknown
from engine.streaming import ReplyStream

SAID = {
    "timeout_s": "longer than its timeout_s",
    "first_byte_s": "within first_byte_s",
    "idle_s": "longer than idle_s",
}
HELLO = [text("Hello"), END]
BOUNDS = {"first_byte_s": 10, "idle_s": 20, "timeout_s": 100}
KEEP_ALIVE: list[Step] = [COMMENT, 4.0] * 100
LATE: dict[str, tuple[list[Step], str, float]] = {
    "silence": ([FOREVER], "first_byte_s", 10),
    "a head and silence": ([Head(), FOREVER], "first_byte_s", 10),
    "comments alone": (KEEP_ALIVE, "first_byte_s", 10),
    "half an event": ([5.0, b"data: {", FOREVER], "first_byte_s", 10),
    "a late event": ([11.0, text("a"), END], "first_byte_s", 10),
    "silence after one": ([9.0, text("a"), FOREVER], "idle_s", 29),
    "comments after one": ([9.0, text("a"), *KEEP_ALIVE], "idle_s", 29),
    "dots after one": ([9.0, text("a"), *[b".", 4.0] * 50], "idle_s", 29),
    "empty events after one": ([9.0, text("a"), *[b"data: \n\n", 4.0] * 50], "idle_s", 29),
    "silence after some": ([text("a"), *[19.0, text("b")] * 3, FOREVER], "idle_s", 77),
    "silence before the end": ([9.0, text("a"), FINISH, USED, FOREVER], "idle_s", 29),
    "no end": ([1.0, text("a")] * 200, "timeout_s", 100),
    "an end too late": ([text("a"), *[18.0, text("b")] * 5, 18.0, DONE], "timeout_s", 100),
}


async def timed(stream: ReplyStream) -> tuple[Read, float]:
    began = trio.current_time()
    got = await read(stream)
    return got, round(trio.current_time() - began, 2)


@pytest.mark.parametrize("retried", [False, True])
@pytest.mark.parametrize("name", LATE)
@in_virtual_time
async def test_each_bound_ends_a_stream_at_its_instant_and_by_its_name(name: str, retried: bool) -> None:
    script, bound, at_s = LATE[name]
    provider = StreamProvider(script, HELLO)
    async with streaming_engine(provider):
        stream = a_model(on_unknown="retry" if retried else "fail").stream(**ASK, **BOUNDS)
        got, took_s = await timed(stream)
        if retried and bound == "first_byte_s":
            assert (got.error, got.text, stream.call.attempts) == ("", "Hello", 2)
            assert provider.attempts[1] - provider.attempts[0] >= at_s
            return
        assert (got.error, took_s) == ("OutcomeUnknown", at_s)
        error = stream.call.error
        assert isinstance(error, OutcomeUnknown)
        assert SAID[bound] in str(error)
        assert error.reason == "timeout"
        assert (stream.call.status, stream.call.attempts) == ("failed", 1)
        read_before = "".join(str(said) for kind, said, *_ in got.chunks if kind == "text")
        assert got.text == (read_before or None)


@pytest.mark.parametrize(
    "script",
    [
        [9.9, text("a"), *[19.9, text("b")] * 4, DONE],
        [Head(), COMMENT, 9.9, text("a"), *[COMMENT, 4.9] * 4, END],
        [text("a"), 99.9, END],
    ],
)
@in_virtual_time
async def test_what_comes_in_time_ends_well(script: list[Step]) -> None:
    async with streaming_engine(StreamProvider(script)):
        bounds = BOUNDS if len(script) > 3 else {"timeout_s": 100}
        got, _ = await timed(a_model().stream(**ASK, **bounds))
        assert (got.error, got.status) == ("", "completed")


PLAIN: dict[str, tuple[list[Step], str, float]] = {
    "silence": ([FOREVER], "first_byte_s", 10),
    "silence within": ([JSON, 9.0, answer()[:9], FOREVER], "idle_s", 29),
    "silence after the head": ([5.0, JSON, FOREVER], "idle_s", 25),
    "no end": ([JSON, *[b" ", 1.0] * 200], "timeout_s", 100),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", PLAIN)
@in_virtual_time
async def test_the_bounds_are_those_of_plain_calls_too(name: str, streamed: bool) -> None:
    script, bound, at_s = PLAIN[name]
    async with streaming_engine(StreamProvider(script)):
        model = a_model()
        began = trio.current_time()
        call = model.create_api_calling(**ASK, **BOUNDS, stream=streamed)
        if streamed:
            assert (await read(model.stream(call))).error == "OutcomeUnknown"
        else:
            await model.invoke(call)
        assert round(trio.current_time() - began, 2) == at_s
        assert isinstance(call.error, OutcomeUnknown)
        assert SAID[bound] in str(call.error)


@in_virtual_time
async def test_an_answer_whose_parts_come_in_time_ends_well() -> None:
    body = answer("whole")
    async with streaming_engine(
        StreamProvider([9.0, JSON, *[part for at in range(4) for part in (19.0, body[at : at + 1])], body[4:]])
    ):
        call = await a_model().invoke(**ASK, **BOUNDS)
        assert (call.status, call.text) == ("completed", "whole")


@in_virtual_time
async def test_a_deadline_bounds_the_whole_of_a_stream() -> None:
    provider = StreamProvider([1.0, text("a"), FOREVER])
    async with streaming_engine(provider):
        stream = a_model().stream(**ASK, deadline_s=12)
        got, took_s = await timed(stream)
        assert (took_s, got.error, got.text) == (12, "OutcomeUnknown", "a")


@in_virtual_time
async def test_a_deadline_that_passes_in_the_queue_sends_nothing() -> None:
    provider = StreamProvider([text("a"), 50.0, END])
    async with streaming_engine(provider), trio.open_nursery() as nursery:
        model = a_model(concurrency_limit=1)
        nursery.start_soon(read, model.stream(**ASK))
        await trio.sleep(1)
        stream = model.stream(**ASK, deadline_s=12)
        got, took_s = await timed(stream)
        assert (took_s, got.error, got.chunks) == (12, "DeadlineExceeded", [])
        assert isinstance(stream.call.error, DeadlineExceeded)
        nursery.cancel_scope.cancel()
    assert len(provider.attempts) == 1


@in_virtual_time
async def test_the_bounds_are_those_of_each_attempt() -> None:
    provider = StreamProvider([9.0, Head(500), b"{}"], [9.0, text("a"), 19.0, END])
    async with streaming_engine(provider):
        got, _ = await timed(a_model().stream(**ASK, **BOUNDS))
        assert (got.error, got.text) == ("", "a")


@in_virtual_time
async def test_a_bound_on_the_first_event_bounds_nothing_after_it() -> None:
    async with streaming_engine(StreamProvider([9.0, text("a"), 50.0, text("b"), 50.0, END])):
        got, took_s = await timed(a_model().stream(**ASK, first_byte_s=10))
        assert (got.error, got.text, took_s) == ("", "ab", 109)


@in_virtual_time
async def test_idle_silence_is_bounded_without_a_bound_on_the_first_event() -> None:
    async with streaming_engine(StreamProvider([50.0, text("a"), FOREVER])):
        _, took_s = await timed(a_model().stream(**ASK, idle_s=5))
        assert took_s == 55
